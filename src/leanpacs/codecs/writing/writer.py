"""What a writer is: the samples of a frame to a code stream as one transfer syntax wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.samples import dtype_of, narrowed, shape_of
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame


@dataclass(frozen=True, slots=True)
class Writer:
    """One transfer syntax.

    Parameters
    ----------
    name : str
        Of the codec, for errors.
    refusal : callable
        Why such frames cannot be written exactly, or as lossy as asked for; None when they can.
    write : callable
        Samples of a frame that is not refused to a code stream.
    lossy_kinds : frozenset of str
        Which fields of :class:`Lossy` it understands; empty when it is lossless only.
    is_always_lossy : bool
        It has no lossless mode.
    """

    name: str
    refusal: Callable[[FrameSpec, WriteOptions], str | None]
    write: Callable[[Samples, FrameSpec, WriteOptions], WrittenFrame]
    lossy_kinds: frozenset[str] = frozenset()
    is_always_lossy: bool = False


def require_frame(samples: Samples, spec: FrameSpec) -> Samples:
    """Return the samples, contiguous, if they are what the frame says.

    Raises
    ------
    UnsupportedFrame
        If they are of another shape or type.
    """
    if samples.shape != shape_of(spec) or samples.dtype != dtype_of(spec):
        raise UnsupportedFrame(f"samples are {samples.shape} {samples.dtype}, not as the frame says")
    return np.ascontiguousarray(samples)


def needed_bits(samples: Samples, spec: FrameSpec) -> int:
    """Bits that a code stream must have a sample of: Bits Stored, or all when something stands above them.

    Overlays in unused bits, values beyond the range and a High Bit that is not the highest bit stored make it all.
    """
    if spec.bits_stored == spec.bits_allocated:
        return spec.bits_allocated
    low, high = value_range(spec)
    fits = int(samples.min()) >= low and int(samples.max()) <= high
    return spec.bits_stored if fits and spec.high_bit == spec.bits_stored - 1 else spec.bits_allocated


def usual_bits(samples: Samples, spec: FrameSpec) -> int:
    """As :func:`needed_bits`, but at least 8, and 9 where words of 16 bits are allocated.

    For JPEG and JPEG-LS: dcmtk takes code streams of up to 8 bits for bytes, and refuses less than 6; GDCM ends the
    process at less than 8.
    """
    return max(needed_bits(samples, spec), 9 if spec.bits_allocated == 16 else 8)


def require_within(samples: Samples, spec: FrameSpec) -> Samples:
    """Return the samples, if all of them are in the range of Bits Stored: a lossy code stream has no room for more.

    Raises
    ------
    UnsupportedFrame
        If they are not.
    """
    low, high = value_range(spec)
    smallest, largest = int(samples.min()), int(samples.max())
    if smallest < low or largest > high:
        raise UnsupportedFrame(f"values from {smallest} to {largest} are beyond {spec.bits_stored} bits stored")
    return samples


def lossy_refusal(spec: FrameSpec) -> str | None:
    """Say which integer samples never are approximate."""
    if spec.photometric_interpretation == "PALETTE COLOR":
        return "palette indexes: nearly the same number is another colour"
    if spec.bits_stored == 1:
        return "1 bit stored: nearly the same value is the other one"
    if spec.high_bit != spec.bits_stored - 1:
        return f"High Bit {spec.high_bit} with {spec.bits_stored} bits stored"
    return None


def value_range(spec: FrameSpec) -> tuple[int, int]:
    """Least and largest value of Bits Stored."""
    if spec.pixel_representation:
        return -(1 << spec.bits_stored - 1), (1 << spec.bits_stored - 1) - 1
    return 0, (1 << spec.bits_stored) - 1


def twos_complement(samples: Samples, precision: int) -> Samples:
    """The lowest ``precision`` bits of each sample as an unsigned number, in one byte where they fit.

    For code streams without a sign: what reads them takes the highest bit that they declare for the sign.
    """
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    if precision < 8 * samples.dtype.itemsize and samples.dtype.kind == "i":
        unsigned = unsigned & unsigned.dtype.type((1 << precision) - 1)
    return narrowed(unsigned, precision)


def in_a_byte(spec: FrameSpec) -> FrameSpec:
    """The frame with 8 bits stored in 8, which values of up to 8 bits fit."""
    return replace(spec, bits_allocated=8, bits_stored=8, high_bit=7)


def written(stream: bytes, spec: FrameSpec, photometric_interpretation: str = "") -> WrittenFrame:
    """The frame as it is described now: interleaved, with all chroma samples, and of another colour space if given."""
    photometric = photometric_interpretation or spec.photometric_interpretation
    if photometric == "YBR_FULL_422" and not photometric_interpretation:
        photometric = "YBR_FULL"
    described = spec.but(photometric_interpretation=photometric, planar_configuration=0, full_chroma=False)
    return WrittenFrame(stream, described)
