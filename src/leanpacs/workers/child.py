"""What runs in a worker process: take a call, run it within its limits, give back what came of it."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from leanpacs.workers.exchange import Exchange, Lengths
from leanpacs.workers.memory import give_back_freed_memory, keep_freed_memory

_ALARM_SECONDS = 5.0
"""How long after its time limit a worker ends by itself, should nobody be there to end it."""

_KEPT_BYTES = 128 << 20
_REST_SECONDS = 2.0
"""After so long without a call, memory that the next one would need again is given back."""


class Order(NamedTuple):
    """A call that lies in the exchange, and what it may use."""

    lengths: Lengths
    time_limit_seconds: float
    memory_limit_bytes: int


class Answer(NamedTuple):
    """What a call returned, or raised, lies in the exchange."""

    lengths: Lengths
    returned: bool


def serve(connection: Connection, exchange: Exchange, initializer: Callable[[], object] | None, nice: int) -> None:
    """Run one call after the other until the pipe is closed.

    Parameters
    ----------
    connection : Connection
        Gives orders and takes answers; takes None first, when orders may come.
    exchange : Exchange
        Where calls and results lie.
    initializer : callable or None
        Called first.
    nice : int
        Added to the niceness of the process.
    """
    _settle_in(nice)
    if initializer is not None:
        initializer()
    # What is there after the start stays: nothing of it is garbage in cycles, and looking at all of it takes long.
    gc.collect()
    gc.freeze()
    at_start = _data_bytes()
    connection.send(None)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            if not connection.poll(_REST_SECONDS):
                give_back_freed_memory()
            connection.send(_answer(connection.recv(), exchange, at_start))


def _settle_in(nice: int) -> None:
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A core dump would hold what is confidential, and may fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # When the machine is out of memory, it is a worker that has to go.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if nice:
        _give_way(nice)
    keep_freed_memory(_KEPT_BYTES)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _give_way(nice: int) -> None:
    """Let every other process of this server go first, at once when it wakes up (SCHED_IDLE, sched(7)).

    Niceness alone gives a worker little of the processor, and yet keeps who wakes up waiting for the end of its slice.
    """
    os.nice(nice)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _end_with_parent() -> None:
    """End when the parent does, in whatever way, even in the middle of a call."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _answer(order: Order, exchange: Exchange, at_start: int) -> Answer:
    # The kernel ends a call that never returns, should the parent not be there to do it.
    signal.setitimer(signal.ITIMER_REAL, order.time_limit_seconds + _ALARM_SECONDS)
    _limit_data(at_start + order.memory_limit_bytes)
    try:
        function, arguments, keywords = exchange.take(order.lengths)
        return Answer(exchange.put(function(*arguments, **keywords)), returned=True)
    except BaseException as error:  # noqa: BLE001 (it is raised again, in the parent)
        _limit_data(None)
        return Answer(exchange.put(_portable(error)), returned=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _portable(error: BaseException) -> BaseException:
    """Return the error with its traceback noted; another in its place if it does not survive pickling."""
    error.add_note("In the worker process:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (its own)
    except Exception:  # noqa: BLE001 (whatever its class does)
        return RuntimeError("".join(traceback.format_exception_only(error)).rstrip())
    return error


def _limit_data(size_bytes: int | None) -> None:
    """Let allocations fail beyond this size, or where the process was limited when it was started."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = most if size_bytes is None else size_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _data_bytes() -> int:
    """Private memory that can be written to, which RLIMIT_DATA counts (getrlimit(2), proc(5))."""
    status: dict[str, Any] = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    return int(status["VmData"].split()[0]) * 1024
