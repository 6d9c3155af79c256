"""An instance as a DICOM JSON Model object, made from the bytes of its head and tail; pixels are not needed.

References
----------
PS3.18 F (DICOM JSON Model), F.2.6 (BulkDataURI).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from leanpacs.dicom import text
from leanpacs.dicom.jsonvalues import JSONValue, attribute_json, json_values
from leanpacs.dicom.tree import MAX_DEPTH, Element, Encoding, elements, fragments, sequence_items
from leanpacs.dicom.vrs import (
    BINARY_VRS,
    VRS,
    actual_vr,
    creator_of,
    is_private_creator,
    little_endian_words,
    private_block,
)
from leanpacs.errors import DicomError, MissingAttribute

__all__ = ["INLINE_LIMIT_BYTES", "BulkValue", "JSONModel", "attribute_json", "bulk_value", "data_set_json"]

JSONModel: TypeAlias = dict[str, dict[str, Any]]
"""Attribute objects by tag, eight upper-case hexadecimal digits, in ascending order."""

INLINE_LIMIT_BYTES: Final = 1024
"""Binary values up to this length are given inline, longer ones by reference."""

_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_PIXEL_REPRESENTATION: Final = 0x00280103
_ITEM_MARK: Final = b"\xfe\xff\x00\xe0"
_TRAILING_PADDING: Final = 0xFFFCFFFC
_PLAIN_VRS: Final = VRS - BINARY_VRS - {"SQ"}
_LONGEST_KNOWN: Final = 64
"""Bytes of the values that are remembered."""


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A value that the JSON Model gave by reference: its VR and its bytes, words in little endian order."""

    vr: str
    data: bytes


def data_set_json(
    head: bytes,
    *,
    implicit_vr: bool,
    little_endian: bool,
    bulk_uri: Callable[[str], str],
    tail: bytes = b"",
) -> JSONModel:
    """DICOM JSON Model object of a whole instance. Its attribute objects are shared with others: not to be changed.

    Group lengths and Data Set Trailing Padding are left out. Specific Character Set keeps the value of the
    source (PS3.18 F.2.2). An element whose value does not agree with its VR is given as UC if it is text that
    should be numbers, else as OB (private: UN) with its bytes as they are: readers can then load it, and all
    the rest. After a damaged place nothing more is found.

    Parameters
    ----------
    head : bytes
        The data set up to the value of its top-level Pixel Data: it ends with that element's header, or is
        all of a data set that has no Pixel Data.
    implicit_vr, little_endian : bool
        The encoding of ``head`` and ``tail``.
    bulk_uri : callable
        Makes the BulkDataURI of an element from its path: '7FE00010', or '00880200/1/7FE00010' for one in the
        first item of a sequence. Called for Pixel Data, for encapsulated values in sequences and for binary
        values above `INLINE_LIMIT_BYTES`. `bulk_value` finds the bytes of all but top-level Pixel Data.
    tail : bytes
        The elements after Pixel Data.
    """
    encoding = Encoding(implicit_vr, little_endian)
    found = _readable(head, encoding)
    outermost = _Level(head, "", 0, text.UNDECLARED, is_signed=False).inner(head, "", found)
    model = _level_json(outermost, found, bulk_uri)
    if not tail:
        return model
    found = _readable(tail, encoding)
    model |= _level_json(outermost.inner(tail, "", found), found, bulk_uri)
    return dict(sorted(model.items()))


def bulk_value(head: bytes, path: str, *, implicit_vr: bool, little_endian: bool, tail: bytes = b"") -> BulkValue:
    """Find the value at a path that `data_set_json` gave to ``bulk_uri``.

    Of an encapsulated value, the code stream: all fragments but the offset table, joined.

    Raises
    ------
    MissingAttribute
        No value in ``head`` and ``tail`` is at that path; that of top-level Pixel Data never is.
    DicomError
        An encapsulated value that is damaged.
    """
    encoding = Encoding(implicit_vr, little_endian)
    for data in (head, tail):
        element = _find(data, path.split("/"), _readable(data, encoding))
        if element is not None and not element.withheld:
            return _bulk_value(data, element)
    raise MissingAttribute(path)


@dataclass(frozen=True, slots=True)
class _Level:
    """What holds for all elements of one data set or sequence item."""

    data: bytes
    path: str
    depth: int
    declared: text.Encodings
    is_signed: bool

    def inner(self, data: bytes, path: str, found: Iterable[Element]) -> _Level:
        """The level of the elements ``found``: what they do not say themselves holds as on this level."""
        declared, is_signed = self.declared, self.is_signed
        for element in found:
            if element.tag == _SPECIFIC_CHARACTER_SET:
                declared = text.encodings(data[element.start : element.stop])
            elif element.tag == _PIXEL_REPRESENTATION:
                is_signed = 1 in data[element.start : element.stop]
        return _Level(data, path, self.depth + 1, declared, is_signed)

    def value(self, element: Element) -> bytes:
        return self.data[element.start : element.stop]


