"""Data sets from one encoding of elements to another: explicit or implicit VR, little or big endian.

Re-encoding moves bytes: headers are written anew, words of values are swapped where the byte order changes, nothing is
decoded. So values come out as they went in, be they valid or not.

References
----------
PS3.5 7.1, 7.5, 6.2.2 (UN), A.1 to A.3 (the encodings), A.4 (encapsulation).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from pydicom.charset import default_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from leanpacs.dicom import text
from leanpacs.dicom.elements import PIXEL_TAGS, UNDEFINED
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

EXPLICIT_LITTLE: Final = Encoding(implicit_vr=False, little_endian=True)
IMPLICIT_LITTLE: Final = Encoding(implicit_vr=True, little_endian=True)
EXPLICIT_BIG: Final = Encoding(implicit_vr=False, little_endian=False)


class NestedPixels(NamedTuple):
    """A new value for the Pixel Data of a sequence item.

    ``value`` is native in little endian order, or, when ``encapsulated``, an offset table and fragments with their
    delimiter, which only an explicit little endian target can take. ``vr`` is OB or OW.
    """

    value: bytes
    encapsulated: bool = False
    vr: str = "OW"


IconRecoder: TypeAlias = Callable[[Dataset], NestedPixels | None]
"""Gives the Pixel Data of a sequence item in another form.

