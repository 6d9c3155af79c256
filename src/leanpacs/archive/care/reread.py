"""What the catalog knows of instances, read out of the pack that holds them; each is decoded and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from leanpacs.archive.giveback.opened import open_pack
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import SeriesPack, is_series_pack
from leanpacs.archive.manifest import Form, Manifest
from leanpacs.archive.settle.gathering import forms_of
from leanpacs.archive.settle.representing import represent
from leanpacs.catalog import Arrival, NewRepresentation
from leanpacs.dicom.attributes import InstanceIndex, index
from leanpacs.errors import VerificationError
from leanpacs.refs import BlobRef
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.store import BlobStore

ZIP_MAGIC = b"PK\x03\x04"

Reread = tuple[InstanceIndex, Arrival, NewRepresentation]


def is_pack(store: BlobStore, blob: BlobRef) -> bool:
    """Whether a blob begins as packs do."""
    return blob.size_bytes >= len(ZIP_MAGIC) and store.read(blob.digest, 0, len(ZIP_MAGIC)) == ZIP_MAGIC


def reread(
    store: BlobStore, blob: BlobRef, dictionaries: Sequence[Dictionary], limit_inflated_bytes: int
) -> Iterator[Reread]:
    """The instances of a pack.

    Raises
    ------
    StorageError, PackError, DicomError, CodecError
        It cannot be read, or does not hold what it says.
    """
    with store.open(blob.digest) as file:
        if is_series_pack(file):
            pack = SeriesPack(file)
            for member, form in zip(pack, forms_of(pack, blob), strict=True):
                found, arrival, _ = _reread(store, blob, member, dictionaries, limit_inflated_bytes)
                yield found, arrival, form
        else:
            yield _reread(store, blob, PackedInstance(file, dictionaries), dictionaries, limit_inflated_bytes)


def _reread(
    store: BlobStore, blob: BlobRef, packed: PackedInstance, dictionaries: Sequence[Dictionary], limit: int
) -> Reread:
    manifest = packed.manifest
    actual = packed.digest()
    if actual != manifest.digest:
        raise VerificationError("the pack does not hold what it says", manifest.digest.hex, actual.hex)
    with open_pack(store, blob.digest, dictionaries, manifest.sop_uid, limit_inflated_bytes=limit) as opened:
        layout = opened.layout
        found = index(layout, manifest.digest, sop_class=manifest.sop_class, sop_uid=_named(manifest))
        head_bytes = manifest.preface + len(opened.head()) + len(opened.tail())
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
