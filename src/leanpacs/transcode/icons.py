"""Pixel Data of sequence items, such as Icon Image Sequence: given the form that the main Pixel Data is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from leanpacs.codecs import registry
from leanpacs.codecs.codec import DecodedFrame
from leanpacs.codecs.native import pack, unpack
from leanpacs.codecs.writing import WriteOptions, write_frame
from leanpacs.dicom.encapsulation import encapsulate
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.reencode import NestedPixels
from leanpacs.errors import CodecError, DicomError, WorkerError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(slots=True)
class IconTranscoder:
    """Gives icons another form; never with loss.

    An icon is encapsulated as the main Pixel Data is (PS3.5 A.4), where its transfer syntax can hold it; native Pixel
    Data is allowed everywhere in an item, and is what becomes of all others.

    Parameters
    ----------
    source : str
        UID of the transfer syntax of the instance.
    target : str or None
        UID of the encapsulated transfer syntax wanted; None when icons are to be native.
    call : callable
        Calls a codec with its arguments: in a worker process, or here.
    """

    source: str
    target: str | None
    call: Callable[..., Any] = lambda function, *arguments: function(*arguments)
    undecoded: int = field(default=0, init=False)
    """Icons that no codec decodes, which were left out."""

    def __call__(self, item: Dataset) -> NestedPixels | None:
        """See :data:`leanpacs.dicom.reencode.IconRecoder`."""
        is_encapsulated = item["PixelData"].is_undefined_length
        try:
            decoded = self._decoded(item, is_encapsulated=is_encapsulated)
        except (CodecError, DicomError, WorkerError, AttributeError, ValueError, TypeError, StopIteration):
            self.undecoded += is_encapsulated
            return None
        return self._encoded(item, decoded) or (_native(item, decoded) if is_encapsulated else None)

    def _decoded(self, item: Dataset, *, is_encapsulated: bool) -> DecodedFrame:
        from pydicom.encaps import generate_frames

        spec = _spec_of(item)
        if is_encapsulated:
            stream = next(generate_frames(item.PixelData, number_of_frames=1))
            return cast("DecodedFrame", self.call(registry.decode_received, stream, self.source, spec))
        length = -(-spec.frame_bits // 8)
        if not length <= len(item.PixelData) <= length + 1 or not item.original_encoding[1]:
            raise DicomError("no icon in little endian order and of the length that its attributes say")
        return DecodedFrame(unpack(item.PixelData[:length], spec), spec)

    def _encoded(self, item: Dataset, decoded: DecodedFrame) -> NestedPixels | None:
        if self.target is None:
            return None
        try:
            written = self.call(write_frame, decoded.samples, decoded.spec, self.target, WriteOptions())
            again = self.call(registry.decode_received, written.stream, self.target, written.spec)
        except (CodecError, WorkerError):
            return None
        if not np.array_equal(again.samples, decoded.samples):
            return None
        _describe(item, written.spec)
        return NestedPixels(b"".join(encapsulate([written.stream])), encapsulated=True)


def _native(item: Dataset, decoded: DecodedFrame) -> NestedPixels:
    _describe(item, decoded.spec)
    return NestedPixels(pack(decoded.samples, decoded.spec))


def _describe(item: Dataset, spec: FrameSpec) -> None:
    item.PhotometricInterpretation = spec.photometric_interpretation
    if spec.samples_per_pixel > 1:
        item.PlanarConfiguration = spec.planar_configuration


def _spec_of(item: Dataset) -> FrameSpec:
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
