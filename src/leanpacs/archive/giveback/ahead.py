"""Instances made before they are needed: while one is on its way, threads decode or encode the next ones."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from leanpacs.archive.giveback.given import Bytes, Part10

LARGEST_BYTES: Final = 32 << 20
"""What is longer is made as it is sent, a piece at a time: it must not fill the memory."""

Making: TypeAlias = "Callable[[], Part10]"


class Lookahead:
    """Makes instances in threads, as many at a time as there are cores. Thread-safe.

    Codecs let go of the interpreter while they work, so that threads are enough.
    """

    def __init__(self) -> None:
        self.count = (os.cpu_count() or 1) + 1
        """How many instances are worth having under way, the one that is being sent included."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, size_bytes: int, make: Making) -> Making:
        """Begin to make an instance of ``size_bytes``; what is returned waits for it, and gives it or raises."""
        if size_bytes > LARGEST_BYTES:
            return make
        future = self._threads().submit(_made, make)
        return lambda: _result(future)

    def in_turn(self, begun: Iterable[Making]) -> Iterator[Part10]:
        """Instances in order; each element of ``begun`` is taken, and so begun, some turns before it is needed."""
        waiting: deque[Making] = deque()
        for making in begun:
            waiting.append(making)
            if len(waiting) > self.count:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def close(self) -> None:
        """Make no more; what is being made is finished."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="ahead")
            return self._pool


def _result(future: Future[Part10]) -> Part10:
    return future.result()


def _made(make: Making) -> Part10:
    part = make()
    with closing(_closable(part.chunks)) as chunks:
        pieces = list(chunks)
    return replace(part, chunks=iter(pieces))


def _closable(chunks: Iterator[Bytes]) -> Generator[Bytes]:
    try:
        yield from chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
