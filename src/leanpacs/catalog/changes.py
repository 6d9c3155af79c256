"""The change feed: what happened to which instance, in order, for those who come and ask."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from leanpacs.catalog.rows import Action, Change
from leanpacs.catalog.schema import changes, instances, series, studies, tombstones

_UIDS: Final = (
    func.coalesce(studies.c.study_uid, tombstones.c.study_uid),
    func.coalesce(series.c.series_uid, tombstones.c.series_uid),
    func.coalesce(instances.c.sop_uid, tombstones.c.sop_uid),
)
_FEED: Final = (
    select(changes.c.sequence, changes.c.at, changes.c.action, *_UIDS)
    .select_from(
        changes.outerjoin(instances, instances.c.id == changes.c.instance_key)
        .outerjoin(series, series.c.id == instances.c.series_key)
        .outerjoin(studies, studies.c.id == series.c.study_key)
        .outerjoin(tombstones, tombstones.c.instance_key == changes.c.instance_key)
    )
    .order_by(changes.c.sequence)
)


def changes_since(connection: Connection, since: int, limit: int) -> list[Change]:
    """Entries after sequence number ``since`` (0 for all), oldest first, at most ``limit``.

    On SQLite numbers become visible in their order. PostgreSQL gives them out before writers commit, so that
    a reader there can pass by a number that becomes visible a moment later: read again from a little before.
    """
    rows = connection.execute(_FEED.where(changes.c.sequence > since).limit(limit))
    return [
        Change(sequence, at, Action(action), study_uid, series_uid, sop_uid)
        for sequence, at, action, study_uid, series_uid, sop_uid in rows
    ]
