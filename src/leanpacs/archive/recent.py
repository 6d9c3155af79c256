"""What has just arrived, as it was received, in memory for a while: most of it is looked at, or sent on, at once.

Until it is settled, an instance is read from the file in which it landed; after that, reading it means to decode it.
The copy is made of bytes that have just been proven to be those that the pack gives back, and it is a copy: nothing is
lost with it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import BinaryIO, Final

from leanpacs.refs import Digest

LARGEST_SHARE: Final = 8
"""Nothing larger than this part of the room is kept."""
_HEADER: Final = struct.Struct("<8s4Q")
_MAGIC: Final = b"LPrecent"


@dataclass(frozen=True, slots=True)
class Native:
    """Where frames are in what was received: native ones, one after another, in little endian order.

    Parameters
    ----------
    offset : int
        Of the first frame, from the start of what was received.
    frame_bytes, count : int
        Bytes of a frame, and how many there are; 0 where frames are not found so simply.
    """

    offset: int = 0
    frame_bytes: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Recent:
    """Files in memory, by the digest of the data set. Small and picklable; safe to use from several processes.

    Whatever goes wrong with it, nothing is kept, and what is asked for is not there.

    Parameters
    ----------
    folder : Path
        In memory; it need not exist.
    room_bytes : int
        What all of it may take; :meth:`trim` sees to that.
    keep_seconds : float
        How long it stays.
    """

    folder: Path
    room_bytes: int
    keep_seconds: float

    def takes(self, size_bytes: int) -> bool:
        """Whether something so large is kept."""
        return size_bytes * LARGEST_SHARE <= self.room_bytes

    def put(self, digest: Digest, received: bytes | memoryview, native: Native = Native()) -> None:
        """Keep what was received, preamble and file meta included."""
        if not self.takes(len(received)):
            return
        made = f"{self.folder}/.{os.getpid()}-{get_ident()}"
        header = _HEADER.pack(_MAGIC, len(received), native.offset, native.frame_bytes, native.count)
        with suppress(OSError):
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                written = os.writev(descriptor, [header, received])
            finally:
                os.close(descriptor)
            if written == len(header) + len(received):
                os.rename(made, self._name_of(digest))  # noqa: PTH104
            else:
                os.unlink(made)  # noqa: PTH108

    def has(self, digest: Digest) -> bool:
        """Whether something is there now."""
        return os.access(self._name_of(digest), os.R_OK)

    def read(self, digest: Digest) -> memoryview | None:
        """All that was received; None when it is not there."""
        try:
            descriptor = os.open(self._name_of(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = os.read(descriptor, os.fstat(descriptor).st_size)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return memoryview(data)[_HEADER.size :] if _is_whole(data[: _HEADER.size], len(data)) else None

    @contextmanager
    def opened(self, digest: Digest) -> Iterator[RecentFile | None]:
        """Open what is there; None when nothing is."""
        try:
            file = open(self._name_of(digest), "rb", 0)  # noqa: PTH123, SIM115 -- closed below
        except OSError:
            yield None
            return
        with file:
            yield self._checked(file)

    @staticmethod
    def _checked(file: BinaryIO) -> RecentFile | None:
        with suppress(OSError):
            header = file.read(_HEADER.size)
            if _is_whole(header, os.fstat(file.fileno()).st_size):
                _, length, *native = _HEADER.unpack(header)
                return RecentFile(file, length, Native(*native))
        return None

    def trim(self) -> int:
        """Remove what is too old, and the oldest of what is too much; returns how many bytes are left."""
        oldest, left = time.time() - self.keep_seconds, 0
        for made, size, name in sorted(self._entries(), reverse=True):
            if made < oldest or left + size > self.room_bytes:
                self._remove(name)
            else:
                left += size
        return left

    def clear(self) -> None:
        """Remove all."""
        for _, _, name in list(self._entries()):
            self._remove(name)

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """When it was made, how large it is, and where."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime, status.st_size, entry.path

    @staticmethod
    def _remove(name: str) -> None:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108

    def _name_of(self, digest: Digest) -> str:
        return f"{self.folder}/{digest.hex}"


@dataclass(frozen=True, slots=True)
class RecentFile:
    """Something that is kept, opened.

    Parameters
    ----------
    file : BinaryIO
        Open.
    length : int
        Bytes that were received.
    native : Native
        Where its frames are.
    """

    file: BinaryIO
    length: int
    native: Native

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """What was received, or a part of it."""
        end = self.length if end is None else end
        return os.pread(self.file.fileno(), end - start, _HEADER.size + start)

    def frame(self, number: int) -> bytes:
        """Frame ``number``, from 1."""
        start = self.native.offset + (number - 1) * self.native.frame_bytes
        return self.read(start, start + self.native.frame_bytes)


def _is_whole(header: bytes, size_bytes: int) -> bool:
    """Whether a file of this size that begins so is one that was written to its end."""
    if len(header) < _HEADER.size:
        return False
    magic, length, *_ = _HEADER.unpack(header)
    return bool(magic == _MAGIC and length == size_bytes - _HEADER.size)
