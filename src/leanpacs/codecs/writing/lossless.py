"""Syntaxes that hold bytes: RLE Lossless, Deflated Image Frame and Encapsulated Uncompressed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from leanpacs.codecs.bytewise import DeflatedFrame, Raw
from leanpacs.codecs.codec import Codec, EncodeOptions, Samples
from leanpacs.codecs.rle import Rle
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import Writer, written
from leanpacs.dicom.frames import FrameSpec

_USUAL_LEVEL: Final = 6


def _of_bytes(codec: Codec) -> Writer:
    def write(samples: Samples, spec: FrameSpec, options: WriteOptions) -> WrittenFrame:
        interleaved = replace(spec, planar_configuration=0)
        encode = EncodeOptions(options.effort or _USUAL_LEVEL, spec.bits_allocated)
        return written(codec.encode(samples, interleaved, encode), spec)

    def refusal(spec: FrameSpec, _: WriteOptions) -> str | None:
        if spec.is_subsampled:
            return f"{spec.photometric_interpretation}: two pixels share their chroma samples"
        return codec.refusal(spec)

    return Writer(codec.name, refusal, write)


RLE: Final = _of_bytes(Rle())
DEFLATED_FRAME: Final = _of_bytes(DeflatedFrame())
UNCOMPRESSED: Final = _of_bytes(Raw())
