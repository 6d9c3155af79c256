"""What can be decoded and encoded: a row for each transfer syntax of still images, made by asking the codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from leanpacs.codecs import registry
from leanpacs.codecs.codec import Codec
from leanpacs.codecs.second import SecondDecoder, second_decoders
from leanpacs.codecs.writing import Lossy, WriteOptions, is_lossy, writable, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import TRANSFER_SYNTAXES, TransferSyntax

_ANY_BITS: Final = "1, 8, 16, 32, 64, float"

ENGINES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jpeg": "libjpeg-turbo",
        "jpegls": "CharLS",
        "jpeg2000": "OpenJPEG",
        "htj2k": "OpenJPH",
        "jpegxl": "libjxl",
        "rle": "imagecodecs",
        "deflate": "zlib",
        "raw": "-",
    }
)
"""The library that decodes in the end, by codec; compare :attr:`SecondDecoder.engine`."""

_DECODED_BITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jpegls": "2-16",
        "jpeg2000": "1-24",
        "htj2k": "1-32",
        "jpegxl": "1-16",
        "rle": "1, 8, 16, 32",
        "deflate": _ANY_BITS,
        "raw": _ANY_BITS,
    }
)
"""Bits of a sample in the code streams that the decoder of each codec is tested with."""

_ALLOCATED: Final = (1, 8, 16, 32, 64)
_LOSSY: Final = (Lossy(quality=90), Lossy(near=2), Lossy(ratio=10), Lossy(distance=1))
_WAYS: Final = (WriteOptions(), *(WriteOptions(lossy=lossy) for lossy in _LOSSY))
_GREY: Final = FrameSpec(64, 64, 1, 8, 8, 7, 0, 0, "MONOCHROME2", 1)
_COLOUR: Final = replace(_GREY, samples_per_pixel=3, photometric_interpretation="RGB")
_HIERARCHICAL: Final = "hierarchical JPEG: no library at hand decodes it"


@dataclass(frozen=True, slots=True)
class MatrixSecond:
    """A second decoder: the package, the library that decodes in the end, and the version of the package."""

    package: str
    engine: str
    version: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """What can be done with one transfer syntax.

    Parameters
    ----------
    uid, keyword : str
        Of the transfer syntax (PS3.6 Table A-1).
    retired : bool
        Retired from the standard.
    decodes : str
        Bits of a sample in the code streams that are decoded; '' when they are not.
    encodes : str
        Bits Allocated of what can be written; '' when it is not.
    writes : tuple of str
        How it is written: ``lossless``, and for lossy forms what says how much is lost (``quality``, ``near``,
        ``ratio``, ``distance``).
    decodes_colour, encodes_colour : bool
        Also frames of three samples.
    engine, library : str
        What decodes first: the library in the end, and that with versions and the package that brings it.
    second : tuple of MatrixSecond
        The second decoders.
    note : str
        What else must be known, such as why it is not decoded.
    """

    uid: str
    keyword: str
    retired: bool
    decodes: str
    encodes: str
    writes: tuple[str, ...]
    decodes_colour: bool
    encodes_colour: bool
    engine: str
    library: str
    second: tuple[MatrixSecond, ...]
    note: str


def matrix(second: Callable[[str], Iterable[SecondDecoder]] = second_decoders) -> tuple[MatrixRow, ...]:
    """A row for each transfer syntax of still images, native ones first, by UID.

    Parameters
    ----------
    second : callable
        Second decoders of a transfer syntax; by default those that are installed.
    """
    stills = [syntax for syntax in TRANSFER_SYNTAXES.values() if _is_of_images(syntax)]
    return tuple(_row(syntax, tuple(second(syntax.uid))) for syntax in sorted(stills, key=_order))


def _is_of_images(syntax: TransferSyntax) -> bool:
    is_native = syntax.uid in {uids.IMPLICIT_LE, uids.EXPLICIT_LE, uids.EXPLICIT_BE, uids.DEFLATED_LE}
    return is_native or (syntax.encapsulated and not syntax.media_type.startswith("video/"))


def _order(syntax: TransferSyntax) -> tuple[bool, list[int]]:
    return syntax.encapsulated, [int(part) for part in syntax.uid.split(".")]


def _row(syntax: TransferSyntax, second: tuple[SecondDecoder, ...]) -> MatrixRow:
    if not syntax.encapsulated:
        return _native_row(syntax)
    codec = _decoder(syntax.uid)
    return MatrixRow(
        uid=syntax.uid,
        keyword=syntax.keyword,
        retired=syntax.retired,
        decodes="" if codec is None else _decoded_bits(syntax, codec),
        encodes=", ".join(_encoded_bits(syntax.uid)),
        writes=_writes(syntax.uid),
        decodes_colour=codec is not None,
        encodes_colour=any(_is_written(syntax.uid, how, [_COLOUR]) for how in _WAYS),
        engine="" if codec is None else ENGINES[codec.name],
        library="" if codec is None else codec.library(),
        second=tuple(MatrixSecond(decoder.name, decoder.engine, decoder.version()) for decoder in second),
        note=_note(syntax, is_decoded=codec is not None),
    )


def _decoder(uid: str) -> Codec | None:
    """The codec that decodes first: OpenJPEG where lossy HTJ2K may be."""
    return registry.by_name("jpeg2000") if uid == uids.HTJ2K else registry.for_transfer_syntax(uid)


def _native_row(syntax: TransferSyntax) -> MatrixRow:
    return MatrixRow(
        uid=syntax.uid,
        keyword=syntax.keyword,
        retired=syntax.retired,
        decodes=_ANY_BITS,
        encodes=_ANY_BITS,
        writes=("lossless",),
        decodes_colour=True,
        encodes_colour=True,
        engine="-",
        library="-",
        second=(),
        note="",
    )


def _decoded_bits(syntax: TransferSyntax, codec: Codec) -> str:
    if codec.name == "jpeg":
        return "2-16" if syntax.lossless else "8" if syntax.uid == uids.JPEG_BASELINE else "8, 12"
    return _DECODED_BITS["htj2k" if syntax.uid == uids.HTJ2K else codec.name]


def _note(syntax: TransferSyntax, *, is_decoded: bool) -> str:
    if not is_decoded:
        return _HIERARCHICAL
    if syntax.uid == uids.HTJ2K:
        return "more than 16 bits are decoded by OpenJPH"
    if syntax.uid in {uids.JPEG_2000_MC_LOSSLESS, uids.JPEG_2000_MC}:
        return "code streams of one frame without the extensions of part 2"
    if syntax.uid == "1.2.840.10008.1.2.4.58":
        return "only with Huffman coding"
    return ""


def _writes(uid: str) -> tuple[str, ...]:
    forms = ["lossless"] if _is_written(uid, WriteOptions(), (_GREY, _COLOUR)) else []
    return (*forms, *(lossy.kind for lossy in _LOSSY if _is_written(uid, WriteOptions(lossy=lossy), _eight_or_more())))


def _eight_or_more() -> tuple[FrameSpec, ...]:
    return _GREY, replace(_GREY, bits_allocated=16, bits_stored=12, high_bit=11)


def _is_written(uid: str, options: WriteOptions, specs: Iterable[FrameSpec]) -> bool:
    if uid not in writable() or (options.lossy is not None and not is_lossy(uid, options)):
        return False
    return any(write_refusal(spec, uid, options) is None for spec in specs)


def _encoded_bits(uid: str) -> list[str]:
    """Bits Allocated that some frame can be written with."""
    found = [str(bits) for bits in _ALLOCATED if any(_is_written(uid, how, _stored(bits)) for how in _WAYS)]
    floating = replace(_GREY, bits_allocated=32, bits_stored=32, high_bit=31, kind="float")
    return [*found, "float"] if _is_written(uid, WriteOptions(), [floating]) else found


def _stored(bits: int) -> list[FrameSpec]:
    """Frames with all bits stored, and with twelve as the lossy ones want it."""
    full = replace(_GREY, bits_allocated=bits, bits_stored=bits, high_bit=bits - 1)
    return [full, replace(full, bits_stored=12, high_bit=11)] if bits > 12 else [full]
