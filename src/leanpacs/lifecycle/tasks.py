"""How each step is done: what a worker runs, and what is committed of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from leanpacs.archive.archive import Archive
from leanpacs.archive.care.training import Trained, retrain
from leanpacs.archive.intake.forwarding import Forwarding
from leanpacs.archive.settle.again import Again, Remade, Source, remake
from leanpacs.archive.settle.deriving import Derive, Derived, derive, uid_of
from leanpacs.archive.settle.encode import Preferences, SeriesChoices
from leanpacs.archive.settle.gathering import Gather, Gathered, gather
from leanpacs.catalog import DERIVED, DuplicateInstance, Kind, RepresentationRow, Transaction
from leanpacs.catalog.ageing import Done, Form, Held, Outcome, Swap
from leanpacs.errors import BlobNotFound, InstanceNotFound, RefusedByPolicy
from leanpacs.lifecycle.deciding import Decider
from leanpacs.lifecycle.plan import STUDY, Step, Task
from leanpacs.refs import HOT, BlobRef, Tier
from leanpacs.transcode.target import Identity, Target

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A module-level function and its arguments: what goes to a worker."""


class Steps(Protocol):
    """How tasks of some kinds are done."""

    def call(self, task: Task) -> Call:
        """What a worker, or a thread here, is to run.

        Raises
        ------
        InstanceNotFound, BlobNotFound
            What the task is about has changed since it was planned.
        """
        ...

    def learn(self, task: Task, result: Any) -> None:
        """Keep here what helps with the next tasks; called before anything is committed."""
        return

    def swaps(self, task: Task, result: Any) -> Sequence[Swap]:
        """Stored forms that take the place of others, or stand beside them: done for several tasks in one go."""
        return ()

    def commit(self, task: Task, result: Any, swapped: Sequence[bool], transaction: Transaction, now: datetime) -> Done:
        """Write everything else that came of it into the catalog, and tell; ``swapped`` says what came of the swaps."""
        ...

    def note(self, task: Task, result: Any) -> str | None:
        """What is to be remembered of it; None where what is stored now tells that it is done."""
        return None


@dataclass(frozen=True, slots=True)
class Encoding(Steps):
    """Recompress, new heads, fast forms: an instance encoded again by a worker, proven there, swapped here."""

    archive: Archive
    choices: dict[int, SeriesChoices]

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        (held, form) = task.members[0]
        target = self.archive.stores.at(HOT) if task.step is Step.WARM else self.archive.stores.at(form.tier)
        again = Again(
            source=self._source(held, form),
            target=target,
            preferences=self._preferences(task, held) if task.step in (Step.RECOMPRESS, Step.WARM) else None,
            dictionary_names=tuple(self.archive.stores.hot.kept_names()),
            limit_inflated_bytes=self.archive.settings.ingest.largest_inflated_bytes,
            below_bytes=form.size_bytes if task.step in (Step.RECOMPRESS, Step.REHEAD) else None,
            smallest=task.target not in ("fast", "balanced"),
            scopes=(held.sop_class,),
        )
        return remake, (again,)

    def learn(self, task: Task, result: Remade) -> None:
        """What codec suits the series."""
        if result.choice is not None:
            series_id = task.first.series_id
            self.choices[series_id] = self.choices.get(series_id, SeriesChoices()).having(result.choice)

    def swaps(self, task: Task, result: Remade) -> Sequence[Swap]:
        """See `Steps`."""
        held, form = task.members[0]
        if result.new is None:
            return ()
        packs = frozenset(one.id for one in held.forms if one.kind == Kind.PACK)
        return [Swap(held.instance_id, form.id, result.new, packs if _keeps_old(task, form) else frozenset())]

    def commit(
        self, task: Task, result: Remade, swapped: Sequence[bool], transaction: Transaction, now: datetime
    ) -> Done:
        """See `Steps`."""
        held, form = task.members[0]
        if result.choice is not None:
            choices = self.choices.get(held.series_id, SeriesChoices()).having(result.choice)
            transaction.remember_choice(held.series_id, choices.to_json())
        if result.new is None:
            return _done(task, Outcome.KEPT, form.size_bytes, form.size_bytes, result.cpu_seconds)
        _require(self.archive, result.new.blob)
        after = result.size_bytes + (form.size_bytes if _keeps_old(task, form) else 0)
        outcome = Outcome.DONE if all(swapped) else Outcome.OVERTAKEN
        return _done(task, outcome, form.size_bytes, after, result.cpu_seconds)

    def note(self, task: Task, result: Remade) -> str | None:
        """An instance without frames of ours does not name a preset, whatever was tried."""
        if result.new is None:
            return ""
        if task.step is Step.REHEAD:
            return None if str(result.new.dictionary_id) == task.target else ""
        is_shown = task.step is not Step.RECOMPRESS or result.new.evidence.preset == task.target
        return None if is_shown else ""

    def _source(self, held: Held, form: Form) -> Source:
        return sources(self.archive, [(held, form)])[0]

    def _preferences(self, task: Task, held: Held) -> Preferences:
        known = self.choices.get(held.series_id)
        if known is None:
            known = SeriesChoices.from_json(self.archive.catalog.choice(held.series_id))
            if len(self.choices) > _SERIES_REMEMBERED:
                self.choices.clear()
            self.choices[held.series_id] = known
        return Preferences(known, 0.0, (held.sop_class,), recode=task.target != "fast", preset=task.target)


