"""Leases: work of which one host at a time does the whole, such as looking for orphans.

What is done piece by piece (settling, sending) is claimed by the piece instead, in the piece's own row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, or_

from leanpacs.catalog import engine
from leanpacs.catalog.schema import leases


@dataclass(frozen=True, slots=True)
class Lease:
    """What is leased, to whom, and until when; it ends by itself when its holder dies."""

    name: str
    owner: str
    until: datetime


def take(connection: Connection, lease: Lease, now: datetime) -> bool:
    """Take a lease that is free, has run out or is the owner's own; whether it is the owner's now."""
    wanted = engine.insert(connection.dialect.name, leases).values(
        name=lease.name, owner=lease.owner, until=lease.until
    )
    taken = wanted.on_conflict_do_update(
        index_elements=["name"],
        set_={"owner": wanted.excluded.owner, "until": wanted.excluded.until},
        where=or_(leases.c.until <= now, leases.c.owner == wanted.excluded.owner),
    )
    return connection.execute(taken.returning(leases.c.name)).first() is not None


def give_back(connection: Connection, name: str, owner: str) -> bool:
    """End a lease; False when it was not the owner's any more."""
    mine = leases.c.name == name, leases.c.owner == owner
    return connection.execute(delete(leases).where(*mine)).rowcount > 0
