"""What was used last, in memory and within a bound."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LastUsed(Generic[K, V]):
    """Values by key; those that were not used for longest are forgotten first. Thread-safe.

    Parameters
    ----------
    limit_bytes : int
        Memory that all of them may take.
    size_of : callable
        Bytes that one takes, always the same.
    largest_share : int
        Nothing larger than this part of the bound is remembered.
    now : callable
        Seconds, from any start.
    """

    def __init__(
        self,
        limit_bytes: int,
        size_of: Callable[[V], int],
        *,
        largest_share: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._size_of = size_of
        self._largest_share = largest_share
        self._now = now
        self._lock = threading.Lock()
        self._held: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._held)

    def takes(self, size_bytes: int) -> bool:
        """Whether something so large is remembered."""
        return size_bytes * self._largest_share <= self._limit_bytes

    def get(self, key: K) -> V | None:
        """What is remembered, which is used by that."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._use(key, found[1])
            return found[1]

    def put(self, key: K, value: V) -> None:
        """Remember something."""
        size = self._size_of(value)
        if not self.takes(size):
            return
        with self._lock:
            before = self._held.pop(key, None)
            self._size += size - (self._size_of(before[1]) if before is not None else 0)
            self._use(key, value)
            while self._size > self._limit_bytes:
                self._forget_first()

    def forget_unused(self, seconds: float) -> None:
        """Forget what was not used for so long."""
        before = self._now() - seconds
        with self._lock:
            while self._held and next(iter(self._held.values()))[0] < before:
                self._forget_first()

    def _use(self, key: K, value: V) -> None:
        self._held[key] = self._now(), value
        self._held.move_to_end(key)

    def _forget_first(self) -> None:
        _, (_, value) = self._held.popitem(last=False)
        self._size -= self._size_of(value)
