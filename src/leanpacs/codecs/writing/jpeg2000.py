"""JPEG 2000 and HTJ2K (PS3.5 8.2.4, 8.2.14, 10.18)."""

from __future__ import annotations

from typing import Any, Final

from leanpacs.codecs.codec import Samples, encoding
from leanpacs.codecs.jpeg2000 import HTJ2K, Jpeg2000
from leanpacs.codecs.samples import image_refusal, narrowed
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import Writer, needed_bits, require_frame, written
from leanpacs.dicom.frames import FrameSpec

_LEAST_BITS: Final = 8
"""OpenJPEG reserves too little for noise of one or two bits."""


def _refusal(spec: FrameSpec, _: WriteOptions) -> str | None:
    return image_refusal(spec)


def _write_jpeg2000(samples: Samples, spec: FrameSpec, _: WriteOptions) -> WrittenFrame:
    values = require_frame(samples, spec)
    precision = needed_bits(values, spec)
    with encoding(Jpeg2000.name):
        import imagecodecs

        stream = imagecodecs.jpeg2k_encode(
            narrowed(values, precision),
            level=0,
            codecformat="j2k",
            reversible=True,
            bitspersample=max(precision, _LEAST_BITS),
            mct=_is_rgb(spec),
            planar=False,
            numthreads=1,
        )
    return written(bytes(stream), spec, "YBR_RCT" if _is_rgb(spec) else "")


def _write_htj2k(samples: Samples, spec: FrameSpec, _: WriteOptions) -> WrittenFrame:
    return _htj2k(samples, spec)


def _htj2k(samples: Samples, spec: FrameSpec, **others: Any) -> WrittenFrame:
    values = require_frame(samples, spec)
    with encoding(HTJ2K.name):
        import imagecodecs

        stream = imagecodecs.htj2k_encode(
            narrowed(values, needed_bits(values, spec)), reversible=True, rgb=_is_rgb(spec), planar=False, **others
        )
    return written(bytes(stream), spec, "YBR_RCT" if _is_rgb(spec) else "")


def _is_rgb(spec: FrameSpec) -> bool:
    """Whether the colour transform is used: what undoes it will call the samples RGB."""
    return spec.samples_per_pixel == 3 and spec.photometric_interpretation == "RGB"


JPEG_2000_LOSSLESS: Final = Writer(Jpeg2000.name, _refusal, _write_jpeg2000)
HTJ2K_LOSSLESS: Final = Writer(HTJ2K.name, _refusal, _write_htj2k)
