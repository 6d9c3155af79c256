"""JPEG XL, through libjxl (ISO/IEC 18181-1; PS3.5 A.4.12, A.4.13)."""

from __future__ import annotations

import math

import numpy as np

from leanpacs.codecs import libjxl
from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.jxlheader import JpegXLHeader, jpegxl_header
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
from leanpacs.errors import UnsupportedFrame

MOST_BITS = 16
"""Of integers that libjxl gives."""

_CONVERTED = frozenset({"XYB", "YBR_RCT", "YBR_FULL_422"})

_GROUP = 256
"""Rows and columns of a group, the unit that libjxl codes separately."""

_LONGEST_CODE_BITS = 8
"""Of a token at effort 1, before its extra bits."""

_ROOM_BITS = 90_000
"""What libjxl reserves for the only group of an image beside 16 bits a sample (100,000), less what headers take."""

_PALETTE_COLOURS = 512
"""The most that effort 1 makes a palette of."""

_LOOKED_AT_PIXELS = 4096


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
        """Compress one frame; ``effort`` 1 becomes 2 for the few frames that libjxl gets wrong with it."""
        precision = options.precision
        values = to_offset_binary(checked(self, samples, spec, precision), precision)
        with encoding(self.name):
            if options.effort == 1 and not may_overflow(values, precision):
                stream = libjxl.encode(values, 1, precision)
                if not is_doubtful(values, precision) or _holds(stream, values):
                    return stream
            return libjxl.encode(values, max(2, options.effort), precision)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        samples, _ = _decoded(stream, spec)
        return from_offset_binary(samples, spec, options.precision)


def decode_received(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream that came from elsewhere.

    libjxl gives RGB for everything that it knows to be YCbCr or XYB. JPEG XL has no sign, and DICOM does not say how
    one is held: signed values are taken for two's complement in as many bits as the code stream declares, and for
    offset binary when it was converted to XYB, which would tear two's complement apart at zero.
    """
    readable_header(stream, spec)
    samples, header = _decoded(stream, spec)
    return as_received(samples, header, transfer_syntax, spec)


def readable_header(stream: bytes, spec: FrameSpec) -> JpegXLHeader:
    """Header of a code stream of a frame of ``spec``.

    Raises
    ------
    DecodeError
        If it is something else.
    UnsupportedFrame
        If it has more bits than libjxl gives.
    """
    header = jpegxl_header(JpegXL.name, stream)
    header.shape.require(JpegXL.name, spec)
    if header.shape.precision > MOST_BITS:
        raise UnsupportedFrame(f"{JpegXL.name}: {header.shape.precision} bits a sample, libjxl gives {MOST_BITS}")
    return header


def as_received(samples: Samples, header: JpegXLHeader, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    """Samples as a decoder gave them, with the sign and the colour space that DICOM gives them."""
    was_converted = transfer_syntax == JPEG_XL_RECOMPRESSION or spec.photometric_interpretation in _CONVERTED
    is_rgb = spec.samples_per_pixel == 3 and was_converted
    with_sign = from_offset_binary if header.is_xyb else from_twos_complement
    values = with_sign(samples, spec, header.shape.precision)
    return DecodedFrame(values, decoded_spec(spec, "RGB" if is_rgb else ""))


def _decoded(stream: bytes, spec: FrameSpec) -> tuple[Samples, JpegXLHeader]:
    header = jpegxl_header(JpegXL.name, stream)
    header.shape.require(JpegXL.name, spec)
    with decoding(JpegXL.name):
        import imagecodecs

        samples = imagecodecs.jpegxl_decode(stream, index=0, numthreads=1)
    return fitting(JpegXL.name, samples, spec), header


def _holds(stream: bytes, values: Samples) -> bool:
    import imagecodecs

    try:
        return np.array_equal(imagecodecs.jpegxl_decode(stream, index=0, numthreads=1), values)
    except RuntimeError:
        return False


def may_overflow(values: Samples, precision: int) -> bool:
    """Tell whether libjxl 0.11 may write beyond its buffer at effort 1 (libjxl #4829).

    For an image that is a single group it reserves 16 bits a sample, and deep noise takes more. A bound is used, so
    that frames may be suspected which would do no harm.

    Parameters
    ----------
    values : ndarray
        Unsigned, shape (rows, columns) or (rows, columns, 3).
    precision : int
        Bits of a value.
    """
    rows, columns = values.shape[:2]
    room = 16 * rows * columns + _ROOM_BITS
    if max(rows, columns) > _GROUP or rows * columns * (_LONGEST_CODE_BITS + precision) <= room:
        return False
    if values.ndim == 3:
        return precision > 8
    # A prediction lies between the left and the upper neighbour, so a residual is at most the larger step; the bits
    # that residuals take are at most those of the mean residual, times their number (the logarithm is concave).
    deep = values.astype(np.int32)
    steps = np.abs(np.diff(deep, axis=0)).sum() + np.abs(np.diff(deep, axis=1)).sum() + deep[0, 0]
    mean_residual = int(steps) / (rows * columns)
    longest = _LONGEST_CODE_BITS + math.log2(2 * mean_residual + 1)
    return bool(rows * columns * longest > room)


def is_doubtful(values: Samples, precision: int) -> bool:
    """Tell whether libjxl 0.11 may encode these values wrong at effort 1, which it does not report.

    All of its known errors are in 8-bit colour: codes of residuals that fill 64 bits at once spoil what follows (libjxl
    #4026; it takes residuals of 256 and more, which only chroma and the indexes of a palette have), and black is
    confused with one of 253 other colours in a palette. So frames that a palette may be made of are doubtful, and
    frames with wide steps of chroma.
    """
    if values.ndim != 3 or precision != 8:
        return False
    pixels = values.reshape(-1, 3)
    some = pixels[:: max(1, len(pixels) // _LOOKED_AT_PIXELS)].astype(np.uint32)
    if len(np.unique(some[:, 0] << 16 | some[:, 1] << 8 | some[:, 2])) <= _PALETTE_COLOURS:
        return True
    red, green, blue = (values[..., sample].astype(np.int16) for sample in range(3))
    return _has_wide_steps(red - blue) or _has_wide_steps(green - ((red + blue) >> 1))


def _has_wide_steps(plane: Samples) -> bool:
    if int(plane.max()) - int(plane.min()) < 256:
        return False
    return any(int(np.abs(np.diff(plane, axis=axis)).max(initial=0)) >= 256 for axis in (0, 1))
