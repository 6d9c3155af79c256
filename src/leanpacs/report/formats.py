"""The formats that are compared: how each one encodes a native frame or a head, and gives it back."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import zstandard

from leanpacs.codecs import registry
from leanpacs.codecs.bytewise import DeflatedFrame
from leanpacs.codecs.codec import Codec, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.jpeg2000 import HTJ2K, Jpeg2000
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.native import pack, unpack
from leanpacs.codecs.rle import Rle
from leanpacs.codecs.samples import from_offset_binary, image_refusal, shape_of, to_offset_binary
from leanpacs.codecs.writing import WriteOptions, write_frame, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, ReportError, UnsupportedFrame
from leanpacs.report.results import FOUND, RAW, Format

NOT_EXACT: Final = "what was decoded is not what was encoded"


class FrameFormat(Protocol):
    """Encodes one native frame, and decodes it for comparison. Without state; may be used in any process."""

    @property
    def key(self) -> str:
        """Key of the format."""
        ...

    def describe(self) -> Format:
        """What it is, for the report."""
        ...

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Compress one little endian native frame without loss, its values held to be in ``precision`` bits.

        Raises
        ------
        CodecError
            If it cannot hold the frame.
        """
        ...

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Return the frame.

        Raises
        ------
        CodecError
            If the code stream does not decode.
        """
        ...


@dataclass(frozen=True, slots=True)
class General:
    """A compressor of any bytes; applied to frames and to heads."""

    key: str
    label: str
    library: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]
    transfer_syntax: str = ""

    def describe(self) -> Format:
        """What it is."""
        return Format(self.key, self.label, "general", self.library, self.transfer_syntax)

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Compress the bytes of the frame."""
        with encoding(self.key):
            return self.compress(frame)

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Give the bytes back."""
        with decoding(self.key):
            return self.decompress(stream)


@dataclass(frozen=True, slots=True)
class Coded:
    """A codec of the archive at one effort."""

    key: str
    label: str
    codec: Codec
    effort: int
    transfer_syntax: str

    def describe(self) -> Format:
        """What it is."""
        return Format(self.key, self.label, "image", self.codec.library(), self.transfer_syntax)

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Compress."""
        return registry.encode_frame(self.codec, frame, spec, EncodeOptions(self.effort, precision))

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Give the frame back."""
        return registry.decode_frame(self.codec, stream, spec, EncodeOptions(self.effort, precision))


@dataclass(frozen=True, slots=True)
class Written:
    """A transfer syntax that the archive writes for receivers, but makes no packs of."""

    key: str
    label: str
    library: str
    transfer_syntax: str

    def describe(self) -> Format:
        """What it is."""
        return Format(self.key, self.label, "image", self.library, self.transfer_syntax)

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Compress."""
        options = WriteOptions()
        reason = write_refusal(spec, self.transfer_syntax, options)
        if reason is not None:
            raise UnsupportedFrame(reason)
        return write_frame(np.ascontiguousarray(unpack(frame, spec)), spec, self.transfer_syntax, options).stream

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Give the frame back."""
        interleaved = replace(spec, planar_configuration=0)
        return pack(registry.decode_received(stream, self.transfer_syntax, interleaved).samples, spec)


@dataclass(frozen=True, slots=True)
class Web:
    """An image format that DICOM has no transfer syntax for; signed values as offset binary.

    ``deepest`` is the most bits of a sample that it holds, ``alone`` whether it takes one sample per pixel.
    """

    key: str
    label: str
    library: str
    deepest: int
    alone: bool
    write: Callable[[Samples, int], bytes]
    read: Callable[[bytes], Samples]
    transfer_syntax: str = ""

    def describe(self) -> Format:
        """What it is."""
        return Format(self.key, self.label, "web", self.library, self.transfer_syntax)

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Compress, if the format is deep enough."""
        reason = image_refusal(spec)
        if reason is None and precision > self.deepest:
            reason = f"more than {self.deepest} bits"
        if reason is not None:
            raise UnsupportedFrame(reason)
        samples = np.ascontiguousarray(unpack(frame, spec))
        _require_bits(samples, precision)
        values = to_offset_binary(samples, precision)
        if values.ndim == 2 and not self.alone:
            values = np.repeat(values[..., None], 3, axis=2)
        with encoding(self.key):
            return self.write(np.ascontiguousarray(values), precision)

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """Give the frame back."""
        with decoding(self.key):
            values = self.read(stream)
        if spec.samples_per_pixel == 1 and values.ndim == 3:
            values = values[..., 0]
        if values.shape != shape_of(spec):
            raise DecodeError(self.key, f"samples of shape {values.shape} came out")
        return pack(from_offset_binary(np.ascontiguousarray(values), spec, precision), spec)


