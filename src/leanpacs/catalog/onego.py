"""Landing, settling and encoding again in one statement each, for PostgreSQL, where going to the server costs.

One statement serves one row or many: all of them go in one parameter, as JSON, of which the server makes a table.
Data-modifying ``WITH`` clauses see one snapshot and hand keys on by ``RETURNING``; what they insert depends on the rows
that arrived, or on the forms that ended, so that nothing happens for those of which there is none.

References
----------
PostgreSQL documentation, 7.8.4 (data-modifying statements in WITH), 9.16 (json_to_recordset).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    column,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from leanpacs.catalog.schema import blobs, changes, garbage, instances, microseconds, representations
from leanpacs.refs import Digest

_KEYS: Final = ("id", "instance_key", "blob_key", "claimed_by", "claimed_until", "attempts")
_INSTANCE: Final = [column.name for column in instances.c if column.name != "id"]
_FORM: Final = [column.name for column in representations.c if column.name not in _KEYS]
_BLOB: Final = ("digest", "tier", "size_bytes", "created_at")
_CHANGE: Final = ("at", "action")


def landing() -> Executable:
    """Insert instances, blobs, stored forms and changes; UID, key and key of the form of those that were not held."""
    given = _given({"instance": (instances, _INSTANCE), **_NEW_FORM})
    arriving = select(*_of(given, "instance", _INSTANCE)).order_by(given.c.place)
    arrived = (
        postgresql.insert(instances)
        .from_select(_INSTANCE, arriving)
        .on_conflict_do_nothing(index_elements=["sop_uid"])
        .returning(instances.c.id, instances.c.sop_uid)
        .cte("arrived")
    )
    current = given.join(arrived, arrived.c.sop_uid == given.c.instance_sop_uid)
    form, change = _forms(given, current, arrived.c.id), _changes(given, current, arrived.c.id)
    of_form = arrived.join(form, form.c.instance_key == arrived.c.id)
    return select(arrived.c.sop_uid, arrived.c.id, form.c.id).select_from(of_form).add_cte(change)


def replacing() -> Executable:
    """Put packs in the place of other forms, of one kind; keys of those that were there.

    Several may share a blob, old ones as well as new ones: each blob is named once, for a statement changes a row once.
    """
    named = {"old": (representations, ["id", "instance_key"]), "garbage": (garbage, ["due_at"])}
    given = _given({**named, **_NEW_FORM})
    ended = (
        delete(representations)
        .where(
            representations.c.id == given.c.old_id,
            representations.c.instance_key == given.c.old_instance_key,
            representations.c.kind == bindparam("old_kind"),
        )
        .returning(representations.c.id, representations.c.blob_key)
        .cte("ended")
    )
    current = given.join(ended, ended.c.id == given.c.old_id)
    due = select(ended.c.blob_key, func.max(given.c.garbage_due_at)).select_from(current).group_by(ended.c.blob_key)
    left = postgresql.insert(garbage).from_select(["blob_key", "due_at"], due)
    left_over = left.on_conflict_do_update(index_elements=["blob_key"], set_={"due_at": left.excluded.due_at}).cte(
        "left_over"
    )
    form, change = (make(given, current, given.c.old_instance_key) for make in (_forms, _changes))
    return select(ended.c.id).add_cte(form, left_over, change)


def holding() -> Executable:
    """Make blobs known, and lock them until the transaction ends."""
    given = _given({"blob": (blobs, _BLOB)})
    return _blobs(given, given)


def ending(work: Table) -> Executable:
    """End claims of an owner on the rows of ``work``, and forget what came before of the same step, given its name."""
    given = _given({"work": (work, ["instance_key", "goal", "owner"]), "step": (work, ["goal"])})
    mine = and_(work.c.goal == given.c.work_goal, work.c.owner == given.c.work_owner)
    before = and_(func.starts_with(work.c.goal, given.c.step_goal), work.c.outcome != "")
    return delete(work).where(work.c.instance_key == given.c.work_instance_key, or_(mine, before)).add_cte(given)


_NEW_FORM: Final[Mapping[str, tuple[Table, Sequence[str]]]] = {
    "blob": (blobs, _BLOB),
    "form": (representations, _FORM),
    "change": (changes, _CHANGE),
}


def parameters(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row, by the names that they have in these statements."""
    return {f"{table}_{name}": value for name, value in values.items()}


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows, in their order, for the parameter ``rows`` of these statements."""
    placed = [{"place": place, **row} for place, row in enumerate(rows)]
    return json.dumps(placed, default=_plain_value, separators=(",", ":"))


def _plain_value(value: Any) -> Any:
    match value:
        case datetime():
            return microseconds(value)
        case Digest():
            return f"\\x{value.hex}"
        case bytes():
            return f"\\x{value.hex()}"
    raise TypeError(f"the catalog does not hold {type(value)}")


def _given(wanted: Mapping[str, tuple[Table, Sequence[str]]]) -> CTE:
    """The rows that are given as JSON, as a table with columns as these tables have them."""
    named = [
        column(f"{prefix}_{name}", _plain_type(table.c[name].type))
        for prefix, (table, names) in wanted.items()
        for name in names
    ]
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON))
    return select(rows.table_valued(column("place", BigInteger), *named).render_derived(with_types=True)).cte("given")


def _plain_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column for the server: without what is done to values here, and without a collation."""
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, LargeBinary):
        return LargeBinary()
    return Text() if isinstance(kind, Text) else kind


def _of(given: FromClause, prefix: str, names: Sequence[str]) -> list[ColumnElement[Any]]:
    return [given.c[f"{prefix}_{name}"] for name in names]


def _blobs(given: CTE, current: FromClause) -> postgresql.Insert:
    """Make the blobs of the rows of ``current`` known."""
    digest, tier, size, created_at = _of(given, "blob", _BLOB)
    distinct = select(digest, tier, func.max(size), func.min(created_at)).select_from(current)
    # In one order, so that two who name the same blobs do not wait for each other.
    adding = postgresql.insert(blobs).from_select(_BLOB, distinct.group_by(digest, tier).order_by(digest, tier))
    # Setting the size to what it is locks the row that was there, and makes the statement return it.
    size_as_it_is = {"size_bytes": adding.excluded.size_bytes}
    return adding.on_conflict_do_update(index_elements=["digest", "tier"], set_=size_as_it_is)


def _forms(given: CTE, current: FromClause, instance: ColumnElement[int]) -> CTE:
    """Insert a stored form for each row of ``current``, and their blobs."""
    digest, tier, *_ = _of(given, "blob", _BLOB)
    blob = _blobs(given, current).returning(blobs.c.id, blobs.c.digest, blobs.c.tier).cte("blob")
    of_blob = current.join(blob, (blob.c.digest == digest) & (blob.c.tier == tier))
    values = select(instance, blob.c.id, *_of(given, "form", _FORM)).select_from(of_blob).order_by(given.c.place)
    adding = postgresql.insert(representations).from_select(["instance_key", "blob_key", *_FORM], values)
    return adding.returning(representations.c.id, representations.c.instance_key).cte("form")


def _changes(given: CTE, current: FromClause, instance: ColumnElement[int]) -> CTE:
    noted = select(instance, *_of(given, "change", _CHANGE)).select_from(current).order_by(given.c.place)
    return postgresql.insert(changes).from_select(["instance_key", *_CHANGE], noted).cte("change")
