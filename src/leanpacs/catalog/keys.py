"""API keys: who may come in at the HTTP door. Of the secret itself only a digest is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from leanpacs.catalog.schema import api_keys, names_of
from leanpacs.refs import Digest


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key.

    Parameters
    ----------
    key_id : str
        The part of the key that may be shown.
    name : str
        What or whom it is for.
    digest : Digest
        SHA-256 of the secret part.
    roles : tuple of str
        What its bearer may do.
    created_by : str
        Who made it.
    expires_at, revoked_at : datetime or None
        From when on it is not taken any more.
    """

    key_id: str
    name: str
    digest: Digest
    roles: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it is taken."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


_COLUMNS: Final = tuple(api_keys.c[name] for name in names_of(KeyRow))


def add_key(connection: Connection, key: KeyRow) -> None:
    """Keep a new key."""
    values = {name: getattr(key, name) for name in names_of(KeyRow)}
    connection.execute(insert(api_keys).values(values | {"roles": " ".join(key.roles)}))


def revoke_key(connection: Connection, key_id: str, now: datetime) -> bool:
    """Take a key back; False when there is none of this ID that is not revoked."""
    statement = update(api_keys).where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=now)).rowcount > 0


def find_key(connection: Connection, key_id: str) -> KeyRow | None:
    """The key of this ID."""
    row = connection.execute(select(*_COLUMNS).where(api_keys.c.key_id == key_id)).first()
    return None if row is None else _key(row)


def all_keys(connection: Connection) -> list[KeyRow]:
    """All keys, those that are not taken any more included, oldest first."""
    order = (api_keys.c.created_at, api_keys.c.key_id)
    return [_key(row) for row in connection.execute(select(*_COLUMNS).order_by(*order))]


def _key(row: Row[Any]) -> KeyRow:
    fields = row._asdict()
    return KeyRow(**fields | {"roles": tuple(fields["roles"].split())})
