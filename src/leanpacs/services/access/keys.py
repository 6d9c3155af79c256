"""API keys: a public ID and a secret of 256 random bits, of which only a digest is kept.

A secret of that length cannot be guessed, so a plain SHA-256 is enough: the slow hashes are for what people think up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from leanpacs.catalog import KeyRow
from leanpacs.config import Role
from leanpacs.refs import Digest
from leanpacs.services.access.caller import Caller

_PREFIX: Final = "lpk"
_FORM: Final = re.compile(rf"{_PREFIX}_([0-9a-f]{{12}})_([0-9A-Za-z_-]{{43}})")


class Keys(Protocol):
    """What checking a key needs of a catalog."""

    def api_key(self, key_id: str) -> KeyRow | None:
        """The key of this ID."""


def make_key(
    name: str, roles: Sequence[Role], created_by: str, *, now: datetime, expires_at: datetime | None = None
) -> tuple[str, KeyRow]:
    """Draw a new key.

    Returns
    -------
    tuple of str and KeyRow
        The key itself, to be shown once and never kept; and what the catalog keeps.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    named = tuple(role.value for role in Role if role in roles)
    return f"{_PREFIX}_{key_id}_{secret}", KeyRow(key_id, name, _digest(secret), named, now, created_by, expires_at)


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _FORM.fullmatch(text) is not None


def bearer_of(text: str, keys: Keys, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Caller | None:
    """Who shows a key; None when it is none, or is not taken any more."""
    found = _FORM.fullmatch(text)
    row = keys.api_key(found[1]) if found else None
    if found is None or row is None or not hmac.compare_digest(row.digest.raw, _digest(found[2]).raw):
        return None
    return Caller(f"key:{row.name}", frozenset(map(Role, row.roles))) if row.is_good(clock()) else None


def _digest(secret: str) -> Digest:
    return Digest(hashlib.sha256(secret.encode()).digest())
