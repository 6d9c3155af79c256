"""A seekable file over a place that gives ranges of bytes, each at the price of a round trip."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FIRST_WINDOW: Final = 256 << 10
LARGEST_WINDOW: Final = 16 << 20


class RangedFile(io.RawIOBase):
    """Reads ahead, by more the longer it is read in order; keeps the end, where the directory of a pack is.

    Parameters
    ----------
    fetch : callable
        Gives exactly the bytes from an offset on, of a length.
    size_bytes : int
        Length of the whole.
    tail : bytes
        The last bytes of it, as far as they are known already.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size_bytes: int, tail: bytes = b"") -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size_bytes
        self._tail = tail
        self._tail_at = size_bytes - len(tail)
        self._position = 0
        self._window = b""
        self._window_at = 0
        self._next_window = FIRST_WINDOW

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the start, from here, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"offset {base + offset} must not be negative")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """All bytes asked for, fewer only at the end."""
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces = []
        while wanted:
            piece = self._piece(wanted)
            pieces.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer, as far as there are bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _piece(self, wanted: int) -> bytes:
        """Some of the bytes at the position, at most ``wanted``."""
        for start, held in ((self._tail_at, self._tail), (self._window_at, self._window)):
            inside = self._position - start
            if 0 <= inside < len(held):
                return held[inside : inside + wanted]
        goes_on = self._window and self._position == self._window_at + len(self._window)
        self._next_window = min(2 * self._next_window, LARGEST_WINDOW) if goes_on else FIRST_WINDOW
        until = min(self._position + max(wanted, self._next_window), self._tail_at)
        data = self._fetch(self._position, until - self._position)
        if len(data) <= LARGEST_WINDOW:
            self._window, self._window_at = data, self._position
        return data[:wanted]
