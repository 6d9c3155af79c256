"""What the lifecycle changes within one write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, func, literal, or_, select, true

from leanpacs.catalog import engine, onego
from leanpacs.catalog.ageing.rows import Done, Outcome, Swap, Tried, Work
from leanpacs.catalog.ageing.statements import ADDED, ageing_statements
from leanpacs.catalog.ageing.tables import erasures, holds, lifecycle_state, lifecycle_work, scrubs, series_reads
from leanpacs.catalog.forms import Kind
from leanpacs.catalog.landing import clean_text, discard, keep_blob, keep_representation, note_change
from leanpacs.catalog.lookup import narrowed
from leanpacs.catalog.replacing import Swap as Replacement
from leanpacs.catalog.replacing import replace_all
from leanpacs.catalog.rows import DERIVED, Action
from leanpacs.catalog.schema import UtcTime, blobs, instances, plain, representations, series, studies
from leanpacs.catalog.statements import Statements
from leanpacs.errors import InstanceNotFound
from leanpacs.refs import BlobRef, Digest


class Ageing:
    """Changes to what is held, made one instance at a time; `Transaction.ageing` gives it out."""

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self._dialect = connection.dialect.name
        self._own = ageing_statements(self._dialect)

    # -- reads

    def note_reads(self, reads: Mapping[int, tuple[int, datetime]]) -> None:
        """Count reads of series: how many, and when the last was; series that are gone are passed over."""
        statement = engine.insert(self._dialect, series_reads)
        known = set(self._connection.scalars(select(series.c.id).where(series.c.id.in_(list(reads)))))
        values = [
            {"series_key": key, "reads": count, "last_read_at": last}
            for key, (count, last) in reads.items()
            if key in known
        ]
        if values:
            later = func.max if self._dialect == "sqlite" else func.greatest
            statement = statement.on_conflict_do_update(
                index_elements=["series_key"],
                set_={
                    "reads": series_reads.c.reads + statement.excluded.reads,
                    "last_read_at": later(series_reads.c.last_read_at, statement.excluded.last_read_at),
                },
            )
            self._connection.execute(statement, values)

    # -- claims

    def claim(self, wanted: Sequence[Work], owner: str, *, now: datetime, until: datetime) -> list[Work]:
        """Claim tasks that nobody works on; those that were claimed.

        A claim ends by itself at ``until``. What was tried is claimed again once its time has come.
        """
        alive = set(self._connection.scalars(self._own.alive, {"keys": sorted({work.instance_id for work in wanted})}))
        # In one order, so that two who claim do not wait for each other.
        sorted_works = sorted(set(wanted), key=lambda work: (work.instance_id, work.goal))
        values = [
            {
                "instance_key": work.instance_id,
                "goal": work.goal,
                "owner": owner,
                "claimed_until": until,
                "attempts": 1,
                "outcome": "",
                "detail": "",
                "now": now,
            }
            for work in sorted_works
            if work.instance_id in alive
        ]
        if not values:
            return []
        claimed = {Work(*row) for row in self._connection.execute(self._own.claim, values)}
        return [work for work in wanted if work in claimed]

    def extend(self, works: Iterable[Work], owner: str, until: datetime) -> None:
        """Hold claims until then."""
        mine = [{**_mine(work, owner), "until": until} for work in works]
        if mine:
            self._connection.execute(self._own.extend, mine)

    def release_claims_of(self, host: str) -> int:
        """End the claims of a host where nobody works any more ('' for all hosts); how many."""
        claimed = [lifecycle_work.c.outcome == ""]
        if host:
            claimed.append(lifecycle_work.c.owner.startswith(f"{host}:", autoescape=True))
        return self._connection.execute(delete(lifecycle_work).where(*claimed)).rowcount

    def give_back(self, works: Iterable[Work], owner: str) -> None:
        """End claims of an owner, which has begun nothing of them."""
        mine = [_mine(work, owner) for work in works]
        if mine:
            self._connection.execute(self._own.give_back, mine)

    def give_back_claims(self, owner: str) -> None:
        """End all claims of an owner, which has begun nothing of what it claimed or has given it up."""
        self._connection.execute(
            delete(lifecycle_work).where(lifecycle_work.c.owner == owner, lifecycle_work.c.outcome == "")
        )

    def finish(self, works: Sequence[Work], owner: str) -> None:
        """End claims whose result shows in what is stored now, and forget what the same step came to before.

        Goals may name stored forms that have gone: a failure that nobody can repeat would be told for ever.
        """
        if not works:
            return
        if self._own.finish_all is None:
            ended = [_mine(work, owner) | {"of_step": _step_of(work)} for work in works]
            self._connection.execute(self._own.finish, ended)
        else:
            rows = [
                {
                    "work_instance_key": work.instance_id,
                    "work_goal": work.goal,
                    "work_owner": owner,
                    "step_goal": _step_of(work),
                }
                for work in works
            ]
            self._connection.execute(self._own.finish_all, {"rows": onego.as_json(rows)})

    def remember(self, work: Work, owner: str, tried: Tried) -> None:
        """End a claim and remember what came of it, so that nobody tries again before ``tried.until``."""
        came = {"came": tried.outcome, "until": tried.until, "because": clean_text(tried.detail)}
        self._connection.execute(self._own.remember, _mine(work, owner) | came)

    # -- stored forms

    def swap(self, swap: Swap, *, now: datetime, due_at: datetime) -> bool:
        """Put one stored form in the place of another, whose blob may be collected from ``due_at`` on.

        False when the old one is no longer there, or when others than those that the new one is to stand beside are:
        nothing is changed then, but that the new blob, if nothing refers to it, may be collected.
        """
        return self.swap_all([swap], now=now, due_at=due_at)[0]

    def swap_all(self, swaps: Sequence[Swap], *, now: datetime, due_at: datetime) -> list[bool]:
        """As `swap`, for many at once, in less time."""
        replacing = [swap for swap in swaps if not swap.beside]
        given = [Replacement(swap.instance_id, swap.old_id, swap.new, now, due_at) for swap in replacing]
        done = iter(replace_all(self._connection, self._statements, Kind.PACK, given))
        return [self._add(swap, now, due_at) if swap.beside else next(done) for swap in swaps]

    def _add(self, swap: Swap, now: datetime, due_at: datetime) -> bool:
        """Put one stored form beside those that are there, unless somebody else has added or taken one."""
        of_instance = {"of_instance": swap.instance_id}
        # Locked first and looked at then: who waited for another's lock has not seen yet what that one has added.
        self._connection.execute(self._own.packs, of_instance).close()
        if set(self._connection.scalars(self._own.packs, of_instance)) != swap.beside:
            blob_key = keep_blob(self._connection, self._statements, swap.new.blob, now)
            discard(self._connection, self._statements, blob_key, due_at)
            return False
        keep_representation(self._connection, self._statements, swap.instance_id, Kind.PACK, swap.new)
        note_change(self._connection, self._statements, now, Action.RECODED, swap.instance_id)
        return True

    def drop_form(self, instance_id: int, form_id: int, least: int = 1, *, now: datetime, due_at: datetime) -> bool:
        """Give up one stored form of several.

        False when it is gone, the only one in a pack, or one of those on ``least`` tiers.
        """
        # All of them are locked: two who each drop one of two must not both see the other one.
        packs = select(representations.c.id, blobs.c.tier).join_from(representations, blobs)
        packs = packs.where(representations.c.instance_key == instance_id, representations.c.kind == Kind.PACK.value)
        locked = packs.order_by(representations.c.id).with_for_update(of=representations)
        tiers = {row[0]: row[1] for row in self._connection.execute(locked)}
        dropped = tiers.pop(form_id, None)
        if dropped is None or not tiers or (dropped not in tiers.values() and len(set(tiers.values())) < least):
            return False
        statement = delete(representations).where(
            representations.c.id == form_id,
            representations.c.instance_key == instance_id,
            representations.c.kind == Kind.PACK.value,
        )
        blob_key = self._connection.scalar(statement.returning(representations.c.blob_key))
        if blob_key is None:
            return False
        discard(self._connection, self._statements, blob_key, due_at)
        note_change(self._connection, self._statements, now, Action.RECODED, instance_id)
        return True

    def holds_form(self, instance_id: int, form_id: int) -> bool:
        """Whether a stored form is there; where the database can, it stays there until this transaction ends."""
        query = select(representations.c.id).where(
            representations.c.id == form_id, representations.c.instance_key == instance_id
        )
        return self._connection.scalar(query.with_for_update()) is not None

    def copies_of(self, *, study_uid: str | None, series_uid: str | None, sop_uid: str | None) -> list[str]:
        """SOP Instance UIDs of the lossy copies that are there of what is named."""
        copy = instances.alias("copy")
        made = (
            select(lifecycle_work.c.detail)
            .join_from(lifecycle_work, instances)
            .join(series)
            .join(studies)
            .where(lifecycle_work.c.goal.startswith("derive "), lifecycle_work.c.outcome == Outcome.DONE)
        )
        found = select(copy.c.sop_uid).where(copy.c.door == DERIVED)
        return list(
            self._connection.scalars(
                found.where(copy.c.sop_uid.in_(narrowed(made, study_uid, series_uid, sop_uid))).order_by(copy.c.id)
            )
        )

    # -- what was deleted and is still in a pack that others share

    def note_deleted(self, pack: BlobRef, instance_ids: Sequence[int], *, due_at: datetime) -> None:
        """Note that a new pack holds an instance that was deleted while the pack was made, where that is so."""
        if set(self._connection.scalars(self._own.alive, {"keys": sorted(instance_ids)})) == set(instance_ids):
            return
        named = select(blobs.c.id, literal(due_at, UtcTime))
        named = named.where(blobs.c.digest == pack.digest, blobs.c.tier == pack.tier)
        self._erase(named)

    def carry_erasures(self, digest: Digest) -> None:
        """What was deleted of a pack is deleted of every copy of it, of those that were made since, too."""
        copy = blobs.alias("copy")
        noted = (
            select(copy.c.id, func.max(plain(erasures.c.due_at)))
            .select_from(erasures.join(blobs).join(copy, copy.c.digest == blobs.c.digest))
            .where(blobs.c.digest == digest)
            .group_by(copy.c.id)
        )
        self._erase(noted)

    def _erase(self, packs: Select[Any]) -> None:
        statement = engine.insert(self._dialect, erasures).from_select(["blob_key", "due_at"], packs)
        self._connection.execute(statement.on_conflict_do_nothing(index_elements=["blob_key"]))

    # -- holds

    def hold(self, study_uid: str, series_uid: str, *, actor: str, reason: str, now: datetime) -> int:
        """Forbid deleting anything of a study, or of one of its series; the number of the hold.

        Raises
        ------
        InstanceNotFound
            There is no such study, or it is being deleted.
        """
        # Who deletes locks these first and looks for holds then: one of the two waits for the other.
        of_study = select(series.c.id).join_from(series, studies).where(studies.c.study_uid == study_uid)
        if not self._connection.scalars(of_study.order_by(series.c.id).with_for_update(read=True, of=series)).all():
            raise InstanceNotFound(study_uid)
        values = {
            "study_uid": study_uid,
            "series_uid": series_uid,
            "actor": clean_text(actor),
            "reason": clean_text(reason),
            "placed_at": now,
        }
        key: int = (
            self._connection.scalar(engine.insert(self._dialect, holds).values(values).returning(holds.c.id)) or 0
        )
        return key

    def release_hold(self, hold_id: int) -> bool:
        """End a hold; False when there is none of this number."""
        return self._connection.execute(delete(holds).where(holds.c.id == hold_id)).rowcount > 0

    def held_by(self, *, study_uid: str | None, series_uid: str | None, sop_uid: str | None) -> list[int]:
        """Numbers of the holds that forbid deleting something of what is named."""
        joined = instances.join(series, instances.c.series_key == series.c.id).join(studies)
        named = select(holds.c.id).select_from(holds.join(studies, studies.c.study_uid == holds.c.study_uid))
        conditions = []
        if study_uid is not None:
            conditions.append(holds.c.study_uid == study_uid)
        if series_uid is not None:
            of_series = exists().where(series.c.study_key == studies.c.id, series.c.series_uid == series_uid)
            conditions += [of_series, or_(holds.c.series_uid == "", holds.c.series_uid == series_uid)]
        if sop_uid is not None:
            found = self._connection.execute(
                select(studies.c.study_uid, series.c.series_uid)
                .select_from(joined)
                .where(instances.c.sop_uid == sop_uid)
            ).first()
            if found is None:
                return []
            conditions += [holds.c.study_uid == found[0], or_(holds.c.series_uid == "", holds.c.series_uid == found[1])]
        return list(self._connection.scalars(named.where(true(), *conditions).distinct().order_by(holds.c.id)))

    # -- scrubs, sums, switches

    def note_scrub(self, blob: BlobRef, problem: str, *, now: datetime) -> None:
        """Remember when a blob was read back, and what was wrong with it ('' for nothing)."""
        key = self._connection.scalar(
            select(blobs.c.id).where(blobs.c.digest == blob.digest, blobs.c.tier == blob.tier)
        )
        if key is None:
            return
        statement = engine.insert(self._dialect, scrubs).values(
            blob_key=key, checked_at=now, problem=clean_text(problem)
        )
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["blob_key"],
                set_={"checked_at": statement.excluded.checked_at, "problem": statement.excluded.problem},
            )
        )

    def add_up(self, *tasks: Done, now: datetime) -> None:
        """Add what tasks have done to the sums."""
        sums: dict[tuple[str, ...], dict[str, Any]] = {}
        for done in tasks:
            names = {"task": done.task, "rule": clean_text(done.rule), "outcome": done.outcome.value}
            total = sums.setdefault(tuple(names.values()), {**names, **dict.fromkeys(ADDED, 0), "last_at": now})
            for name in ADDED:
                total[name] += getattr(done, name)
        # In one order, so that two who add do not wait for each other.
        for _, total in sorted(sums.items()):
            self._connection.execute(self._own.add_up, total)

    def switch(self, name: str, value: str) -> None:
        """Set a switch of the lifecycle."""
        statement = engine.insert(self._dialect, lifecycle_state).values(name=name, value=value)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
        )


def _step_of(work: Work) -> str:
    """What the goals of one step begin with."""
    return work.goal.partition(" ")[0] + " "


def _mine(work: Work, owner: str) -> dict[str, Any]:
    return {"of_instance": work.instance_id, "for_goal": work.goal, "by_owner": owner}
