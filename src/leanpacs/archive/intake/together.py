"""Group commit: what several threads bring at the same time is done in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Place(Generic[Item, Result]):
    """One thread's item in the queue, and what became of it."""

    item: Item
    result: Result | BaseException | None = None


class Together(Generic[Item, Result]):
    """Does for many what costs about as much as for one, such as a commit.

    Whoever finds nobody at work does it for all who wait; those who come meanwhile wait for the next turn. Alone,
    a thread never waits.

    Parameters
    ----------
    do : callable
        Given the items of several threads, returns for each a result, or an error to be raised there. What it raises
        itself is raised to all of them.
    """

    def __init__(self, do: Callable[[Sequence[Item]], Sequence[Result | Exception]]) -> None:
        self._do = do
        self._turn = threading.Lock()
        self._queue_lock = threading.Lock()
        self._queue: list[_Place[Item, Result]] = []

    def __call__(self, item: Item) -> Result:
        """Do one item, perhaps with those of other threads."""
        place = _Place[Item, Result](item)
        with self._queue_lock:
            self._queue.append(place)
        with self._turn:
            if place.result is None:
                self._do_waiting()
        if isinstance(place.result, BaseException):
            raise place.result
        assert place.result is not None
        return place.result

    def _do_waiting(self) -> None:
        with self._queue_lock:
            places, self._queue = self._queue, []
        try:
            results: Sequence[Result | BaseException] = self._do([place.item for place in places])
        except BaseException as error:  # noqa: BLE001 - raised where it belongs; nobody waits for a leader that is gone
            results = [error] * len(places)
        for place, result in zip(places, results, strict=True):
            place.result = result
