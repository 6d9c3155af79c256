"""The quarantine: what was received and does not read as DICOM, kept until a person decides."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from leanpacs.archive.archive import Archive
from leanpacs.archive.care.rescue import REBUILD
from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.catalog import QuarantineRow


def retry(archive: Archive, row: QuarantineRow) -> Receipt:
    """Try to take in a quarantined file again (after an update, say); it leaves the quarantine when that works.

    What a rebuilt catalog lacks is left to another run of that.
    """
    if row.door == REBUILD:
        return Receipt(Outcome.QUARANTINED, row.blob.size_bytes, reason="for 'leanpacs rebuild-catalog --continue'")
    incoming = Incoming(_copy(archive, row), row.sender, "import", name=row.name)
    receipt = archive.land(incoming)
    if receipt.outcome not in (Outcome.QUARANTINED, Outcome.REFUSED, Outcome.KEPT_BOTH):
        drop(archive, row)
    return receipt


def drop(archive: Archive, row: QuarantineRow) -> None:
    """Take a file out of the quarantine for good; its blob goes after the grace period."""
    due_at = datetime.now(UTC) + archive.grace
    archive.catalog.write(lambda transaction: transaction.release_quarantine(row.id, due_at=due_at))


def _copy(archive: Archive, row: QuarantineRow) -> Path:
    handle, name = tempfile.mkstemp(dir=archive.spool_folder)
    with os.fdopen(handle, "wb") as copy:
        for piece in archive.stores.at(row.blob.tier).chunks(row.blob.digest):
            copy.write(piece)
    return Path(name)
