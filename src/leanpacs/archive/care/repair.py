"""Bring back a damaged or missing blob: from another tier, or from another stored form of the same instance."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

from leanpacs.archive.archive import Archive
from leanpacs.archive.settle.again import Again, Source, remake
from leanpacs.archive.settle.encode import Preferences, SeriesChoices
from leanpacs.catalog import InstanceRow, Kind, RepresentationRow, Transaction
from leanpacs.catalog.ageing import Swap
from leanpacs.errors import BlobNotFound, LeanPACSError
from leanpacs.refs import BlobRef

log = logging.getLogger(__name__)


class Repair(StrEnum):
    """What became of a damaged blob."""

    DONE = "repaired"
    WAITING = "waits"
    """What it can be repaired from is being brought back from an archive class."""
    FAILED = "damaged"


def repair(archive: Archive, blob: BlobRef, now: datetime) -> Repair:
    """Repair a blob, whatever is still there of it: whether everything that it held is held again.

    The damaged bytes go only when better ones have been read, and compared with the digest. What is in an archive class
    is asked for; call again until it is there.
    """
    found = _from_another_tier(archive, blob)
    if found is Repair.DONE:
        log.warning("a damaged blob was repaired from another tier", extra={"action": "scrub", "blob": blob.digest.hex})
        return found
    holders = archive.catalog.instances_in(blob.digest)
    made = {_from_another_form(archive, instance, blob, now) for instance in holders}
    if made == {Repair.DONE}:
        return Repair.DONE
    return Repair.WAITING if Repair.WAITING in {found, *made} else Repair.FAILED


def _from_another_tier(archive: Archive, blob: BlobRef) -> Repair:
    target, outcome = archive.stores.at(blob.tier), Repair.FAILED
    for store in archive.stores:
        if store.tier == blob.tier:
            continue
        with suppress(LeanPACSError, OSError):
            store.check(blob.digest)
            if store.restore(blob.digest) > 0.0:
                outcome = Repair.WAITING
                continue
            with target.writer() as writer:
                for piece in store.chunks(blob.digest):
                    writer.file.write(piece)
                # What is there under this name is damaged, and a put of a name that is there would leave it.
                target.delete(blob.digest)
                archive.step("damaged bytes deleted")
                writer.commit()
                archive.step("repaired bytes durable")
            target.check(blob.digest)
            return Repair.DONE
    return outcome


def _from_another_form(archive: Archive, instance: InstanceRow, damaged: BlobRef, now: datetime) -> Repair:
    held = archive.catalog.representations(instance.id)
    broken = [row for row in held if row.blob == damaged]
    others = [row for row in held if row.blob.digest != damaged.digest and row.kind is Kind.PACK]
    outcome = Repair.FAILED if broken else Repair.DONE
    for other in others if broken else ():
        with suppress(LeanPACSError, OSError):
            if archive.stores.at(other.blob.tier).restore(other.blob.digest) > 0.0:
                outcome = Repair.WAITING
                continue
            for row in broken:
                _remade(archive, instance, row, other, now)
            log.warning(
                "a damaged form was made again from another one",
                extra={"action": "scrub", "blob": damaged.digest.hex, "sop_uid": instance.sop_uid},
            )
            return Repair.DONE
    return outcome


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
    new = made.new
    assert new is not None
    swap = Swap(instance.id, broken.id, new)

    def commit(transaction: Transaction) -> None:
        transaction.ageing.swap(swap, now=now, due_at=now)
        # Looked at only now that the catalog names it, for from now on nobody sweeps it.
        if not work.target.exists(new.blob.digest):
            raise BlobNotFound(new.blob.digest.hex)
        archive.step("swapped")

    archive.catalog.write(commit)
    archive.step("swap committed")
