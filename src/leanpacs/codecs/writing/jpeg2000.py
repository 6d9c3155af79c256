"""JPEG 2000 and HTJ2K with as many bits as Bits Stored says (PS3.5 8.2.4, 8.2.14, 10.18).

Encoders declare 8 or 16 bits where the frame has fewer. A decoder adds half the declared range to unsigned samples, and
the step sizes of lossy code streams are parts of that range; all else is the same. So the true number may be declared
afterwards, when the encoder was given samples that make up for it (ISO/IEC 15444-1 A.5.1, E.1, G.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpeg2000 import HTJ2K, THREADS, Jpeg2000, centred, with_depth
from leanpacs.codecs.samples import image_refusal
from leanpacs.codecs.writing.fitting import largest_within
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import (
    Writer,
    lossy_refusal,
    needed_bits,
    require_frame,
    require_within,
    written,
)
from leanpacs.dicom.frames import FrameSpec

_THUMBNAIL: Final = 64
"""Rows or columns that the lowest resolution of the RPCL syntax has at most."""

_MOST_LEVELS: Final = 32
_LEAST_PSNR: Final = 10.0
_LEAST_STEP_EXPONENT: Final = 0.0
"""Poor quality: in dB for OpenJPEG, the step size as a power of 2 for OpenJPH."""


def _refusal(spec: FrameSpec, options: WriteOptions) -> str | None:
    return image_refusal(spec) or (None if options.lossy is None else lossy_refusal(spec))


def _write_jpeg2000(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    import imagecodecs

    values = require_frame(samples, spec)
    common: dict[str, Any] = {"codecformat": "j2k", "mct": _is_rgb(spec), "planar": False, "numthreads": THREADS}
    with encoding(Jpeg2000.name):
        if options.lossy is None:
            precision = needed_bits(values, spec)
            stream = bytes(imagecodecs.jpeg2k_encode(centred(values, precision), level=0, reversible=True, **common))
            return _declared(stream, spec, precision, "YBR_RCT")
        shifted = _shifted(require_within(values, spec), spec)

        def encode(psnr: Any) -> bytes:
            return bytes(imagecodecs.jpeg2k_encode(shifted, level=psnr, reversible=False, **common))

        return _declared(
            _of_ratio(encode, (_LEAST_PSNR, _best_psnr(spec)), spec, options), spec, spec.bits_stored, "YBR_ICT"
        )


def _write_htj2k(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    return _htj2k(samples, spec, options)


def _write_rpcl(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    """OpenJPH's order is RPCL always; a tile-part for each resolution makes its TLM segment of use."""
    import imagecodecs

    parts = imagecodecs.HTJ2K.TILEPART.RESOLUTIONS
    return _htj2k(samples, spec, options, tlm=True, tilepart=parts, resolutions=_levels(spec))


def _htj2k(samples: Samples, spec: FrameSpec, options: WriteOptions, **others: Any) -> WrittenFrame:
    import imagecodecs

    values = require_frame(samples, spec)
    common: dict[str, Any] = {"rgb": _is_rgb(spec), "planar": False} | others
    with encoding(HTJ2K.name):
        if options.lossy is None:
            precision = needed_bits(values, spec)
            stream = bytes(imagecodecs.htj2k_encode(centred(values, precision), reversible=True, **common))
            return _declared(stream, spec, precision, "YBR_RCT")
        shifted = _shifted(require_within(values, spec), spec)

        def encode(exponent: float) -> bytes:
            return bytes(imagecodecs.htj2k_encode(shifted, level=2.0**-exponent, reversible=False, **common))

        return _declared(
            _of_ratio(encode, (_LEAST_STEP_EXPONENT, spec.bits_stored + 4.0), spec, options),
            spec,
            spec.bits_stored,
            "YBR_ICT",
        )


def _levels(spec: FrameSpec) -> int:
    """Decompositions until rows and columns are few enough for a thumbnail; 5, as is usual, when that is more."""
    levels = 0
    while max(spec.rows, spec.columns) > _THUMBNAIL << levels:
        levels += 1
    return min(max(levels, 5), _MOST_LEVELS)


def _best_psnr(spec: FrameSpec) -> float:
    """Of errors that come from rounding to whole numbers alone."""
    return 6.02 * spec.bits_stored + 11


def _of_ratio(
    encode: Callable[[float], bytes], span: tuple[float, float], spec: FrameSpec, options: WriteOptions
) -> bytes:
    assert options.lossy is not None
    assert options.lossy.ratio is not None
    bits = spec.rows * spec.columns * spec.samples_per_pixel * spec.bits_stored
    return largest_within(int(bits / 8 / options.lossy.ratio), encode, span)


def _shifted(values: Samples, spec: FrameSpec) -> Samples:
    """Values that fill the bits which the encoder will declare: step sizes are parts of that range."""
    width = 1 if spec.bits_stored <= 8 else 2
    return values.astype(f"{values.dtype.kind}{width}", copy=False) << 8 * width - spec.bits_stored


def _declared(stream: bytes, spec: FrameSpec, precision: int, transformed: str) -> WrittenFrame:
    """Declare the true number of bits, and the sign that Pixel Representation says."""
    changed = with_depth(stream, spec, precision, is_signed=bool(spec.pixel_representation))
    return written(changed, spec, transformed if _is_rgb(spec) else "")


def _is_rgb(spec: FrameSpec) -> bool:
    """Whether the colour transform is used: what undoes it will call the samples RGB."""
    return spec.samples_per_pixel == 3 and spec.photometric_interpretation == "RGB"


JPEG_2000_LOSSLESS: Final = Writer(Jpeg2000.name, _refusal, _write_jpeg2000)
JPEG_2000: Final = Writer(Jpeg2000.name, _refusal, _write_jpeg2000, frozenset({"ratio"}))
HTJ2K_LOSSLESS: Final = Writer(HTJ2K.name, _refusal, _write_htj2k)
HTJ2K_RPCL: Final = Writer(HTJ2K.name, _refusal, _write_rpcl)
HTJ2K_LOSSY: Final = Writer(HTJ2K.name, _refusal, _write_htj2k, frozenset({"ratio"}))
