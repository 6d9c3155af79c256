"""Bring back a damaged or missing blob: from another tier, or from another stored form of the same instance."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from leanpacs.archive.archive import Archive
from leanpacs.archive.settle.again import Again, Source, remake
from leanpacs.archive.settle.encode import Preferences, SeriesChoices
from leanpacs.catalog import InstanceRow, Kind, RepresentationRow
from leanpacs.catalog.ageing import Swap
from leanpacs.errors import LeanPACSError
from leanpacs.refs import BlobRef

log = logging.getLogger(__name__)


def repair(archive: Archive, blob: BlobRef, now: datetime) -> bool:
    """Repair a blob, whatever is still there of it; whether everything that it held is held again.

    The damaged bytes go only when better ones have been read, and compared with the digest.
    """
    if _from_another_tier(archive, blob):
        log.warning("a damaged blob was repaired from another tier", extra={"action": "scrub", "blob": blob.digest.hex})
        return True
    holders = archive.catalog.instances_in(blob.digest)
    made = [_from_another_form(archive, instance, blob, now) for instance in holders]
    return bool(made) and all(made)


def _from_another_tier(archive: Archive, blob: BlobRef) -> bool:
    target = archive.stores.at(blob.tier)
    for store in archive.stores:
        if store.tier == blob.tier:
            continue
        with suppress(LeanPACSError, OSError):
            store.check(blob.digest)
            with target.writer() as writer:
                for piece in store.chunks(blob.digest):
                    writer.file.write(piece)
                # What is there under this name is damaged, and a put of a name that is there would leave it.
                target.delete(blob.digest)
                archive.step("damaged bytes deleted")
                writer.commit()
                archive.step("repaired bytes durable")
            target.check(blob.digest)
            return True
    return False


def _from_another_form(archive: Archive, instance: InstanceRow, damaged: BlobRef, now: datetime) -> bool:
    held = archive.catalog.representations(instance.id)
    broken = [row for row in held if row.blob == damaged]
    others = [row for row in held if row.blob.digest != damaged.digest and row.kind is Kind.PACK]
    for other in others:
        for row in broken:
            with suppress(LeanPACSError, OSError):
                _remade(archive, instance, row, other, now)
                log.warning(
                    "a damaged form was made again from another one",
                    extra={"action": "scrub", "blob": damaged.digest.hex, "sop_uid": instance.sop_uid},
                )
                return True
    return not broken


def _remade(
    archive: Archive, instance: InstanceRow, broken: RepresentationRow, other: RepresentationRow, now: datetime
) -> None:
    """Make the broken form again; where it would be another one of the same bytes, drop the broken one instead."""
    work = Again(
        Source(archive.stores.at(other.blob.tier), other.blob, instance.sop_uid, instance.data_set_digest),
        archive.stores.at(broken.blob.tier),
        Preferences(SeriesChoices(), 0.0, (instance.sop_class,), recode=True, preset=broken.evidence.preset or "fast"),
        tuple(archive.stores.hot.kept_names()),
        archive.settings.ingest.largest_inflated_bytes,
        scopes=(instance.sop_class,),
    )
    made = remake(work, archive.step)
    assert made.new is not None
    with archive.catalog.writing() as transaction:
        transaction.ageing.swap(Swap(instance.id, broken.id, made.new), now=now, due_at=now)
        archive.step("swapped")
    archive.step("swap committed")
