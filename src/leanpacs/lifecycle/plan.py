"""What a plan is: the best of the tasks that are to be done, and what all of them come to."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from leanpacs.catalog.ageing import Form, Held
from leanpacs.lifecycle import lossy
from leanpacs.lifecycle.deciding import Wanted


class Step(StrEnum):
    """What can be done with an instance, a series or a study."""

    RECOMPRESS = "recompress"
    """Into a smaller form; the old one goes, or stays for readers."""
    REHEAD = "rehead"
    """Head and tail again, with the newest dictionary."""
    WARM = "warm"
    """A fast form beside the small one."""
    DROP = "drop"
    """A form that nobody wants any more."""
    GATHER = "gather"
    """Instances of a series into one pack."""
    SEPARATE = "separate"
    """An instance out of a series pack."""
    DERIVE = lossy.DERIVE
    """A lossy copy, another instance, beside an original that stays."""
    RETRAIN = "retrain"
    """A dictionary for the heads of a SOP class, trained on what came last of it."""
    PLACE = "place"
    """A blob to other tiers."""
    EXPIRE = "expire"
    """What the policy keeps no longer: a study, or lossy copies."""


STUDY: Final = ""
LOSSY_COPIES: Final = "lossy copies"
"""What expires."""


class Task(NamedTuple):
    """One step to be done; a named tuple because a plan makes millions.

    Parameters
    ----------
    step : Step
        What.
    goal : str
        What it leads to; with the first instance, what is claimed.
    target : str
        Preset or tier, where there is one.
    rule : str
        Why.
    members : tuple of (Held, Form)
        The instances, each with the form that is worked on.
    raw_bytes, saved_bytes, seconds : int, int, float
        Size as received; what is expected to be saved; CPU seconds that are expected.
    wanted : Wanted
        Everything that the policy wants of the first instance.
    """

    step: Step
    goal: str
    target: str
    rule: str
    members: tuple[tuple[Held, Form], ...]
    raw_bytes: int
    saved_bytes: int
    seconds: float
    wanted: Wanted

    @property
    def name(self) -> str:
        """Step and target: what sums are kept by."""
        return task_name(self.step, self.target)

    @property
    def first(self) -> Held:
        """The instance that the claim is on."""
        return self.members[0][0]

    @property
    def score(self) -> float:
        """Bytes saved for each CPU second."""
        return self.saved_bytes / max(self.seconds, 1e-6)


@dataclass(slots=True)
class Total:
    """What all tasks of one name by one rule come to."""

    name: str
    rule: str
    tasks: int = 0
    instances: int = 0
    raw_bytes: int = 0
    saved_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The best of what is to be done, in order, and what all of it comes to."""

    tasks: tuple[Task, ...]
    totals: tuple[Total, ...]
    instances: int
    short: Mapping[str, int] = field(default_factory=dict)
    """Instances, by rule, for which the rules name fewer tiers than the copies that they want."""

    @property
    def is_complete(self) -> bool:
        """Whether everything that is to be done is among the tasks."""
        return sum(total.tasks for total in self.totals) == len(self.tasks)


def with_first(plan: Plan, first: Sequence[Task], limit: int) -> Plan:
    """A plan with some other tasks before it."""
    if not first:
        return plan
    totals = [Total(task.name, task.rule, 1, seconds=task.seconds) for task in first]
    ordered = sorted([*plan.totals, *totals], key=lambda total: (total.name, total.rule))
    return replace(plan, tasks=(*first, *plan.tasks)[:limit], totals=tuple(ordered))


class Sketch(NamedTuple):
    """What a uniform series needs, as its outline tells it.

    ``task`` is one for all of its instances, or, ``times`` times, one for an instance of average length and size; None
    when nothing is to be done. No task of the series has a higher score than ``bound``.
    """

    task: Task | None = None
    times: int = 0
    bound: float = 0.0


class Choice:
    """The best tasks so far, at most ``limit``, and the sums of all; memory does not grow with the archive.

    Tasks that promise alike come in the order of the keys of their series, and within one in that of its steps.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._best: list[tuple[float, int, int, int, Task]] = []
        self._offered = 0
        self._totals: dict[tuple[str, str], Total] = {}
        self._studies: set[str] = set()
        self.instances = 0
        self.short: Counter[str] = Counter()

    def counts(self, task: Task) -> bool:
        """Whether a task is one of its own: a study that is due has one task, whatever series it has."""
        if task.step is Step.EXPIRE and task.target == STUDY:
            if task.first.study_uid in self._studies:
                return False
            if len(self._studies) < self._limit:
                self._studies.add(task.first.study_uid)
        return True

    def add(self, task: Task, times: int = 1, instances: int | None = None, raw_bytes: int | None = None) -> None:
        """Add a task to the sums, or so many that are like it on average."""
        total = self._totals.get((task.name, task.rule))
        if total is None:
            total = self._totals[task.name, task.rule] = Total(task.name, task.rule)
        total.tasks += times
        total.instances += len(task.members) if instances is None else instances
        total.raw_bytes += task.raw_bytes if raw_bytes is None else raw_bytes
        total.saved_bytes += task.saved_bytes * times
        total.seconds += task.seconds * times

    def offer(self, task: Task, place: int) -> None:
        """Take a task in if it is among the best; ``place`` is its place among the steps of its series."""
        if not self.has_room_for(task.score, task.first.series_id):
            return
        self._offered += 1
        entry = (task.score, -task.first.series_id, -place, -self._offered, task)
        if len(self._best) < self._limit:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)

    @property
    def least(self) -> float:
        """What a task must score to be among the best; 0 while there is room for any."""
        return self._best[0][0] if self._best and len(self._best) >= self._limit else 0.0

    def has_room_for(self, score: float, series_id: int) -> bool:
        """Whether a task of this score, in this series, could be among the best."""
        if len(self._best) < self._limit:
            return True
        return bool(self._best) and (score, -series_id) >= self._best[0][:2]

    def plan(self) -> Plan:
        """What was chosen."""
        chosen = sorted(self._best, key=lambda entry: entry[:4], reverse=True)
        ordered = sorted(self._totals.values(), key=lambda total: (total.name, total.rule))
        return Plan(tuple(entry[-1] for entry in chosen), tuple(ordered), self.instances, dict(self.short))


@lru_cache(maxsize=1024)
def task_name(step: Step, target: str) -> str:
    """Step and target."""
    return f"{step} {target}".strip()
