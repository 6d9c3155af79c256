"""RLE Lossless: PackBits over the bytes of the samples, the highest bytes first (PS3.5 Annex G)."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.native import unpack
from leanpacs.codecs.samples import checked, decoded_spec, dtype_of, shape_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError

_HEADER = struct.Struct("<16L")
_MOST_SEGMENTS = 15
_MOST_EXPANSION = 64
_PADDING = 256
"""Bytes that a segment may hold beyond the plane: writers pad, or code rows together that do not end together."""


class Rle:
    """RLE Lossless, for whatever samples make up to fifteen planes of bytes."""

    name = "rle"
    extension = "rle"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        if spec.kind != "integer":
            return "floating point samples"
        if spec.bits_allocated not in (8, 16, 32):
            return f"{spec.bits_allocated} bits allocated"
        if spec.samples_per_pixel * spec.bits_allocated > 8 * _MOST_SEGMENTS:
            return f"{spec.samples_per_pixel} samples of {spec.bits_allocated} bits need too many segments"
        return "4:2:2 chroma" if spec.is_subsampled else None

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame, each row by itself; ``effort`` has no meaning."""
        values = checked(self, samples, spec, options.precision)
        with encoding(self.name):
            import imagecodecs

            segments = [bytes(imagecodecs.packbits_encode(plane, axis=-1)) for plane in byte_planes(values)]
        return _joined(segments)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        return _decoded(stream, spec, padding=0)


def require_possible(stream: bytes, spec: FrameSpec) -> None:
    """Compare the length of a code stream with the frame, before anything is allocated for that.

    Raises
    ------
    DecodeError
        If so few bytes cannot hold so large a frame: two of them stand for 128 at the most.
    """
    wanted = -(-spec.frame_bits // 8)
    if _MOST_EXPANSION * len(stream) < wanted:
        raise DecodeError(Rle.name, f"{len(stream)} bytes cannot hold a frame of {wanted}")


def byte_planes(samples: Samples) -> list[Samples]:
    """One plane for each byte of each sample, the highest byte first; shape (rows, columns), uint8, contiguous."""
    columns = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">")).view(np.uint8)
    planes = columns.reshape(*samples.shape[:2], -1)
    # A copy, for a single column may count as contiguous with strides that imagecodecs refuses.
    return [planes[..., index].copy() for index in range(planes.shape[2])]


def decode_received(stream: bytes, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream; planes are interleaved, colours are not converted."""
    require_possible(stream, spec)
    decoded = decoded_spec(spec)
    if spec.bits_allocated == 1:
        return DecodedFrame(_one_bit(stream, spec), decoded)
    return DecodedFrame(_decoded(stream, spec, padding=_PADDING), decoded)


def _decoded(stream: bytes, spec: FrameSpec, *, padding: int) -> Samples:
    with decoding(Rle.name):
        target = dtype_of(spec)
        pixels = spec.rows * spec.columns
        size = target.itemsize
        planes = np.empty((pixels, spec.samples_per_pixel, size), np.uint8)
        for index, segment in enumerate(_segments(stream, spec.samples_per_pixel * size)):
            values = _unpacked(segment, pixels, padding)
            if not pixels <= len(values) <= pixels + padding:
                raise DecodeError(Rle.name, f"a segment of {len(values)} bytes, not {pixels}")
            # Segments go from the highest byte down, the bytes of a sample in memory from the lowest up.
            planes[:, index // size, size - 1 - index % size] = values[:pixels]
        samples = planes.view(target.newbyteorder("<")).reshape(shape_of(spec))
        return samples.astype(target, copy=False)


def _one_bit(stream: bytes, spec: FrameSpec) -> Samples:
    """Samples of a 1-bit frame: its packed bytes make one segment; some writers give a byte to each."""
    packed = -(-spec.frame_bits // 8)
    with decoding(Rle.name):
        (segment,) = _segments(stream, 1)
        values = _unpacked(segment, spec.frame_bits, _PADDING)
        if len(values) >= spec.frame_bits:
            return values[: spec.frame_bits].reshape(shape_of(spec)) & 1
        return unpack(values[:packed].tobytes(), spec)


def _segments(stream: bytes, expected: int) -> list[bytes]:
    count, *offsets = _HEADER.unpack_from(stream)
    if count != expected:
        raise DecodeError(Rle.name, f"{count} segments, not {expected}")
    bounds = [*offsets[:count], len(stream)]
    if bounds[0] < _HEADER.size or any(end < start for start, end in pairwise(bounds)):
        raise DecodeError(Rle.name, "segment offsets that do not ascend")
    return [stream[start:end] for start, end in pairwise(bounds)]


def _unpacked(segment: bytes, length: int, padding: int) -> Samples:
    import imagecodecs

    room = bytearray(length + padding)
    try:
        return np.frombuffer(imagecodecs.packbits_decode(segment, out=room), np.uint8)
    except RuntimeError:
        if not padding:
            raise
        return np.frombuffer(_tolerant(segment, length), np.uint8)


def _tolerant(segment: bytes, length: int) -> bytes:
    """PackBits of a segment that ends within a run, or goes on after the plane is full."""
    out = bytearray()
    position = 0
    while position < len(segment) and len(out) < length:
        head = segment[position]
        if head < 128:
            out += segment[position + 1 : position + 2 + head]
            position += 2 + head
        elif head > 128:
            out += segment[position + 1 : position + 2] * (257 - head)
            position += 2
        else:
            position += 1
    return bytes(out[:length])


def _joined(segments: list[bytes]) -> bytes:
    padded = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [_HEADER.size]
    for segment in padded[:-1]:
        offsets.append(offsets[-1] + len(segment))
    unused = [0] * (_MOST_SEGMENTS - len(offsets))
    return b"".join([_HEADER.pack(len(padded), *offsets, *unused), *padded])
