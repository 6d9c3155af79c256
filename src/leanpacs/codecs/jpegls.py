"""JPEG-LS, through CharLS (ISO/IEC 14495-1; PS3.5 8.2.3, A.4.3)."""

from __future__ import annotations

import numpy as np

from leanpacs.codecs import charls
from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.headers import jpeg_header
from leanpacs.codecs.samples import (
    checked,
    decoded_spec,
    fitting,
    from_offset_binary,
    from_twos_complement,
    image_refusal,
    to_offset_binary,
)
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError

_SOF55 = 0xF7
_EOI = b"\xff\xd9"


class JpegLS:
    """Lossless JPEG-LS. Signed values are held as offset binary, for the code stream has no sign."""

    name = "jpegls"
    extension = "jls"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import imagecodecs
        import jpeg_ls

        libraries = f"imagecodecs {imagecodecs.__version__} / {imagecodecs.jpegls_version()}"
        return f"{libraries}, pyjpegls {jpeg_ls.__version__}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        return image_refusal(spec)

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame; ``effort`` has no meaning. Colour is interleaved by sample."""
        values = to_offset_binary(checked(self, samples, spec, options.precision), options.precision)
        with encoding(self.name):
            if 1 < options.precision < 8 * values.itemsize:
                stream = _encoded_with(options.precision, values)
                if stream is not None:
                    return stream
            return _encoded(values)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        samples, _ = _decoded(stream, spec)
        return from_offset_binary(samples, spec, options.precision)


def decode_received(stream: bytes, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream that came from elsewhere, lossless or nearly so.

    Signed values are two's complement, in as many bits as the code stream declares.
    """
    samples, precision = _decoded(stream, spec)
    return DecodedFrame(from_twos_complement(samples, spec, precision), decoded_spec(spec))


def _encoded_with(precision: int, values: Samples) -> bytes | None:
    """Declare as many bits as there are, which is smaller; None for what is longer than twice the samples."""
    try:
        return charls.encode(np.ascontiguousarray(values), precision)
    except RuntimeError:
        return None


def _encoded(values: Samples) -> bytes:
    import imagecodecs

    # By itself it takes noise for an error: the result does not fit what it reserves.
    return bytes(imagecodecs.jpegls_encode(values, out=2 * values.nbytes + 4096))


def _decoded(stream: bytes, spec: FrameSpec) -> tuple[Samples, int]:
    precision = readable_precision(stream, spec)
    with decoding(JpegLS.name):
        import imagecodecs

        samples = imagecodecs.jpegls_decode(ended(stream))
    return fitting(JpegLS.name, samples, spec), precision


def readable_precision(stream: bytes, spec: FrameSpec) -> int:
    """Bits of a sample in a code stream of a frame of ``spec``.

    Raises
    ------
    DecodeError
        If it is something else.
    """
    header = jpeg_header(JpegLS.name, stream)
    if header.process != _SOF55:
        raise DecodeError(JpegLS.name, "the code stream is JPEG, not JPEG-LS")
    header.shape.require(JpegLS.name, spec)
    return header.shape.precision


def ended(stream: bytes) -> bytes:
    """Put an EOI marker behind a stream that lacks it: CharLS searches for the end of a cut one for seconds."""
    return stream if stream.rstrip(b"\0").endswith(_EOI) else stream + _EOI
