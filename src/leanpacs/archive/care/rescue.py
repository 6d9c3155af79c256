"""Rebuild the catalog from the stores alone: packs, landed files and dictionaries say all that is needed."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from leanpacs.archive.archive import Archive
from leanpacs.archive.care import holds, kinship
from leanpacs.archive.care.delete import BATCH, NAMES, WHOLE
from leanpacs.archive.care.reread import is_pack, reread
from leanpacs.archive.intake.forwarding import Forwarding
from leanpacs.archive.intake.incoming import Door, Incoming, Outcome
from leanpacs.archive.intake.ingest import Ingest
from leanpacs.archive.settle.representing import dictionary_row
from leanpacs.catalog import DuplicateInstance, InstanceRow
from leanpacs.config import DuplicatePolicy
from leanpacs.errors import BeingRestored, BlobCorrupt, LeanPACSError
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.dictionary import Dictionary, load_all, save
from leanpacs.storage.store import BlobStore

REBUILD: Final = "rebuild-catalog"
"""Sender and door of what waits in quarantine for another run."""


class Rescued(StrEnum):
    """What a blob turned out to be."""

    PACK = "pack"
    LANDED = "landed file"
    QUARANTINED = "quarantined"
    SUPERSEDED = "not needed"
    """Another blob holds the same instance; left where it is."""
    ASLEEP = "asked for"
    """It is in an archive class; it was asked for, so that another run can read it."""
    PUT_OFF = "put off"
    """A lossy copy whose original may be in what cannot be read; another run takes it in."""
    OTHER = "other bytes"
    """It has other bytes under a UID that is held."""
    DAMAGED = "damaged"


WAITING: Final = frozenset({Rescued.ASLEEP, Rescued.PUT_OFF, Rescued.OTHER, Rescued.DAMAGED})
"""What is not taken in, and kept in quarantine for another run: no sweep finds it without a name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One blob of the store, and what it is; ``reason`` says more when it could not be used."""

    blob: Digest
    kind: Rescued
    reason: str = ""


def rebuild_catalog(archive: Archive, report: Callable[[Finding], None]) -> None:
    """Take every blob that the catalog does not name into it. Packs come first: they are proven.

    Every pack is decoded and compared with the digest in its manifest. A second blob of an instance that is known
    already stays where it is, unnamed, and is reported. What cannot be taken in waits in quarantine, and another run
    tries it again. Lossy copies are tied to their originals again, holds are placed again.

    Raises
    ------
    StoreUnavailable, CatalogUnavailable
        Another run goes on where this one has ended; until then nothing without a name is swept.
    """
    archive.catalog.write(lambda transaction: transaction.ageing.switch(NAMES, "was not rebuilt to the end"))
    _Rescue(archive, report).run()
    archive.catalog.write(lambda transaction: transaction.ageing.switch(NAMES, WHOLE))


class _Rescue:
    """One run."""

    def __init__(self, archive: Archive, report: Callable[[Finding], None]) -> None:
        self._archive = archive
        self._report = report
        self._catalog = archive.catalog
        self._dictionaries = _dictionaries(archive)
        self._unread = 0
        # Nothing settles meanwhile, and what is taken in is in the store already: there is nobody to wait for. What a
        # replacement had replaced may be found after it.
        kept = {"duplicates": DuplicatePolicy.KEEP, "backlog_bytes": sys.maxsize}
        self._ingest = Ingest(
            archive.store,
            archive.catalog,
            archive.settings.ingest.model_copy(update=kept),
            archive.audit,
            grace=archive.grace,
            forwarding=Forwarding(archive.settings.forward),
        )

    def run(self) -> None:
        self._forget_waiting()
        files: list[tuple[BlobStore, BlobRef]] = []
        for store in self._archive.stores:
            for blob in self._unnamed(store):
                finding = self._pack(store, blob)
                if finding is None:
                    files.append((store, blob))
                else:
                    self._tell(blob, finding)
        for may_wait in (True, False):
            files = [one for one in files if not self._has_landed(*one, may_wait=may_wait)]
        kinship.tie(self._archive)
        holds.place_again(self._archive)

    def _forget_waiting(self) -> None:
        """Forget what waits for this run, its length with it, which may have been that of a damaged blob."""
        for row in self._catalog.quarantined():
            if row.door == REBUILD:
                with self._catalog.writing() as transaction:
                    transaction.release_quarantine(row.id, due_at=datetime.now(UTC) + self._archive.grace)
                    transaction.forget_garbage([row.blob])

    def _unnamed(self, store: BlobStore) -> Iterator[BlobRef]:
        """Blobs that the catalog does not name."""
        listed = [BlobRef(store.tier, blob.digest, blob.size_bytes) for blob in store.list()]
        for start in range(0, len(listed), BATCH):
            some = listed[start : start + BATCH]
            unknown = set(self._catalog.unknown_blobs([blob.digest for blob in some], store.tier))
            yield from (blob for blob in some if blob.digest in unknown)

    def _tell(self, blob: BlobRef, finding: Finding) -> None:
        """Report what a blob is; what is not taken in is named in quarantine."""
        if finding.kind in WAITING:
            name, now = finding.blob.hex, datetime.now(UTC)
            with self._catalog.writing() as transaction:
                transaction.quarantine(blob, name=name, sender=REBUILD, door=REBUILD, reason=finding.reason, now=now)
        self._report(finding)

    def _pack(self, store: BlobStore, blob: BlobRef) -> Finding | None:
        """Take in what a pack holds, if it is one; it counts as needed if any of its instances was not known yet."""
        limit = self._archive.settings.ingest.largest_inflated_bytes
        try:
            if not is_pack(store, blob):
                return None
            read = list(reread(store, blob, self._dictionaries, limit))
        except BeingRestored as error:
            self._unread += 1
            store.restore(blob.digest)
            return Finding(blob.digest, Rescued.ASLEEP, str(error))
        except LeanPACSError as error:
            self._unread += 1
            return Finding(blob.digest, Rescued.DAMAGED, str(error))
        known, other, is_needed = "", "", False
        for found, arrival, new in read:
            try:
                with self._catalog.writing() as transaction:
                    transaction.restore(found, arrival, new)
            except DuplicateInstance as duplicate:
                known = str(duplicate)
                if duplicate.existing.data_set_digest != arrival.data_set_digest:
                    other = f"{known}, with other bytes: to have these, delete that and run rebuild-catalog --continue"
                else:
                    is_needed |= self._is_copy(duplicate.existing, new.blob)
            else:
                is_needed = True
        if other:
            return Finding(blob.digest, Rescued.OTHER, other)
        return Finding(blob.digest, Rescued.PACK if is_needed else Rescued.SUPERSEDED, known)

    def _is_copy(self, existing: InstanceRow, blob: BlobRef) -> bool:
        """Name a blob as a copy if a stored form of the instance has the same bytes on another tier."""
        same = [form for form in self._catalog.representations(existing.id) if form.blob.digest == blob.digest]
        if not same:
            return False
        with self._catalog.writing() as transaction:
            return transaction.add_copy(same[0].id, blob, now=datetime.now(UTC)) is not None

    def _has_landed(self, store: BlobStore, blob: BlobRef, *, may_wait: bool) -> bool:
        finding = self._file(store, blob, may_wait=may_wait)
        if finding is not None:
            self._tell(blob, finding)
        return finding is not None

    def _file(self, store: BlobStore, blob: BlobRef, *, may_wait: bool) -> Finding | None:
        """Land a file again: it had landed and was not settled, or was in quarantine.

        None for a lossy copy that waits for its original.
        """
        try:
            path = self._spooled(store, blob)
        except LeanPACSError as error:
            self._unread += 1
            return Finding(blob.digest, Rescued.DAMAGED, str(error))
        door: Door = "import"
        copy = kinship.of_file(path)
        if copy is not None and copy.is_proven(self._catalog):
            door = "derived"
        elif copy is not None and copy.may_be_ours(self._catalog) and (may_wait or self._unread):
            path.unlink()
            reason = f"{copy.copy} may be a lossy copy of {copy.original}, which is not read yet"
            return None if may_wait else Finding(blob.digest, Rescued.PUT_OFF, reason)
        receipt = self._ingest.land(Incoming(path, REBUILD, door, name=blob.digest.hex))
        match receipt.outcome:
            case Outcome.STORED:
                return Finding(blob.digest, Rescued.LANDED)
            case Outcome.DUPLICATE:
                return Finding(blob.digest, Rescued.SUPERSEDED, receipt.reason)
        return Finding(blob.digest, Rescued.QUARANTINED, receipt.reason)

    def _spooled(self, store: BlobStore, blob: BlobRef) -> Path:
        """A copy of a blob in the spool; BlobCorrupt if it is not what was landed."""
        handle, name = tempfile.mkstemp(dir=self._archive.spool_folder)
        sha = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in store.chunks(blob.digest):
                    sha.update(piece)
                    file.write(piece)
            if sha.digest() != blob.digest.raw:
                raise BlobCorrupt(blob.digest.hex, f"its bytes have the digest {sha.hexdigest()}")
        except BaseException:
            Path(name).unlink()
            raise
        return Path(name)


def _dictionaries(archive: Archive) -> list[Dictionary]:
    """Those of all tiers; the hot one gets those that it has lost."""
    held = {dictionary.id for dictionary in load_all(archive.store)}
    for store in archive.stores.others:
        for dictionary in load_all(store):
            if dictionary.id not in held:
                save(archive.store, dictionary)
    known = load_all(archive.store)
    with archive.catalog.writing() as transaction:
        for dictionary in known:
            transaction.add_dictionary(dictionary_row(dictionary))
    return known
