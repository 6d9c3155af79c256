"""What is to be brought back from tiers in which reading takes asking, and how available what is held is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, case, delete, func, literal, select, update

from leanpacs.catalog import engine
from leanpacs.catalog.forms import Kind, RepresentationRow, RestoreRow
from leanpacs.catalog.found import AVAILABILITY
from leanpacs.catalog.lookup import SELECT_REPRESENTATIONS, representation_row, select_representations
from leanpacs.catalog.schema import UtcTime, blobs, instances, representations, restores, series, studies
from leanpacs.refs import Tier

Level = Literal["study", "series", "instance"]

_CHUNK: Final = 500
_KEYS: Final[Mapping[Level, ColumnElement[int]]] = {
    "study": series.c.study_key,
    "series": instances.c.series_key,
    "instance": instances.c.id,
}


def asleep(connection: Connection, study_uid: str, awake: Collection[Tier]) -> list[RepresentationRow]:
    """One pack of each instance of a study that stands on none of these tiers and that nobody has asked for."""
    of_study = (
        select(representations.c.instance_key, func.min(representations.c.id).label("first"))
        .join_from(representations, instances)
        .join(series)
        .join(studies)
        .join(blobs, representations.c.blob_key == blobs.c.id)
        .where(studies.c.study_uid == study_uid, representations.c.kind == Kind.PACK.value)
        .group_by(representations.c.instance_key)
        .outerjoin(restores, restores.c.representation_key == representations.c.id)
        .having(
            func.sum(case((blobs.c.tier.in_(list(awake)), 1), else_=0)) == 0,
            func.count(restores.c.representation_key) == 0,
        )
        .subquery("asleep")
    )
    query = SELECT_REPRESENTATIONS.join(of_study, of_study.c.first == representations.c.id)
    return select_representations(connection, query.order_by(representations.c.id))


def ask(connection: Connection, keys: Sequence[int], now: datetime) -> int:
    """Remember what is to be brought back; the number of those that nobody had asked for."""
    added = 0
    for chunk in (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)):
        alive = select(representations.c.id, literal(now, UtcTime)).where(representations.c.id.in_(chunk))
        # In one order, so that two who ask do not wait for each other.
        alive = alive.order_by(representations.c.id)
        statement = engine.insert(connection.dialect.name, restores)
        asked_for = statement.from_select(["representation_key", "requested_at"], alive).on_conflict_do_nothing(
            index_elements=["representation_key"]
        )
        added += len(connection.scalars(asked_for.returning(restores.c.representation_key)).all())
    return added


def asked(connection: Connection) -> list[RestoreRow]:
    """What was asked for, oldest first."""
    query = SELECT_REPRESENTATIONS.add_columns(restores.c.requested_at, restores.c.ready_at)
    query = query.join(restores, restores.c.representation_key == representations.c.id)
    rows = connection.execute(query.order_by(restores.c.requested_at, representations.c.id))
    return [RestoreRow(representation_row(row[:-2]), row.requested_at, row.ready_at) for row in rows]


def ready(connection: Connection, key: int, now: datetime) -> None:
    """Note that it has been brought back."""
    connection.execute(update(restores).where(restores.c.representation_key == key).values(ready_at=now))


def end(connection: Connection, key: int) -> None:
    """Forget that it was asked for."""
    connection.execute(delete(restores).where(restores.c.representation_key == key))


def availability(
    connection: Connection, level: Level, keys: Iterable[int], ranks: Mapping[Tier, int]
) -> dict[int, int]:
    """Rank of the least available instance below each key: 0 is best; a tier without a rank is the worst.

    An instance is as available as the best of its stored forms.
    """
    found: dict[int, int] = {}
    wanted = list(keys)
    rank = case(dict(ranks), value=blobs.c.tier, else_=len(AVAILABILITY) - 1)
    key = _KEYS[level]
    for start in range(0, len(wanted), _CHUNK):
        best: Any = (
            select(key.label("key"), func.min(rank).label("rank"))
            .join_from(instances, series)
            .join(representations, representations.c.instance_key == instances.c.id)
            .join(blobs, representations.c.blob_key == blobs.c.id)
            .where(key.in_(wanted[start : start + _CHUNK]))
            .group_by(key, instances.c.id)
            .subquery("best")
        )
        rows = connection.execute(select(best.c.key, func.max(best.c.rank)).group_by(best.c.key))
        found.update((row[0], row[1]) for row in rows)
    return found
