"""The traffic ledger: what went over the lines, by hour and by who, where and what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from leanpacs.catalog import engine
from leanpacs.catalog.landing import clean_text
from leanpacs.catalog.schema import names_of, traffic


@dataclass(frozen=True, slots=True)
class TrafficKey:
    """What is summed up together.

    Parameters
    ----------
    hour : datetime
        The full hour in which it was (UTC).
    direction : str
        ``in`` or ``out``.
    protocol : str
        ``dimse`` or ``http``.
    client : str
        Who was at the other end: an AE title, ``key:NAME``, ``token:SUBJECT``, or an address.
    site : str
        Where that is, as the settings tell; '' where they do not.
    modality, transfer_syntax : str
        Of the images; '' for all else, such as metadata.
    """

    hour: datetime
    direction: str
    protocol: str
    client: str
    site: str
    modality: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Volume:
    """How much it was.

    Parameters
    ----------
    requests, instances : int
        Requests answered (or instances sent to another system), and instances in them.
    sent_bytes : int
        What went over the line, without the headers of the protocol.
    raw_bytes : int
        What it would have been without compression.
    """

    requests: int = 0
    instances: int = 0
    sent_bytes: int = 0
    raw_bytes: int = 0

    def __add__(self, other: Volume) -> Volume:
        return Volume(
            self.requests + other.requests,
            self.instances + other.instances,
            self.sent_bytes + other.sent_bytes,
            self.raw_bytes + other.raw_bytes,
        )


GROUPS: Final = tuple(field.name for field in fields(TrafficKey))
"""By what sums can be made."""

_SUMS: Final = names_of(Volume)


def add_traffic(connection: Connection, dialect: str, volumes: dict[TrafficKey, Volume]) -> None:
    """Add to the sums."""
    rows = [
        {name: getattr(key, name) for name in GROUPS} | {name: getattr(volume, name) for name in _SUMS}
        for key, volume in sorted(volumes.items(), key=lambda item: astuple(item[0]))
    ]  # in one order, so that two who add at the same time do not wait for each other
    for row in rows:
        row |= {"client": clean_text(row["client"]), "modality": clean_text(row["modality"])}
    statement = engine.insert(dialect, traffic)
    added = {name: traffic.c[name] + statement.excluded[name] for name in _SUMS}
    connection.execute(statement.on_conflict_do_update(index_elements=list(GROUPS), set_=added), rows)


def sum_traffic(
    connection: Connection, by: Sequence[str], since: datetime | None, until: datetime | None
) -> list[tuple[tuple[Any, ...], Volume]]:
    """Sums by some of `GROUPS`, in their order."""
    columns = [traffic.c[name] for name in by]
    sums = [func.coalesce(func.sum(traffic.c[name]), 0) for name in _SUMS]
    query = select(*columns, *sums).group_by(*columns).order_by(*columns)
    if since is not None:
        query = query.where(traffic.c.hour >= since)
    if until is not None:
        query = query.where(traffic.c.hour < until)
    rows = connection.execute(query).all()
    return [(tuple(row[: len(by)]), Volume(*map(int, row[len(by) :]))) for row in rows]
