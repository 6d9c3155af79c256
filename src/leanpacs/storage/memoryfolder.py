"""A folder in memory for the processes of an archive on one host."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- nobody else can write into the folder below it, which is looked at


def memory_folder(data: Path, memory: Path = MEMORY) -> Path | None:
    """The folder in ``memory`` of the archive in folder ``data``; None while no server has made one.

    Everybody may make folders in ``memory``: one that belongs to somebody else is as good as none.
    """
    folder = _path(data, memory)
    try:
        found = folder.lstat()
    except OSError:
        return None
    is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if is_private else None


@contextmanager
def memory_folder_made(data: Path, memory: Path = MEMORY) -> Iterator[Path | None]:
    """Make the folder in ``memory`` of the archive in folder ``data``, and remove it with all in it at the end.

    None where it cannot be had. Nothing is in it: what an earlier run left is removed. One process may do so at a time.
    """
    remove_memory_folder(data, memory)
    with suppress(OSError):
        _path(data, memory).mkdir(mode=0o700)
    folder = memory_folder(data, memory)
    try:
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def remove_memory_folder(data: Path, memory: Path = MEMORY) -> None:
    """Remove the folder in ``memory`` of the archive in folder ``data`` with all in it, if there is one."""
    folder = memory_folder(data, memory)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _path(data: Path, memory: Path) -> Path:
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:16]
    return memory / f"leanpacs-{os.geteuid()}-{name}"
