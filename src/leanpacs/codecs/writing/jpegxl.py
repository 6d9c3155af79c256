"""JPEG XL with as many bits as Bits Stored says (PS3.5 8.2.15)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from leanpacs.codecs.codec import EncodeOptions, Samples, encoding
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.samples import image_refusal, narrowed
from leanpacs.codecs.writing.options import Lossy, WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import (
    Writer,
    lossy_refusal,
    needed_bits,
    require_frame,
    require_within,
    twos_complement,
    written,
)
from leanpacs.dicom.frames import FrameSpec

_USUAL_EFFORT: Final = 3
_USUAL_LOSSY_EFFORT: Final = 5


def _refusal(spec: FrameSpec, options: WriteOptions) -> str | None:
    reason = image_refusal(spec)
    if reason is not None or options.lossy is None:
        return reason
    if spec.pixel_representation:
        return "signed samples: JPEG XL has no sign, and zero must not be where it tears"
    if spec.samples_per_pixel == 3 and spec.photometric_interpretation != "RGB":
        return f"colour {spec.photometric_interpretation!r}: lossy JPEG XL is made of RGB"
    return lossy_refusal(spec)


def _write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    return _write_lossless(values, spec, options) if options.lossy is None else _write_lossy(values, spec, options)


def _write_lossless(values: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    precision = needed_bits(values, spec)
    unsigned = twos_complement(values, precision)
    bits = 8 * unsigned.dtype.itemsize
    held = replace(spec, pixel_representation=0, bits_allocated=bits, bits_stored=min(spec.bits_stored, bits))
    stream = JpegXL().encode(unsigned, held, EncodeOptions(options.effort or _USUAL_EFFORT, precision))
    return written(stream, spec)


def _write_lossy(values: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    assert options.lossy is not None
    with encoding(JpegXL.name):
        import imagecodecs

        stream = imagecodecs.jpegxl_encode(
            narrowed(require_within(values, spec), spec.bits_stored),
            effort=options.effort or _USUAL_LOSSY_EFFORT,
            lossless=False,
            bitspersample=spec.bits_stored,
            numthreads=1,
            **_amount(options.lossy),
        )
        return written(bytes(stream), spec, "XYB" if spec.samples_per_pixel == 3 else "")


def _amount(lossy: Lossy) -> dict[str, Any]:
    return {"distance": lossy.distance} if lossy.quality is None else {"level": lossy.quality}


LOSSLESS: Final = Writer(JpegXL.name, _refusal, _write)
LOSSY: Final = Writer(JpegXL.name, _refusal, _write, frozenset({"quality", "distance"}))
