"""All codecs, by name and by transfer syntax; frames as bytes in and out; received code streams decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.codecs import jpeg, jpeg2000, jpegls, jpegxl, rle
from leanpacs.codecs.bytewise import Bytewise, DeflatedFrame, Raw, Zstd
from leanpacs.codecs.codec import Codec, DecodedFrame, EncodeOptions
from leanpacs.codecs.delta import Delta
from leanpacs.codecs.jpeg import Jpeg
from leanpacs.codecs.jpeg2000 import HTJ2K, Jpeg2000
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.levels import from_indexes, index_spec, to_indexes
from leanpacs.codecs.native import packed, unpack
from leanpacs.codecs.rle import Rle
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedTransferSyntax

__all__ = [
    "DecodedFrame",
    "all_codecs",
    "by_name",
    "decode_frame",
    "decode_received",
    "encode_frame",
    "for_transfer_syntax",
    "view_frame",
]

_BY_NAME: Final[Mapping[str, Codec]] = MappingProxyType(
    {
        codec.name: codec
        for codec in (JpegXL(), HTJ2K(), JpegLS(), Jpeg2000(), Rle(), Delta(), Zstd(), DeflatedFrame(), Raw(), Jpeg())
    }
)

# Retired processes that libjpeg-turbo decodes, too: sequential with 12 bits, progressive, lossless.
_RETIRED_JPEG = tuple(f"1.2.840.10008.1.2.4.{process}" for process in (52, 53, 54, 55, 56, 58))

_BY_SYNTAX: Final[Mapping[str, str]] = MappingProxyType(
    {
        uids.RLE: Rle.name,
        uids.JPEG_BASELINE: Jpeg.name,
        uids.JPEG_EXTENDED: Jpeg.name,
        uids.JPEG_LOSSLESS: Jpeg.name,
        uids.JPEG_LOSSLESS_SV1: Jpeg.name,
        **dict.fromkeys(_RETIRED_JPEG, Jpeg.name),
        uids.JPEG_LS_LOSSLESS: JpegLS.name,
        uids.JPEG_LS_NEAR_LOSSLESS: JpegLS.name,
        uids.JPEG_2000_LOSSLESS: Jpeg2000.name,
        uids.JPEG_2000: Jpeg2000.name,
        uids.JPEG_2000_MC_LOSSLESS: Jpeg2000.name,
        uids.JPEG_2000_MC: Jpeg2000.name,
        uids.HTJ2K_LOSSLESS: HTJ2K.name,
        uids.HTJ2K_LOSSLESS_RPCL: HTJ2K.name,
        uids.HTJ2K: HTJ2K.name,
        uids.JPEG_XL_LOSSLESS: JpegXL.name,
        uids.JPEG_XL_RECOMPRESSION: JpegXL.name,
        uids.JPEG_XL: JpegXL.name,
        uids.DEFLATED_FRAME: DeflatedFrame.name,
        uids.ENCAPSULATED_UNCOMPRESSED: Raw.name,
    }
)


def warm_up() -> None:
    """Load the libraries that most frames are decoded with."""
    import imagecodecs

    for function in ("delta_decode", "jpegls_decode", "jpegxl_decode", "jpeg2k_decode"):
        getattr(imagecodecs, function)  # each is loaded when it is first named


def all_codecs() -> tuple[Codec, ...]:
    """Every codec, those that encode first."""
    return tuple(_BY_NAME.values())


def by_name(name: str) -> Codec:
    """The codec that manifests call ``name``.

    Raises
    ------
    UnsupportedTransferSyntax
        If there is none.
    """
    codec = _BY_NAME.get(name)
    if codec is None:
        raise UnsupportedTransferSyntax(name, f"no codec is called {name!r}")
    return codec


def for_transfer_syntax(uid: str) -> Codec | None:
    """The codec of an encapsulated transfer syntax; None when :func:`decode_received` does not decode it."""
    name = _BY_SYNTAX.get(uid)
    return None if name is None else _BY_NAME[name]


def encode_frame(
    codec: Codec, frame: bytes, spec: FrameSpec, options: EncodeOptions, *, big_endian: bool = False
) -> bytes:
    """Compress the native bytes of one frame.

    Parameters
    ----------
    codec : Codec
        By which.
    frame : bytes
        As it stands in Pixel Data.
    spec : FrameSpec
        What it is.
    options : EncodeOptions
        Effort and precision.
    big_endian : bool
        Order of the bytes of each sample. Codecs that take bytes keep the order.

    Raises
    ------
    UnsupportedFrame, EncodeError
        As :meth:`Codec.encode`.
    """
    if isinstance(codec, Bytewise):
        return codec.encode_bytes(frame, spec, options)
    samples = unpack(frame, spec, big_endian=big_endian)
    if options.levels:
        samples = to_indexes(samples, spec, options.levels)
        spec = index_spec(spec, options.precision)
    return codec.encode(samples, spec, options)


def decode_frame(
    codec: Codec, stream: bytes, spec: FrameSpec, options: EncodeOptions, *, big_endian: bool = False
) -> bytes:
    """Return the native bytes that :func:`encode_frame` was given, with the same arguments.

    Raises
    ------
    DecodeError
        As :meth:`Codec.decode`.
    """
    return bytes(view_frame(codec, stream, spec, options, big_endian=big_endian))


def view_frame(
    codec: Codec, stream: bytes, spec: FrameSpec, options: EncodeOptions, *, big_endian: bool = False
) -> bytes | memoryview:
    """As :func:`decode_frame`, without a copy where that can be: to be written or digested, and let go."""
    if isinstance(codec, Bytewise):
        return codec.decode_bytes(stream, spec)
    if options.levels:
        indexes = codec.decode(stream, index_spec(spec, options.precision), options)
        samples = from_indexes(codec.name, indexes, spec, options.levels)
    else:
        samples = codec.decode(stream, spec, options)
    return packed(samples, spec, big_endian=big_endian)


def decode_received(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    """Decode one frame of encapsulated Pixel Data.

    Parameters
    ----------
    stream : bytes
        All fragments of the frame, joined; padding at the end does not matter.
    transfer_syntax : str
        UID.
    spec : FrameSpec
        What the data set says of the frame.

    Returns
    -------
    DecodedFrame
        Stored values with the type and sign that the data set says, whatever sign the code stream declares; lossy
        JPEG and transformed JPEG 2000 colour as RGB.

    Raises
    ------
    UnsupportedTransferSyntax
        If no codec decodes it.
    DecodeError
        If the stream is damaged, or does not hold one frame of ``spec``; checked before anything is allocated.
    UnsupportedFrame
        If samples of this kind have no form here.

    References
    ----------
    PS3.5 8.2, Annex A.4, Annex G.
    """
    codec = for_transfer_syntax(transfer_syntax)
    if codec is None:
        raise UnsupportedTransferSyntax(transfer_syntax)
    return _DECODERS[codec.name](stream, transfer_syntax, spec)


def _decode_htj2k(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> DecodedFrame:
    return jpeg2000.decode_received_htj2k(stream, spec, is_lossless=transfer_syntax != uids.HTJ2K)


_DECODERS: Final[Mapping[str, Callable[[bytes, str, FrameSpec], DecodedFrame]]] = MappingProxyType(
    {
        Rle.name: lambda stream, _, spec: rle.decode_received(stream, spec),
        Jpeg.name: lambda stream, _, spec: jpeg.decode_received(stream, spec),
        JpegLS.name: lambda stream, _, spec: jpegls.decode_received(stream, spec),
        Jpeg2000.name: lambda stream, _, spec: jpeg2000.decode_received(Jpeg2000.name, stream, spec),
        HTJ2K.name: _decode_htj2k,
        JpegXL.name: jpegxl.decode_received,
        DeflatedFrame.name: lambda stream, _, spec: DeflatedFrame().decode_received(stream, spec),
        Raw.name: lambda stream, _, spec: Raw().decode_received(stream, spec),
    }
)
