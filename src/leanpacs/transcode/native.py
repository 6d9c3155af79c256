"""Native Explicit VR Little Endian, made of whatever was received (PS3.5 8.1, A.2)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.encaps import generate_frames

from leanpacs.codecs import registry
from leanpacs.codecs.codec import DecodedFrame
from leanpacs.codecs.native import little_endian, pack, pack_bits
from leanpacs.dicom.frames import FrameSpec, frame_spec, native_frames, word_size
from leanpacs.dicom.instance import PixelSpan
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.dicom.write import explicit_le, native_head
from leanpacs.errors import CodecError, DicomError, UnsupportedTransferSyntax
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def native_frame(opened: OpenInstance, number: int) -> bytes:
    """Frame ``number`` (from 1) as native bytes in little endian order, not padded.

    Raises
    ------
    UnsupportedTransferSyntax
        If no codec decodes it.
    """
    pixel, spec = _pixels(opened)
    if pixel.encapsulated:
        return _native_bytes(_decoded(opened, spec, number))
    word = _word_size(opened, pixel, spec)
    if word > 1 and word * 8 != spec.bits_allocated:
        # Words that are no samples may begin in one frame and end in the next.
        value = b"".join(_swapped(opened.native_value(), word))
        frames = native_frames(replace(pixel, value_offset=0, value_end=len(value)), spec)
        return frames.read(io.BytesIO(value), number - 1)
    return little_endian(opened.frame(number), word)


def native_data_set(opened: OpenInstance) -> Iterator[bytes]:
    """The data set in Explicit VR Little Endian with native Pixel Data, without file meta, in pieces.

    What can be known to fail fails before the first piece.

    Raises
    ------
    UnsupportedTransferSyntax
        If its frames cannot be decoded; says why.
    DicomError
        If the data set cannot be re-encoded.
    """
    layout = opened.layout
    if layout.pixel is None:
        yield explicit_le(
            opened.head(),
            implicit_vr=layout.implicit_vr,
            little_endian=layout.little_endian,
            transfer_syntax=layout.transfer_syntax,
        )
    elif layout.pixel.encapsulated:
        yield from _decapsulated(opened)
    else:
        yield from _reordered(opened)


def _decapsulated(opened: OpenInstance) -> Iterator[bytes]:
    _, spec = _pixels(opened)
    count = opened.frame_count()
    first = _decoded(opened, spec, 1)
    length = -(-first.spec.frame_bits * count // 8)
    changes: dict[str, object] = {"PhotometricInterpretation": first.spec.photometric_interpretation}
    if first.spec.samples_per_pixel > 1:
        changes["PlanarConfiguration"] = first.spec.planar_configuration
    yield _head(opened, length, "OB" if first.spec.bits_allocated <= 8 else "OW", changes)
    frames = _from_the_first(opened, spec, first)
    if first.spec.bits_allocated == 1:
        yield from pack_bits(frame.samples for frame in frames)
    else:
        yield from (_native_bytes(frame) for frame in frames)
    yield b"\0" * (length % 2)
    yield _tail(opened)


def _from_the_first(opened: OpenInstance, spec: FrameSpec, first: DecodedFrame) -> Iterator[DecodedFrame]:
    yield first
    for number in range(2, opened.frame_count() + 1):
        yield _decoded(opened, spec, number)


def _reordered(opened: OpenInstance) -> Iterator[bytes]:
    pixel, spec = _pixels(opened)
    length = opened.native_length()
    vr = pixel.vr if pixel.vr in ("OB", "OW", "OF", "OD") else "OW"
    if opened.layout.implicit_vr:
        vr = {0x7FE00008: "OF", 0x7FE00009: "OD"}.get(pixel.tag, "OW")
    yield _head(opened, length, vr, {})
    yield from _swapped(opened.native_value(), _word_size(opened, pixel, spec))
    yield b"\0" * (length % 2)
    yield _tail(opened)


def _head(opened: OpenInstance, length: int, vr: str, changes: dict[str, object]) -> bytes:
    return native_head(
        opened.head(),
        implicit_vr=opened.layout.implicit_vr,
        little_endian=opened.layout.little_endian,
        pixel_length=length + length % 2,
        pixel_vr=vr,
        changes=changes,
        transfer_syntax=opened.layout.transfer_syntax,
        decode_icon=decode_icon,
    )


def _tail(opened: OpenInstance) -> bytes:
    return explicit_le(opened.tail(), implicit_vr=opened.layout.implicit_vr, little_endian=opened.layout.little_endian)


def _pixels(opened: OpenInstance) -> tuple[PixelSpan, FrameSpec]:
    pixel = opened.layout.pixel
    if pixel is None:
        raise UnsupportedTransferSyntax(EXPLICIT_LE, "the instance has no Pixel Data")
    return pixel, frame_spec(opened.layout.elements, pixel)


def _decoded(opened: OpenInstance, spec: FrameSpec, number: int) -> DecodedFrame:
    try:
        return registry.decode_received(opened.frame(number), opened.layout.transfer_syntax, spec)
    except CodecError as error:
        raise UnsupportedTransferSyntax(EXPLICIT_LE, f"frame {number} cannot be decoded: {error}") from error


def _native_bytes(decoded: DecodedFrame) -> bytes:
    return pack(decoded.samples, decoded.spec)


def _word_size(opened: OpenInstance, pixel: PixelSpan, spec: FrameSpec) -> int:
    return 1 if opened.layout.little_endian else word_size(pixel.vr, spec)


def _swapped(pieces: Iterable[bytes], word_bytes: int) -> Iterator[bytes]:
    """Reverse the bytes of every word, also of those that begin in one piece and end in the next."""
    kept = b""
    for piece in pieces:
        kept += piece
        whole = len(kept) - len(kept) % word_bytes
        yield little_endian(kept[:whole], word_bytes)
        kept = kept[whole:]
    yield kept


def decode_icon(item: Dataset, transfer_syntax: str) -> bytes | None:
    """Native samples of an encapsulated icon, whose Image Pixel attributes are made to fit; None if undecodable.

    An icon is encapsulated as the main Pixel Data is (PS3.5 A.4, PS3.3 C.7.6.1.1.6).
    """
    try:
        spec = _icon_spec(item)
        stream = next(generate_frames(item.PixelData, number_of_frames=1))
        decoded = registry.decode_received(stream, transfer_syntax, spec)
    except (CodecError, DicomError, AttributeError, ValueError, StopIteration):
        return None
    item.PhotometricInterpretation = decoded.photometric_interpretation
    if spec.samples_per_pixel > 1:
        item.PlanarConfiguration = 0
    return _native_bytes(decoded)


def _icon_spec(item: Dataset) -> FrameSpec:
    return FrameSpec(
        rows=int(item.Rows),
        columns=int(item.Columns),
        samples_per_pixel=int(item.get("SamplesPerPixel", 1)),
        bits_allocated=int(item.BitsAllocated),
        bits_stored=int(item.get("BitsStored", item.BitsAllocated)),
        high_bit=int(item.get("HighBit", item.BitsAllocated - 1)),
        pixel_representation=int(item.get("PixelRepresentation", 0)),
        planar_configuration=int(item.get("PlanarConfiguration", 0)),
        photometric_interpretation=str(item.get("PhotometricInterpretation", "")),
        number_of_frames=1,
    )
