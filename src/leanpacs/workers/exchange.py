"""Memory that a worker shares with its parent: what is sent lies there, the pipe only says how long it is.

Large ``bytes`` and buffers (ndarrays among them) are copied twice in all, once in and once out, and never into a
pickle (PEP 574). That is half of what a socket takes for 10 MB, and what lies in a pipe half sent can hang nobody.
"""

from __future__ import annotations

import fcntl
import io
import mmap
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_LARGE_BYTES = 1 << 15
"""What is smaller is quicker within the pickle."""

_GROWTH_BYTES = 1 << 20
_KEPT_BYTES = 64 << 20
"""Of an exchange that had to hold more, the rest is given back to the system."""


class Lengths(NamedTuple):
    """How many bytes each part of a message has, in the order in which they lie in the shared memory."""

    pickled: int
    solid: tuple[int, ...]
    buffers: tuple[int, ...]


class Exchange:
    """Shared memory for one message at a time. Only sending it to a new process pickles it."""

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("exchange", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            # One side must never make what the other looks at end sooner: reading there would be a bus error.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return _attached, (DupFd(self._descriptor),)

    def put(self, value: object) -> Lengths:
        """Write a message over the last one; what it raises when ``value`` cannot be pickled leaves that as it was."""
        body, solid, buffers = _pickled(value)
        parts = [body, *solid, *buffers]
        bounds = _bounds(len(part) for part in parts)
        memory = self._of_size(bounds[-1])
        for part, (start, end) in zip(parts, pairwise(bounds), strict=True):
            memory[start:end] = part
        return Lengths(len(body), _sizes(solid), _sizes(buffers))

    def take(self, lengths: Lengths) -> Any:
        """Read a message; nothing of what is returned lies in the shared memory.

        Raises
        ------
        pickle.UnpicklingError
            If the memory holds less; whatever else unpickling raises.
        """
        pickled, solid, buffers = lengths
        bounds = _bounds((pickled, *solid, *buffers))
        if bounds[-1] > os.fstat(self._descriptor).st_size:
            raise pickle.UnpicklingError("the message is longer than the memory it should lie in")
        with memoryview(self._of_size(bounds[-1])) as memory:
            spans = pairwise(bounds)
            body = _copied(memory, spans, bytes)
            read_solid = [_copied(memory, spans, bytes) for _ in solid]
            read_buffers = [_copied(memory, spans, bytearray) for _ in buffers]
        return _Unpickler(body, read_solid, read_buffers).load()

    def trim(self) -> None:
        """Give memory back to the system after a very large message."""
        if self._memory is not None and len(self._memory) > _KEPT_BYTES:
            self._memory.madvise(mmap.MADV_REMOVE, _KEPT_BYTES)

    def close(self) -> None:
        """Let go of the memory."""
        if self._memory is not None:
            self._memory.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _of_size(self, size: int) -> mmap.mmap:
        """The memory mapped, and made larger where it must be."""
        if self._memory is None or len(self._memory) < size:
            there = os.fstat(self._descriptor).st_size
            if there < size:
                there = -(-size // _GROWTH_BYTES) * _GROWTH_BYTES
                os.ftruncate(self._descriptor, there)
            if self._memory is not None:
                self._memory.close()
            self._memory = mmap.mmap(self._descriptor, there)
        return self._memory


def _pickled(value: object) -> tuple[memoryview, list[memoryview], list[memoryview]]:
    """A pickle, the large ``bytes`` and the large buffers that are not in it."""
    solid: list[memoryview] = []
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _LARGE_BYTES:
            return True
        buffers.append(view)
        return False

    body = io.BytesIO()
    _Pickler(body, solid, stays_inside).dump(value)
    return body.getbuffer(), solid, buffers


class _Pickler(pickle.Pickler):
    def __init__(
        self, file: io.BytesIO, solid: list[memoryview], stays_inside: Callable[[pickle.PickleBuffer], bool]
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=stays_inside)
        self._solid = solid

    def persistent_id(self, value: object) -> int | None:
        if type(value) is not bytes or len(value) < _LARGE_BYTES:
            return None
        self._solid.append(memoryview(value))
        return len(self._solid) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: bytes, solid: list[bytes], buffers: list[bytearray]) -> None:
        super().__init__(io.BytesIO(body), buffers=buffers)
        self._solid = solid

    def persistent_load(self, number: int) -> bytes:
        return self._solid[number]


def _attached(descriptor: Any) -> Exchange:
    return Exchange(descriptor.detach())


def _sizes(views: list[memoryview]) -> tuple[int, ...]:
    return tuple(len(view) for view in views)


def _bounds(sizes: Iterable[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))


def _copied(memory: memoryview, spans: Iterator[tuple[int, int]], kind: Callable[[memoryview], T]) -> T:
    start, end = next(spans)
    with memory[start:end] as part:
        return kind(part)
