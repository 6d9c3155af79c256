"""Locks on files of the data folder: who has the archive open, and which server serves it.

The system lets go of a lock when the process that holds it ends, however it ends. Processes that it starts do not
inherit it: what lingers of a killed server keeps nobody from starting another one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from leanpacs.errors import AlreadyServed, ConfigError
from leanpacs.storage.memoryfolder import memory_folder, remove_memory_folder

log = logging.getLogger(__name__)

IN_USE_FILE: Final = "in-use.lock"
SERVER_FILE: Final = "server.lock"
_TRY_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 2.0
"""The lock of a process that was just killed is held until its memory is given back; others only look at it."""
_LINGER_SECONDS: Final = 20.0
"""Within which processes of a server end whose supervisor was killed: two when idle, 13 when somebody is served."""


class InUse:
    """Says whether other processes have the archive open.

    Raises
    ------
    ConfigError
        The file system has no locks.
    """

    def __init__(self, data: Path) -> None:
        self._descriptor = _opened(data / IN_USE_FILE)
        try:
            self.alone = _takes(self._descriptor, data)
        except BaseException:
            self.close()
            raise

    def share(self) -> None:
        """Let others open the archive, too."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Have it open no more; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def only_server(data: Path) -> Iterator[None]:
    """Be the only server of the archive in folder ``data`` as long as the block lasts.

    Where the last one was killed, its other processes are waited for: they have its ports and what it had claimed.

    Raises
    ------
    AlreadyServed
        Another one is running.
    ConfigError
        The file system has no locks.
    """
    descriptor = _opened(data / SERVER_FILE)
    try:
        if not _await(lambda: _takes(descriptor, data), _PATIENCE_SECONDS):
            raise AlreadyServed(data, os.pread(descriptor, 20, 0).decode(errors="replace"))
        if os.fstat(descriptor).st_size:
            _await_others(data)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def clear_memory_of_dead_server(data: Path) -> None:
    """Remove what a server that was killed left in memory, which are copies of what had just arrived."""
    if memory_folder(data) is None:
        return
    try:
        descriptor = os.open(data / SERVER_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _takes(descriptor, data):
            remove_memory_folder(data)
    finally:
        os.close(descriptor)


def _await_others(data: Path) -> None:
    """Wait, for a while, until no other process has the archive open."""
    descriptor = _opened(data / IN_USE_FILE)
    try:
        if not _await(lambda: _takes(descriptor, data), _LINGER_SECONDS):
            log.warning(
                "the last server was killed, and some process still has the archive open: what the server had begun "
                "is taken up after some minutes",
                extra={"action": "start"},
            )
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _takes(descriptor: int, data: Path) -> bool:
    """Take a lock that nobody else holds; False when somebody does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        message = f"files there cannot be locked ({error.strerror}); name a folder on a file system with locks (flock)"
        raise ConfigError("storage.data", str(data), message) from error
    return True


def _await(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_TRY_SECONDS)
    return True
