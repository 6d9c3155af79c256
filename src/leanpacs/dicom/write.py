"""Writing: file meta information, and data sets re-encoded as Explicit VR Little Endian.

Re-encoding moves bytes: headers are written anew, words of big endian values are swapped, nothing is decoded.
So values come out as they went in, be they valid or not.

References
----------
PS3.10 7.1 (file meta information), PS3.5 7.1, 7.5 and A.2 (Explicit VR Little Endian), A.4 (encapsulation).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from pydicom.charset import default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from leanpacs.dicom import text
from leanpacs.dicom.elements import PIXEL_TAGS
from leanpacs.dicom.tree import MAX_DEPTH, Element, Encoding, elements, sequence_items
from leanpacs.dicom.vrs import (
    LONG_VRS,
    VRS,
    actual_vr,
    creator_of,
    is_private_creator,
    little_endian_words,
    private_block,
)
from leanpacs.errors import DicomError

IMPLEMENTATION_CLASS_UID: Final = "2.25.28212775306820069518154480169144470433"
"""Implementation Class UID (0002,0012) of everything this package writes."""
IMPLEMENTATION_VERSION_NAME: Final = "LEANPACS_0.1"
"""Implementation Version Name (0002,0013)."""

IconDecoder: TypeAlias = Callable[[Dataset, str], bytes | None]
"""Decodes the encapsulated Pixel Data of a sequence item to native samples in little endian order.

