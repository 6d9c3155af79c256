"""Where tasks run: worker processes here, or a Dask cluster. Both are executors of :mod:`concurrent.futures`.

A task is a module-level function and small values; its worker reads from the stores and writes to them itself. On a
Dask worker a task runs in a process of its own, as it does here: an image codec that crashes, hangs or grows takes that
process along and not the worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

from leanpacs.config import ExecutorKind, ExecutorSettings, Settings, WorkerSettings
from leanpacs.errors import ConfigError, LeanPACSError, WorkerCrashed
from leanpacs.workers import WorkerPool

T = TypeVar("T")

CONNECT_SECONDS = 10
"""How long a Dask scheduler may take to answer."""

NICE = 19
"""Receiving and answering have precedence."""


def make_executor(settings: Settings) -> tuple[Executor, int]:
    """The executor that the settings ask for, and how many tasks it runs at once.

    Raises
    ------
    ConfigError
        Dask is asked for and is not installed, or its scheduler does not answer.
    """
    workers = settings.lifecycle.workers or os.cpu_count() or 1
    if settings.executor.kind is ExecutorKind.DASK:
        cluster = DaskExecutor(settings.executor, settings.workers, workers)
        return cluster, cluster.width
    return local_pool(settings.workers, workers), workers


def local_pool(limits: WorkerSettings, workers: int) -> WorkerPool:
    """Worker processes on this machine."""
    return WorkerPool(
        workers,
        memory_limit_bytes=limits.memory_bytes,
        time_limit_seconds=limits.instance_seconds,
        nice=NICE,
    )


class DaskExecutor(Executor):
    """Runs tasks on a Dask cluster; what a lost worker was doing is done by another one.

    Parameters
    ----------
    settings : ExecutorSettings
        Where the scheduler is; without an address a cluster is started on this machine.
    limits : WorkerSettings
        What a task may use.
    workers : int
        Processes of a cluster that is started here.
    """

    def __init__(self, settings: ExecutorSettings, limits: WorkerSettings, workers: int) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise ConfigError("executor.kind", "dask", "needs the extra: pip install 'leanpacs[dask]'") from error
        self._cluster: Any = None
        try:
            if not settings.address:
                self._cluster = LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                )
            client = Client(self._cluster or settings.address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                "executor.address", settings.address, f"the Dask scheduler does not answer: {error}"
            ) from error
        self._client: Any = client
        self._address = settings.address
        self._limits = limits
        self._executor: Executor = client.get_executor(pure=False, retries=settings.retries)  # type: ignore[no-untyped-call]

    @property
    def width(self) -> int:
        """Threads of all workers that are there now."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on some worker, in a process of its own.

        Raises
        ------
        ConfigError
            The scheduler has gone. What it was given comes to nothing, and what it is given now would, too.
        """
        if self._client.status != "running":
            raise ConfigError("executor.address", self._address, "the Dask scheduler does not answer any more")
        future: Future[T] = Future()
        there = self._executor.submit(run_apart, self._limits, fn, *args, **kwargs)
        there.add_done_callback(partial(_hand_on, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, or end the one that was started here."""
        self._executor.shutdown(wait=wait)  # Dask knows no more: what is not begun is dropped with its client
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a task, wherever it runs. It is not raised on the worker, for Dask would begin it anew, and a
    codec that is wrong now and then would not be found out.
    """

    error: LeanPACSError


def run_apart(limits: WorkerSettings, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T | Fault:
    """Run a call in a process beside this one, within limits; what a Dask worker does with a task."""
    try:
        return _pool(limits).submit(fn, *args, **kwargs).result()
    except LeanPACSError as error:
        is_stopped = isinstance(error, WorkerCrashed) and error.is_stopped
        if error.transient or is_stopped:
            raise
        return Fault(error)


def _hand_on(future: Future[T], there: Future[T | Fault]) -> None:
    """Let a future end as the one on the cluster has ended."""
    if there.cancelled():
        future.cancel()
    if not future.set_running_or_notify_cancel():
        return
    error = there.exception()
    if error is not None:
        future.set_exception(error)
        return
    result = there.result()
    if isinstance(result, Fault):
        future.set_exception(result.error)
    else:
        future.set_result(result)


@lru_cache(maxsize=1)
def _pool(limits: WorkerSettings) -> WorkerPool:
    return local_pool(limits, os.cpu_count() or 1)
