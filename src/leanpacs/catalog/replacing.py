"""Packs in the place of other stored forms, many at a time: of landed ones (settling), of other packs (encoding again).

What costs differs: on SQLite preparing a statement does, while other writers wait; on PostgreSQL going to the server.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from leanpacs.catalog import onego
from leanpacs.catalog.forms import Kind, NewRepresentation
from leanpacs.catalog.landing import discard, form_parameters, keep_blob, keep_representations
from leanpacs.catalog.rows import Action
from leanpacs.catalog.statements import Statements

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ACTIONS: Final = {Kind.LANDED: Action.SETTLED, Kind.PACK: Action.RECODED}


@dataclass(frozen=True, slots=True)
class Swap:
    """The form that goes, the pack that takes its place, and until when the old blob stays."""

    instance_id: int
    old_id: int
    new: NewRepresentation
    at: datetime
    due_at: datetime


def replace_all(connection: Connection, statements: Statements, kind: Kind, swaps: Sequence[Swap]) -> list[bool]:
    """Put packs in the place of forms of one kind; for each, whether that was still there and current.

    The new blobs of those that were not may be collected, if nothing refers to them.
    """
    first_of = {swap.old_id: swap for swap in reversed(swaps)}
    do = _in_one_go if statements.replacing is not None else _table_by_table
    ended = do(connection, statements, kind, list(first_of.values())) if swaps else ()
    replaced = [swap.old_id in ended and first_of[swap.old_id] is swap for swap in swaps]
    for swap, is_replaced in zip(swaps, replaced, strict=True):
        if not is_replaced:
            blob = keep_blob(connection, statements, swap.new.blob, swap.at)
            discard(connection, statements, blob, swap.due_at)
    return replaced


def _in_one_go(connection: Connection, statements: Statements, kind: Kind, swaps: Sequence[Swap]) -> Collection[int]:
    assert statements.replacing is not None
    rows = [
        {
            "old_id": swap.old_id,
            "old_instance_key": swap.instance_id,
            "garbage_due_at": swap.due_at,
            "change_at": swap.at,
            "change_action": _ACTIONS[kind],
            **form_parameters(Kind.PACK, swap.new),
        }
        for swap in swaps
    ]
    return set(connection.scalars(statements.replacing, {"old_kind": kind, "rows": onego.as_json(rows)}))


def _table_by_table(
    connection: Connection, statements: Statements, kind: Kind, swaps: Sequence[Swap]
) -> Collection[int]:
    given = {"keys": [swap.old_id for swap in swaps], "old_kind": kind}
    blob_of = {(key, instance): blob for key, instance, blob in connection.execute(statements.current, given)}
    current = [swap for swap in swaps if (swap.old_id, swap.instance_id) in blob_of]
    if current:
        ended = [swap.old_id for swap in current]
        connection.execute(statements.end_forms, {"keys": ended, "old_kind": kind})
        forms = [(swap.instance_id, Kind.PACK, swap.new) for swap in current]
        keep_representations(connection, statements, forms)
        due = {blob_of[swap.old_id, swap.instance_id]: swap.due_at for swap in current}
        statements.garbage.run_many(connection, [{"blob_key": key, "due_at": at} for key, at in due.items()])
        noted = [{"at": swap.at, "action": _ACTIONS[kind], "instance_key": swap.instance_id} for swap in current]
        statements.change.run_many(connection, noted)
    return {swap.old_id for swap in current}
