"""JPEG-LS, lossless and nearly so, with as many bits as Bits Stored says (PS3.5 8.2.3)."""

from __future__ import annotations

from typing import Final

import numpy as np

from leanpacs.codecs import charls
from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.samples import image_refusal, narrowed
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import (
    Writer,
    in_a_byte,
    lossy_refusal,
    require_frame,
    require_within,
    twos_complement,
    usual_bits,
    value_range,
    written,
)
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

_LONGEST_SIDE: Final = 65535


def _refusal(spec: FrameSpec, options: WriteOptions) -> str | None:
    reason = image_refusal(spec)
    if reason is not None:
        return reason
    if max(spec.rows, spec.columns) > _LONGEST_SIDE:
        return f"{spec.rows} rows and {spec.columns} columns are more than JPEG-LS has"
    if options.lossy is None:
        return None
    near, largest = options.lossy.near or 0, (1 << spec.bits_stored) - 1
    if near > largest // 2:
        return f"an error of {near} with {spec.bits_stored} bits stored"
    return lossy_refusal(spec)


def _write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    if options.lossy is None:
        with encoding(JpegLS.name):
            return written(_encoded(values, usual_bits(values, spec), 0), spec)
    # An error may lead to any value that the code stream has, so it has Bits Stored; dcmtk and GDCM want 8 of 8.
    described, near = in_a_byte(spec) if spec.bits_stored <= 8 else spec, options.lossy.near or 0
    narrow = narrowed(require_within(values, spec), described.bits_allocated)
    _require_sign_kept(narrow, described, near)
    with encoding(JpegLS.name):
        return written(_encoded(narrow, described.bits_stored, near), described)


def _require_sign_kept(values: Samples, spec: FrameSpec, near: int) -> None:
    """In two's complement the largest and the smallest value are neighbours: a small error would change the sign."""
    if not spec.pixel_representation:
        return
    low, high = value_range(spec)
    smallest, largest = int(values.min()), int(values.max())
    if smallest < low + near or largest > high - near:
        raise UnsupportedFrame(f"an error of {near} may change the sign of values from {smallest} to {largest}")


def _encoded(values: Samples, precision: int, near: int) -> bytes:
    if precision == 8 * values.dtype.itemsize:
        return _encoded_with_all_bits(values, near)
    plain = np.ascontiguousarray(twos_complement(values, precision))
    try:
        return charls.encode(plain, precision, near)
    except RuntimeError:
        # The few tiny frames whose code stream is more than twice as long.
        return _encoded_with_all_bits(values, 0)


def _encoded_with_all_bits(values: Samples, near: int) -> bytes:
    """With room for any frame, but with 8 or 16 bits."""
    import imagecodecs

    unsigned = values.view(f"u{values.dtype.itemsize}")
    return bytes(imagecodecs.jpegls_encode(unsigned, level=near, out=2 * unsigned.nbytes + 4096))


LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write)
NEAR_LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write, frozenset({"near"}))
