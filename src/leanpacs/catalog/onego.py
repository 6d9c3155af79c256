"""Landing, settling and encoding again in one statement each, for PostgreSQL, where going to the server costs.

Data-modifying ``WITH`` clauses see one snapshot and hand keys on by ``RETURNING``; what they insert depends on the row
that arrived, or on the landed form that ended, so that nothing happens when there is none.

References
----------
PostgreSQL documentation, 7.8.4 (data-modifying statements in WITH).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BindParameter,
    Column,
    ColumnElement,
    Executable,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    func,
    select,
    true,
)
from sqlalchemy.dialects import postgresql

from leanpacs.catalog.rows import Kind
from leanpacs.catalog.schema import blobs, changes, garbage, instances, representations

_KEYS: Final = ("id", "instance_key", "blob_key", "claimed_by", "claimed_until", "attempts")
_INSTANCE: Final = [column.name for column in instances.c if column.name != "id"]
_FORM: Final = [column.name for column in representations.c if column.name not in _KEYS]
_BLOB: Final = ("digest", "tier", "size_bytes", "created_at")
_CHANGE: Final = ("at", "action")


def landing() -> Executable:
    """Insert instance, blob, stored form and change; keys of instance and form, no row when the instance is held."""
    arriving = postgresql.insert(instances).values({name: bindparam(f"instance_{name}") for name in _INSTANCE})
    arrived = arriving.on_conflict_do_nothing(index_elements=["sop_uid"]).returning(instances.c.id).cte("arrived")
    form = _form(arrived, arrived.c.id)
    change = _change(arrived, arrived.c.id)
    return select(arrived.c.id, form.c.id).select_from(arrived.join(form, true())).add_cte(change)


def settling() -> Executable:
    """Put a pack in the place of a landed form; how many landed forms there were: one, or none."""
    return _swapping(Kind.LANDED)


def recoding() -> Executable:
    """Put a pack in the place of another one; how many of the old ones there were: one, or none."""
    return _swapping(Kind.PACK)


def _swapping(kind: Kind) -> Executable:
    key: BindParameter[int] = bindparam("key")
    instance: BindParameter[int] = bindparam("of_instance")
    ended = (
        delete(representations)
        .where(
            representations.c.id == key,
            representations.c.instance_key == instance,
            representations.c.kind == kind.value,
        )
        .returning(representations.c.blob_key, representations.c.instance_key)
        .cte("ended")
    )
    due = postgresql.insert(garbage).from_select(
        ["blob_key", "due_at"], select(ended.c.blob_key, _given(garbage, "due_at", "garbage"))
    )
    left = due.on_conflict_do_update(index_elements=["blob_key"], set_={"due_at": due.excluded.due_at}).cte("left_over")
    form, change = _form(ended, ended.c.instance_key), _change(ended, ended.c.instance_key)
    return select(func.count()).select_from(ended).add_cte(form, left, change)


def parameters(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row, by the names that they have in these statements."""
    return {f"{table}_{name}": value for name, value in values.items()}


def _form(of: CTE, instance: ColumnElement[int]) -> CTE:
    """Insert a stored form and its blob for each row of ``of``, which is one or none."""
    adding = postgresql.insert(blobs).from_select(_BLOB, select(*_all_given(blobs, _BLOB, "blob")).select_from(of))
    # Setting the size to what it is locks the row that was there, and makes the statement return it.
    size = {"size_bytes": adding.excluded.size_bytes}
    blob = adding.on_conflict_do_update(index_elements=["digest", "tier"], set_=size).returning(blobs.c.id).cte("blob")
    values = select(instance, blob.c.id, *_all_given(representations, _FORM, "form")).select_from(of.join(blob, true()))
    adding = postgresql.insert(representations).from_select(["instance_key", "blob_key", *_FORM], values)
    return adding.returning(representations.c.id).cte("form")


def _change(of: CTE, instance: ColumnElement[int]) -> CTE:
    noted = select(instance, *_all_given(changes, _CHANGE, "change")).select_from(of)
    return postgresql.insert(changes).from_select(["instance_key", *_CHANGE], noted).cte("change")


def _all_given(table: Table, names: Sequence[str], prefix: str) -> list[ColumnElement[Any]]:
    return [_given(table, name, prefix) for name in names]


def _given(table: Table, name: str, prefix: str) -> ColumnElement[Any]:
    """A parameter for a column, with its type: in a SELECT, the server does not infer it from the column."""
    column: Column[Any] = table.c[name]
    kind = Text() if isinstance(column.type, Text) else column.type
    return cast(bindparam(f"{prefix}_{name}", type_=column.type), kind)
