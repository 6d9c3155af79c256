"""An executor over worker processes of which any may be lost: only the call that it ran fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from leanpacs.errors import WorkerError
from leanpacs.workers.process import Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SECONDS: Final = 60.0
"""How long worker processes stay without work, all but one: each takes some 70 MB, and half a second to start."""


class WorkerPool(Executor):
    """Runs calls in worker processes, each within limits of time and memory.

    A worker that crashes, hangs or grows is ended and replaced. The call that it ran fails with an error that says so;
    all others go on. Processes start when they are first needed, and end with the pool or with the process that made
    it, however that ends. Thread-safe.

    Parameters
    ----------
    workers : int
        Processes at the most.
    memory_limit_bytes : int
        What a call may make its worker grow by, beyond what it has after its start.
    time_limit_seconds : float
        What a call may take.
    nice : int
        Added to the niceness of the workers.
    initializer : callable, optional
        Module-level function that each worker calls first, to import what takes long.
    idle_seconds : float
        How long workers stay without work; the one that was busy last always does.

    Notes
    -----
    Functions, arguments and results are pickled; ``bytes`` and arrays of many MB go through shared memory. The memory
    is bounded by RLIMIT_DATA, so that allocations fail, and by looking at what is resident. The pool keeps crashes
    apart; it is no sandbox: code that takes over a worker has the rights of its user.
    """

    def __init__(
        self,
        workers: int,
        *,
        memory_limit_bytes: int,
        time_limit_seconds: float,
        nice: int = 0,
        initializer: Callable[[], object] | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._time_limit_seconds = time_limit_seconds
        self._nice = nice
        self._initializer = initializer
        self._idle_seconds = idle_seconds
        # Each thread waits for one worker at a time.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._lock = threading.Lock()
        # The one that was busy last stands at the end.
        self._idle: list[tuple[Worker, float]] = []
        self._keeps_idle = True
        self._thinning: threading.Timer | None = None

    def submit(  # type: ignore[override]  # two keywords are taken from those that go to fn
        self,
        fn: Callable[..., T],
        /,
        *args: Any,
        time_limit_seconds: float | None = None,
        memory_limit_bytes: int | None = None,
        **kwargs: Any,
    ) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a worker.

        Parameters
        ----------
        fn : callable
            Module-level function.
        *args, **kwargs
            For ``fn``.
        time_limit_seconds, memory_limit_bytes : optional
            For this call, instead of those of the pool; they are not handed to ``fn``.

        Returns
        -------
        Future
            Of what ``fn`` returns or raises; of :class:`WorkerCrashed`, :class:`WorkerTimeout` or
            :class:`WorkerOutOfMemory` when its worker was lost.
        """
        seconds = self._time_limit_seconds if time_limit_seconds is None else time_limit_seconds
        size = self._memory_limit_bytes if memory_limit_bytes is None else memory_limit_bytes
        return self._threads.submit(self._run, (fn, args, kwargs), seconds, size)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; finish those that were taken, or drop those not begun; end the workers."""
        with self._lock:
            self._keeps_idle = wait  # nobody is there to end them later
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._stop_idle()

    def _run(
        self,
        call: tuple[Callable[..., T], tuple[Any, ...], dict[str, Any]],
        time_limit_seconds: float,
        memory_limit_bytes: int,
    ) -> T:
        worker = self._ready_worker()
        try:
            result: T = worker.run(call, time_limit_seconds, memory_limit_bytes)
            return result
        except WorkerError as error:
            log.warning("a worker process was lost and is replaced: %s", error)
            raise
        finally:
            self._give_back(worker)

    def _ready_worker(self) -> Worker:
        while True:
            with self._lock:
                worker = self._idle.pop()[0] if self._idle else None
            if worker is None:
                return self._new_worker()
            if worker.is_alive():
                return worker
            worker.stop()

    def _new_worker(self) -> Worker:
        worker = Worker(self._initializer, self._nice)
        try:
            worker.wait_until_ready()
        except BaseException:
            worker.stop()
            raise
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            keep = self._keeps_idle and worker.is_alive()
            if keep:
                self._idle.append((worker, time.monotonic()))
                self._thin_out_later()
        if not keep:
            worker.stop()

    def _thin_out_later(self) -> None:
        """Have a look at idle workers when the first of them may go; to be called with the lock held."""
        if self._thinning is None and self._keeps_idle and len(self._idle) > 1:
            seconds = self._idle[0][1] + self._idle_seconds - time.monotonic()
            self._thinning = threading.Timer(max(seconds, 0.0), self._thin_out)
            self._thinning.daemon = True
            self._thinning.start()

    def _thin_out(self) -> None:
        """End workers that nothing was done with for long, but never the last one."""
        with self._lock:
            last = time.monotonic() - self._idle_seconds
            ended = [worker for worker, since in self._idle[:-1] if since <= last]
            self._idle = self._idle[len(ended) :]
            self._thinning = None
            self._thin_out_later()
        for worker in ended:
            worker.stop()

    def _stop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            thinning, self._thinning = self._thinning, None
        if thinning is not None:
            thinning.cancel()
        for worker, _ in idle:
            worker.dismiss()
        for worker, _ in idle:
            worker.stop()
