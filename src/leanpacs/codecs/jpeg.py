"""JPEG as it is received, through libjpeg-turbo: lossy of 8 and 12 bits, lossless (ISO/IEC 10918-1; PS3.5 8.2.1)."""

from __future__ import annotations

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding
from leanpacs.codecs.headers import JpegHeader, jpeg_header
from leanpacs.codecs.samples import decoded_spec, fitting, from_twos_complement
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame

_LOSSLESS = 0xC3
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2, _LOSSLESS})
_UNREADABLE = {
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xCB: "lossless with arithmetic coding",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
    0xF7: "JPEG-LS",
}
_RGB_IDS = ((0x52, 0x47, 0x42), (0x72, 0x67, 0x62))


class Jpeg:
    """JPEG is only decoded: nothing is encoded with it here."""

    name = "jpeg"
    extension = "jpg"

    def library(self) -> str:
        """Return name and version of what decodes."""
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__} / {imagecodecs.jpeg8_version()}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Refuse everything."""
        return "JPEG is decoded only"

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Refuse."""
        raise UnsupportedFrame(f"{self.name}: {self.refusal(spec)}")

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream, as :func:`decode_received` does."""
        return decode_received(stream, spec).samples


def decode_received(stream: bytes, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream.

    Lossy colour becomes RGB when the code stream or Photometric Interpretation says that it is YCbCr; lossless values
    are left as they are.

    Raises
    ------
    DecodeError
        If the code stream is damaged or not of ``spec``.
    UnsupportedFrame
        If it is hierarchical, or lossless with arithmetic coding: no library here decodes these.
    """
    header = readable_header(stream, spec)
    with decoding(Jpeg.name):
        samples = _samples(stream, header, spec)
    return as_received(samples, header, spec)


def readable_header(stream: bytes, spec: FrameSpec) -> JpegHeader:
    """Header of a code stream of a frame of ``spec``, of a process that can be decoded.

    Raises
    ------
    DecodeError, UnsupportedFrame
        As :func:`decode_received`.
    """
    header = jpeg_header(Jpeg.name, stream)
    header.shape.require(Jpeg.name, spec)
    if header.is_hierarchical or header.process in _UNREADABLE:
        process = _UNREADABLE.get(header.process, "hierarchical")
        raise UnsupportedFrame(f"{Jpeg.name}: the code stream is {process}")
    _require_enough(stream, header)
    return header


def _require_enough(stream: bytes, header: JpegHeader) -> None:
    """Refuse a code stream that is too short to hold what it declares: libjpeg fills up what is not there.

    Huffman coding takes at least one bit for each sample of a lossless process, and for each block of 64 of the others.
    """
    if header.process in _HUFFMAN:
        side = 1 if header.process == _LOSSLESS else 8
        least_bits = -(-header.shape.rows // side) * -(-header.shape.columns // side)
        if least_bits > 8 * len(stream):
            raise DecodeError(Jpeg.name, f"{len(stream)} bytes cannot hold {header.shape.rows} rows")


def as_received(samples: Samples, header: JpegHeader, spec: FrameSpec) -> DecodedFrame:
    """Samples as a decoder gave them, with the sign and the colour space that DICOM gives them."""
    values = from_twos_complement(fitting(Jpeg.name, samples, spec), spec, header.shape.precision)
    is_rgb = spec.samples_per_pixel == 3 and header.process != _LOSSLESS
    return DecodedFrame(values, decoded_spec(spec, "RGB" if is_rgb else ""))


def is_lossless(header: JpegHeader) -> bool:
    """Whether the process is lossless (with Huffman coding)."""
    return header.process == _LOSSLESS


def is_ybr(header: JpegHeader, spec: FrameSpec) -> bool:
    """Whether three components are YCbCr: the code stream is believed first, for it cannot be relabelled."""
    if header.shape.samples != 3 or header.process == _LOSSLESS or header.component_ids in _RGB_IDS:
        return False
    if header.adobe_transform is not None:
        return header.adobe_transform == 1
    return header.has_jfif or spec.photometric_interpretation.startswith("YBR")


def _samples(stream: bytes, header: JpegHeader, spec: FrameSpec) -> Samples:
    import imagecodecs

    if header.shape.samples == 3:
        space = "YCBCR" if is_ybr(header, spec) else "RGB"
        return imagecodecs.jpeg8_decode(stream, colorspace=space, outcolorspace="RGB")
    if header.process != _LOSSLESS:
        return imagecodecs.jpeg8_decode(stream)
    try:
        return imagecodecs.jpeg8_decode(stream)
    except RuntimeError:
        # libjpeg-turbo wants Huffman tables by the letter; old writers were not so exact.
        return imagecodecs.jpegsof3_decode(stream)