It is given the item and the transfer syntax of the instance. It may change the item's Image Pixel attributes
(such as Photometric Interpretation), which are then written too; None drops the item.
"""

Changes: TypeAlias = Mapping[str, Any]
"""New values by keyword, as `pydicom.dataelem.DataElement` takes them; None removes the element."""

_EXPLICIT_LE: Final = Encoding(implicit_vr=False, little_endian=True)
_IMPLICIT_LE: Final = Encoding(implicit_vr=True, little_endian=True)
_PIXEL_DATA: Final = 0x7FE00010
_PIXEL_DATA_MARK: Final = b"\xe0\x7f\x10\x00"
_PIXEL_REPRESENTATION: Final = 0x00280103
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_LONGEST_VALUE: Final = 2**32 - 2
_ONLY_ENCAPSULATED: Final = (
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "EncapsulatedPixelDataValueTotalLength",
)
_IMAGE_PIXEL: Final = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_NO_CHANGES: Final[Changes] = MappingProxyType({})


def file_meta(sop_class: str, sop_uid: str, transfer_syntax: str, source_ae: str | None = None) -> bytes:
    """Preamble, prefix and file meta information of a file.

    Parameters
    ----------
    sop_class, sop_uid : str
        UIDs of the instance.
    transfer_syntax : str
        UID of the transfer syntax of the data set that follows.
    source_ae : str, optional
        Title of the application entity that sent the instance.
    """
    group = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"),
            _element(0x00020002, "UI", _padded(sop_class, b"\0")),
            _element(0x00020003, "UI", _padded(sop_uid, b"\0")),
            _element(0x00020010, "UI", _padded(transfer_syntax, b"\0")),
            _element(0x00020012, "UI", _padded(IMPLEMENTATION_CLASS_UID, b"\0")),
            _element(0x00020013, "SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
            _element(0x00020016, "AE", _padded(source_ae, b" ")) if source_ae else b"",
        )
    )
    return b"\0" * 128 + b"DICM" + _element(0x00020000, "UL", struct.pack("<L", len(group))) + group


def read_head(head: bytes, *, implicit_vr: bool, little_endian: bool) -> Dataset:
    """Data set of the elements before Pixel Data, whose header ``head`` may end with."""
    return read_dataset(
        io.BytesIO(head), implicit_vr, little_endian, stop_when=lambda tag, _vr, _length: tag in PIXEL_TAGS
    )


def explicit_le(
    head: bytes,
    *,
    implicit_vr: bool,
    little_endian: bool,
    changes: Changes = _NO_CHANGES,
    transfer_syntax: str = "",
    decode_icon: IconDecoder | None = None,
) -> bytes:
    """Re-encode a head, or a tail, as Explicit VR Little Endian without its top-level Pixel Data.

    Group lengths are left out. Elements that are explicit little endian already keep every byte, sequences
    unless there is encapsulated Pixel Data inside. Implicit elements get their VR from the dictionaries;
    those that are unknown, or too long for their VR, become UN (PS3.5 6.2.2).

    Parameters
    ----------
    head : bytes
        Elements of a data set, which may end with the header of its Pixel Data.
    implicit_vr, little_endian : bool
        The encoding of ``head``.
    changes : mapping of str to value
        See `Changes`.
    transfer_syntax : str
        UID that ``decode_icon`` is told.
    decode_icon : callable, optional
        See `IconDecoder`; without it, items with encapsulated Pixel Data are dropped, and sequences of
        nothing else with them.

    Raises
    ------
    DicomError
        The elements cannot be read to their end.
    """
    found = list(elements(head, Encoding(implicit_vr, little_endian)))
    return _Transcoder(head, transfer_syntax, decode_icon).data_set(found, changes)


def native_head(
    head: bytes,
    *,
    implicit_vr: bool,
    little_endian: bool,
    pixel_length: int,
    pixel_vr: str = "OW",
    changes: Changes = _NO_CHANGES,
    transfer_syntax: str = "",
    decode_icon: IconDecoder | None = None,
) -> bytes:
    """Head of a native Explicit VR Little Endian instance: all up to the value of Pixel Data.

    As `explicit_le`; the attributes that describe encapsulated Pixel Data are removed as well.

    Parameters
    ----------
    head : bytes
        As received: it ends with the header of Pixel Data (or Float or Double Float Pixel Data).
    pixel_length : int
        Length in bytes of the native samples that will follow, padding to even length included.
    pixel_vr : str
        OB (only up to 8 bits allocated), OW, OF or OD.

    Raises
    ------
    DicomError
        The elements cannot be read to their end, or native Pixel Data cannot be that long.
    """
    if pixel_length > _LONGEST_VALUE or pixel_length % 2:
        raise DicomError(
            f"Pixel Data of {pixel_length} bytes cannot be sent uncompressed: "
            f"its length has to be even and at most {_LONGEST_VALUE}"
        )
    found = list(elements(head, Encoding(implicit_vr, little_endian)))
    tag = next((element.tag for element in reversed(found) if element.tag in PIXEL_TAGS), _PIXEL_DATA)
    native = {**dict.fromkeys(_ONLY_ENCAPSULATED), **changes}
    before = _Transcoder(head, transfer_syntax, decode_icon).data_set(found, native)
    return before + _header(tag, pixel_vr, pixel_length)


@dataclass(frozen=True, slots=True)
class _Transcoder:
    """Re-encodes elements of ``data`` as Explicit VR Little Endian."""

    data: bytes
    transfer_syntax: str
    decode_icon: IconDecoder | None

    def data_set(self, found: list[Element], changes: Changes) -> bytes:
        kept = [element for element in found if element.tag not in PIXEL_TAGS]
        declared = next((self._value(e) for e in kept if e.tag == _SPECIFIC_CHARACTER_SET), b"")
        return self._level(kept, _encode_changes(changes, text.encodings(declared)), is_signed=False, depth=0)

    def _value(self, element: Element) -> bytes:
        return self.data[element.start : element.stop]

    def _level(self, found: list[Element], changes: Mapping[int, bytes], *, is_signed: bool, depth: int) -> bytes:
        """One data set or item in the order of its tags; ``changes`` are encoded, b'' removes an element."""
        creators: dict[int, str] = {}
        encoded = list(changes.items())
        for element in found:
            tag = element.tag
            if tag == _PIXEL_REPRESENTATION:
                is_signed = 1 in self._value(element)
            elif is_private_creator(tag):
                creators[private_block(tag)] = text.decode_ascii(self._value(element)).strip(" \0")
            if tag & 0xFFFF and tag not in changes:
                vr = actual_vr(element.vr, tag, creator=creator_of(tag, creators), is_signed=is_signed)
                encoded.append((tag, self._element(element, vr, is_signed=is_signed, depth=depth)))
        encoded.sort(key=itemgetter(0))
        return b"".join(element for _, element in encoded)

    def _element(self, element: Element, vr: str, *, is_signed: bool, depth: int) -> bytes:
        as_it_is = self.data[element.offset : element.end]
        is_readable = element.encoding == _EXPLICIT_LE and element.vr in VRS
        is_sequence = vr == "SQ" or (element.undefined and not element.is_encapsulated)
        if is_readable and not (is_sequence and (depth or _holds_encapsulated(self.data, element, 0))):
            return as_it_is
        if is_sequence:
            try:
                return self._sequence(element, is_signed=is_signed, depth=depth)
            except DicomError:
                if is_readable:
                    return as_it_is
                # What is implicit little endian may stand in UN as it is; nothing else may.
                if element.undefined or element.encoding != _IMPLICIT_LE:
                    raise
                vr = "UN"
        value = little_endian_words(vr, self._value(element), little_endian=element.encoding.little_endian)
        return _element(element.tag, vr, value)

    def _sequence(self, element: Element, *, is_signed: bool, depth: int) -> bytes:
        if depth >= MAX_DEPTH:
            raise DicomError(f"sequences are nested deeper than {MAX_DEPTH}")
        received = sequence_items(self.data, element)
        items = [self._item(item, is_signed=is_signed, depth=depth + 1) for item in received]
        kept = [struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in items if item is not None]
        return b"" if items and not kept else _element(element.tag, "SQ", b"".join(kept))

    def _item(self, item: list[Element], *, is_signed: bool, depth: int) -> bytes | None:
        """One item, None when it is to be dropped."""
        pixel = next((element for element in item if element.is_encapsulated), None)
        if pixel is None:
            return self._level(item, {}, is_signed=is_signed, depth=depth)
        changes = self._decoded_icon(item)
        return None if changes is None else self._level(item, changes, is_signed=is_signed, depth=depth)

    def _decoded_icon(self, item: list[Element]) -> dict[int, bytes] | None:
        """The elements of an item that change when its Pixel Data is decoded."""
        if self.decode_icon is None:
            return None
        encoded = io.BytesIO(self.data[item[0].offset : item[-1].end])
        ds = read_dataset(encoded, item[0].encoding.implicit_vr, item[0].encoding.little_endian)
        before = {keyword: ds.get(keyword) for keyword in _IMAGE_PIXEL}
        samples = self.decode_icon(ds, self.transfer_syntax)
        if samples is None:
            return None
        changes = {keyword: ds.get(keyword) for keyword, value in before.items() if ds.get(keyword) != value}
        pixel_data = _element(_PIXEL_DATA, "OW", samples + b"\0" * (len(samples) % 2))
        return {**_encode_changes(changes, text.UNDECLARED), _PIXEL_DATA: pixel_data}


def _holds_encapsulated(data: bytes, sequence: Element, depth: int) -> bool:
    """Whether encapsulated Pixel Data is in an item of a sequence, or of a sequence within it."""
    if depth >= MAX_DEPTH or data.find(_PIXEL_DATA_MARK, sequence.start, sequence.stop) < 0:
        return False
    with suppress(DicomError):
        return any(
            inner.is_encapsulated
            or ((inner.vr == "SQ" or inner.undefined) and _holds_encapsulated(data, inner, depth + 1))
            for item in sequence_items(data, sequence)
            for inner in item
        )
    return False


def _encode_changes(changes: Changes, declared: text.Encodings) -> dict[int, bytes]:
    """The elements of `Changes`, encoded, by tag; b'' for those to be removed."""
    encoded: dict[int, bytes] = {}
    for keyword, value in changes.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no keyword of the data dictionary")
        encoded[tag] = b"" if value is None else _encode_element(tag, value, declared)
    return encoded


def _encode_element(tag: int, value: object, declared: text.Encodings) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    element = DataElement(BaseTag(tag), actual_vr(None, tag), value)
    write_data_element(buffer, element, [codec or default_encoding for codec in declared])
    return buffer.getvalue()


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """An explicit little endian element, as UN when the value is too long for the VR."""
    return _header(tag, vr, len(value)) + value


def _header(tag: int, vr: str, length: int) -> bytes:
    if vr not in LONG_VRS and length <= 0xFFFF:
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), length)
    vr = vr if vr in LONG_VRS else "UN"
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, length)


def _padded(value: str, padding: bytes) -> bytes:
    encoded = value.encode("ascii", "replace")
    return encoded + padding * (len(encoded) % 2)
