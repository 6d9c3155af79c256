"""JPEG-LS, lossless and nearly so, with as many bits as Bits Stored says (PS3.5 8.2.3)."""

from __future__ import annotations

from typing import Final

from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.samples import image_refusal
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import Writer, needed_bits, require_frame, twos_complement, written
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

_LEAST_BITS: Final = 2


def _refusal(spec: FrameSpec, options: WriteOptions) -> str | None:
    reason = image_refusal(spec)
    if reason is not None or options.lossy is None:
        return reason
    if spec.photometric_interpretation == "PALETTE COLOR":
        return "palette indexes have no neighbours that are nearly the same"
    if spec.high_bit != spec.bits_stored - 1:
        return f"High Bit {spec.high_bit} with {spec.bits_stored} bits stored"
    near, largest = options.lossy.near or 0, (1 << spec.bits_stored) - 1
    return None if near <= largest // 2 else f"an error of {near} with {spec.bits_stored} bits stored"


def _write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    precision = max(needed_bits(values, spec), _LEAST_BITS)
    near = 0 if options.lossy is None else options.lossy.near or 0
    if near and precision > max(spec.bits_stored, _LEAST_BITS):
        raise UnsupportedFrame(f"{JpegLS.name}: values beyond the {spec.bits_stored} bits stored")
    with encoding(JpegLS.name):
        return written(_encoded(values, spec, precision, near), spec)


def _encoded(values: Samples, spec: FrameSpec, precision: int, near: int) -> bytes:
    import jpeg_ls

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
    """For the few tiny frames whose code stream is more than twice as long: pyjpegls has no room for them."""
    import imagecodecs

    unsigned = values.view(f"u{values.dtype.itemsize}")
    return bytes(imagecodecs.jpegls_encode(unsigned, out=2 * unsigned.nbytes + 4096))


LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write)
NEAR_LOSSLESS: Final = Writer(JpegLS.name, _refusal, _write, frozenset({"near"}))
