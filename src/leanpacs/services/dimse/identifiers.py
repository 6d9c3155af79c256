"""Identifiers of queries and retrievals: their keys as text, and answers in the same encoding (PS3.4 C.2).

References
----------
PS3.5 7.1 (elements), 6.1 and PS3.3 C.12.1.1.2 (Specific Character Set).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import correct_ambiguous_vr, write_data_element

from leanpacs.dicom import text
from leanpacs.dicom.datadict import keyword_of, vr_of
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.errors import InvalidQuery

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

SYNTAXES: Final = (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE)
"""Transfer syntaxes that identifiers are read and written in, the preferred one first."""
LONGEST_BYTES: Final = 4 << 20

_CHARACTER_SET: Final = 0x00080005
_LONG_VRS: Final = frozenset({"OB", "OW", "UN", "UR", "UT", "UC", "SQ"})
_TEXT_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_BINARY: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}
_UTF_8: Final = "ISO_IR 192"
_LONGEST_SHORT: Final = 0xFFFE


@dataclass(frozen=True, slots=True)
class Key:
    """One element of an identifier; ``text`` is None for a sequence and whatever else is no text."""

    tag: int
    keyword: str
    vr: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a request names.

    Parameters
    ----------
    keys : mapping of int to Key
        By tag, without Specific Character Set and group lengths.
    character_set : str
        Value of Specific Character Set; '' when it is absent.
    """

    keys: Mapping[int, Key]
    character_set: str = ""

    def text(self, tag: int) -> str:
        """Text of a key, '' when it is absent or empty."""
        key = self.keys.get(tag)
        return (key.text or "").strip() if key else ""


def read_identifier(parts: Iterable[bytes | memoryview], transfer_syntax: str) -> Identifier:
    """Read an identifier.

    Raises
    ------
    InvalidQuery
        It is too long, or does not read as a data set.
    """
    encoded = collected(parts)
    little = transfer_syntax != EXPLICIT_BE
    try:
        ds = read_dataset(io.BytesIO(encoded), transfer_syntax == IMPLICIT_LE, little)
        elements = [ds.get_item(tag) for tag in sorted(ds.keys())]
        declared = next((_raw(item) for item in elements if item.tag == _CHARACTER_SET), b"")
        codecs = text.encodings(declared) if declared.strip(b" \0") else text.UNDECLARED
        keys = [
            _key(int(item.tag), item, codecs, little)
            for item in elements
            if item.tag != _CHARACTER_SET and int(item.tag) & 0xFFFF
        ]
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise InvalidQuery("Identifier", f"cannot be read: {error}") from error
    return Identifier({key.tag: key for key in keys}, declared.decode("latin-1").strip(" \0"))


def read_data_set(parts: Iterable[bytes | memoryview], transfer_syntax: str) -> Dataset:
    """Read an identifier whole, sequences included; raises as `read_identifier`."""
    encoded = collected(parts)
    try:
        ds = read_dataset(io.BytesIO(encoded), transfer_syntax == IMPLICIT_LE, transfer_syntax != EXPLICIT_BE)
        ds.decode()
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise InvalidQuery("Identifier", f"cannot be read: {error}") from error
    return ds


def encode_data_set(ds: Dataset, transfer_syntax: str, character_set: str = "") -> bytes:
    """Write a data set, in a character set as `Writer` does; `ds` gets its Specific Character Set."""
    texts = ((element.VR, _text_of(element)) for element in ds.iterall() if element.VR in _TEXT_VRS)
    writer = Writer(transfer_syntax, character_set)
    declared = writer.character_set(texts)
    if declared:
        ds.SpecificCharacterSet = declared.split("\\")
    elif "SpecificCharacterSet" in ds:
        del ds.SpecificCharacterSet
    # pydicom leaves out the escape sequences of some character sets: texts are not written by it.
    correct_ambiguous_vr(ds, transfer_syntax != EXPLICIT_BE)
    return writer.write_data_set(ds, text.encodings(declared.encode("ascii")))


def _text_of(element: DataElement) -> str:
    """Value of an element of text, several separated by backslashes."""
    return "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value or "")


def collected(parts: Iterable[bytes | memoryview]) -> bytes:
    """An encoded identifier in one piece; raises `InvalidQuery` when it is too long."""
    encoded = bytearray()
    for part in parts:
        encoded += part
        if len(encoded) > LONGEST_BYTES:
            raise InvalidQuery("Identifier", f"is longer than {LONGEST_BYTES} bytes")
    return bytes(encoded)


def _key(tag: int, item: object, codecs: text.Encodings, little: bool) -> Key:
    vr = str(getattr(item, "VR", "") or vr_of(tag))
    if vr == "UN":
        vr = vr_of(tag)
    return Key(tag, keyword_of(tag), vr, _text(vr, item, codecs, little))


def _raw(item: object) -> bytes:
    return (item.value or b"") if isinstance(item, RawDataElement) else b""


