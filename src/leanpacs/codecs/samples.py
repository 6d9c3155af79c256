"""Values of samples: their type and shape, the bits that they need, and the two ways to write a sign."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanpacs.codecs.codec import Codec, Samples
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame


def shape_of(spec: FrameSpec) -> tuple[int, ...]:
    """Shape of a frame's samples: (rows, columns), and samples when there is more than one."""
    plane = (spec.rows, spec.columns)
    return plane if spec.samples_per_pixel == 1 else (*plane, spec.samples_per_pixel)


def dtype_of(spec: FrameSpec) -> np.dtype[Any]:
    """Type of a frame's samples in native byte order; uint8 for 1-bit frames.

    Raises
    ------
    UnsupportedFrame
        If no type has that many bits.
    """
    if spec.bits_allocated == 1:
        return np.dtype(np.uint8)
    if spec.bits_allocated not in (8, 16, 32, 64):
        raise UnsupportedFrame(f"{spec.bits_allocated} bits allocated")
    kind = "f" if spec.kind == "float" else "i" if spec.pixel_representation else "u"
    if kind == "f" and spec.bits_allocated < 32:
        raise UnsupportedFrame(f"floating point with {spec.bits_allocated} bits allocated")
    return np.dtype(f"{kind}{spec.bits_allocated // 8}")


def image_refusal(spec: FrameSpec) -> str | None:
    """Say what no image codec holds: all take 8 or 16 bits allocated, integers, one or three full samples."""
    if spec.kind != "integer":
        return "floating point samples"
    if spec.bits_allocated not in (8, 16):
        return f"{spec.bits_allocated} bits allocated"
    if spec.samples_per_pixel not in (1, 3):
        return f"{spec.samples_per_pixel} samples per pixel"
    if spec.is_subsampled:
        return f"{spec.photometric_interpretation}: two pixels share their chroma samples"
    return None


def checked(codec: Codec, samples: Samples, spec: FrameSpec, precision: int) -> Samples:
    """Return the samples, contiguous, after all checks that come before encoding.

    Raises
    ------
    UnsupportedFrame
        If the codec refuses the frame, the samples are not of its shape, or a value does not fit ``precision``.
    """
    reason = codec.refusal(spec)
    if reason is not None:
        raise UnsupportedFrame(f"{codec.name}: {reason}")
    if samples.shape != shape_of(spec) or samples.dtype != dtype_of(spec):
        raise UnsupportedFrame(f"samples are {samples.shape} {samples.dtype}, not as the frame says")
    if not 1 <= precision <= spec.bits_allocated:
        raise UnsupportedFrame(f"a precision of {precision} bits with {spec.bits_allocated} allocated")
    if precision < spec.bits_allocated:
        _require_precision(samples, precision, signed=bool(spec.pixel_representation))
    return np.ascontiguousarray(samples)


def _require_precision(samples: Samples, precision: int, *, signed: bool) -> None:
    low, high = (-(1 << precision - 1), (1 << precision - 1) - 1) if signed else (0, (1 << precision) - 1)
    smallest, largest = int(samples.min()), int(samples.max())
    if smallest < low or largest > high:
        raise UnsupportedFrame(f"values from {smallest} to {largest} do not fit {precision} bits")


def narrowed(samples: Samples, precision: int) -> Samples:
    """Use one byte a sample where the precision allows it."""
    if precision > 8 or samples.dtype.itemsize == 1:
        return samples
    return samples.astype(np.int8 if samples.dtype.kind == "i" else np.uint8)


def to_offset_binary(samples: Samples, precision: int) -> Samples:
    """Unsigned values of ``precision`` bits: signed ones are moved up by half the range.

    For codecs that carry no sign. Neighbours stay neighbours, which two's complement would tear apart at zero.
    """
    if samples.dtype.kind == "u":
        return narrowed(samples, precision)
    unsigned = np.dtype(np.uint8 if precision <= 8 else np.uint16)
    bits = samples.view(unsigned) if samples.itemsize == unsigned.itemsize else samples.astype(unsigned)
    # Addition modulo the width is exact: the sum fits it, and the low bits do not depend on the sign.
    return bits + unsigned.type(1 << precision - 1)


def from_offset_binary(samples: Samples, spec: FrameSpec, precision: int) -> Samples:
    """Inverse of :func:`to_offset_binary`; the result has the type that ``spec`` says, and takes the samples over."""
    target = dtype_of(spec)
    if not spec.pixel_representation:
        return samples.astype(target, copy=False)
    unsigned = np.dtype(f"u{target.itemsize}")
    moved: Samples = samples.astype(unsigned, copy=not samples.flags.writeable)
    moved -= unsigned.type(1 << precision - 1)
    return moved.view(target)


def from_twos_complement(samples: Samples, spec: FrameSpec, precision: int) -> Samples:
    """Values of ``precision`` bits as ``spec`` reads them, whatever sign the code stream itself declares.

    The sign of a received code stream may contradict Pixel Representation, and JPEG and JPEG-LS have none: the low
    ``precision`` bits are taken as they are, and read as DICOM says (PS3.5 8.2).
    """
    target = dtype_of(spec)
    is_signed = samples.dtype.kind == "i"
    if is_signed == bool(spec.pixel_representation):
        return samples.astype(target, copy=False)
    width = samples.dtype.itemsize
    values: Samples
    if is_signed:
        values = samples.view(f"u{width}") & ((1 << precision) - 1)
    else:
        unused = 8 * width - precision
        values = (samples << unused).view(f"i{width}") >> unused
    return values.astype(target, copy=False)


def fitting(codec: str, samples: Samples, spec: FrameSpec) -> Samples:
    """Return decoded samples, if they are of the shape of ``spec``.

    Raises
    ------
    DecodeError
        If they are not.
    """
    if samples.shape != shape_of(spec):
        raise DecodeError(codec, f"samples of shape {samples.shape} came out, not {shape_of(spec)}")
    return samples


def decoded_spec(spec: FrameSpec, photometric_interpretation: str = "") -> FrameSpec:
    """What a decoded frame is: interleaved, every chroma sample there, and of another colour space if one is given."""
    photometric = photometric_interpretation or spec.photometric_interpretation
    if photometric == "YBR_FULL_422":
        photometric = "YBR_FULL"
    return spec.but(
        photometric_interpretation=photometric,
        planar_configuration=0,
        full_chroma=photometric == "YBR_PARTIAL_422",
    )
