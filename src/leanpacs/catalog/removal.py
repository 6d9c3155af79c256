"""Deleting: the catalog forgets an instance at once, its blobs follow when nothing refers to them.

A blob row stays until the blob is gone from its store, and the database refuses to drop a blob row that a
representation refers to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Executable,
    Select,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from leanpacs.catalog import engine
from leanpacs.catalog.ageing.tables import erasures
from leanpacs.catalog.lookup import LEVELS, blob_ref, narrowed
from leanpacs.catalog.rows import Action, Deleted
from leanpacs.catalog.schema import (
    UtcTime,
    blobs,
    changes,
    garbage,
    instances,
    patients,
    quarantine,
    representations,
    series,
    studies,
    tombstones,
)
from leanpacs.errors import InstanceNotFound
from leanpacs.refs import BlobRef, Tier

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deletes, why, when, and from when on the blobs may go."""

    actor: str
    reason: str
    at: datetime
    due_at: datetime
    action: Action = Action.DELETED


def delete_instances(
    connection: Connection,
    deletion: Deletion,
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    sop_uid: str | None = None,
) -> Deleted:
    """Delete all instances of the given UIDs, leaving a tombstone and a change record for each.

    Raises
    ------
    InstanceNotFound
        There are none.
    """
    uids = (study_uid, series_uid, sop_uid)
    if uids == (None, None, None):
        raise ValueError("a deletion must name a study, a series or an instance")
    parents = select(series.c.id, series.c.study_key, studies.c.patient_key).select_from(LEVELS).distinct()
    above = connection.execute(narrowed(parents, *uids)).all()
    if not above:
        raise InstanceNotFound(sop_uid or series_uid or study_uid or "")
    # Writers elsewhere that add to these series wait, and then find them gone.
    _lock(connection, [row[0] for row in above])
    chosen = narrowed(select(instances.c.id).select_from(LEVELS), *uids)
    # Who is about to name another stored form of one of them waits, too, or is waited for.
    connection.execute(chosen.order_by(instances.c.id).with_for_update(of=instances))
    _remember(connection, deletion, chosen)
    connection.execute(delete(representations).where(representations.c.instance_key.in_(chosen)))
    removed = connection.execute(delete(instances).where(instances.c.id.in_(chosen))).rowcount
    return _prune(connection, above, removed)


def collect(connection: Connection, now: datetime, limit: int, tier: Tier | None) -> list[BlobRef]:
    """Blobs that are due and that nothing refers to, of one tier or of all; those referred to again are let off."""
    keys = list(connection.scalars(_DUE if tier is None else _DUE_OF_TIER, {"now": now, "most": limit, "tier": tier}))
    collected: list[BlobRef] = []
    for chunk in _chunks(keys):
        # The lock comes first and the look second, so that a writer who was faster is seen.
        if connection.dialect.name != "sqlite":  # whose writers take turns
            connection.execute(select(blobs.c.id).where(blobs.c.id.in_(chunk)).with_for_update())
        connection.execute(_LET_OFF, {"keys": chunk})
        collected.extend(blob_ref(row) for row in connection.execute(_COLLECTED, {"keys": chunk}))
    return collected


def forget(connection: Connection, refs: Iterable[BlobRef]) -> None:
    """Drop the rows of blobs that are gone from their stores.

    A blob that is referred to again stays known: the missing file is then found by verifying, and not hidden.
    """
    for chunk in _chunks([(ref.digest, ref.tier) for ref in refs]):
        keys = list(connection.scalars(_UNREFERRED, {"same": chunk}))
        connection.execute(_NO_GARBAGE, {"keys": keys})
        connection.execute(_NO_BLOB, {"keys": keys})


def _referred(blob_key: Any) -> Any:
    """Whether a representation or something in quarantine is in the blob."""
    return exists().where(representations.c.blob_key == blob_key) | exists().where(quarantine.c.blob_key == blob_key)


def lock(connection: Connection, study_uid: str | None, series_uid: str | None, sop_uid: str | None) -> None:
    """Let everybody who adds to the series of what is named, or places a hold on it, wait for this transaction."""
    keys = narrowed(select(series.c.id).select_from(LEVELS).distinct(), study_uid, series_uid, sop_uid)
    _lock(connection, list(connection.scalars(keys)))


def _lock(connection: Connection, series_keys: Sequence[int]) -> None:
    for chunk in _chunks(sorted(series_keys)):
        chosen = select(series.c.id).where(series.c.id.in_(chunk))
        connection.execute(chosen.order_by(series.c.id).with_for_update())


