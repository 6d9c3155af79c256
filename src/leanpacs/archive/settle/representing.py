"""How the catalog names packs and dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from leanpacs.archive.manifest import HEAD, SKELETON, TAIL, Form, Manifest
from leanpacs.catalog import DictionaryRow, Evidence, Fidelity, FrameTable, NewRepresentation, Span
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.pack import Entry


def represent(
    blob: BlobRef,
    manifest: Manifest,
    entries: Mapping[str, Entry],
    *,
    dictionary_id: int | None,
    raw_head_bytes: int,
    pixel_bytes: int,
    verified_at: datetime,
    decoder: str,
    seconds: float,
) -> NewRepresentation:
    """Describe a proven pack for the catalog.

    Parameters
    ----------
    blob : BlobRef
        The pack.
    manifest : Manifest
        What it says of itself.
    entries : mapping of str to Entry
        Where its entries are.
    raw_head_bytes, pixel_bytes : int
        Lengths, before packing, of all that is not Pixel Data and of Pixel Data.
    verified_at, decoder, seconds : datetime, str, float
        When the pack was proven, by what, and how long making and proving it took.
    """
    coding = manifest.pixel
    frames = [_span(entries, manifest.frame_name(number)) for number in range(1, manifest.frames + 1)]
    frame_bytes = sum(span.length for span in frames if span)
    return NewRepresentation(
        blob=blob,
        form=str(manifest.form),
        fidelity=Fidelity.BYTES,
        created_at=verified_at,
        codec=codec_name(manifest),
        effort=coding.effort if coding else 0,
        precision=coding.precision if coding else 0,
        preface_length=manifest.preface,
        head=_span(entries, HEAD),
        tail=_span(entries, TAIL),
        skeleton=_span(entries, SKELETON),
        frames=FrameTable.of(span for span in frames if span),
        dictionary_id=dictionary_id or None,
        raw_head_bytes=raw_head_bytes,
        raw_frame_bytes=pixel_bytes,
        stored_head_bytes=blob.size_bytes - frame_bytes,
        stored_frame_bytes=frame_bytes,
        evidence=Evidence(
            data_set_digest=manifest.digest,
            samples_digest=manifest.samples_digest,
            verified_at=verified_at,
            library=coding.library if coding else "",
            decoder=decoder,
            seconds=seconds,
            preset=manifest.made.preset if manifest.made else "",
            encode_seconds=manifest.made.seconds if manifest.made else 0.0,
        ),
        reason=manifest.reason,
    )


def dictionary_row(dictionary: Dictionary) -> DictionaryRow:
    """A dictionary of the store as the catalog names it."""
    return DictionaryRow(
        id=dictionary.id,
        scope=dictionary.scope,
        version=dictionary.version,
        digest=Digest.of(dictionary.data),
        size_bytes=len(dictionary.data),
        samples=dictionary.samples,
        trained_at=dictionary.trained_at,
    )


def codec_name(manifest: Manifest) -> str:
    """What people call the coding of a pack: ``jpegxl``, ``as received (jpg)``, ``recoded (jpegxl)``."""
    if manifest.pixel is not None:
        recoded = manifest.form is Form.RECODED
        return f"recoded ({manifest.pixel.codec})" if recoded else manifest.pixel.codec
    return f"as received ({manifest.extension})" if manifest.form is Form.STREAMS else "zstd"


def _span(entries: Mapping[str, Entry], name: str) -> Span | None:
    entry = entries.get(name)
    return Span(entry.offset, entry.length) if entry else None