def _text(vr: str, item: object, codecs: text.Encodings, little: bool) -> str | None:
    if getattr(item, "is_empty", False):
        return ""
    if not isinstance(item, RawDataElement):
        return None
    value = item.value or b""
    if vr in _BINARY:
        code = ("<" if little else ">") + _BINARY[vr]
        return "\\".join(str(number) for (number,) in struct.iter_unpack(code, value))
    if vr in ("SQ", "AT", "FL", "FD", "OB", "OW", "OF", "OD", "OL", "OV"):
        return None
    value = value.rstrip(b" \0")
    if vr in _TEXT_VRS:
        return text.decode(value, codecs, delimiters=_delimiters(vr))
    return text.decode_ascii(value)


class Writer:
    """Writes identifiers in one transfer syntax, in the peer's character sets where those have the characters.

    Parameters
    ----------
    transfer_syntax : str
        One of `SYNTAXES`.
    character_set : str
        Specific Character Set of the request. Where it has all characters of an answer, the answer uses it, else UTF-8.
    """

    def __init__(self, transfer_syntax: str, character_set: str = "") -> None:
        self._implicit = transfer_syntax == IMPLICIT_LE
        self._order = ">" if transfer_syntax == EXPLICIT_BE else "<"
        self._set = character_set
        self._codecs = text.encodings(character_set.encode("latin-1", "replace"))

    def character_set(self, values: Iterable[tuple[str, str]]) -> str:
        """Specific Character Set for texts, each with its VR; '' where none is needed."""
        values = [(vr, value) for vr, value in values if not value.isascii()]
        return self._character_set(values)[0] if values else ""

    def write(self, elements: Iterable[tuple[int, str, str]]) -> bytes:
        """Encode elements, given as tag, VR and text in ascending order of tags."""
        elements = list(elements)
        ascii_only = all(value.isascii() for _, _, value in elements)
        values = ((vr, value) for _, vr, value in elements)
        declared, codecs = ("", text.UNDECLARED) if ascii_only else self._character_set(values)
        if declared:
            elements.append((_CHARACTER_SET, "CS", declared))
            elements.sort()
        return b"".join(self._element(tag, vr, value, codecs) for tag, vr, value in elements)

    def _character_set(self, values: Iterable[tuple[str, str]]) -> tuple[str, text.Encodings]:
        """Specific Character Set for an answer, and its codecs."""
        if any(self._codecs):
            with suppress(UnicodeEncodeError):
                for vr, value in values:
                    if vr in _TEXT_VRS:
                        text.encode(value, self._codecs, delimiters=_delimiters(vr))
                return self._set, self._codecs
        return _UTF_8, ("utf-8",)

    def write_data_set(self, ds: Dataset, codecs: text.Encodings) -> bytes:
        """Encode a data set, its texts by `codecs`, which have all characters."""
        return b"".join(self._any_element(element, codecs) for element in ds)

    def _any_element(self, element: DataElement, codecs: text.Encodings) -> bytes:
        if element.VR in _TEXT_VRS:
            return self._element(int(element.tag), element.VR, _text_of(element), codecs)
        if element.VR == "SQ":
            items = (self.write_data_set(item, codecs) for item in element.value)
            return self._framed(int(element.tag), "SQ", b"".join(self._item(item) for item in items))
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = self._implicit, self._order == "<"
        write_data_element(stream, element)
        return stream.getvalue()

    def _item(self, encoded: bytes) -> bytes:
        return struct.pack(f"{self._order}HHL", 0xFFFE, 0xE000, len(encoded)) + encoded

    def _element(self, tag: int, vr: str, value: str, codecs: text.Encodings) -> bytes:
        return self._framed(tag, vr, self._value(vr, value, codecs))

    def _framed(self, tag: int, vr: str, encoded: bytes) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if self._implicit:
            return struct.pack("<HHL", group, number, len(encoded)) + encoded
        if len(encoded) > _LONGEST_SHORT:
            vr = vr if vr in _LONG_VRS else "UN"  # PS3.5 6.2.2: so are values that are too long for their VR
        if vr in _LONG_VRS:
            return struct.pack(f"{self._order}HH2s2xL", group, number, vr.encode(), len(encoded)) + encoded
        return struct.pack(f"{self._order}HH2sH", group, number, vr.encode(), len(encoded)) + encoded

    def _value(self, vr: str, value: str, codecs: text.Encodings) -> bytes:
        if vr in _BINARY:
            numbers = [int(number) for number in value.split("\\") if number]
            return struct.pack(f"{self._order}{len(numbers)}{_BINARY[vr]}", *numbers)
        if vr in _TEXT_VRS:
            encoded = text.encode(value, codecs, delimiters=_delimiters(vr))
        else:
            encoded = value.encode("ascii", "replace")
        return encoded + (b"\0" if vr == "UI" else b" ") * (len(encoded) % 2)


def _delimiters(vr: str) -> bytes:
    return text.NAME_DELIMITERS if vr == "PN" else text.VALUE_DELIMITERS
