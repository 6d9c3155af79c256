"""Rebuild the catalog from the store alone: packs, landed files and dictionaries say all that is needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from leanpacs.archive.archive import Archive
from leanpacs.archive.care import kinship
from leanpacs.archive.care.kinship import Kinship
from leanpacs.archive.giveback.opened import open_pack
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import SeriesPack, is_series_pack
from leanpacs.archive.intake.incoming import Door, Incoming, Outcome
from leanpacs.archive.manifest import Form, Manifest
from leanpacs.archive.settle.gathering import forms_of
from leanpacs.archive.settle.representing import represent
from leanpacs.catalog import DERIVED, Arrival, DuplicateInstance, InstanceRow, NewRepresentation
from leanpacs.dicom.attributes import InstanceIndex, index
from leanpacs.errors import BeingRestored, LeanPACSError, VerificationError
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.dictionary import Dictionary, load_all
from leanpacs.storage.store import BlobStat, BlobStore

ZIP_MAGIC = b"PK\x03\x04"


class Rescued(StrEnum):
    """What a blob turned out to be."""

    PACK = "pack"
    LANDED = "landed file"
    QUARANTINED = "quarantined"
    SUPERSEDED = "not needed"
    """Another blob holds the same instance; left where it is."""
    ASLEEP = "asked for"
    """It is in an archive class; it was asked for, so that another run can read it."""
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One blob of the store, and what it is; ``reason`` says more when it could not be used."""

    blob: Digest
    kind: Rescued
    reason: str = ""


def rebuild_catalog(archive: Archive, report: Callable[[Finding], None]) -> None:
    """Take every blob of the store into an empty catalog. Packs come first: they are proven.

    Every pack is decoded and compared with the digest in its manifest. A second blob of an instance that is known
    already stays where it is, unnamed, and is reported. Lossy copies are tied to their originals again.
    """
    copies: list[Kinship] = []
    dictionaries = load_all(archive.store)
    files: list[tuple[BlobStore, BlobStat]] = []
    for store in archive.stores:
        for blob in list(store.list()):
            try:
                is_pack = _is_pack(store, blob)
            except BeingRestored as error:
                store.restore(blob.digest)
                report(Finding(blob.digest, Rescued.ASLEEP, str(error)))
                continue
            if is_pack:
                report(_rescue_pack(archive, store, blob, dictionaries, copies))
            else:
                files.append((store, blob))
    for store, blob in files:
        report(_rescue_file(archive, store, blob, copies))
    kinship.note(archive.catalog, copies)


def _is_pack(store: BlobStore, blob: BlobStat) -> bool:
    return blob.size_bytes >= len(ZIP_MAGIC) and store.read(blob.digest, 0, len(ZIP_MAGIC)) == ZIP_MAGIC


def _rescue_pack(
    archive: Archive,
    store: BlobStore,
    blob: BlobStat,
    dictionaries: Sequence[Dictionary],
    copies: list[Kinship],
) -> Finding:
    """Take in what a pack holds; it counts as needed if any of its instances was not known yet."""
    known = ""
    try:
        read = list(_read_pack(archive, store, blob, dictionaries, copies))
        for found, arrival, new in read:
            try:
                with archive.catalog.writing() as transaction:
                    transaction.restore(found, arrival, new)
            except DuplicateInstance as duplicate:
                known = str(duplicate)
                if _is_copy(archive, duplicate.existing, new.blob):
                    continue
                if len(read) == 1:
                    return Finding(blob.digest, Rescued.SUPERSEDED, known)
    except LeanPACSError as error:
        return Finding(blob.digest, Rescued.DAMAGED, str(error))
    return Finding(blob.digest, Rescued.PACK, known)


def _is_copy(archive: Archive, existing: InstanceRow, blob: BlobRef) -> bool:
    """Name a blob as a copy if a stored form of the instance has the same bytes on another tier."""
    same = [form for form in archive.catalog.representations(existing.id) if form.blob.digest == blob.digest]
    if not same:
        return False
    with archive.catalog.writing() as transaction:
        return transaction.add_copy(same[0].id, blob, now=datetime.now(UTC)) is not None


