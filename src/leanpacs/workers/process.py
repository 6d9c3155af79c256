"""One worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from leanpacs.errors import WorkerCrashed, WorkerOutOfMemory, WorkerTimeout
from leanpacs.workers.child import Answer, Order, serve
from leanpacs.workers.exchange import Exchange

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_WATCH_SECONDS = 0.05
"""How often the memory of a busy worker is looked at."""


class Worker:
    """A process that runs one call at a time; used by one thread at a time.

    It is started here. After an error that ended it, it is good for nothing but :meth:`stop`.
    """

    def __init__(self, initializer: Callable[[], object] | None, nice: int) -> None:
        # Spawned, not forked: the parent has threads, and the worker stays small.
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._exchange = Exchange()
        self._process = context.Process(target=serve, args=(theirs, self._exchange, initializer, nice), daemon=True)
        self._process.start()
        theirs.close()
        self._bytes_at_start = 0

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process.is_alive()

    def wait_until_ready(self) -> None:
        """Wait until it takes calls.

        Raises
        ------
        WorkerCrashed, WorkerTimeout
            If the initializer does not end, or not well.
        """
        if not self._connection.poll(_START_SECONDS):
            self.kill()
            raise WorkerTimeout("starting a worker", _START_SECONDS)
        self._received("starting a worker")
        self._bytes_at_start = self._resident_bytes()

    def run(
        self,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        time_limit_seconds: float,
        memory_limit_bytes: int,
    ) -> Any:
        """Run a call there, and return or raise what it does.

        Raises
        ------
        WorkerCrashed, WorkerTimeout, WorkerOutOfMemory
            The process is ended then.
        """
        name = getattr(call[0], "__qualname__", repr(call[0]))
        order = Order(self._exchange.put(call), time_limit_seconds, memory_limit_bytes)
        try:
            self._connection.send(order)
        except OSError as error:
            raise self._crashed(name) from error
        self._watch(name, time_limit_seconds, memory_limit_bytes)
        answer: Answer = self._received(name)
        value = self._taken(name, answer)
        self._exchange.trim()
        if answer.returned:
            return value
        if isinstance(value, MemoryError):
            self.kill()
            raise WorkerOutOfMemory(name, memory_limit_bytes) from value
        raise value

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.join()

    def dismiss(self) -> None:
        """Let the process end by itself, which takes it a tenth of a second, without waiting for it."""
        self._connection.close()

    def stop(self) -> None:
        """End the process once it has nothing to do, and let go of everything."""
        self.dismiss()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self.kill()
        with contextlib.suppress(ValueError):  # it has ended, but another thread saw that first
            self._process.close()
        self._exchange.close()

    def _watch(self, name: str, time_limit_seconds: float, memory_limit_bytes: int) -> None:
        """Wait for an answer, or for the end of the process; end it when it goes beyond a limit."""
        deadline = time.monotonic() + time_limit_seconds
        while not self._connection.poll(max(0.0, min(_WATCH_SECONDS, deadline - time.monotonic()))):
            if self._resident_bytes() - self._bytes_at_start > memory_limit_bytes:
                self.kill()
                raise WorkerOutOfMemory(name, memory_limit_bytes)
            if time.monotonic() >= deadline:
                self.kill()
                raise WorkerTimeout(name, time_limit_seconds)

    def _received(self, name: str) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._crashed(name) from error

    def _taken(self, name: str, answer: Answer) -> Any:
        try:
            return self._exchange.take(answer.lengths)
        except Exception as error:
            # It was pickled with care: if it cannot be read, something has written over it.
            self.kill()
            raise WorkerCrashed(name, f"its answer cannot be read: {error!r}") from error

    def _crashed(self, name: str) -> WorkerCrashed:
        code = exit_code(self._process, _STOP_SECONDS)
        self.kill()
        return WorkerCrashed(name, _how(code))

    def _resident_bytes(self) -> int:
        """Memory of the process that is in use (proc(5), statm); 0 when it is gone."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0
        return int(pages[1]) * os.sysconf("SC_PAGESIZE")


def exit_code(process: BaseProcess, within_seconds: float) -> int | None:
    """Wait for the end of a process, and say how it ended: negative for a signal; None when it goes on.

    When one thread waits for a process while another starts one, which looks after all of them, the system tells only
    one of the two how it ended, and ``join`` returns in the other before that is known
    (https://docs.python.org/3/library/multiprocessing.html, active_children).
    """
    deadline = time.monotonic() + within_seconds
    process.join(within_seconds)
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return process.exitcode


def _how(code: int | None) -> str:
    if code is None:
        return "it closed its pipe"
    if code >= 0:
        return f"it ended with status {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
