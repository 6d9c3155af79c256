"""Following readers: what comes next is made before it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from leanpacs.archive.giveback import foresight
from leanpacs.archive.giveback.foresight import Foresight, Trail
from leanpacs.errors import BlobNotFound


def _trail(*positions: int) -> Trail:
    trail = Trail()
    for position in positions:
        trail.went_to(position)
    return trail


@pytest.mark.parametrize(
    ("positions", "ahead"),
    [
        ((), []),
        ((5,), []),
        ((5, 5), []),
        ((5, 6), [7, 8, 9]),
        ((9, 8), [7, 6, 5]),
        ((0, 7, 14), [21, 28, 35]),
        ((1, 3, 2, 4), [5, 6, 7]),  # over several connections
        ((1, 2, 3, 4, 400), []),
        ((3, 30, 17, 9), []),  # here and there
        ((3, 19), []),
        ((1, 2, 3, 4, 400, 401), [402, 403, 404]),
    ],
)
def test_the_way_shows_from_the_last_positions(positions: tuple[int, ...], ahead: list[int]) -> None:
    assert _trail(*positions).ahead(3) == ahead


SERIES: Sequence[Any] = [SimpleNamespace(id=100 + n, series_id=1, number_of_frames=None) for n in range(40)]
LONG: Any = SimpleNamespace(id=900, series_id=9, number_of_frames=6)


class _Made:
    """What was made, and waiting for it."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    def plan(self, row: Any, number: int) -> Callable[[], object] | None:
        return None if (row.id, number) in self.made else lambda: self.make(row, number)

    def make(self, row: Any, number: int) -> None:
        with self._changed:
            self.made.append((row.id, number))
            self._changed.notify()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.made) >= count, 60)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Foresight]:
    monkeypatch.setattr(foresight, "is_busy", lambda: False)
    monkeypatch.setattr(foresight, "CORES", 1)
    following = Foresight(lambda _: SERIES, lambda _: None, room_bytes=1000)
    yield following
    following.close()


def test_what_comes_next_is_made(ahead: Foresight) -> None:
    made = _Made()
    for position in (10, 12):
        ahead.saw(SERIES[position], 0, "form", made.plan, 300)
    made.wait_for(3)
    ahead.close()
    assert sorted(made.made) == [(114, 0), (116, 0), (118, 0)]  # there is room for three


def test_frames_of_one_instance_end_with_the_last(ahead: Foresight) -> None:
    made = _Made()
    for number in (4, 5):
        ahead.saw(LONG, number, "form", made.plan, 1)
    made.wait_for(1)
    ahead.close()
    assert made.made == [(900, 6)]


def test_who_goes_elsewhere_is_not_waited_for(ahead: Foresight) -> None:
    """While one is made, the reader of another series asks for his: that goes first, and what was left is left."""
    made, at_work, go_on = _Made(), threading.Event(), threading.Event()

    def slow(row: Any, number: int) -> None:
        at_work.set()
        assert go_on.wait(60)
        made.make(row, number)

    for position in (1, 2):
        ahead.saw(SERIES[position], 0, "slow", lambda row, number: lambda: slow(row, number), 1)
    assert at_work.wait(60)
    for number in (1, 2):
        ahead.saw(LONG, number, "form", made.plan, 1)
    go_on.set()
    made.wait_for(5)
    ahead.close()
    assert made.made == [(103, 0), (900, 3), (900, 4), (900, 5), (900, 6)]


def test_nothing_is_made_while_the_machine_is_busy(ahead: Foresight, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def busy() -> bool:
        asked.set()
        return True

    monkeypatch.setattr(foresight, "is_busy", busy)
    made = _Made()
    for position in (1, 2):
        ahead.saw(SERIES[position], 0, "form", made.plan, 1)
    assert asked.wait(60)
    ahead.close()
    assert made.made == []


def test_a_failure_ends_nothing(ahead: Foresight) -> None:
    made = _Made()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise BlobNotFound("gone")

    for position in (1, 2):
        ahead.saw(SERIES[position], 0, "form", lambda _row, _number: fail, 1)
    assert failed.wait(60)
    for position in (20, 21):
        ahead.saw(SERIES[position], 0, "other", made.plan, 1)
    made.wait_for(1)


def test_what_is_too_large_is_not_made(ahead: Foresight) -> None:
    made = _Made()
    for position in (1, 2, 3):
        ahead.saw(SERIES[position], 0, "form", made.plan, 1001)
    ahead.close()
    assert made.made == []
