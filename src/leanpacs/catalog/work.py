"""Settling, as the catalog sees it: who works on what has landed (`leanpacs.catalog.replacing` puts packs there).

A claim is a lease: it ends by itself when its holder dies, and somebody else may claim the instance then. So
two settlers can work on one instance; the first to commit wins, and the other one's pack is discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, func, select, update

from leanpacs.catalog.forms import Kind
from leanpacs.catalog.lookup import (
    INSTANCE_COLUMNS,
    LEVELS,
    SELECT_REPRESENTATIONS,
    instance_row,
    select_representations,
)
from leanpacs.catalog.rows import LandedWork
from leanpacs.catalog.schema import instances, microseconds, representations, series_choices

_LANDED: Final = representations.c.kind == Kind.LANDED.value


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claims, how much at most, and for how long."""

    owner: str
    limit_count: int
    limit_bytes: int
    now: datetime
    until: datetime


def claim(connection: Connection, asked: Claim) -> list[LandedWork]:
    """Claim the oldest instances that have landed and that nobody works on."""
    values = {
        "now": microseconds(asked.now),
        "until": microseconds(asked.until),
        "owner": asked.owner,
        "limit_count": asked.limit_count,
        "limit_bytes": asked.limit_bytes,
    }
    claimed = list(connection.scalars(_CLAIM, values))
    if not claimed:
        return []
    held = select_representations(
        connection,
        SELECT_REPRESENTATIONS.where(representations.c.id.in_(claimed)).order_by(representations.c.id),
    )
    found = _instances(connection, [one.instance_id for one in held])
    return [LandedWork(found[one.instance_id][0], one, found[one.instance_id][1]) for one in held]


def extend(connection: Connection, owner: str, ids: Sequence[int], until: datetime) -> int:
    """Hold the claims longer; how many are still the owner's."""
    values = {"claimed_until": microseconds(until)}
    return connection.execute(_claimed_by(owner, ids).values(values)).rowcount


def let_go(connection: Connection, owner: str, ids: Sequence[int], retry_at: datetime) -> int:
    """Give claims back: others may claim these from ``retry_at`` on."""
    values = {"claimed_by": "", "claimed_until": microseconds(retry_at)}
    return connection.execute(_claimed_by(owner, ids).values(values)).rowcount


def let_go_of_host(connection: Connection, host: str) -> int:
    """End the claims of all owners on one host."""
    held = update(representations).where(_LANDED, representations.c.claimed_by.startswith(f"{host}:", autoescape=True))
    return connection.execute(held.values(claimed_by="", claimed_until=0)).rowcount


def let_all_go(connection: Connection) -> int:
    """End every claim, whoever holds it: for when nobody else has the archive open."""
    return connection.execute(update(representations).where(_LANDED).values(claimed_by="", claimed_until=0)).rowcount


def _claim_statement() -> Update:
    """One statement, so that two settlers cannot take the same instance."""
    free = (
        select(representations.c.id, representations.c.size_bytes)
        .where(_LANDED, representations.c.claimed_until <= bindparam("now"))
        .order_by(representations.c.id)
        .limit(bindparam("limit_count"))
        .with_for_update(skip_locked=True)
        # Read once, whatever the planner does with what follows: read again, it would skip what it locked itself.
        .cte("free")
    )
    before = func.sum(free.c.size_bytes).over(order_by=free.c.id) - free.c.size_bytes
    summed = select(free.c.id, before.label("before")).subquery("summed")
    fitting = select(summed.c.id).where(summed.c.before < bindparam("limit_bytes"))
    return (
        update(representations)
        .where(representations.c.id.in_(fitting))
        .values(
            claimed_by=bindparam("owner"),
            claimed_until=bindparam("until"),
            attempts=representations.c.attempts + 1,
        )
    )


_CLAIM: Final = _claim_statement().returning(representations.c.id)


def _claimed_by(owner: str, ids: Sequence[int]) -> Update:
    mine = representations.c.claimed_by == owner, representations.c.id.in_(ids)
    return update(representations).where(_LANDED, *mine)


def _instances(connection: Connection, keys: Sequence[int]) -> dict[int, tuple[Any, str | None]]:
    query = select(series_choices.c.choice, *INSTANCE_COLUMNS).select_from(
        LEVELS.outerjoin(series_choices, series_choices.c.series_key == instances.c.series_key)
    )
    rows = connection.execute(query.where(instances.c.id.in_(keys)))
    return {row[1]: (instance_row(row[1:]), row[0]) for row in rows}
