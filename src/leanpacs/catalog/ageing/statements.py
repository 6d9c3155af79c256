"""The statements of the lifecycle that run for each instance, built once so that they are compiled once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import Executable, and_, bindparam, delete, or_, select, update

from leanpacs.catalog import engine, onego
from leanpacs.catalog.ageing.tables import lifecycle_sums, lifecycle_work
from leanpacs.catalog.forms import Kind
from leanpacs.catalog.schema import instances, representations

ADDED: Final = ("tasks", "raw_bytes", "bytes_before", "bytes_after", "seconds")
_MINE: Final = (
    lifecycle_work.c.instance_key == bindparam("of_instance"),
    lifecycle_work.c.goal == bindparam("for_goal"),
    lifecycle_work.c.owner == bindparam("by_owner"),
)
_TRIED_BEFORE: Final = (
    lifecycle_work.c.instance_key == bindparam("of_instance"),
    lifecycle_work.c.goal.startswith(bindparam("of_step"), autoescape=False),
    lifecycle_work.c.outcome != "",
)
"""What came of the same step under other goals."""


@dataclass(frozen=True, slots=True)
class AgeingStatements:
    """The statements; those on claims name instance, goal and owner."""

    alive: Executable
    claim: Executable
    extend: Executable
    give_back: Executable
    finish: Executable
    finish_all: Executable | None
    """As ``finish``, for rows that are given as JSON, where the database can do that and gains by it."""
    remember: Executable
    packs: Executable
    add_up: Executable


@cache
def ageing_statements(dialect: str) -> AgeingStatements:
    """Statements in the dialect of a database."""
    packs = select(representations.c.id).where(
        representations.c.instance_key == bindparam("of_instance"), representations.c.kind == Kind.PACK.value
    )
    return AgeingStatements(
        alive=select(instances.c.id).where(instances.c.id.in_(bindparam("keys", expanding=True))),
        claim=_claim(dialect),
        extend=update(lifecycle_work).where(*_MINE).values(claimed_until=bindparam("until")),
        give_back=delete(lifecycle_work).where(*_MINE, lifecycle_work.c.outcome == ""),
        finish=delete(lifecycle_work).where(or_(and_(*_MINE), and_(*_TRIED_BEFORE))),
        finish_all=onego.ending(lifecycle_work) if dialect == "postgresql" else None,
        remember=update(lifecycle_work)
        .where(*_MINE)
        .values(outcome=bindparam("came"), claimed_until=bindparam("until"), detail=bindparam("because")),
        # The rows are locked where the database can.
        packs=packs.order_by(representations.c.id).with_for_update(),
        add_up=_add_up(dialect),
    )


def _claim(dialect: str) -> Executable:
    claim = engine.insert(dialect, lifecycle_work)
    taken: dict[str, Any] = {
        "owner": claim.excluded.owner,
        "claimed_until": claim.excluded.claimed_until,
        "attempts": lifecycle_work.c.attempts + 1,
        "outcome": "",
    }
    return claim.on_conflict_do_update(
        index_elements=["instance_key", "goal"],
        set_=taken,
        where=lifecycle_work.c.claimed_until <= bindparam("now", type_=lifecycle_work.c.claimed_until.type),
    ).returning(lifecycle_work.c.instance_key, lifecycle_work.c.goal)


def _add_up(dialect: str) -> Executable:
    sums = engine.insert(dialect, lifecycle_sums)
    added: dict[str, Any] = {name: lifecycle_sums.c[name] + sums.excluded[name] for name in ADDED}
    return sums.on_conflict_do_update(
        index_elements=["task", "rule", "outcome"], set_=added | {"last_at": sums.excluded.last_at}
    )
