"""Second decoders: other libraries that decode what was received or written, to check the first against.

None is needed to run LeanPACS; what is not installed is not listed. Where it can be, pydicom drives them, so that not
only the library but the reading of sign, planes and colour is another than in the first decoder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from leanpacs.codecs import jpeg, jpeg2000, jpegls, jpegxl, rle
from leanpacs.codecs.bytewise import Bytewise, DeflatedFrame
from leanpacs.codecs.codec import DecodedFrame, Samples, decoding
from leanpacs.codecs.jpeg2000 import MOST_HTJ2K_BITS
from leanpacs.codecs.samples import decoded_spec, dtype_of, fitting, shape_of
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

_JPEG_8_BIT: Final = (uids.JPEG_BASELINE, uids.JPEG_EXTENDED)
_JPEG_LOSSLESS: Final = (uids.JPEG_LOSSLESS, uids.JPEG_LOSSLESS_SV1)
_JPEG: Final = (*_JPEG_8_BIT, *_JPEG_LOSSLESS)
_JPEG_LS: Final = (uids.JPEG_LS_LOSSLESS, uids.JPEG_LS_NEAR_LOSSLESS)
_JPEG_2000: Final = (uids.JPEG_2000_LOSSLESS, uids.JPEG_2000)
_HTJ2K: Final = (uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL, uids.HTJ2K)
_JPEG_XL: Final = (uids.JPEG_XL_LOSSLESS, uids.JPEG_XL_RECOMPRESSION, uids.JPEG_XL)
_GDCM_WRONG_JPEG_LS_BITS: Final = (6, 7)
"""pydicom refuses these, for GDCM gives other samples."""

_Decode = Callable[[bytes, str, FrameSpec], DecodedFrame]


@dataclass(frozen=True, slots=True)
class SecondDecoder:
    """A decoder of another library.

    Parameters
    ----------
    name : str
        In reports; the name of the distribution that brings it.
    engine : str
        The library that decodes in the end. Where the first decoder has the same, another build and another binding
        are compared, not another implementation.
    module : str
        What is imported.
    transfer_syntaxes : tuple of str
        UIDs of what it decodes.
    """

    name: str
    engine: str
    module: str
    transfer_syntaxes: tuple[str, ...]
    _decode: _Decode

    @property
    def is_installed(self) -> bool:
        """Whether its library is there."""
        return sys.modules.get(self.module) is not None or find_spec(self.module) is not None

    def library(self) -> str:
        """Return name and version of what decodes."""
        return f"{self.name} {self.version()} / {self.engine}"

    def version(self) -> str:
        """Return the version of the package; '' when it is not installed."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return ""

    def decode(self, stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
        """Decode one frame, as :func:`leanpacs.codecs.registry.decode_received` does.

        Returns
        -------
        DecodedFrame
            Of the type and Photometric Interpretation that the first decoder gives.

        Raises
        ------
        DecodeError
            If the stream is damaged, or does not hold one frame of ``spec``; shapes are compared before anything is
            allocated.
        UnsupportedFrame
            If this decoder is known not to decode such frames, or not exactly.
        """
        with decoding(self.name):
            return self._decode(stream, transfer_syntax, spec)


def second_decoders(transfer_syntax: str) -> tuple[SecondDecoder, ...]:
    """The installed second decoders of a transfer syntax, other implementations before other builds of the first."""
    return tuple(decoder for decoder in known_second_decoders(transfer_syntax) if decoder.is_installed)


def known_second_decoders(transfer_syntax: str) -> tuple[SecondDecoder, ...]:
    """All second decoders of a transfer syntax, installed or not."""
    return tuple(decoder for decoder in _ALL if transfer_syntax in decoder.transfer_syntaxes)


# ------------------------------------------------------------------------------------------ through pydicom


def _by_pydicom(plugin: str) -> _Decode:
    def decode(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
        photometric = _checked(stream, transfer_syntax, spec, plugin)
        # It undoes the colour transform of lossy JPEG only when asked for more than what the library gave.
        is_raw = photometric != "RGB" or transfer_syntax not in _JPEG
        samples = _pydicom_samples(plugin, stream, transfer_syntax, spec, is_raw=is_raw)
        return DecodedFrame(samples, decoded_spec(spec, photometric))

    return decode


def _checked(stream: bytes, transfer_syntax: str, spec: FrameSpec, plugin: str) -> str:
    """Photometric Interpretation after decoding, '' when it stays; after a look at the header of the stream."""
    if transfer_syntax in _JPEG:
        header = jpeg.readable_header(stream, spec)
        if plugin == "gdcm" and spec.bits_stored < spec.bits_allocated == 8:
            raise UnsupportedFrame(f"{plugin}: JPEG with {spec.bits_stored} of 8 bits stored")  # it ends the process
        if not jpeg.is_lossless(header) and header.shape.precision > 8:
            raise UnsupportedFrame(f"{plugin}: lossy JPEG of {header.shape.precision} bits")
        return "RGB" if spec.samples_per_pixel == 3 and not jpeg.is_lossless(header) else ""
    if transfer_syntax in _JPEG_2000:
        jpeg2000.readable_header(stream, spec)
        return "RGB" if jpeg2000.is_transformed(spec) else ""
    if transfer_syntax in _JPEG_LS:
        jpegls.readable_precision(stream, spec)
        if plugin == "gdcm" and spec.bits_stored in _GDCM_WRONG_JPEG_LS_BITS:
            raise UnsupportedFrame(f"{plugin}: JPEG-LS with {spec.bits_stored} bits stored")
        if plugin == "gdcm" and transfer_syntax == uids.JPEG_LS_NEAR_LOSSLESS and _is_narrow_and_signed(spec):
            raise UnsupportedFrame(f"{plugin}: near-lossless JPEG-LS with {spec.bits_stored} bits stored, signed")
        return ""
    if spec.bits_allocated == 1 or spec.samples_per_pixel not in (1, 3):
        raise UnsupportedFrame(f"{plugin}: RLE of {spec.samples_per_pixel} samples of {spec.bits_allocated} bits")
    rle.require_possible(stream, spec)
    return ""


def _is_narrow_and_signed(spec: FrameSpec) -> bool:
    return spec.bits_stored < 8 and bool(spec.pixel_representation)


def _pydicom_samples(plugin: str, stream: bytes, transfer_syntax: str, spec: FrameSpec, *, is_raw: bool) -> Samples:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    described: dict[str, Any] = {
        "rows": spec.rows,
        "columns": spec.columns,
        "samples_per_pixel": spec.samples_per_pixel,
        "bits_allocated": spec.bits_allocated,
        "bits_stored": spec.bits_stored,
        "pixel_representation": spec.pixel_representation,
        "photometric_interpretation": spec.photometric_interpretation,
        "planar_configuration": spec.planar_configuration,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    samples, _ = get_decoder(transfer_syntax).as_array(
        encapsulate([stream]), index=0, raw=is_raw, decoding_plugin=plugin, **described
    )
    return fitting(plugin, samples, spec).astype(dtype_of(spec), copy=False)


# ------------------------------------------------------------------------------------------ by themselves


def _by_openjpeg(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    from openjpeg.utils import decode

    header = jpeg2000.readable_header(stream, spec)
    if transfer_syntax in _HTJ2K and header.shape.precision > MOST_HTJ2K_BITS:
        raise UnsupportedFrame(f"OpenJPEG: HTJ2K of {header.shape.precision} bits")
    samples = decode(stream)
    return jpeg2000.as_received(fitting("openjpeg", samples, spec), header, spec)


def _by_jpegsof3(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    import imagecodecs

    header = jpeg.readable_header(stream, spec)
    if not jpeg.is_lossless(header):
        raise UnsupportedFrame("jpegsof3: lossy JPEG")
    return jpeg.as_received(imagecodecs.jpegsof3_decode(stream), header, spec)


def _by_jxl_oxide(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    import micro_reader_codecs

    header = jpegxl.readable_header(stream, spec)
    bits = header.shape.precision
    samples = np.empty(shape_of(spec), np.uint8 if bits <= 8 else np.uint16)
    micro_reader_codecs.jxl_decode_into(stream, samples.reshape(-1).view(np.uint8))
    return jpegxl.as_received(_unscaled(samples, bits), header, transfer_syntax, spec)


def _unscaled(samples: Samples, bits: int) -> Samples:
    """Values of ``bits`` bits, out of values that were spread over all bits of their type."""
    most = np.iinfo(samples.dtype).max
    if most == (1 << bits) - 1:
        return samples
    wide = samples.astype(np.uint32) * np.uint32((1 << bits) - 1)
    values: Samples = ((wide + np.uint32(most // 2)) // np.uint32(most)).astype(samples.dtype)
    return values


class _LibDeflate(DeflatedFrame):
    def decode_bytes(self, stream: bytes, spec: FrameSpec) -> bytes:
        import imagecodecs

        expected = -(-spec.frame_bits // 8)
        return bytes(imagecodecs.deflate_decode(stream, raw=True, out=expected))


def _by_libdeflate(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    decoder: Bytewise = _LibDeflate()
    return decoder.decode_received(stream, spec)


_ALL: Final[tuple[SecondDecoder, ...]] = (
    SecondDecoder("pydicom", "pydicom", "pydicom", (uids.RLE,), _by_pydicom("pydicom")),
    SecondDecoder("python-gdcm", "IJG libjpeg 6b", "gdcm", _JPEG, _by_pydicom("gdcm")),
    SecondDecoder("imagecodecs", "jpegsof3", "imagecodecs", _JPEG_LOSSLESS, _by_jpegsof3),
    SecondDecoder("imagecodecs", "libdeflate", "imagecodecs", (uids.DEFLATED_FRAME,), _by_libdeflate),
    SecondDecoder("micro-reader-codecs", "jxl-oxide", "micro_reader_codecs", _JPEG_XL, _by_jxl_oxide),
    SecondDecoder("pylibjpeg-openjpeg", "OpenJPEG", "openjpeg", (*_HTJ2K, *_JPEG_2000), _by_openjpeg),
    SecondDecoder("python-gdcm", "OpenJPEG", "gdcm", _JPEG_2000, _by_pydicom("gdcm")),
    SecondDecoder("pyjpegls", "CharLS", "jpeg_ls", _JPEG_LS, _by_pydicom("pyjpegls")),
    SecondDecoder("python-gdcm", "CharLS", "gdcm", _JPEG_LS, _by_pydicom("gdcm")),
    SecondDecoder("pillow", "libjpeg-turbo", "PIL", _JPEG_8_BIT, _by_pydicom("pillow")),
)
