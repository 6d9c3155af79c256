"""The same bytes on several tiers: each blob is a row of its own, of the same stored form."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, literal, select

from leanpacs.catalog.landing import discard, keep_blob, note_change
from leanpacs.catalog.rows import Action
from leanpacs.catalog.schema import UtcTime, blobs, representations
from leanpacs.catalog.statements import Statements
from leanpacs.refs import BlobRef

_OWN: Final = ("id", "blob_key", "created_at", "claimed_by", "claimed_until", "attempts")
_SHARED: Final = [column.name for column in representations.c if column.name not in _OWN]


def add(connection: Connection, statements: Statements, key: int, blob: BlobRef, now: datetime) -> int | None:
    """Copy a row of a stored form to another blob of equal bytes; its key, None when the stored form is gone."""
    blob_key = keep_blob(connection, statements, blob, now)
    of_key = representations.c.id == key
    held = select(representations.c.instance_key).join_from(representations, blobs)
    instance = connection.scalar(held.where(of_key, blobs.c.digest == blob.digest).with_for_update(of=representations))
    if instance is None:
        discard(connection, statements, blob_key, now)
        return None
    same = representations.c.instance_key == instance, representations.c.blob_key == blob_key
    there: int | None = connection.scalar(select(representations.c.id).where(*same))
    if there is not None:
        return there
    shared = [representations.c[name] for name in _SHARED]
    source = select(literal(blob_key), literal(now, UtcTime), *shared).where(of_key)
    added = representations.insert().from_select(["blob_key", "created_at", *_SHARED], source)
    copied: int = connection.execute(added.returning(representations.c.id)).scalar_one()
    note_change(connection, statements, now, Action.MOVED, instance)
    return copied


def drop(connection: Connection, statements: Statements, key: int, now: datetime, due_at: datetime) -> bool:
    """Give up one blob of a stored form, if another one of the instance has the same bytes."""
    columns = (representations.c.instance_key, representations.c.blob_key, blobs.c.digest)
    row = connection.execute(
        select(*columns).join_from(representations, blobs).where(representations.c.id == key)
    ).first()
    if row is None:
        return False
    instance, blob_key, digest = row
    # Locked, so that two who each drop one of two copies do not both see the other.
    same = select(representations.c.id).join_from(representations, blobs)
    same = same.where(representations.c.instance_key == instance, blobs.c.digest == digest)
    if set(connection.scalars(same.with_for_update(of=representations))) <= {key}:
        return False
    connection.execute(delete(representations).where(representations.c.id == key))
    discard(connection, statements, blob_key, due_at)
    note_change(connection, statements, now, Action.MOVED, instance)
    return True
