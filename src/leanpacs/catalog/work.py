"""Settling, as the catalog sees it: who works on what has landed, and the swap of a landed form for a pack.

A claim is a lease: it ends by itself when its holder dies, and somebody else may claim the instance then. So
two settlers can work on one instance; the first to commit wins, and the other one's pack is discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, func, select, update

from leanpacs.catalog import onego
from leanpacs.catalog.landing import discard, form_parameters, keep_blob, keep_representation, note_change
from leanpacs.catalog.lookup import (
    INSTANCE_COLUMNS,
    LEVELS,
    SELECT_REPRESENTATIONS,
    instance_row,
    select_representations,
)
from leanpacs.catalog.rows import Action, Kind, LandedWork, NewRepresentation
from leanpacs.catalog.schema import EPOCH, instances, representations, series_choices
from leanpacs.catalog.statements import Statements

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
        "now": _microseconds(asked.now),
        "until": _microseconds(asked.until),
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
    values = {"claimed_until": _microseconds(until)}
    return connection.execute(_claimed_by(owner, ids).values(values)).rowcount


def let_go(connection: Connection, owner: str, ids: Sequence[int], retry_at: datetime) -> int:
    """Give claims back: others may claim these from ``retry_at`` on."""
    values = {"claimed_by": "", "claimed_until": _microseconds(retry_at)}
    return connection.execute(_claimed_by(owner, ids).values(values)).rowcount


def let_go_of_host(connection: Connection, host: str) -> int:
    """End the claims of all owners on one host."""
    held = update(representations).where(_LANDED, representations.c.claimed_by.startswith(f"{host}:", autoescape=True))
    return connection.execute(held.values(claimed_by="", claimed_until=0)).rowcount


def let_all_go(connection: Connection) -> int:
    """End every claim, whoever holds it: for when nobody else has the archive open."""
    return connection.execute(update(representations).where(_LANDED).values(claimed_by="", claimed_until=0)).rowcount


@dataclass(frozen=True, slots=True)
class Swap:
    """The landed form that goes, the pack that takes its place, and until when the old blob stays."""

    instance_id: int
    landed_id: int
    new: NewRepresentation
    at: datetime
    due_at: datetime


def settle(connection: Connection, statements: Statements, swap: Swap) -> bool:
    """Put a pack in the place of the landed form; False when that is gone or not current any more."""
    current = {"key": swap.landed_id, "of_instance": swap.instance_id}
    if statements.settling is not None:
        change = onego.parameters("change", {"at": swap.at, "action": Action.SETTLED})
        given = {**current, "garbage_due_at": swap.due_at, **change, **form_parameters(Kind.PACK, swap.new)}
        if connection.execute(statements.settling, given).scalar_one():
            return True
    landed_blob = connection.execute(statements.end_landed, current).scalar_one_or_none()
    if landed_blob is None:
        blob = keep_blob(connection, statements, swap.new.blob, swap.at)
        discard(connection, statements, blob, swap.due_at)
        return False
    keep_representation(connection, statements, swap.instance_id, Kind.PACK, swap.new)
    discard(connection, statements, landed_blob, swap.due_at)
    note_change(connection, statements, swap.at, Action.SETTLED, swap.instance_id)
    return True


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


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
