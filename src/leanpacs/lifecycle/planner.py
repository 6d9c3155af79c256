"""What is not as the policy wants it now: a pure function from facts to a bounded batch of work.

Nothing is remembered between plans but what the catalog holds, so that a plan covers everything ever received, goes on
after any crash, and follows when the policy or a preset changes. For each instance there is one next step; what comes
after that is in a later plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from leanpacs.catalog.ageing import Form, Held, Line, Outline, Page, Series, Trials
from leanpacs.lifecycle.deciding import Decider, Wanted
from leanpacs.lifecycle.generations import generation, is_as_small
from leanpacs.lifecycle.lossy import NEVER, LossyCopy
from leanpacs.lifecycle.plan import LOSSY_COPIES, STUDY, Choice, Plan, Sketch, Step, Task, task_name
from leanpacs.lifecycle.pricing import Prices

MOVED_BYTES_PER_SECOND: Final = 50e6
SERIES_PACK_BYTES: Final = 1 << 30
"""Series are divided into packs of about this size: one of them is what a cold tier restores at once."""

SERIES_PACK_INSTANCES: Final = 1000
LARGEST_GATHERED_WHOLE: Final = 8 << 20
_LIVE_SHARE: Final = 0.75
"""A series pack of which less is still in use is taken apart, or made anew."""


_LOOKED_AT_ONCE: Final = 4000
"""Instances among which the best are looked for; the next ones may promise less than what was found."""

_NOTHING: Final[Trials] = {}
_Ready = tuple[Held, Form, Wanted]
Read = Callable[[Sequence[int]], Iterable[tuple[Series, Trials]]]
"""Reads series by their keys, with what was tried on them."""

Pick = Callable[[Sequence[Outline], Line], Sequence[int]]
"""Finds the series of some outlines of which a stored form is on the good side of a line."""


def _all_of(outlines: Sequence[Outline], _: Line) -> Sequence[int]:
    return [key for outline in outlines for key in outline.series]


@dataclass(slots=True)
class Planner:
    """Makes plans.

    Parameters
    ----------
    decider : Decider
        The policy at one moment.
    prices : Prices
        What tasks save and cost.
    now : datetime
        The moment.
    dictionaries : mapping of str to int
        The newest dictionary of each SOP class.
    held_studies : frozenset of str
        Studies with a hold on them or on a series of them.
    tier_copies : mapping of str to tuple of str
        Tiers that hold a copy of what stands on a tier, whatever the policy says.
    moves : bool
        Whether the policy says on which tiers things stand; what people have moved stays where it is otherwise.
    restored : frozenset of bytes
        Digests of blobs that were brought back from an archive class for readers: their copy on the hot tier is not
        the policy's business.
    erased : frozenset of bytes
        Digests of series packs that hold what was deleted: what is left in them goes elsewhere, so that they can go.
    """

    decider: Decider
    prices: Prices
    now: datetime
    dictionaries: Mapping[str, int] = field(default_factory=dict)
    held_studies: frozenset[str] = frozenset()
    tier_copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    moves: bool = True
    restored: frozenset[bytes] = frozenset()
    erased: frozenset[bytes] = frozenset()

    def plan(self, pages: Iterable[Page], read: Read, limit: int, pick: Pick = _all_of) -> Plan:
        """Look at everything once and keep the ``limit`` best tasks; memory does not grow with the archive.

        What is uniform is judged by its outline, and read only when something of it is among the best: the plan is the
        same as if all were read. ``pick`` says which series of outlines of many promise that much.
        """
        choice = Choice(limit)
        for page in pages:
            whole, sketched = set(page.others), []
            for outline in page.outlines:
                sketch = self.sketch(outline)
                if sketch is None:
                    whole.update(outline.series)
                    continue
                choice.instances += outline.instances
                self._count_short(choice, outline.low, outline.instances)
                if sketch.task is not None:
                    sketched.append((sketch, outline))
                    choice.add(sketch.task, sketch.times, outline.instances, outline.raw_bytes)
            for of_series, tried in read(sorted(whole)):
                choice.instances += len(of_series)
                for held in of_series if self.decider.wants_copies else ():
                    self._count_short(choice, held)
                for place, task in enumerate(self.steps(of_series, tried)):
                    if choice.counts(task):
                        choice.add(task)
                        choice.offer(task, place)
            self._offer_best(choice, sketched, read, pick)
        return choice.plan()

    def _offer_best(self, choice: Choice, sketched: list[tuple[Sketch, Outline]], read: Read, pick: Pick) -> None:
        """Read those series of which something could be among the best, the most promising first."""
        sketched.sort(key=lambda one: (-one[0].bound, one[1].series[0]))
        place = 0
        while place < len(sketched):
            some: list[tuple[Sketch, Outline]] = []
            instances = 0
            while place < len(sketched) and instances < _LOOKED_AT_ONCE:
                sketch, outline = sketched[place]
                place += 1
                if choice.has_room_for(sketch.bound, outline.series[0]):
                    some.append((sketch, outline))
                    instances += outline.instances
            if not some:
                return
            for of_series, tried in read(sorted(self._promising(some, choice.least, pick))):
                for number, task in enumerate(self.steps(of_series, tried)):
                    choice.offer(task, number)

    def _promising(self, some: Sequence[tuple[Sketch, Outline]], least: float, pick: Pick) -> list[int]:
        """Series of which a task may save as much for each CPU second: by far not all where there are many."""
        keys: list[int] = []
        of_line: dict[Line, list[Outline]] = {}
        for sketch, outline in some:
            line = self._line(sketch.task, least) if len(outline.series) > 1 else None
            if line is None:
                keys += outline.series
            else:
                of_line.setdefault(line, []).append(outline)
        for line, outlines in of_line.items():
            keys += pick(outlines, line)
        return keys

    def _line(self, task: Task | None, least: float) -> Line | None:
        """What forms must be to be worth a task of this kind that scores so much; None where any may be."""
        if task is None or least <= 0:
            return None
        if task.step is Step.RECOMPRESS:
            price = self.prices.of(task.name)
            return Line(1 - price.ratio, least * price.seconds_per_byte, least * price.seconds(0) - 1)
        if task.step is Step.PLACE and task.saved_bytes:
            return Line(1 - least / MOVED_BYTES_PER_SECOND, 0.0, least * _moving(0) - 1)
        return None

    def sketch(self, outline: Outline) -> Sketch | None:
        """What a uniform series needs; None when that is not the same for all of its instances, or takes them all.

        Relies on three things: conditions of rules depend on one number each, and hold from some value on (or up to
        one); so does what tasks save and cost, in proportion to the sizes; and one instance's next step does not depend
        on another's, but for what makes them uniform.
        """
        low, high = outline.low, outline.high
        wanted = self.decider.wanted_throughout(low, high)
        if wanted is None or wanted.lossy_copy or wanted.is_due_for_deletion(self.decider.age_days(high)):
            return None
        if is_as_small(low.forms[0], wanted) != is_as_small(high.forms[0], wanted):
            return None
        if high.forms[0].kind != "pack":
            return Sketch()
        mean = _mean(outline)
        if task := self._own_step(mean, wanted):
            ends = [self._own_step(end, wanted) for end in (low, high)]
            return Sketch(task, outline.instances, _bound([end for end in ends if end]))
        return self._sketch_together(outline, mean, wanted)

    def _sketch_together(self, outline: Outline, mean: Held, wanted: Wanted) -> Sketch | None:
        """What a uniform series needs of which every instance is as it should be by itself."""
        number, ends = outline.instances, (outline.low, outline.high)
        least = (1.0 if self.erased else _LIVE_SHARE) * mean.forms[0].blob_bytes
        if mean.forms[0].is_shared and (wanted.pack == "instance" or outline.stored_bytes < least):
            return None
        gathered = {_may_be_gathered(end, end.forms[0]) for end in ends}
        if wanted.pack == "series" and number > len(outline.series) and gathered != {False}:
            if (
                len(outline.series) > 1
                or False in gathered
                or number > SERIES_PACK_INSTANCES
                or outline.stored_bytes > SERIES_PACK_BYTES
            ):
                return None
            task = self._gather([(mean, mean.forms[0], wanted)] * number, outline.raw_bytes, outline.stored_bytes)
            return Sketch(task, 1, task.score)
        tasks = [task for one in (mean, *ends) for task in self._place([(one, one.forms[0], wanted)])]
        if not tasks:
            return Sketch()
        times = 1 if mean.forms[0].is_shared else number
        return Sketch(tasks[0], times, _bound(tasks[1:]))

    def _own_step(self, held: Held, wanted: Wanted) -> Task | None:
        return next(self._own_steps(held, [*held.forms], wanted), None)

    def steps(self, of_series: Series, tried: Trials = _NOTHING) -> Iterator[Task]:
        """The next step for each instance of a series, as far as one is needed.

        What was tried in vain is passed over until its time has come; nothing else is done meanwhile to an instance
        that somebody works on.
        """
        settled = []
        for held in of_series:
            packs = [form for form in held.forms if form.kind == "pack"]
            if packs:
                settled.append((held, packs, self.decider.wanted(held)))
        if not settled:
            return
        if len(settled) == len(of_series) and self._is_due(of_series, [wanted for _, _, wanted in settled]):
            yield from self._untried([self._expire(settled)], tried)
            return
        ready = []
        for held, packs, wanted in settled:
            if tried and self._is_busy(held, tried):
                continue
            if (
                len(packs) == 1
                and not wanted.keep_fast
                and is_as_small(packs[0], wanted)
                and not wanted.newest_dictionary
                and not wanted.lossy_copy
            ):
                ready.append((held, packs[0], wanted))
                continue
            step = next(self._untried(self._own_steps(held, packs, wanted), tried), None)
            if step is not None:
                yield step
            else:
                ready.append((held, self._main(packs), wanted))
        complete = len(ready) == len(of_series)
        yield from self._untried(self._together(ready, complete=complete), tried)

    def _untried(self, tasks: Iterable[Task], tried: Trials) -> Iterator[Task]:
        if not tried:
            yield from tasks
            return
        for task in tasks:
            before = tried.get(task.first.instance_id, {}).get(task.goal)
            if before is None or before.until <= self.now:
                yield task

    def _is_busy(self, held: Held, tried: Trials) -> bool:
        """Whether somebody works on an instance."""
        before = tried.get(held.instance_id)
        return before is not None and any(not one.outcome and one.until > self.now for one in before.values())

    def _own_steps(self, held: Held, packs: list[Form], wanted: Wanted) -> Iterator[Task]:
        """What is to be done with an instance by itself, the first thing first."""
        main = self._main(packs)
        if not is_as_small(main, wanted):
            yield self._encoding(Step.RECOMPRESS, held, main, wanted.preset, wanted, wanted.rule_for("preset"))
        newest = self.dictionaries.get(held.sop_class, 0)
        if wanted.newest_dictionary and not main.is_shared and newest and main.dictionary_id != newest:
            yield self._encoding(Step.REHEAD, held, main, str(newest), wanted, wanted.rule_for("newest_dictionary"))
        others = [form for form in packs if form.sha256 != main.sha256]
        fast = [form for form in others if form.tier == "hot" and not form.is_shared]
        if wanted.keep_fast and not fast and not _is_fast(main):
            yield self._encoding(Step.WARM, held, main, "fast", wanted, wanted.rule_for("keep_fast"))
        kept = fast[-1:] if wanted.keep_fast else []
        for form in others:
            if form not in kept and leaves_enough(packs, form, wanted.minimum_copies):
                yield _task(Step.DROP, "", wanted.rule_for("keep_fast"), [(held, form)], form.size_bytes, 0.01, wanted)
        if wanted.lossy_copy and main.raw_frame_bytes and not held.is_derived and held.sop_class not in NEVER:
            yield self._copying(held, main, wanted, wanted.lossy_copy)

    def _together(self, ready: list[_Ready], *, complete: bool) -> Iterator[Task]:
        """What is to be done with blobs: gather, separate, place."""
        live: dict[bytes, int] = {}
        for _, form, _ in ready:
            live[form.sha256] = live.get(form.sha256, 0) + form.size_bytes
        loose: list[_Ready] = []
        placed: dict[bytes, list[_Ready]] = {}
        for held, form, wanted in ready:
            wasteful = complete and form.is_shared and live[form.sha256] < _LIVE_SHARE * form.blob_bytes
            if form.is_shared and (wanted.pack == "instance" or wasteful or form.sha256 in self.erased):
                yield _task(
                    Step.SEPARATE, "", wanted.rule_for("pack"), [(held, form)], 0, _moving(form.size_bytes), wanted
                )
            elif wanted.pack == "series" and complete and len(ready) > 1 and _may_be_gathered(held, form):
                loose.append((held, form, wanted))
            else:
                placed.setdefault(form.sha256, []).append((held, form, wanted))
        for tier in sorted({form.tier for _, form, _ in loose}):
            for part in _parts([one for one in loose if one[1].tier == tier]):
                if len(part) > 1:
                    raw = sum(held.length for held, _, _ in part)
                    yield self._gather(part, raw, sum(form.size_bytes for _, form, _ in part))
                else:
                    placed.setdefault(part[0][1].sha256, []).extend(part)
        for members in placed.values():
            yield from self._place(members)

    def _gather(self, part: list[_Ready], raw_bytes: int, stored_bytes: int) -> Task:
        wanted = part[0][2]
        price = self.prices.of(f"{Step.GATHER} series")
        members = [(held, form) for held, form, _ in part]
        saved = price.saved(stored_bytes) if price.measured else 2000 * len(part)
        seconds = price.seconds(raw_bytes) if price.measured else _moving(stored_bytes) + 0.01 * len(part)
        return _task(Step.GATHER, "series", wanted.rule_for("pack"), members, saved, seconds, wanted)

    def _place(self, members: list[_Ready]) -> Iterator[Task]:
        """One blob to the tier, and to those of its copies, that are wanted of the first instance in it."""
        held, form, wanted = members[0]
        copies = {one.tier for one in held.forms if one.sha256 == form.sha256}
        tiers = self._tiers(copies, wanted)
        least = max(one.minimum_copies for _, _, one in members)
        tiers += tuple(sorted(copies - set(tiers)))[: max(least - len(tiers), 0)]
        if form.sha256 in self.restored and copies > set(tiers):
            return
        if copies == set(tiers):
            return
        is_there = tiers[0] in copies
        rule = wanted.rule_for("copies") if is_there else wanted.rule_for("tier")
        size = form.blob_bytes
        yield _task(
            Step.PLACE,
            "+".join(tiers),
            rule or wanted.rule_for("tier"),
            [(held, form) for held, form, _ in members],
            0 if is_there else size,
            _moving(size),
            wanted,
        )

    def _main(self, packs: list[Form]) -> Form:
        """The form that counts: not one that goes because of what else is in its pack."""
        if len(packs) == 1:
            return packs[0]
        return smallest([form for form in packs if form.sha256 not in self.erased] or packs)

    def _tiers(self, copies: Collection[str], wanted: Wanted) -> tuple[str, ...]:
        """The tiers that the policy names for what stands on some, its own one first."""
        homes = (wanted.tier,) if self.moves else sorted(copies)
        kept = (copy for tier in homes for copy in self.tier_copies.get(tier, ()))
        return tuple(dict.fromkeys((*homes, *kept, *wanted.copies)))

    def _count_short(self, choice: Choice, held: Held, instances: int = 1) -> None:
        """Count instances that no step will bring to as many copies as are wanted."""
        if self.decider.wants_copies:
            wanted = self.decider.wanted(held)
            there = {form.tier for form in held.forms if form.kind == "pack"}
            if there and len({*self._tiers(there, wanted), *there}) < wanted.minimum_copies:
                choice.short[wanted.rule_for("minimum_copies")] += instances

    def _copying(self, held: Held, form: Form, wanted: Wanted, copy: LossyCopy) -> Task:
        goal = task_name(Step.DERIVE, copy.name)
        price = self.prices.of(goal)
        added, seconds = round(held.length * price.ratio), price.seconds(held.length)
        rule = wanted.rule_for("lossy_copy")
        return Task(Step.DERIVE, goal, copy.name, rule, ((held, form),), held.length, -added, seconds, wanted)

    def _is_due(self, of_series: list[Held], wanted: list[Wanted]) -> bool:
        """Whether a series is to be deleted: alone if it holds lossy copies only, else as a part of its study."""
        return all(
            one.is_due_for_deletion(self.decider.age_days(held)) and held.study_uid not in self.held_studies
            for held, one in zip(of_series, wanted, strict=True)
        )

    def _expire(self, settled: list[tuple[Held, list[Form], Wanted]]) -> Task:
        wanted = settled[0][2]
        members = [(held, packs[0]) for held, packs, _ in settled]
        size = sum(form.size_bytes for _, packs, _ in settled for form in packs)
        target = LOSSY_COPIES if all(held.is_derived for held, _, _ in settled) else STUDY
        return _task(Step.EXPIRE, target, wanted.rule_for("delete_after_days"), members, size, 0.05, wanted)

    def _encoding(self, step: Step, held: Held, form: Form, target: str, wanted: Wanted, rule: str) -> Task:
        price = self.prices.of(task_name(step, target) if step is not Step.REHEAD else str(step))
        saved = price.saved(form.size_bytes) if step is Step.RECOMPRESS else 200 if step is Step.REHEAD else 0
        seconds = 0.02 if step is Step.REHEAD and not price.measured else price.seconds(held.length)
        goal = _goal(step, target, str(wanted.made_since or ""))
        return Task(step, goal, target, rule, ((held, form),), held.length, saved, seconds, wanted)


def leaves_enough(packs: list[Form], form: Form, least: int) -> bool:
    """Whether a form may go: enough tiers hold the instance without it, or no fewer than with it."""
    without = {one.tier for one in packs if one.id != form.id}
    return len(without) >= least or form.tier in without


def smallest(packs: list[Form]) -> Form:
    """The form that counts: the smallest, the oldest of equals."""
    return min(packs, key=lambda form: (form.size_bytes, form.id))


def _may_be_gathered(held: Held, form: Form) -> bool:
    """Heads go into a series pack, not large data sets that are held whole."""
    return not form.is_shared and (form.form != "whole" or held.length <= LARGEST_GATHERED_WHOLE)


def _is_fast(form: Form) -> bool:
    return form.preset in ("fast", "")


def _task(
    step: Step,
    target: str,
    rule: str,
    members: list[tuple[Held, Form]],
    saved_bytes: int,
    seconds: float,
    wanted: Wanted,
) -> Task:
    raw = sum(held.length for held, _ in members)
    goal = f"{step} {target}".strip()
    if step in (Step.DROP, Step.SEPARATE):
        goal = f"{step} {members[0][1].id}"
    elif step is Step.GATHER:
        goal = f"{step} {len(members)} from {members[0][1].id} to {members[-1][1].id}"
    return Task(step, goal, target, rule, tuple(members), raw, saved_bytes, seconds, wanted)


def _moving(size_bytes: int) -> float:
    return 0.01 + size_bytes / MOVED_BYTES_PER_SECOND


@lru_cache(maxsize=1024)
def _goal(step: Step, target: str, since: str) -> str:
    mark = f" {generation(target)}" if step is Step.RECOMPRESS else ""
    return f"{step} {target}{mark}" + (f" since {since}" if since else "")


def _parts(loose: list[_Ready]) -> Iterator[list[_Ready]]:
    """Instances of a series divided into packs of a bounded size."""
    part: list[_Ready] = []
    size = 0
    for one in loose:
        if part and (size + one[1].size_bytes > SERIES_PACK_BYTES or len(part) >= SERIES_PACK_INSTANCES):
            yield part
            part, size = [], 0
        part.append(one)
        size += one[1].size_bytes
    if part:
        yield part


def _mean(outline: Outline) -> Held:
    """An instance of the average length, in a form of the average size; of times and all else, the lowest."""
    form = outline.low.forms[0]
    size = round(outline.stored_bytes / outline.instances)
    blob_bytes = form.blob_bytes if form.is_shared else size
    of_average = form._replace(size_bytes=size, blob_bytes=blob_bytes)
    return outline.low._replace(length=round(outline.raw_bytes / outline.instances), forms=(of_average,))


def _bound(ends: list[Task]) -> float:
    """What no task scores more than whose size and length are between those of these."""
    saved = max(task.saved_bytes for task in ends)
    seconds = [task.seconds for task in ends]
    return saved / max(min(seconds) if saved > 0 else max(seconds), 1e-6)
