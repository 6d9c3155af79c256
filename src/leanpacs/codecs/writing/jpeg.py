"""JPEG: lossless of selection value 1, and lossy of 8 and 12 bits, through libjpeg-turbo (PS3.5 8.2.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpeg import Jpeg
from leanpacs.codecs.samples import image_refusal
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import (
    Writer,
    in_a_byte,
    lossy_refusal,
    require_frame,
    require_within,
    twos_complement,
    usual_bits,
    written,
)
from leanpacs.dicom.frames import FrameSpec

_LONGEST_SIDE: Final = 65500
"""Of libjpeg-turbo; the format itself ends at 65535."""

# No conversion: identifiers R, G, B and an Adobe segment keep decoders from guessing.
_UNCONVERTED: Final[dict[str, Any]] = {"colorspace": "RGB", "outcolorspace": "RGB"}


def _refusal(spec: FrameSpec, _: WriteOptions) -> str | None:
    return image_refusal(spec) or _size_refusal(spec)


def _size_refusal(spec: FrameSpec) -> str | None:
    if max(spec.rows, spec.columns) > _LONGEST_SIDE:
        return f"{spec.rows} rows and {spec.columns} columns are more than JPEG has here"
    return None


def _write_lossless(samples: Samples, spec: FrameSpec, _: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    precision = usual_bits(values, spec)
    with encoding(Jpeg.name):
        import imagecodecs

        stream = imagecodecs.jpeg8_encode(
            twos_complement(values, precision),
            lossless=True,
            predictor=1,
            bitspersample=precision,
            **(_UNCONVERTED if spec.samples_per_pixel == 3 else {}),
        )
        return written(bytes(stream), spec)


def _lossy_refusal(bits: int) -> Callable[[FrameSpec, WriteOptions], str | None]:
    def refusal(spec: FrameSpec, options: WriteOptions) -> str | None:
        reason = _refusal(spec, options) or lossy_refusal(spec)
        if reason is not None:
            return reason
        if spec.pixel_representation:
            return "signed samples: lossy JPEG has no sign"
        if bits == 8 and spec.bits_stored > 8:
            return f"{spec.bits_stored} bits stored: JPEG Baseline has 8"
        if bits == 12 and not 8 < spec.bits_stored <= 12:
            return f"{spec.bits_stored} bits stored: written are 9 to 12"
        if spec.samples_per_pixel == 1:
            return None
        if bits == 12:
            return "colour of more than 8 bits"
        known = {"RGB", "YBR_FULL", "YBR_FULL_422"}
        return None if spec.photometric_interpretation in known else f"colour {spec.photometric_interpretation!r}"

    return refusal


def _write_lossy(bits: int) -> Callable[[Samples, FrameSpec, WriteOptions], WrittenFrame]:
    def write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
        values = require_within(require_frame(samples, spec), spec)
        assert options.lossy is not None
        assert options.lossy.quality is not None
        is_colour = spec.samples_per_pixel == 3
        source = "RGB" if spec.photometric_interpretation == "RGB" else "YCBCR"
        colour: dict[str, Any] = {"colorspace": source, "outcolorspace": "YCBCR", "subsampling": "422"}
        with encoding(Jpeg.name):
            import imagecodecs

            stream = imagecodecs.jpeg8_encode(
                values.astype(np.uint8 if bits == 8 else np.uint16, copy=False),
                level=round(options.lossy.quality),
                optimize=True,
                bitspersample=bits,
                **(colour if is_colour else {}),
            )
        described = in_a_byte(spec) if bits == 8 else replace(spec, bits_stored=bits, high_bit=bits - 1)
        return written(bytes(stream), described, "YBR_FULL_422" if is_colour else "")

    return write


LOSSLESS_SV1: Final = Writer(Jpeg.name, _refusal, _write_lossless)
BASELINE: Final = Writer(Jpeg.name, _lossy_refusal(8), _write_lossy(8), frozenset({"quality"}), is_always_lossy=True)
EXTENDED: Final = Writer(Jpeg.name, _lossy_refusal(12), _write_lossy(12), frozenset({"quality"}), is_always_lossy=True)
