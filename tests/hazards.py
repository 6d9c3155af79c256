"""Calls that do harm to the process they run in."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray


def pid() -> int:
    return os.getpid()


def meet(folder: Path, number: int) -> int:
    """Wait until so many processes are here at the same time."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < number:
        time.sleep(0.01)
    return os.getpid()


def echo(value: object) -> object:
    return value


def keywords(*args: object, **kwargs: object) -> tuple[object, ...]:
    return args, kwargs


def segmentation_fault() -> None:
    ctypes.string_at(0)


def end(status: int) -> None:
    os._exit(status)


def hang(path: Path | None = None) -> None:
    """Hang in a way that no Python code of the process can end: signals blocked, without letting go of the GIL."""
    if path is not None:
        path.write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(3600)


def grow(size_bytes: int) -> int:
    return int(np.ones(size_bytes, np.uint8).sum())


def grow_shared(size_bytes: int) -> None:
    """Grow where RLIMIT_DATA does not count."""
    import mmap

    memory = mmap.mmap(-1, size_bytes)
    for start in range(0, size_bytes, 1 << 20):
        memory[start : start + (1 << 20)] = bytes(min(1 << 20, size_bytes - start))
        time.sleep(0.002)
    time.sleep(60)


def made(size_bytes: int) -> NDArray[np.uint8]:
    return np.arange(size_bytes, dtype=np.uint64).astype(np.uint8)


def fail(message: str) -> None:
    raise LookupError(message)


class Awkward(Exception):
    """Cannot be unpickled: its constructor takes what ``args`` does not have."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def fail_awkwardly() -> None:
    raise Awkward("one", "two")


def unpicklable() -> object:
    return threading.Lock()


def write_over_answer() -> object:
    """Return what pickles well and unpickles never."""
    return _Broken()


class _Broken:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


def mark(path: Path) -> None:
    path.write_text(str(os.getpid()))


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def niceness() -> int:
    return os.nice(0)


def interrupt_parent_group_handler() -> object:
    return signal.getsignal(signal.SIGINT)


def cannot_start() -> None:
    sys.exit(3)


def imported() -> bool:
    return "fractions" in sys.modules


def import_fractions() -> None:
    import fractions  # noqa: F401


def retained() -> int:
    """Bytes of this process that are in use."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def flipping(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task with a codec that gets one frame wrong, the first time this is asked of it; ``folder`` remembers."""
    from leanpacs.archive.settle import packer

    encode, wrong = packer.encode_frame, folder / "wrong"

    def flips(codec: Any, frame: bytes, *more: Any, **options: Any) -> bytes:
        if not wrong.exists():
            wrong.touch()
            frame = bytes([frame[0] ^ 1]) + frame[1:]
        return encode(codec, frame, *more, **options)

    with mock.patch.object(packer, "encode_frame", flips):
        return function(*arguments)


def hanging(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task, or hang; each time one is begun there is a file more in ``folder``."""
    begun = len(list(folder.iterdir()))
    (folder / f"{begun}").touch()
    return hang() if begun == 0 else function(*arguments)
