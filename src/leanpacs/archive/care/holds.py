"""Holds, in the catalog and beside the blobs: a hold that only the catalog knew would be lost with it.

Each one that is placed or released leaves a small file in the hot store, for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome
from leanpacs.catalog.ageing import HoldRow
from leanpacs.errors import InstanceNotFound
from leanpacs.storage.store import BlobStore

if TYPE_CHECKING:
    from leanpacs.archive.archive import Archive

_FOLDER: Final = "holds"
_PLACED: Final = ".placed.json"
_RELEASED: Final = ".released.json"


def place(archive: Archive, study_uid: str, series_uid: str, *, actor: str, reason: str) -> int:
    """Forbid deleting or replacing anything of a study, or of one of its series; the number of the hold.

    Raises
    ------
    InstanceNotFound
        There is no such study.
    StorageError
        It cannot be kept; it is not placed.
    """
    now = datetime.now(UTC)
    with archive.catalog.writing() as transaction:
        number = transaction.ageing.hold(study_uid, series_uid, actor=actor, reason=reason, now=now)
        # Should the transaction fail after this, a lost catalog would come back with a hold too many, not one too few.
        _keep(archive.store, HoldRow(number, study_uid, series_uid, actor, reason, now), _PLACED)
    _tell(archive, actor, study_uid, series_uid, f"hold {number} placed: {reason}")
    return number


def release(archive: Archive, number: int, *, actor: str) -> bool:
    """End a hold; False when there is none of this number."""
    found = [hold for hold in archive.catalog.ageing.holds() if hold.id == number]
    if not found or not archive.catalog.write(lambda transaction: transaction.ageing.release_hold(number)):
        return False
    _keep(archive.store, found[0], _RELEASED)
    _tell(archive, actor, found[0].study_uid, found[0].series_uid, f"hold {number} released")
    return True


def place_again(archive: Archive) -> int:
    """Place the holds of a lost catalog that were not released, as far as their studies are held; how many."""
    there = {_stem(hold) for hold in archive.catalog.ageing.holds()}
    placed = 0
    for hold in _kept(archive.store):
        if _stem(hold) not in there:
            try:
                with archive.catalog.writing() as transaction:
                    transaction.ageing.hold(
                        hold.study_uid, hold.series_uid, actor=hold.actor, reason=hold.reason, now=hold.placed_at
                    )
            except InstanceNotFound:
                continue
            placed += 1
    return placed


def _kept(store: BlobStore) -> Iterator[HoldRow]:
    """Holds that were placed and not released."""
    names = set(store.kept_names())
    for name in sorted(names):
        stem = name.removesuffix(_PLACED)
        if name.startswith(f"{_FOLDER}/") and name != stem and stem + _RELEASED not in names:
            facts = json.loads(store.kept(name))
            yield HoldRow(0, **{**facts, "placed_at": datetime.fromisoformat(facts["placed_at"])})


def _keep(store: BlobStore, hold: HoldRow, suffix: str) -> None:
    facts = {**asdict(hold), "placed_at": hold.placed_at.isoformat()}
    del facts["id"]
    store.keep(_stem(hold) + suffix, json.dumps(facts).encode())


def _stem(hold: HoldRow) -> str:
    of = f"{hold.study_uid}/{hold.series_uid}/{hold.placed_at.isoformat()}"
    return f"{_FOLDER}/{hashlib.sha256(of.encode()).hexdigest()[:32]}"


def _tell(archive: Archive, actor: str, study_uid: str, series_uid: str, detail: str) -> None:
    event = AuditEvent(
        at=datetime.now(UTC),
        actor=actor,
        action=AuditAction.CONFIGURE,
        outcome=AuditOutcome.SUCCESS,
        study_uid=study_uid,
        series_uid=series_uid,
        detail=detail,
    )
    archive.audit.record(event)
