"""Whether processes are there, and waiting until they are not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE_SECONDS = 120.0


def is_there(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has asked how it ended has."""
    if len(list(Path("/proc").glob(f"{pid}/task/*"))) > 1:
        return True  # its parent learns of its end after that of all threads
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    _until(lambda: not is_there(pid), f"process {pid} is still there")


def await_end_of_group(group: int) -> None:
    """Wait until all processes of a group have ended: then their locks and their ports are free."""
    _until(lambda: not any(is_there(pid) for pid in _members(group)), f"processes of group {group} are still there")


def _members(group: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == group:
                found.append(pid)
    return found


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)