def _require_bits(samples: Samples, precision: int) -> None:
    signed = samples.dtype.kind == "i"
    low, high = (-(1 << precision - 1), (1 << precision - 1) - 1) if signed else (0, (1 << precision) - 1)
    if int(samples.min()) < low or int(samples.max()) > high:
        raise UnsupportedFrame(f"values stand above {precision} bits")


# ---------------------------------------------------------------------------------------- the list


def _gzip() -> General:
    return General(
        "gzip-6",
        "gzip -6",
        f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
        lambda data: gzip.compress(data, 6, mtime=0),
        gzip.decompress,
    )


def zstd(level: int) -> General:
    """Zstandard at a level, without a dictionary."""
    return General(
        f"zstd-{level}",
        f"Zstandard {level}",
        f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}",
        lambda data: zstandard.ZstdCompressor(level=level).compress(data),
        lambda stream: zstandard.ZstdDecompressor().decompress(stream),
    )


def _brotli(quality: int) -> General:
    import imagecodecs

    return General(
        f"brotli-{quality}",
        f"Brotli {quality}",
        str(imagecodecs.brotli_version()),
        lambda data: bytes(imagecodecs.brotli_encode(data, level=quality)),
        lambda stream: bytes(imagecodecs.brotli_decode(stream)),
    )


def _lzma() -> General:
    return General("lzma-6", "LZMA (xz -6)", "liblzma (Python lzma)", lzma.compress, lzma.decompress)


def _deflate() -> FrameFormat:
    return Coded("deflate", "Deflated frames", DeflatedFrame(), 6, uids.DEFLATED_FRAME)


def _jpeg_lossless() -> FrameFormat:
    import imagecodecs

    library = f"imagecodecs {imagecodecs.__version__} / {imagecodecs.jpeg8_version()}"
    return Written("jpeg-lossless", "JPEG Lossless SV1", library, uids.JPEG_LOSSLESS_SV1)


def _png() -> Web:
    import imagecodecs

    return Web(
        "png",
        "PNG",
        str(imagecodecs.png_version()),
        16,
        True,
        lambda values, _: bytes(imagecodecs.png_encode(values, level=6)),
        imagecodecs.png_decode,
    )


def _webp() -> Web:
    import imagecodecs

    return Web(
        "webp",
        "WebP lossless",
        str(imagecodecs.webp_version()),
        8,
        False,
        lambda values, _: bytes(imagecodecs.webp_encode(values, lossless=True, method=4, numthreads=1)),
        imagecodecs.webp_decode,
    )


def _avif() -> Web:
    import imagecodecs

    def write(values: Samples, bits: int) -> bytes:
        depth = next(depth for depth in (8, 10, 12) if bits <= depth)
        colour: dict[str, Any] = {"pixelformat": "444", "matrix": 0} if values.ndim == 3 else {"pixelformat": "400"}
        return bytes(
            imagecodecs.avif_encode(
                values, level=100, speed=6, bitspersample=depth, codec="aom", numthreads=1, **colour
            )
        )

    return Web(
        "avif",
        "AVIF lossless",
        str(imagecodecs.avif_version()),
        12,
        True,
        write,
        lambda stream: imagecodecs.avif_decode(stream, numthreads=1),
    )


def _jpegxl(effort: int) -> FrameFormat:
    return Coded(f"jpegxl-{effort}", f"JPEG XL e{effort}", JpegXL(), effort, uids.JPEG_XL_LOSSLESS)


