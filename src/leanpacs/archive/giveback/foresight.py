"""What will be asked for next is made before: who reads a series goes from one image to the next.

Where somebody is going shows from the last few positions asked for: viewers go up or down one by one, leave some out,
or ask over several connections at a time, so that neighbours change places.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from leanpacs.errors import LeanPACSError

if TYPE_CHECKING:
    from leanpacs.catalog import InstanceRow

_log = logging.getLogger(__name__)

MOST_AHEAD: Final = 4
_REMEMBERED: Final = 4
"""Positions from which the way is told."""
_LONGEST_STEP: Final = 8
_FAR: Final = 32
"""Who goes further than that has gone elsewhere."""
_MOST_TRAILS: Final = 64
_PLANNED: Final = 4 * MOST_AHEAD
_SERIES_SECONDS: Final = 30.0
CORES: Final = os.cpu_count() or 1
"""Each time that this is asked, a file is read."""
_LOOKED_UP: Final = 32
"""Instances of which is looked up together where they are held."""

Plan = Callable[["InstanceRow", int], Callable[[], object] | None]
"""What makes the frame with this number of an instance, or the instance; None where it is kept already."""

_Place = tuple[int, int]
"""Key of an instance, and number of a frame."""


@dataclass(slots=True)
class Trail:
    """The way of one reader through one series, or through the frames of one instance."""

    positions: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    looked_up: frozenset[int] = frozenset()
    planned: deque[_Place] = field(default_factory=lambda: deque(maxlen=_PLANNED))
    """What is at hand, or has been begun: it need not be looked at again."""
    first: list[_Seen] = field(default_factory=list)
    """Where the reader was seen first: alone it does not tell where to go on, so its position is not looked up yet."""

    def went_to(self, position: int) -> None:
        """Remember where the reader is."""
        if self.positions and abs(position - self.positions[-1]) > _FAR:
            self.positions.clear()
            self.planned.clear()
        if position not in self.positions:
            self.positions.append(position)

    def ahead(self, count: int) -> list[int]:
        """The next positions, soonest first; none as long as there is no direction."""
        places = sorted(self.positions)
        steps = [later - earlier for earlier, later in pairwise(places)]
        if not steps or min(steps) > _LONGEST_STEP or max(steps) > 2 * min(steps):
            return []
        step = min(steps)
        if self.positions[-1] < self.positions[0]:
            return [places[0] - step * turn for turn in range(1, count + 1)]
        return [places[-1] + step * turn for turn in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What somebody has just asked for."""

    instance: InstanceRow
    number: int
    plan: Plan
    size_bytes: int

    @property
    def has_frames(self) -> bool:
        """Whether the way leads through frames of one instance."""
        return self.number > 0 and (self.instance.number_of_frames or 1) > 1


