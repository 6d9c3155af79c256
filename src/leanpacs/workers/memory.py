"""What becomes of memory that is freed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable
from typing import Final

# mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_IDLE_SECONDS: Final = 0.1
"""Of processor time between two looks: a process that took less had nothing to do."""


def keep_freed_memory(kept_bytes: int, *, arenas: int = 0) -> None:
    """Let glibc keep what large values leave for the next ones, instead of asking the system for each page anew.

    That is a sixth of the time to decode a frame of 10 MB with HTJ2K, and half of the time to send one of 0.5 MB. Other
    C libraries are left as they are.

    Parameters
    ----------
    kept_bytes : int
        How much may be kept free at the end of each arena; values of up to half of it come from arenas.
    arenas : int
        Most arenas, which threads share; 0 leaves that to the library. To be called before there are threads.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, kept_bytes // 2)
        mallopt(_M_TRIM_THRESHOLD, kept_bytes)
        if arenas:
            mallopt(_M_ARENA_MAX, arenas)


def share_arenas(arenas: int) -> None:
    """Let glibc make no more arenas than these, which threads share; to be called before there are threads.

    By itself it makes eight for each processor, and what one thread has freed in its own is of no use to another.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, arenas)


def give_back_freed_memory() -> None:
    """Give the system what glibc keeps free (malloc_trim(3)): for a process that will do nothing for a while."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Rests:
    """Gives back what a process keeps free, as long as it has nothing to do.

    What a request that was broken off leaves in cycles, its header and pieces of the answer with it, is collected then,
    too: by itself Python would wait for some hundred more of them.
    """

    def __init__(self) -> None:
        self._used = time.process_time()
        self._forgetting: list[Callable[[], object]] = []

    def forget_with(self, forget: Callable[[], object]) -> None:
        """Have ``forget`` called before each look: it lets go of what is not used any more."""
        self._forgetting.append(forget)

    def look(self) -> None:
        """To be called every few seconds; whoever comes next asks the system for pages again, once.

        Each time, not only the first: what a connection holds that nobody reads from is freed long after the last work.
        """
        for forget in self._forgetting:
            forget()
        if time.process_time() - self._used < _IDLE_SECONDS:
            gc.collect()
            give_back_freed_memory()
        self._used = time.process_time()
