"""Figures: what is held, how much of it is raw and how much stored, what waits to be settled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, Select, case, func, select

from leanpacs.catalog.forms import Kind
from leanpacs.catalog.rows import Backlog, Share, Summary
from leanpacs.catalog.schema import instances, patients, representations, series, studies

_SIZES: Final = ("raw_head_bytes", "raw_frame_bytes", "stored_head_bytes", "stored_frame_bytes")
_LANDED: Final = representations.c.kind == Kind.LANDED.value
_CODEC: Final = case((_LANDED, Kind.LANDED.value), else_=representations.c.codec)


def backlog(connection: Connection) -> Backlog:
    """What has landed and is not settled; read from one small index."""
    size, created = representations.c.size_bytes, representations.c.created_at
    row = connection.execute(select(func.count(), func.sum(size), func.min(created)).where(_LANDED)).one()
    return Backlog(row[0], int(row[1] or 0), row[2])


def summary(connection: Connection) -> Summary:
    """Figures over all that is held. Reads every instance once: for a report, not for each request."""
    by_modality = _by_modality(connection)
    held = [connection.scalar(select(func.count()).select_from(table)) for table in (patients, studies, series)]
    return Summary(
        patients=held[0] or 0,
        studies=held[1] or 0,
        series=held[2] or 0,
        total=_total(by_modality),
        by_modality=by_modality,
        by_codec=_shares(connection, _of_representations(_CODEC, counted=True)),
    )


def _by_modality(connection: Connection) -> tuple[Share, ...]:
    raw = (
        select(series.c.modality, func.count(), func.sum(instances.c.data_set_length))
        .join_from(instances, series)
        .group_by(series.c.modality)
    )
    counted = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(raw)}
    stored = _shares(connection, _of_representations(series.c.modality, counted=False))
    return tuple(Share(share.name, *counted.get(share.name, (0, 0)), *_values(share)[3:]) for share in stored)


def _of_representations(name: Any, *, counted: bool) -> Select[Any]:
    """Sums over representations by a name; an instance in two forms counts for each."""
    settled = [func.sum(case((_LANDED, 0), else_=representations.c[size])) for size in _SIZES]
    instances_and_raw = (func.count(), func.sum(instances.c.data_set_length)) if counted else (0, 0)
    source = representations.join(instances).join(series)
    columns = (name, *instances_and_raw, func.sum(representations.c.size_bytes), *settled)
    return select(*columns).select_from(source).group_by(name).order_by(name)


def _shares(connection: Connection, query: Select[Any]) -> tuple[Share, ...]:
    return tuple(Share(row[0], *(int(value) for value in row[1:])) for row in connection.execute(query))


def _values(share: Share) -> tuple[Any, ...]:
    return tuple(getattr(share, field.name) for field in fields(share))


def _total(shares: Iterable[Share]) -> Share:
    sums = [sum(column) for column in zip(*(_values(share)[1:] for share in shares), strict=True)]
    return Share("total", *sums)