It is given the item as it was read, its Pixel Data encapsulated (undefined length) or native. It may change the item's
Image Pixel attributes (such as Photometric Interpretation), which are then written too. None drops an item whose Pixel
Data is encapsulated, and leaves native Pixel Data as it is.
"""

Changes: TypeAlias = Mapping[str, Any]
"""New values by keyword, as `pydicom.dataelem.DataElement` takes them; None removes the element."""

NO_CHANGES: Final[Changes] = MappingProxyType({})

_PIXEL_DATA: Final = 0x7FE00010
_PIXEL_DATA_MARK: Final = b"\xe0\x7f\x10\x00"
_PIXEL_REPRESENTATION: Final = 0x00280103
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_PLAIN_VRS: Final = VRS - {"SQ", "UN"}
"""What explicit elements may say of themselves, and need no look inside."""
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


def reencode(
    data: bytes,
    source: Encoding,
    target: Encoding,
    *,
    changes: Changes = NO_CHANGES,
    recode_icon: IconRecoder | None = None,
    native_icons_too: bool = False,
) -> bytes:
    """Re-encode a head, or a tail, without its top-level Pixel Data.

    Group lengths are left out. Elements that are encoded as they should be already keep every byte, sequences unless
    there is Pixel Data inside that is to be given another form. Implicit elements get their VR from the dictionaries;
    those that are unknown, or too long for their VR, become UN (PS3.5 6.2.2).

    Parameters
    ----------
    data : bytes
        Elements of a data set, which may end with the header of its Pixel Data.
    source, target : Encoding
        The encoding of ``data``, and the one wanted; big endian is explicit (PS3.5 A.3).
    changes : mapping of str to value
        See `Changes`.
    recode_icon : callable, optional
        See `IconRecoder`; without it, items with encapsulated Pixel Data are dropped, and sequences of nothing else
        with them.
    native_icons_too : bool
        Give native Pixel Data of items to ``recode_icon``, too.

    Raises
    ------
    DicomError
        The elements cannot be read to their end.
    """
    found = list(elements(data, source))
    return _Reencoder(data, target, recode_icon, native_icons_too).data_set(found, changes)


def element_header(tag: int, vr: str, length: int | None, target: Encoding) -> bytes:
    """Header of an element; ``length`` in bytes, None when it is undefined. UN where the VR cannot be that long."""
    order = "<" if target.little_endian else ">"
    group, number = tag >> 16, tag & 0xFFFF
    known = UNDEFINED if length is None else length
    if target.implicit_vr:
        return struct.pack(order + "HHL", group, number, known)
    if vr not in LONG_VRS and known <= 0xFFFF:
        return struct.pack(order + "HH2sH", group, number, vr.encode("ascii"), known)
    vr = vr if vr in LONG_VRS else "UN"
    return struct.pack(order + "HH2sHL", group, number, vr.encode("ascii"), 0, known)


@dataclass(frozen=True, slots=True)
class _Reencoder:
    """Re-encodes elements of ``data``."""

    data: bytes
    target: Encoding
    recode_icon: IconRecoder | None
    native_icons_too: bool

    def data_set(self, found: list[Element], changes: Changes) -> bytes:
        kept = [element for element in found if element.tag not in PIXEL_TAGS]
        declared = next((self._value(e) for e in kept if e.tag == _SPECIFIC_CHARACTER_SET), b"")
        encoded = self._encode_changes(changes, text.encodings(declared))
        return self._level(kept, encoded, is_signed=False, depth=0)

    def _value(self, element: Element) -> bytes:
        return self.data[element.start : element.stop]

    def _level(self, found: list[Element], changes: Mapping[int, bytes], *, is_signed: bool, depth: int) -> bytes:
        """One data set or item in the order of its tags; ``changes`` are encoded, b'' removes an element."""
        creators: dict[int, str] = {}
        encoded = list(changes.items())
        encoding, is_as_wanted = self.target, not self.target.implicit_vr
        for element in found:
            tag = element.tag
            if tag == _PIXEL_REPRESENTATION:
                is_signed = 1 in self._value(element)
            elif is_private_creator(tag):
                creators[private_block(tag)] = text.decode_ascii(self._value(element)).strip(" \0")
            if not tag & 0xFFFF or tag in changes:
                continue
            if element.encoding is not encoding:
                encoding = element.encoding
                is_as_wanted = encoding == self.target and not encoding.implicit_vr
            if is_as_wanted and element.vr in _PLAIN_VRS and not element.undefined:
                encoded.append((tag, self.data[element.offset : element.end]))
            else:
                vr = actual_vr(element.vr, tag, creator=creator_of(tag, creators), is_signed=is_signed)
                encoded.append((tag, self._element(element, vr, is_signed=is_signed, depth=depth)))
        encoded.sort(key=itemgetter(0))
        return b"".join(element for _, element in encoded)

    def _element(self, element: Element, vr: str, *, is_signed: bool, depth: int) -> bytes:
        as_it_is = self.data[element.offset : element.end]
        is_readable = element.encoding == self.target and (self.target.implicit_vr or element.vr in VRS)
        is_sequence = vr == "SQ" or (element.undefined and not element.is_encapsulated)
        if is_readable and not (is_sequence and (depth or self._holds_pixels(element, 0))):
            return as_it_is
        if is_sequence:
            try:
                return self._sequence(element, is_signed=is_signed, depth=depth)
            except DicomError:
                if is_readable:
                    return as_it_is
                # What is implicit little endian may stand in UN as it is; nothing else may.
                if element.undefined or element.encoding != IMPLICIT_LITTLE:
                    raise
                vr = "UN"
        value = self._value(element)
        if element.encoding.little_endian != self.target.little_endian:
            value = little_endian_words(vr, value, little_endian=False)
        return self._encoded(element.tag, vr, value)

    def _sequence(self, element: Element, *, is_signed: bool, depth: int) -> bytes:
        if depth >= MAX_DEPTH:
            raise DicomError(f"sequences are nested deeper than {MAX_DEPTH}")
        received = sequence_items(self.data, element)
        items = [self._item(item, is_signed=is_signed, depth=depth + 1) for item in received]
        header = "<HHL" if self.target.little_endian else ">HHL"
        kept = [struct.pack(header, 0xFFFE, 0xE000, len(item)) + item for item in items if item is not None]
        return b"" if items and not kept else self._encoded(element.tag, "SQ", b"".join(kept))

    def _item(self, item: list[Element], *, is_signed: bool, depth: int) -> bytes | None:
        """One item, None when it is to be dropped."""
        pixel = next((element for element in item if self._is_recoded(element)), None)
        changes: dict[int, bytes] | None = {}
        if pixel is not None:
            changes = self._recoded_icon(item, pixel)
        return None if changes is None else self._level(item, changes, is_signed=is_signed, depth=depth)

    def _is_recoded(self, element: Element) -> bool:
        return element.is_encapsulated or (self.native_icons_too and element.tag == _PIXEL_DATA)

    def _recoded_icon(self, item: list[Element], pixel: Element) -> dict[int, bytes] | None:
        """The elements of an item that change when its Pixel Data gets another form; None drops the item."""
        dropped = None if pixel.is_encapsulated else dict[int, bytes]()
        if self.recode_icon is None:
            return dropped
        encoded = io.BytesIO(self.data[item[0].offset : item[-1].end])
        ds = read_dataset(encoded, item[0].encoding.implicit_vr, item[0].encoding.little_endian)
        before = {keyword: ds.get(keyword) for keyword in _IMAGE_PIXEL}
        pixels = self.recode_icon(ds)
        if pixels is None:
            return dropped
        changes = {keyword: ds.get(keyword) for keyword, value in before.items() if ds.get(keyword) != value}
        return {**self._encode_changes(changes, text.UNDECLARED), _PIXEL_DATA: self._encoded_pixels(pixels)}

    def _encoded_pixels(self, pixels: NestedPixels) -> bytes:
        if pixels.encapsulated:
            return element_header(_PIXEL_DATA, "OB", None, self.target) + pixels.value
        value = pixels.value + b"\0" * (len(pixels.value) % 2)
        if not self.target.little_endian:
            value = little_endian_words(pixels.vr, value, little_endian=False)
        return self._encoded(_PIXEL_DATA, pixels.vr, value)

    def _holds_pixels(self, sequence: Element, depth: int) -> bool:
        """Whether Pixel Data to be recoded is in an item of a sequence, or of a sequence within it."""
        if depth >= MAX_DEPTH or self.data.find(_PIXEL_DATA_MARK, sequence.start, sequence.stop) < 0:
            return False
        with suppress(DicomError):
            return any(
                self._is_recoded(inner)
                or ((inner.vr in ("SQ", None) or inner.undefined) and self._holds_pixels(inner, depth + 1))
                for item in sequence_items(self.data, sequence)
                for inner in item
            )
        return False

    def _encode_changes(self, changes: Changes, declared: text.Encodings) -> dict[int, bytes]:
        """The elements of `Changes`, encoded, by tag; b'' for those to be removed."""
        encoded: dict[int, bytes] = {}
        for keyword, value in changes.items():
            tag = tag_for_keyword(keyword)
            if tag is None:
                raise ValueError(f"{keyword} is no keyword of the data dictionary")
            encoded[tag] = b"" if value is None else self._encode_change(tag, value, declared)
        return encoded

    def _encode_change(self, tag: int, value: object, declared: text.Encodings) -> bytes:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = self.target.little_endian, self.target.implicit_vr
        element = DataElement(BaseTag(tag), actual_vr(None, tag), value)
        write_data_element(buffer, element, [codec or default_encoding for codec in declared])
        return buffer.getvalue()

    def _encoded(self, tag: int, vr: str, value: bytes) -> bytes:
        return element_header(tag, vr, len(value), self.target) + value