_MAKERS: Final[dict[str, Callable[[], FrameFormat]]] = {
    "gzip-6": _gzip,
    "deflate": _deflate,
    "zstd-1": lambda: zstd(1),
    "zstd-3": lambda: zstd(3),
    "zstd-9": lambda: zstd(9),
    "zstd-19": lambda: zstd(19),
    "brotli-5": lambda: _brotli(5),
    "brotli-11": lambda: _brotli(11),
    "lzma-6": _lzma,
    "rle": lambda: Coded("rle", "RLE", Rle(), 0, uids.RLE),
    "jpeg-lossless": _jpeg_lossless,
    "jpegls": lambda: Coded("jpegls", "JPEG-LS", JpegLS(), 0, uids.JPEG_LS_LOSSLESS),
    "jpeg2000": lambda: Coded("jpeg2000", "JPEG 2000", Jpeg2000(), 0, uids.JPEG_2000_LOSSLESS),
    "htj2k": lambda: Coded("htj2k", "HTJ2K", HTJ2K(), 0, uids.HTJ2K_LOSSLESS_RPCL),
    "jpegxl-1": lambda: _jpegxl(1),
    "jpegxl-3": lambda: _jpegxl(3),
    "jpegxl-7": lambda: _jpegxl(7),
    "jpegxl-9": lambda: _jpegxl(9),
    "png": _png,
    "webp": _webp,
    "avif": _avif,
}

PRESETS: Final = ("leanpacs-fast", "leanpacs-balanced", "leanpacs-dense")
"""What the archive itself would store; measured as packs, not as frames."""

ALL: Final = (*_MAKERS, *PRESETS)
"""``--codecs all``: everything; the slowest take seconds for a megabyte."""

STANDARD: Final = tuple(
    key for key in ALL if key not in {"zstd-19", "brotli-11", "lzma-6", "jpegxl-9", "avif", "leanpacs-dense"}
)
"""``--codecs standard``: without those."""

QUICK: Final = tuple(
    key
    for key in STANDARD
    if key not in {"zstd-9", "brotli-5", "jpegxl-3", "jpegxl-7", "png", "webp", "leanpacs-balanced"}
)
"""``--codecs quick``: what takes about a tenth of a second for a megabyte, or less."""


def chosen(codecs: str) -> tuple[str, ...]:
    """Keys of the formats in a ``--codecs`` option: ``quick``, ``standard``, ``all``, or names
    joined by commas; ``jpegxl`` means every effort of it.

    Raises
    ------
    ReportError
        If one is not known.
    """
    keys: dict[str, None] = {}
    for word in codecs.replace(" ", "").split(","):
        found = {"all": ALL, "standard": STANDARD, "quick": QUICK}.get(word) or tuple(
            key for key in ALL if key == word or key.startswith(f"{word}-")
        )
        if not found:
            raise ReportError(f"no format is called {word!r}; there are: quick, standard, all, {', '.join(ALL)}")
        keys.update(dict.fromkeys(found))
    return tuple(key for key in ALL if key in keys)


def frame_formats(keys: Iterable[str]) -> list[FrameFormat]:
    """The formats that encode frames, of those asked for."""
    return [_MAKERS[key]() for key in keys if key in _MAKERS]


def raw() -> Format:
    """Native samples, heads as they are."""
    return Format(RAW, "raw", "baseline", "-", uids.EXPLICIT_LE)


def found() -> Format:
    """The form that the files came in."""
    return Format(FOUND, "as found", "baseline", "-")


def encode_exactly(one: FrameFormat, frame: bytes, spec: FrameSpec) -> tuple[bytes, int]:
    """Compress with Bits Stored, or with all bits when something stands above those; and say which.

    Raises
    ------
    CodecError
        If the format cannot hold the frame.
    """
    try:
        return one.encode(frame, spec, spec.bits_stored), spec.bits_stored
    except UnsupportedFrame:
        if spec.bits_stored == spec.bits_allocated:
            raise
    return one.encode(frame, spec, spec.bits_allocated), spec.bits_allocated
