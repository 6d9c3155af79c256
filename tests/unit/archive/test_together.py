"""Group commit: what threads bring at the same time is done in one go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from leanpacs.archive.intake.together import Together


class Slow:
    """Doubles numbers; the first call waits until it is let go, so that others queue up behind it."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.entered = threading.Event()
        self.released = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        self.entered.set()
        assert self.released.wait(60)
        if -1 in numbers:
            raise OSError("no medium")
        return [ValueError(number) if number == 0 else 2 * number for number in numbers]


def test_those_who_wait_are_done_together() -> None:
    slow = Slow()
    together = Together(slow)
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(together, 1)
        assert slow.entered.wait(60)
        others = [threads.submit(together, number) for number in (2, 3, 4)]
        while len(together._queue) < 3:
            pass
        slow.released.set()
        assert [one.result(60) for one in (first, *others)] == [2, 4, 6, 8]
    assert slow.groups[0] == [1]
    assert [sorted(group) for group in slow.groups[1:]] == [[2, 3, 4]]


def test_an_error_is_raised_where_it_belongs() -> None:
    slow = Slow()
    slow.released.set()
    together = Together(slow)
    with pytest.raises(ValueError, match="0"):
        together(0)
    assert together(7) == 14


def test_what_fails_for_all_is_raised_to_all() -> None:
    slow = Slow()
    together = Together(slow)
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(together, 1)
        assert slow.entered.wait(60)
        others = [threads.submit(together, number) for number in (2, -1)]
        while len(together._queue) < 2:
            pass
        slow.released.set()
        assert first.result(60) == 2
        assert [type(one.exception(60)) for one in others] == [OSError, OSError]
    assert together(5) == 10