def _level_json(level: _Level, found: Iterable[Element], bulk_uri: Callable[[str], str]) -> JSONModel:
    model: JSONModel = {}
    creators: dict[int, str] = {}
    for element in found:
        tag = element.tag
        if tag & 0xFFFF == 0 or tag == _TRAILING_PADDING:
            continue
        if tag >> 16 & 1 and is_private_creator(tag):
            creators[private_block(tag)] = text.decode(level.value(element), level.declared).strip(" \0")
        plain = _plain_json(level, element)
        if plain is not None:
            model[_name(tag)] = plain
            continue
        vr = _vr(element, creator_of(tag, creators), level.is_signed)
        if vr == "UN" and level.data[element.start : element.start + 4] == _ITEM_MARK:
            vr = "SQ"
        model[_name(tag)] = _element_json(level, element, vr, bulk_uri)
    return dict(sorted(model.items()))


def _plain_json(level: _Level, element: Element) -> dict[str, Any] | None:
    """Of an element that is what its VR says, and that is something short with values, as nearly all are."""
    _, vr, _, start, stop, _, encoding, undefined, withheld = element
    if vr not in _PLAIN_VRS or stop - start > _LONGEST_KNOWN or undefined or withheld:
        return None
    try:
        return _known(vr, level.data[start:stop], encoding.little_endian, level.declared)
    except ValueError:
        return None


@lru_cache(maxsize=8192)
def _known(vr: str, value: bytes, little_endian: bool, declared: text.Encodings) -> dict[str, Any]:
    """Attribute object of a short value, shared by all models that have it: most of them by all of a series."""
    return _attribute(vr, json_values(vr, value, little_endian=little_endian, declared=declared))


@lru_cache(maxsize=4096)
def _name(tag: int) -> str:
    return f"{tag:08X}"


def _vr(element: Element, creator: str = "", is_signed: bool = False) -> str:
    if element.undefined and not element.is_encapsulated:
        return "SQ"
    return actual_vr(element.vr, element.tag, creator=creator, is_signed=is_signed)


def _opaque_vr(element: Element) -> str:
    """For bytes that do not agree with their VR: readers replace UN by the dictionary's VR, and then fail."""
    return "UN" if element.tag >> 16 & 1 else "OB"


def _element_json(level: _Level, element: Element, vr: str, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    if element.withheld:
        return {"vr": vr, "BulkDataURI": bulk_uri(f"{level.path}{element.tag:08X}")}
    if element.start == element.stop:
        return {"vr": vr}
    try:
        if vr == "SQ":
            return _sequence_json(level, element, bulk_uri)
        if vr not in BINARY_VRS:
            return _values_json(level, element, vr)
    except (ValueError, DicomError):
        if vr in ("DS", "IS"):
            return _values_json(level, element, "UC")
        vr = _opaque_vr(element)
    return _binary_json(level, element, vr, bulk_uri)


def _sequence_json(level: _Level, element: Element, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    if level.depth >= MAX_DEPTH:
        raise DicomError(f"sequences are nested deeper than {MAX_DEPTH}")
    path = f"{level.path}{element.tag:08X}"
    items = [
        _level_json(level.inner(level.data, f"{path}/{number}/", item), item, bulk_uri)
        for number, item in enumerate(sequence_items(level.data, element), start=1)
    ]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _values_json(level: _Level, element: Element, vr: str) -> dict[str, Any]:
    little_endian = element.encoding.little_endian
    return _attribute(vr, json_values(vr, level.value(element), little_endian=little_endian, declared=level.declared))


def _attribute(vr: str, values: list[JSONValue]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _binary_json(level: _Level, element: Element, vr: str, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    if element.is_encapsulated or element.stop - element.start > INLINE_LIMIT_BYTES:
        return {"vr": vr, "BulkDataURI": bulk_uri(f"{level.path}{element.tag:08X}")}
    value = little_endian_words(vr, level.value(element), little_endian=element.encoding.little_endian)
    return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}


def _readable(data: bytes, encoding: Encoding) -> list[Element]:
    """Elements up to the end or to a damaged place."""
    found: list[Element] = []
    with suppress(DicomError):
        for element in elements(data, encoding):
            found.append(element)  # noqa: PERF402 (what was found before an error stands)
    return found


def _find(data: bytes, path: list[str], found: Iterable[Element]) -> Element | None:
    """The last element with the tag that ``path`` begins with, or the one within it that the rest names."""
    outer = next((element for element in reversed(list(found)) if f"{element.tag:08X}" == path[0]), None)
    if outer is None or len(path) == 1:
        return outer
    if len(path) == 2 or len(path) > 2 * MAX_DEPTH:
        return None
    with suppress(DicomError):
        items = {str(number): item for number, item in enumerate(sequence_items(data, outer), start=1)}
        return _find(data, path[2:], items.get(path[1], []))
    return None


def _bulk_value(data: bytes, element: Element) -> BulkValue:
    vr = _vr(element)
    if element.is_encapsulated:
        return BulkValue(vr, b"".join(fragments(data, element)[1:]))
    if vr not in BINARY_VRS:
        # Referred to because it does not agree with its VR.
        return BulkValue(_opaque_vr(element), data[element.start : element.stop])
    value = data[element.start : element.stop]
    return BulkValue(vr, little_endian_words(vr, value, little_endian=element.encoding.little_endian))
