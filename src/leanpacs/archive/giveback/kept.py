"""What was made for receivers lately: in memory, and on disk what was costly; who asks meanwhile, waits for it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakValueDictionary

from leanpacs import __version__
from leanpacs.archive.giveback.cache import DiskCache
from leanpacs.archive.giveback.given import Bytes
from leanpacs.archive.giveback.lastused import LastUsed

if TYPE_CHECKING:
    from leanpacs.catalog import InstanceRow

Pieces: TypeAlias = Sequence[Bytes]
"""A result as it was made: joining half a megabyte takes longer than finding it."""

_LARGEST_SHARE: Final = 4
"""Nothing larger than this part of the bound is kept in memory."""
_WAITING_BYTES: Final = 64 << 20
"""What may wait to be written; beyond that nothing more is, as the disk has other things to do."""

_IDLE_SECONDS: Final = 2.0
"""How long the thread that writes waits for more: starting one takes 0.3 ms of who has made something."""
_LATER_SECONDS: Final = 0.05
"""How often it looks for more. It is not told of it, for then it would begin while the result is yet to be sent."""


class _Large(list[Bytes]):
    """A result that is too large for memory, and there nevertheless for as long as somebody is being given it."""


class Kept:
    """Results by key (40 hexadecimal digits). Thread-safe.

    Nobody waits for the disk to take something: that happens in a thread of its own, and may be left out. A result that
    is too large for memory is shared by all who hold what they were given: it is there once for a hundred who read
    slowly.

    Parameters
    ----------
    disk : DiskCache
        For what was costly; closed with this.
    memory_bytes : int
        Bound of what is kept in memory; 0 keeps nothing there.
    now : callable
        Seconds, from any start.
    """

    def __init__(self, disk: DiskCache, *, memory_bytes: int, now: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk
        self._memory: LastUsed[str, Pieces] = LastUsed(memory_bytes, _size, largest_share=_LARGEST_SHARE, now=now)
        self._writer = _Writer(disk)
        self._lock = threading.Lock()
        self._making: dict[str, Future[Pieces]] = {}
        self._large: WeakValueDictionary[str, _Large] = WeakValueDictionary()

    def takes(self, size_bytes: int, seconds: float) -> bool:
        """Whether what takes ``seconds`` to make is kept."""
        return self._memory.takes(size_bytes) or self._disk.takes(size_bytes, seconds)

    def open(self) -> None:
        """Look what is there, which whoever asks first would wait for."""
        self._disk.open()

    def fetch(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Give what is kept, else make it, once for all who ask meanwhile."""
        return _joined(self.pieces(key, lambda: (make(),)))

    def pieces(self, key: str, make: Callable[[], Pieces], clock: Callable[[], float] = time.perf_counter) -> Pieces:
        """As :meth:`fetch`, in the pieces that it was made in, or in one; ``clock`` says what making it took."""
        kept = self._memory.get(key)
        if kept is not None:
            return kept
        mine: Future[Pieces] = Future()
        with self._lock:
            first = self._making.setdefault(key, mine)
        if first is not mine:
            return first.result()
        try:
            made = self._kept_or_made(key, make, clock)
            mine.set_result(made)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]
        return made

    def _kept_or_made(self, key: str, make: Callable[[], Pieces], clock: Callable[[], float]) -> Pieces:
        kept = self.get(key)  # also by one who was done between our look and our turn
        if kept is not None:
            return kept
        started = clock()
        made = self._shared(key, make())
        self.put(key, made, clock() - started)
        return made

    def _shared(self, key: str, made: Pieces) -> Pieces:
        if self._memory.takes(_size(made)):
            return made
        large = _Large(made)
        with self._lock:
            return self._large.setdefault(key, large)

    def get(self, key: str) -> Pieces | None:
        """Give what is kept; None when nothing is."""
        kept = self._memory.get(key)
        if kept is None:
            with self._lock:
                kept = self._large.get(key)
        if kept is not None:
            return kept
        data = self._disk.get(key)
        if data is None:
            return None
        self._memory.put(key, (data,))
        return self._shared(key, (data,))

    def has(self, key: str) -> bool:
        """Whether something is kept, or being made."""
        return key in self._making or self._memory.get(key) is not None or self._disk.has(key)

    def at_hand(self, key: str) -> bool:
        """Whether something is in memory."""
        return self._memory.get(key) is not None

    def put(self, key: str, made: Pieces, seconds: float) -> None:
        """Keep what took ``seconds`` to make."""
        self._memory.put(key, made)
        if self._disk.takes(_size(made), seconds):
            self._writer.put(key, made, seconds)

    def forget_unused(self, seconds: float) -> None:
        """Let go of what nobody has asked memory for so long; what is on disk stays."""
        self._memory.forget_unused(seconds)

    def close(self) -> None:
        """Write what waits, and let others have the folder on disk."""
        self._writer.close()
        self._disk.close()


class _Writer:
    """Writes to the disk in a thread of its own, which ends when nothing has come for a while."""

    def __init__(self, disk: DiskCache) -> None:
        self._disk = disk
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, Pieces, float]] = deque()
        self._size = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def put(self, key: str, made: Pieces, seconds: float) -> None:
        with self._changed:
            if self._size + _size(made) > _WAITING_BYTES:
                return
            self._waiting.append((key, made, seconds))
            self._size += _size(made)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="cache", daemon=True)
                self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._is_closed, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        idle = 0.0
        while True:
            with self._changed:
                if not self._is_closed and idle < _IDLE_SECONDS:
                    self._changed.wait(_LATER_SECONDS)
                if not self._waiting and (self._is_closed or idle >= _IDLE_SECONDS):
                    self._thread = None
                    return
            idle = 0.0 if self._write_what_waits() else idle + _LATER_SECONDS

    def _write_what_waits(self) -> int:
        """How many were written."""
        count = 0
        while True:
            with self._changed:
                if not self._waiting:
                    return count
                key, made, seconds = self._waiting.popleft()
                self._size -= _size(made)
            self._disk.put(key, _joined(made), seconds)
            count += 1


def key_of(instance: InstanceRow, number: int, wanted: str, effort: int = 0) -> str:
    """Under which what is made of an instance is kept.

    It names what was received, whichever instance that is; another release may write it otherwise.

    Parameters
    ----------
    instance : InstanceRow
        Which one.
    number : int
        Of the frame, from 1; 0 for the instance as a whole.
    wanted : str
        What is made: the UID of a transfer syntax, or another name.
    effort : int
        With which it is written; 0 for the usual one.
    """
    text = f"{instance.data_set_digest.hex}/{number}/{wanted}{effort or ''}/{__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _size(made: Pieces) -> int:
    return sum(map(len, made))


def _joined(made: Pieces) -> bytes:
    first = made[0]
    return first if len(made) == 1 and isinstance(first, bytes) else b"".join(made)
