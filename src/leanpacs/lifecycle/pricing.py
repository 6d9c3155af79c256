"""What tasks will probably save and cost: measured on those done so far, assumed where none were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from leanpacs.catalog.ageing import Outcome, Sums

_ASSUMED_SECONDS_PER_GB: Final = {"fast": 25.0, "balanced": 200.0, "dense": 1500.0}
_ASSUMED_RATIO: Final = {"fast": 1.0, "balanced": 0.9, "dense": 0.82}
_OTHER_SECONDS_PER_GB: Final = 300.0
_OTHER_RATIO: Final = 0.9
_DERIVED_RATIO: Final = 0.05
"""Of lossy copies to what was received: what they add."""
_LEAST_TASKS: Final = 20
_LEAST_BYTES: Final = 50_000_000
_OVERHEAD_SECONDS: Final = 0.005
"""What a task takes whatever its size: open, commit, sync."""


@dataclass(frozen=True, slots=True)
class Price:
    """CPU seconds and bytes for one kind of task; ``measured`` tells that it comes from history."""

    seconds_per_gb: float
    ratio: float
    measured: bool = False

    @property
    def seconds_per_byte(self) -> float:
        """CPU seconds that each byte as received adds."""
        return self.seconds_per_gb / 1e9

    def seconds(self, raw_bytes: int) -> float:
        """CPU seconds for an instance of so many bytes as received."""
        return _OVERHEAD_SECONDS + self.seconds_per_gb * raw_bytes / 1e9

    def saved(self, stored_bytes: int) -> int:
        """Bytes that a form of this size gives up."""
        return round(stored_bytes * (1 - self.ratio))


class Prices:
    """Prices of tasks by name (``recompress dense``).

    Parameters
    ----------
    sums : iterable of Sums
        What was done so far; what changed nothing counts as well, for it took its time.
    """

    def __init__(self, sums: Iterable[Sums] = ()) -> None:
        self._totals: dict[str, list[float]] = {}
        self._known: dict[str, Price] = {}
        for one in sums:
            if one.outcome in (Outcome.DONE, Outcome.KEPT):
                total = self._totals.setdefault(one.task, [0, 0, 0, 0, 0.0])
                values = (one.tasks, one.raw_bytes, one.bytes_before, one.bytes_after, one.seconds)
                for place, value in enumerate(values):
                    total[place] += value

    def of(self, task: str) -> Price:
        """The price of a kind of task."""
        known = self._known.get(task)
        if known is None:
            known = self._known[task] = self._reckoned(task)
        return known

    def _reckoned(self, task: str) -> Price:
        tasks, raw, before, after, seconds = self._totals.get(task, [0, 0, 0, 0, 0.0])
        if raw and (before or after) and (tasks >= _LEAST_TASKS or raw >= _LEAST_BYTES):
            return Price(seconds * 1e9 / raw, after / (before or raw), measured=True)
        if task.startswith("derive "):
            return Price(_OTHER_SECONDS_PER_GB, _DERIVED_RATIO)
        preset = task.rpartition(" ")[2]
        return Price(
            _ASSUMED_SECONDS_PER_GB.get(preset, _OTHER_SECONDS_PER_GB), _ASSUMED_RATIO.get(preset, _OTHER_RATIO)
        )
