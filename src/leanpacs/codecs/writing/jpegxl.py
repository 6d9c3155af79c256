"""JPEG XL with as many bits as Bits Stored says (PS3.5 8.2.15)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from leanpacs.codecs.codec import EncodeOptions, Samples, encoding
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.samples import image_refusal
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import Writer, needed_bits, require_frame, twos_complement, written
from leanpacs.dicom.frames import FrameSpec

_USUAL_EFFORT: Final = 3


def _refusal(spec: FrameSpec, _: WriteOptions) -> str | None:
    return image_refusal(spec)


def _write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    precision = needed_bits(values, spec)
    unsigned = twos_complement(values, precision)
    with encoding(JpegXL.name):
        encode = EncodeOptions(options.effort or _USUAL_EFFORT, precision)
        stream = JpegXL().encode(unsigned, _unsigned(spec, unsigned), encode)
    return written(stream, spec)


def _unsigned(spec: FrameSpec, values: Samples) -> FrameSpec:
    bits = 8 * values.dtype.itemsize
    return replace(spec, pixel_representation=0, bits_allocated=bits, bits_stored=min(spec.bits_stored, bits))


LOSSLESS: Final = Writer(JpegXL.name, _refusal, _write)
