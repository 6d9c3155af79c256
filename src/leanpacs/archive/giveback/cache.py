"""What was costly to make is kept on disk for the next one who asks, within a bound.

References
----------
P. Cao, S. Irani: Cost-aware WWW proxy caching algorithms (GreedyDual-Size), USENIX USITS 1997.
"""

from __future__ import annotations

import fcntl
import heapq
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_LEAST_SECONDS: Final = 0.001
"""What is made in less is not worth a file."""
_BYTES_A_SECOND: Final = 50_000_000
"""Nor is what is made faster than this: reading and writing it is work, too."""
_LARGEST_SHARE: Final = 8
"""Nothing larger than this part of the bound is kept."""
_CHECKSUM_BYTES: Final = 4
_NAME: Final = re.compile(r"([0-9a-f]{40})\.(\d{1,15})")
_MOST_FOLDERS: Final = 1024
_LOOK_SECONDS: Final = 5.0
"""How often it is looked which folders other processes have."""


@dataclass(slots=True)
class _Entry:
    path: Path
    size: int
    worth: float
    """Seconds saved for each byte held."""
    priority: float


class DiskCache:
    """A bounded cache of files, in a folder of its own for each process. Thread-safe; survives a restart.

    Processes of one host read what others keep, and leave it alone.

    Entries that cost most for their size and were used last stay longest. What is damaged or cannot be written is no
    fault: it is made again. Files are not synced, for none is missed.

    Parameters
    ----------
    folder : Path
        Made when the first thing is looked up.
    limit_bytes : int
        Of all files together; 0 keeps nothing.
    minimum_free_bytes : int
        Nothing is added while the file system has less room.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, minimum_free_bytes: int) -> None:
        self._parent = folder
        self._limit_bytes = limit_bytes
        self._minimum_free_bytes = minimum_free_bytes
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] | None = None
        self._heap: list[tuple[float, str]] = []
        self._size = 0
        self._inflation = 0.0
        self._folder: Path | None = None
        self._claim = -1
        self._neighbours: list[Path] = []
        self._look_again = 0.0

    def open(self) -> None:
        """Look what is there."""
        with self._lock:
            self._opened()

    def get(self, key: str) -> bytes | None:
        """Give what is kept under a key, here or by another process of this host; None when nothing is."""
        with self._lock:
            entry = self._opened().get(key)
            if entry is not None:
                entry.priority = self._inflation + entry.worth
        if entry is None:
            return self._of_others(key)
        data = _read(entry.path)
        if data is None:
            with self._lock:
                self._forget(key)
        return data

    def _of_others(self, key: str) -> bytes | None:
        """What is in the folders of other processes; it stays theirs."""
        for folder in self._others():
            with suppress(OSError):
                names = os.listdir(f"{folder}/{key[:2]}")  # noqa: PTH208 -- a glob takes ten times as long
                for name in names:
                    if name.startswith(key) and _NAME.fullmatch(name):
                        data = _read(folder / key[:2] / name)
                        if data is not None:
                            return data
        return None

    def _others(self) -> list[Path]:
        now = time.monotonic()
        if now >= self._look_again and self._folder is not None:
            with suppress(OSError):
                found = [path for path in self._parent.iterdir() if path.name.isdigit() and path != self._folder]
                self._neighbours, self._look_again = found, now + _LOOK_SECONDS
        return self._neighbours

    def has(self, key: str) -> bool:
        """Whether something is kept under a key."""
        with self._lock:
            return key in self._opened()

    def takes(self, size_bytes: int, seconds: float) -> bool:
        """Whether it is worth while to keep so many bytes that took ``seconds`` to make."""
        is_costly = seconds >= _LEAST_SECONDS and seconds * _BYTES_A_SECOND >= size_bytes
        return is_costly and size_bytes * _LARGEST_SHARE <= self._limit_bytes

    def put(self, key: str, data: bytes, seconds: float) -> None:
        """Keep what took ``seconds`` to make, if that is worth while and there is room."""
        size = len(data) + _CHECKSUM_BYTES
        if not self.takes(size, seconds):
            return
        with self._lock:
            self._opened()
            folder = self._folder
        if folder is None:
            return
        try:
            if shutil.disk_usage(folder).free < self._minimum_free_bytes + size:
                return
            path = folder / key[:2] / f"{key}.{int(seconds * 1e6)}"
            path.parent.mkdir(exist_ok=True)
            _write(path, data)
        except OSError as error:
            _log.warning("nothing is cached: %s", error, extra={"action": "cache"})
            return
        with self._lock:
            self._add(key, path, size, seconds)
            while self._size > self._limit_bytes:
                self._evict()

    def close(self) -> None:
        """Let others have the folder; files stay."""
        with self._lock:
            self._entries, self._folder = None, None
            self._heap, self._size = [], 0
            if self._claim >= 0:
                os.close(self._claim)
                self._claim = -1

    def _opened(self) -> dict[str, _Entry]:
        if self._entries is None:
            self._entries = {}
            if self._limit_bytes > 0:
                with suppress(OSError):
                    self._folder = self._claimed()
                    self._find_what_is_there(self._folder)
        return self._entries

    def _claimed(self) -> Path:
        """The first folder that no other process has."""
        for number in range(_MOST_FOLDERS):
            folder = self._parent / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            self._claim = os.open(folder / "in-use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._claim)
                self._claim = -1
            else:
                return folder
        raise OSError(f"{_MOST_FOLDERS} processes use {self._parent}")

    def _find_what_is_there(self, folder: Path) -> None:
        for path in folder.glob("??/*"):
            match = _NAME.fullmatch(path.name)
            if match is None or match[1] in (self._entries or {}):
                path.unlink(missing_ok=True)  # left by a process that was killed while it wrote
                continue
            self._add(match[1], path, path.stat().st_size, int(match[2]) / 1e6)
        while self._size > self._limit_bytes:
            self._evict()

    def _add(self, key: str, path: Path, size: int, seconds: float) -> None:
        if self._entries is None:
            return  # closed meanwhile: the file is found again
        known = self._entries.get(key)
        if known is not None:
            if known.path == path:
                return
            self._forget(key)
        worth = seconds / size
        entry = _Entry(path, size, worth, self._inflation + worth)
        self._entries[key] = entry
        self._size += size
        heapq.heappush(self._heap, (entry.priority, key))

    def _evict(self) -> None:
        """Remove what is worth least; priorities in the heap may be old ones, which are lower."""
        priority, key = heapq.heappop(self._heap)
        entry = self._entries.get(key) if self._entries else None
        if entry is None:
            return
        if entry.priority > priority:
            heapq.heappush(self._heap, (entry.priority, key))
            return
        self._inflation = priority
        self._forget(key)

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None) if self._entries else None
        if entry is not None:
            self._size -= entry.size
            entry.path.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    """Content of a file of ours; None where it has gone, or is damaged."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    data = kept[_CHECKSUM_BYTES:]
    return data if kept[:_CHECKSUM_BYTES] == _checksum(data) else None


def _write(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_checksum(data) + data)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")
