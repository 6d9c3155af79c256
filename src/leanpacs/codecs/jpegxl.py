"""JPEG XL, through libjxl (ISO/IEC 18181-1; PS3.5 A.4.12, A.4.13)."""

from __future__ import annotations

import math

import numpy as np

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.jxlheader import jpegxl_shape
from leanpacs.codecs.samples import (
    checked,
    decoded_spec,
    fitting,
    from_offset_binary,
    from_twos_complement,
    image_refusal,
    to_offset_binary,
)
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import JPEG_XL_RECOMPRESSION

_CONVERTED = frozenset({"XYB", "YBR_FULL_422"})

_GROUP = 256
"""Rows and columns of a group, the unit that libjxl codes separately."""

_LONGEST_CODE_BITS = 8
"""Of a token at effort 1, before its extra bits."""

_ROOM_BITS = 90_000
"""What libjxl reserves for the only group of an image beside 16 bits a sample (100,000), less what headers take."""

_FEW_COLOURS = range(255, 514)
"""Numbers of colours for which effort 1 may make a palette with indexes of more than eight bits."""


class JpegXL:
    """Lossless JPEG XL. Signed values are held as offset binary, for the code stream has no sign."""

    name = "jpegxl"
    extension = "jxl"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__} / {imagecodecs.jpegxl_version()}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        return image_refusal(spec)

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame; ``effort`` 1 becomes 2 for the few frames that libjxl would get wrong with it."""
        precision = options.precision
        values = to_offset_binary(checked(self, samples, spec, precision), precision)
        with encoding(self.name):
            import imagecodecs

            effort = 2 if options.effort == 1 and not is_safe_at_effort_1(values, precision) else options.effort
            stream = imagecodecs.jpegxl_encode(
                values, effort=effort, lossless=True, bitspersample=precision, numthreads=1
            )
            return bytes(stream)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        samples, _ = _decoded(stream, spec)
        return from_offset_binary(samples, spec, options.precision)


def decode_received(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream that came from elsewhere.

    libjxl gives RGB for everything that it knows to be YCbCr or XYB. Signed values are taken for two's complement, in
    as many bits as the code stream declares.
    """
    samples, precision = _decoded(stream, spec)
    was_converted = transfer_syntax == JPEG_XL_RECOMPRESSION or spec.photometric_interpretation in _CONVERTED
    is_rgb = spec.samples_per_pixel == 3 and was_converted
    return DecodedFrame(from_twos_complement(samples, spec, precision), decoded_spec(spec, "RGB" if is_rgb else ""))


def _decoded(stream: bytes, spec: FrameSpec) -> tuple[Samples, int]:
    shape = jpegxl_shape(JpegXL.name, stream)
    shape.require(JpegXL.name, spec)
    with decoding(JpegXL.name):
        import imagecodecs

        samples = imagecodecs.jpegxl_decode(stream, index=0, numthreads=1)
    return fitting(JpegXL.name, samples, spec), shape.precision


def is_safe_at_effort_1(values: Samples, precision: int) -> bool:
    """Tell whether libjxl 0.11 surely encodes these values right at effort 1.

    Two defects of its fast path are avoided, neither of which it reports: a run of residuals whose codes fill 64 bits
    at once spoils what follows (8-bit colour; libjxl #4026), and the only group of a small deep image may be written
    beyond its buffer (libjxl #4829). Bounds are used, so frames may be called unsafe that are not.

    Parameters
    ----------
    values : ndarray
        Unsigned, shape (rows, columns) or (rows, columns, 3).
    precision : int
        Bits of a value.
    """
    if precision > 8:
        return _fits_its_buffer(values, precision)
    if values.ndim == 3 and precision == 8:
        return not _has_long_residuals(values)
    return True


def _fits_its_buffer(values: Samples, precision: int) -> bool:
    rows, columns = values.shape[:2]
    room = 16 * rows * columns + _ROOM_BITS
    if rows > _GROUP or columns > _GROUP or rows * columns * (_LONGEST_CODE_BITS + precision) <= room:
        return True
    if values.ndim == 3:
        return False
    # A prediction lies between the left and the upper neighbour, so a residual is at most the larger step; the bits
    # that residuals take are at most those of the mean residual, times their number (the logarithm is concave).
    deep = values.astype(np.int32)
    steps = np.abs(np.diff(deep, axis=0)).sum() + np.abs(np.diff(deep, axis=1)).sum() + deep[0, 0]
    mean = int(steps) / (rows * columns)
    longest: float = _LONGEST_CODE_BITS + math.log2(2 * mean + 1)
    return bool(rows * columns * longest <= room)


def _has_long_residuals(values: Samples) -> bool:
    """Whether a residual of 256 or more may occur, in the chroma planes or among the indexes of a palette."""
    red, green, blue = (values[..., sample].astype(np.int16) for sample in range(3))
    orange = red - blue
    if _has_wide_steps(orange) or _has_wide_steps(green - ((red + blue) >> 1)):
        return True
    return _number_of_colours(values, _FEW_COLOURS.stop) in _FEW_COLOURS


def _has_wide_steps(plane: Samples) -> bool:
    if int(plane.max()) - int(plane.min()) < 256:
        return False
    return any(int(np.abs(np.diff(plane, axis=axis)).max(initial=0)) >= 256 for axis in (0, 1))


def _number_of_colours(values: Samples, limit: int) -> int:
    """Count the colours; anything from ``limit`` on when there are at least so many."""
    pixels = values.reshape(-1, 3)
    some = len(np.unique(_keys(pixels[:: max(1, len(pixels) // 4096)])))
    if some >= limit:
        return some
    keys = _keys(pixels)
    starts = np.flatnonzero(keys[1:] != keys[:-1])
    return len(np.unique(np.append(keys[starts], keys[-1])))


def _keys(pixels: Samples) -> Samples:
    """One number for each colour."""
    key = pixels[:, 0].astype(np.uint32)
    for sample in (1, 2):
        key <<= 8
        key |= pixels[:, sample]
    return key