class Foresight:
    """Follows readers, in a thread for each core, as long as the machine has nothing else to do. Thread-safe.

    Parameters
    ----------
    series : callable
        All instances of the series of an instance, in order.
    expect : callable
        Told of instances that are about to be opened.
    room_bytes : int
        What may be made for one reader beyond what is asked for; 0 makes nothing.
    """

    def __init__(
        self,
        series: Callable[[InstanceRow], Sequence[InstanceRow]],
        expect: Callable[[Sequence[InstanceRow]], None],
        *,
        room_bytes: int,
    ) -> None:
        self._series = series
        self._expect = expect
        self._room_bytes = room_bytes
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._waiting: OrderedDict[Hashable, list[_Seen]] = OrderedDict()
        self._trails: OrderedDict[Hashable, Trail] = OrderedDict()
        self._orders: OrderedDict[int, _Order] = OrderedDict()
        self._last: Hashable = None
        self._next: OrderedDict[_Place, Callable[[], object]] = OrderedDict()
        self._next_trail = Trail()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def saw(self, instance: InstanceRow, number: int, form: Hashable, plan: Plan, size_bytes: int) -> None:
        """Note what somebody asks for.

        Parameters
        ----------
        instance : InstanceRow
            Which one.
        number : int
            Of the frame, from 1; 0 for the instance as a whole.
        form : hashable
            In which form; who wants another one is another reader.
        plan : callable
            Says how to make what comes next in this form.
        size_bytes : int
            What one of them takes in memory, about.
        """
        if size_bytes > self._room_bytes:
            return
        seen = _Seen(instance, number, plan, max(size_bytes, 1))
        key = (form, number > 0, instance.id if seen.has_frames else -instance.series_id)
        place = (key, instance.id, number)
        with self._changed:
            if place == self._last:
                return  # the same again
            self._last = place
            self._waiting.setdefault(key, []).append(seen)
            self._waiting.move_to_end(key)
            if not (self._threads or self._stopped):
                self._threads = [
                    threading.Thread(target=self._follow, name="foresight", daemon=True) for _ in range(CORES)
                ]
                for thread in self._threads:
                    thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Follow nobody any more; what is being made is finished."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._next or self._stopped)
                if self._stopped:
                    return
                seen = self._waiting.popitem() if self._waiting else None
            try:
                if seen is not None:
                    self._look_ahead(*seen)
                else:
                    self._make_next()
            except LeanPACSError as error:  # who asks for it will be told
                _log.debug("nothing is made ahead: %s", error, extra={"action": "foresee"})
            except Exception:  # noqa: BLE001 -- a fault here must not end what only saves time
                _log.exception("nothing is made ahead", extra={"action": "foresee"})

    def _look_ahead(self, key: Hashable, seen: Sequence[_Seen]) -> None:
        """Find what comes next for one reader; it takes the place of what was to be made for the one before."""
        with self._turn:
            trail, last = self._trail(key), seen[-1]
            trail.first += seen
            if trail.positions or len(trail.first) > 1:
                for one in trail.first:
                    trail.went_to(one.number if one.has_frames else self._position(one.instance))
                trail.first.clear()
            count = min(MOST_AHEAD, self._room_bytes // last.size_bytes)
            with self._changed:
                waiting = self._next.copy() if trail is self._next_trail else {}
            found: OrderedDict[_Place, Callable[[], object]] = OrderedDict()
            for instance, number in self._ahead(trail, last, count):
                place = instance.id, number
                if place in trail.planned:
                    continue
                make = waiting.get(place) or last.plan(instance, number)
                if make is None:
                    trail.planned.append(place)
                else:
                    found[place] = make
            with self._changed:
                self._next = OrderedDict((place, make) for place, make in found.items() if place not in trail.planned)
                self._next_trail = trail
                self._changed.notify_all()

    def _make_next(self) -> None:
        """Make what will be asked for first; leave it all when the machine has other things to do."""
        is_left = is_busy()
        with self._changed:
            if is_left:
                self._next.clear()
            if not self._next:
                return
            place, make = self._next.popitem(last=False)
            self._next_trail.planned.append(place)
        make()

    def _ahead(self, trail: Trail, last: _Seen, count: int) -> list[tuple[InstanceRow, int]]:
        """The next ``count`` instances and frames."""
        if last.has_frames:
            frames = last.instance.number_of_frames or 1
            return [(last.instance, position) for position in trail.ahead(count) if 1 <= position <= frames]
        positions = trail.ahead(_LOOKED_UP)
        if not positions:
            return []
        order = self._order(last.instance).instances
        places = [position for position in positions if 0 <= position < len(order)]
        if not trail.looked_up.issuperset(places[:count]):
            self._expect([order[position] for position in places])
            trail.looked_up = frozenset(places)
        return [(order[position], last.number) for position in places[:count]]

    def _trail(self, key: Hashable) -> Trail:
        """The trail of a reader, which was used last from now on."""
        trail = self._trails.pop(key, None) or Trail()
        self._trails[key] = trail
        if len(self._trails) > _MOST_TRAILS:
            self._trails.popitem(last=False)
        return trail

    def _position(self, instance: InstanceRow) -> int:
        order = self._order(instance)
        if instance.id not in order.positions:  # it came later
            del self._orders[instance.series_id]
            order = self._order(instance)
        return order.positions.get(instance.id, 0)

    def _order(self, instance: InstanceRow) -> _Order:
        known = self._orders.get(instance.series_id)
        if known is None or time.monotonic() > known.until:
            found = self._series(instance)
            positions = {row.id: position for position, row in enumerate(found)}
            known = _Order(found, positions, time.monotonic() + _SERIES_SECONDS)
            self._orders[instance.series_id] = known
            if len(self._orders) > _MOST_TRAILS:
                self._orders.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class _Order:
    """The instances of a series, and for how long that may be believed."""

    instances: Sequence[InstanceRow]
    positions: dict[int, int]
    until: float


def is_busy() -> bool:
    """Whether more wants to run now than there are cores and two, the thread that asks included (proc(5))."""
    try:
        file = os.open("/proc/loadavg", os.O_RDONLY)  # this often, a file object takes too long
    except OSError:
        return False
    try:
        running = os.read(file, 128).split()[3].partition(b"/")[0]
    except (OSError, IndexError):
        return False
    finally:
        os.close(file)
    return int(running) > CORES + 2