_Read = tuple[InstanceIndex, Arrival, NewRepresentation]


def _read_pack(
    archive: Archive,
    store: BlobStore,
    blob: BlobStat,
    dictionaries: Sequence[Dictionary],
    copies: list[Kinship],
) -> Iterator[_Read]:
    """The instances of a pack, each decoded and compared; lossy ``copies`` among them are added to those."""
    ref = BlobRef(store.tier, blob.digest, blob.size_bytes)
    with store.open(blob.digest) as file:
        if is_series_pack(file):
            pack = SeriesPack(file)
            for member, form in zip(pack, forms_of(pack, ref), strict=True):
                found, arrival, _ = _read_packed(archive, store, ref, member, dictionaries, copies)
                yield found, arrival, form
        else:
            yield _read_packed(archive, store, ref, PackedInstance(file, dictionaries), dictionaries, copies)


def _read_packed(
    archive: Archive,
    store: BlobStore,
    blob: BlobRef,
    packed: PackedInstance,
    dictionaries: Sequence[Dictionary],
    copies: list[Kinship],
) -> _Read:
    limit = archive.settings.ingest.largest_inflated_bytes
    manifest = packed.manifest
    actual = packed.digest()
    if actual != manifest.digest:
        raise VerificationError("the pack does not hold what it says", manifest.digest.hex, actual.hex)
    with open_pack(store, blob.digest, dictionaries, manifest.sop_uid, limit_inflated_bytes=limit) as opened:
        layout = opened.layout
        found = index(layout, manifest.digest, sop_class=manifest.sop_class, sop_uid=_named(manifest))
        head_bytes = manifest.preface + len(opened.head()) + len(opened.tail())
        if manifest.received.door == DERIVED and (found_kinship := kinship.of_instance(opened)):
            copies.append(found_kinship)
    pixel_bytes = packed.pixel_bytes()
    if manifest.form is Form.WHOLE and layout.pixel is not None:
        pixel_bytes = layout.pixel.length
    arrival = Arrival(
        transfer_syntax=manifest.transfer_syntax,
        data_set_length=manifest.length,
        data_set_digest=manifest.digest,
        received_at=datetime.fromisoformat(manifest.received.at),
        sender=manifest.received.sender,
        door=manifest.received.door,
        warning=(layout.problem or "") if manifest.form is Form.WHOLE else "",
    )
    new = represent(
        blob,
        manifest,
        packed.entries,
        dictionary_id=packed.dictionary_id(),
        raw_head_bytes=head_bytes,
        pixel_bytes=pixel_bytes,
        verified_at=datetime.now(UTC),
        decoder="rebuild-catalog",
        seconds=0.0,
    )
    return found, arrival, new


def _named(manifest: Manifest) -> str:
    """The SOP Instance UID by which it came, where that was not derived here."""
    return "" if "SOPInstanceUID" in manifest.assigned else manifest.sop_uid


def _rescue_file(archive: Archive, store: BlobStore, blob: BlobStat, copies: list[Kinship]) -> Finding:
    """Land a file again: it had landed and was not settled, or was in quarantine."""
    handle, name = tempfile.mkstemp(dir=archive.spool_folder)
    with os.fdopen(handle, "wb") as file:
        for piece in store.chunks(blob.digest):
            file.write(piece)
    copy = kinship.of_file(Path(name))
    if copy is not None and copy.is_proven(archive.catalog):
        copies.append(copy)
        door: Door = "derived"
    else:
        door = "import"
    receipt = archive.land(Incoming(Path(name), "rebuild-catalog", door, name=blob.digest.hex))
    match receipt.outcome:
        case Outcome.STORED:
            return Finding(blob.digest, Rescued.LANDED)
        case Outcome.DUPLICATE | Outcome.REFUSED:
            return Finding(blob.digest, Rescued.SUPERSEDED, receipt.reason)
    return Finding(blob.digest, Rescued.QUARANTINED, receipt.reason)