@dataclass(frozen=True, slots=True)
class Gathering(Steps):
    """Instances of a series put into one pack by a worker, proven there, swapped here."""

    archive: Archive

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        work = Gather(
            sources(self.archive, task.members),
            self.archive.stores.at(task.members[0][1].tier),
            tuple(self.archive.stores.hot.kept_names()),
            sum(form.size_bytes for _, form in task.members),
        )
        return gather, (work,)

    def swaps(self, task: Task, result: Gathered) -> Sequence[Swap]:
        """See `Steps`."""
        if not result.forms:
            return ()
        return [
            Swap(held.instance_id, form.id, new) for (held, form), new in zip(task.members, result.forms, strict=True)
        ]

    def commit(
        self, task: Task, result: Gathered, swapped: Sequence[bool], transaction: Transaction, now: datetime
    ) -> Done:
        """See `Steps`."""
        before = sum(form.size_bytes for _, form in task.members)
        if not result.forms:
            return _done(task, Outcome.KEPT, before, before, result.cpu_seconds)
        _require(self.archive, result.forms[0].blob)
        if any(swapped) and not all(swapped):
            members = [held.instance_id for held, _ in task.members]
            transaction.ageing.note_deleted(result.forms[0].blob, members, due_at=now)
        outcome = Outcome.DONE if any(swapped) else Outcome.OVERTAKEN
        return _done(task, outcome, before, result.size_bytes, result.cpu_seconds)

    def note(self, task: Task, result: Gathered) -> str | None:
        """See `Steps`."""
        return None if result.forms else ""


