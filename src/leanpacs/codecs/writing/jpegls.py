"""JPEG-LS, lossless and nearly so, with as many bits as Bits Stored says (PS3.5 8.2.3)."""

from __future__ import annotations

from typing import Final

from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.samples import image_refusal
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import (
    Writer,
    lossy_refusal,
    require_frame,
    require_within,
    twos_complement,
    usual_bits,
    written,
)
from leanpacs.dicom.frames import FrameSpec

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
    near = 0 if options.lossy is None else options.lossy.near or 0
    if near:
        require_within(values, spec)
    with encoding(JpegLS.name):
        return written(_encoded(values, spec, near), spec)


def _encoded(values: Samples, spec: FrameSpec, near: int) -> bytes:
    import jpeg_ls

    # What is nearly lossless may go up to the largest value that there is, so that must be Bits Stored's.
    precision = max(2, spec.bits_stored) if near else usual_bits(values, spec)
    try:
        return bytes(
            jpeg_ls.encode_buffer(
                twos_complement(values, precision).tobytes(),
                rows=spec.rows,
                columns=spec.columns,
                samples_per_pixel=spec.samples_per_pixel,
                bits_stored=precision,
                lossy_error=near,
                interleave_mode=None if spec.samples_per_pixel == 1 else 2,
            )
        )
    except RuntimeError:
        return _encoded_with_all_bits(values)


def _encoded_with_all_bits(values: Samples) -> bytes:
    """Without loss, for the few tiny frames whose code stream is more than twice as long: pyjpegls has no room."""
    import imagecodecs

    unsigned = values.view(f"u{values.dtype.itemsize}")
    return bytes(imagecodecs.jpegls_encode(unsigned, out=2 * unsigned.nbytes + 4096))


LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write)
NEAR_LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write, frozenset({"near"}))