def _remember(connection: Connection, deletion: Deletion, chosen: Select[Any]) -> None:
    columns = ["study_uid", "series_uid", "sop_uid", "sop_class", "data_set_digest"]
    uids = (studies.c.study_uid, series.c.series_uid, instances.c.sop_uid)
    facts = (*uids, instances.c.sop_class, instances.c.data_set_digest)
    why = (literal(deletion.actor), literal(deletion.reason), literal(deletion.at, UtcTime))
    buried = select(instances.c.id, *facts, *why).select_from(LEVELS).where(instances.c.id.in_(chosen))
    names = ["instance_key", *columns, "actor", "reason", "deleted_at"]
    connection.execute(tombstones.insert().from_select(names, buried))
    noted = select(instances.c.id, literal(deletion.action.value), literal(deletion.at, UtcTime))
    noted = noted.where(instances.c.id.in_(chosen)).order_by(instances.c.id)
    connection.execute(changes.insert().from_select(["instance_key", "action", "at"], noted))
    left = select(representations.c.blob_key, literal(deletion.due_at, UtcTime)).distinct()
    left = left.where(representations.c.instance_key.in_(chosen))
    due = engine.insert(connection.dialect.name, garbage).from_select(["blob_key", "due_at"], left)
    connection.execute(due.on_conflict_do_update(index_elements=["blob_key"], set_={"due_at": due.excluded.due_at}))
    erased = engine.insert(connection.dialect.name, erasures).from_select(
        ["blob_key", "due_at"], _packs_with(chosen, deletion.due_at)
    )
    connection.execute(erased.on_conflict_do_nothing(index_elements=["blob_key"]))


def _packs_with(chosen: Select[Any], due_at: datetime) -> Select[Any]:
    """Packs that others share, and that hold what is deleted, or may: they do not go with it.

    Of what has another form by now something may be left in a pack of its series that is no longer in use throughout.
    """
    of_series = select(instances.c.series_key).where(instances.c.id.in_(chosen))
    is_chosen = case((instances.c.id.in_(chosen), 1), else_=0)
    return (
        select(representations.c.blob_key, literal(due_at, UtcTime))
        .select_from(representations.join(blobs).join(instances, instances.c.id == representations.c.instance_key))
        .where(instances.c.series_key.in_(of_series), representations.c.size_bytes < blobs.c.size_bytes)
        .group_by(representations.c.blob_key, blobs.c.size_bytes)
        .having(or_(func.max(is_chosen) > 0, func.sum(representations.c.size_bytes) < blobs.c.size_bytes))
    )


def _prune(connection: Connection, above: Sequence[Any], removed: int) -> Deleted:
    """Remove series, studies and patients that nothing is left of."""
    gone = [
        _prune_level(connection, statement, {row[level] for row in above}) for level, statement in enumerate(_EMPTY)
    ]
    return Deleted(studies=gone[1], series=gone[0], instances=removed)


def _prune_level(connection: Connection, statement: Executable, keys: set[int]) -> int:
    return sum(connection.execute(statement, {"keys": chunk}).rowcount for chunk in _chunks(sorted(keys)))


_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_DUE: Final = (
    select(garbage.c.blob_key)
    .join_from(garbage, blobs)
    .where(garbage.c.due_at <= bindparam("now"))
    .order_by(garbage.c.due_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True, of=garbage)
)
_DUE_OF_TIER: Final = _DUE.where(blobs.c.tier == bindparam("tier"))
_LET_OFF: Final = delete(garbage).where(garbage.c.blob_key.in_(_KEYS), _referred(garbage.c.blob_key))
_COLLECTED: Final = (
    select(blobs.c.tier, blobs.c.digest, blobs.c.size_bytes)
    .join_from(garbage, blobs)
    .where(garbage.c.blob_key.in_(_KEYS))
)
_UNREFERRED: Final = select(blobs.c.id).where(
    tuple_(blobs.c.digest, blobs.c.tier).in_(bindparam("same", expanding=True)), ~_referred(blobs.c.id)
)
_NO_GARBAGE: Final = delete(garbage).where(garbage.c.blob_key.in_(_KEYS))
_NO_BLOB: Final = delete(blobs).where(blobs.c.id.in_(_KEYS))
_EMPTY: Final = (
    delete(series).where(series.c.id.in_(_KEYS), ~exists().where(instances.c.series_key == series.c.id)),
    delete(studies).where(studies.c.id.in_(_KEYS), ~exists().where(series.c.study_key == studies.c.id)),
    delete(patients).where(patients.c.id.in_(_KEYS), ~exists().where(studies.c.patient_key == patients.c.id)),
)


def _chunks(keys: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