@dataclass(frozen=True, slots=True)
class Dropping(Steps):
    """A form that nobody wants any more; there is another one."""

    grace: timedelta

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        return _nothing, ()

    def commit(self, task: Task, result: Any, swapped: Sequence[bool], transaction: Transaction, now: datetime) -> Done:
        """See `Steps`."""
        held, form = task.members[0]
        least = task.wanted.minimum_copies
        dropped = transaction.ageing.drop_form(held.instance_id, form.id, least, now=now, due_at=now + self.grace)
        return _done(task, Outcome.DONE if dropped else Outcome.OVERTAKEN, form.size_bytes, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Deriving(Steps):
    """A lossy copy made by a worker, which lands here as what is received does; its original is only read."""

    archive: Archive
    now: Callable[[], datetime]

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        held, form = task.members[0]
        copy = task.wanted.lossy_copy
        assert copy is not None
        (source,) = sources(self.archive, task.members)
        identity = Identity(
            held.study_uid,
            uid_of(held.series_uid, copy.name),
            uid_of(source.data_set_digest.hex, copy.name),
            f"lossy, {copy.name}",
        )
        work = Derive(
            source,
            self.archive.store,
            Target(copy.transfer_syntax, copy.options, identity=identity),
            sender=f"policy:{task.rule}",
            at=self.now(),
            dictionary_names=tuple(self.archive.store.kept_names()),
            limit_inflated_bytes=self.archive.settings.ingest.largest_inflated_bytes,
            below_bytes=form.size_bytes,
        )
        return derive, (work,)

    def commit(
        self, task: Task, result: Derived, swapped: Sequence[bool], transaction: Transaction, now: datetime
    ) -> Done:
        """See `Steps`."""
        held, form = task.members[0]
        if result.landing is None or result.index is None:
            return _done(task, Outcome.KEPT, 0, 0, result.cpu_seconds)
        blob = result.landing.blob
        if not transaction.ageing.holds_form(held.instance_id, form.id):
            transaction.discard(blob, now=now, due_at=now)
            return _done(task, Outcome.OVERTAKEN, 0, 0, result.cpu_seconds)
        try:
            transaction.land(result.index, result.landing)
        except DuplicateInstance:  # made before, by somebody whose note of it is lost
            transaction.discard(blob, now=now, due_at=now)
            return _done(task, Outcome.DONE, 0, 0, result.cpu_seconds)
        if not self.archive.store.exists(blob.digest):
            raise BlobNotFound(blob.digest.hex)
        # Who sends on what arrives does not mean lossy copies, unless the rule says so.
        forwarding = Forwarding([rule for rule in self.archive.settings.forward if rule.door])
        entries = forwarding(result.index, sender=result.landing.arrival.sender, door=DERIVED)
        if entries:
            transaction.enqueue(entries, now)
        return _done(task, Outcome.DONE, 0, blob.size_bytes, result.cpu_seconds)

    def note(self, task: Task, result: Derived) -> str | None:
        """The copy's UID, or why there is none: it is not made twice, not even after it was deleted."""
        return result.index.sop_uid if result.index else result.reason


@dataclass(frozen=True, slots=True)
class Expiring(Steps):
    """What the policy keeps no longer: looked at again as a whole, then deleted with a tombstone.

    A study goes by what its received instances say, and takes lossy copies along; a series of copies goes by itself.
    """

    archive: Archive
    decider: Callable[[], Decider]

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        return self._expire, (task,)

    def commit(self, task: Task, result: int, swapped: Sequence[bool], transaction: Transaction, now: datetime) -> Done:
        """See `Steps`."""
        size = sum(form.size_bytes for _, form in task.members)
        return _done(task, Outcome.DONE if result else Outcome.OVERTAKEN, size, 0 if result else size, 0.0)

    def _expire(self, task: Task) -> int:
        decider, study_uid, ageing = self.decider(), task.first.study_uid, self.archive.catalog.ageing
        is_study = task.target == STUDY
        for of_series in ageing.study(study_uid) if is_study else [ageing.series_of(task.first.series_id)]:
            for held in of_series:
                if held.is_derived and is_study:
                    continue
                if not held.is_derived and not is_study:
                    return 0
                wanted = decider.wanted(held)
                if not wanted.is_due_for_deletion(decider.age_days(held)):
                    return 0
                copies = {form.tier for form in held.forms}
                if len(copies) < wanted.minimum_copies:
                    raise RefusedByPolicy(
                        wanted.rule_for("minimum_copies"),
                        f"{wanted.minimum_copies} copies must be there before one is given up, there are {len(copies)}",
                    )
        try:
            deleted = self.archive.deleter().delete(
                study_uid=study_uid,
                series_uid=None if is_study else task.first.series_uid,
                actor=f"policy:{task.rule}",
                reason="the policy keeps it no longer",
            )
        except InstanceNotFound:
            return 0
        return deleted.instances


@dataclass(frozen=True, slots=True)
class Training(Steps):
    """A dictionary trained here, judged on heads that it has not seen, and kept in every store if it is worth it."""

    archive: Archive

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        return retrain, (self.archive, task.target)

    def commit(
        self, task: Task, result: Trained, swapped: Sequence[bool], transaction: Transaction, now: datetime
    ) -> Done:
        """See `Steps`."""
        return _done(task, Outcome.DONE if result.kept else Outcome.KEPT, 0, 0, 0.0)

    def note(self, task: Task, result: Trained) -> str | None:
        """That a dictionary is newer than what came before it shows by itself."""
        return None if result.kept else result.reason


@dataclass(frozen=True, slots=True)
class Placing(Steps):
    """A blob to the tiers that are wanted, each copy read back and compared."""

    archive: Archive
    now: Callable[[], datetime]

    def call(self, task: Task) -> Call:
        """See `Steps`."""
        return self._place, (task,)

    def commit(self, task: Task, result: int, swapped: Sequence[bool], transaction: Transaction, now: datetime) -> Done:
        """See `Steps`."""
        size = task.members[0][1].blob_bytes
        return _done(task, Outcome.DONE if result else Outcome.OVERTAKEN, size, size, 0.0)

    def _place(self, task: Task) -> int:
        forms = [row for held, form in task.members for row in self._rows(held, form)]
        return self.archive.placer(self.now).place(forms, [Tier(name) for name in task.target.split("+")]).forms

    def _rows(self, held: Held, form: Form) -> list[RepresentationRow]:
        return [row for row in self.archive.catalog.representations(held.instance_id) if row.blob.digest == form.digest]


_SERIES_REMEMBERED: Final = 1000


def sources(archive: Archive, members: Sequence[tuple[Held, Form]]) -> tuple[Source, ...]:
    """Where the forms of instances are, and what must come out of them.

    Raises
    ------
    InstanceNotFound
        One of them has gone.
    """
    keys = {row.instance_id: row for row in archive.catalog.ageing.keys([held.instance_id for held, _ in members])}
    if len(keys) < len(members):
        raise InstanceNotFound(members[0][0].series_uid)
    return tuple(
        Source(
            archive.stores.at(form.tier),
            BlobRef(form.tier, form.digest, form.blob_bytes),
            keys[held.instance_id].sop_uid,
            keys[held.instance_id].digest,
        )
        for held, form in members
    )


def steps(
    archive: Archive, decider: Callable[[], Decider], now: Callable[[], datetime], grace: timedelta
) -> Mapping[Step, Steps]:
    """How each step is done in an archive."""
    encoding = Encoding(archive, {})
    return {
        Step.RECOMPRESS: encoding,
        Step.REHEAD: encoding,
        Step.WARM: encoding,
        Step.SEPARATE: encoding,
        Step.GATHER: Gathering(archive),
        Step.DROP: Dropping(grace),
        Step.DERIVE: Deriving(archive, now),
        Step.RETRAIN: Training(archive),
        Step.PLACE: Placing(archive, now),
        Step.EXPIRE: Expiring(archive, decider),
    }


def _require(archive: Archive, blob: BlobRef) -> None:
    """Look for a blob once the transaction has named it: from then on nobody collects it.

    Raises
    ------
    BlobNotFound
        It is equal to one that was there, unnamed, and has been swept since it was written.
    """
    if not archive.stores.at(blob.tier).exists(blob.digest):
        raise BlobNotFound(blob.digest.hex)


def _keeps_old(task: Task, form: Form) -> bool:
    """Whether the old form stays for readers."""
    if task.step is not Step.RECOMPRESS:
        return task.step is Step.WARM
    return task.wanted.keep_fast and form.tier == HOT and not form.is_shared


def _done(task: Task, outcome: Outcome, before: int, after: int, seconds: float) -> Done:
    return Done(
        task.name if task.step is not Step.REHEAD else str(task.step),
        task.rule,
        outcome,
        task.raw_bytes,
        before,
        after,
        seconds,
    )


def _nothing() -> None:
    """A step that is no more than its commit."""
