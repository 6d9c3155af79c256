"""An encoded data set that is in memory, as a tree of elements and sequence items; values are not decoded.

References
----------
PS3.5 7.1 (data element structure), 7.5 (nesting), 6.2.2 (UN of undefined length), A.4 (encapsulation).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from leanpacs.dicom.elements import (
    ITEM,
    ITEM_DELIMITATION,
    PIXEL_TAGS,
    UNDEFINED,
    is_item,
    walk,
)
from leanpacs.errors import DicomError

MAX_DEPTH: Final = 64
"""Sequences nested more deeply than this are not looked into."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the elements of a data set are encoded."""

    implicit_vr: bool
    little_endian: bool


class Element(NamedTuple):
    """One element: ``data[offset:end]`` of the bytes it was found in, its value being ``data[start:stop]``.

    ``vr`` is as encoded, None when it is implicit. ``undefined``: its length is not defined, so its value is
    a sequence or encapsulated. ``withheld``: Pixel Data whose value is not in the bytes.
    """

    tag: int
    vr: str | None
    offset: int
    start: int
    stop: int
    end: int
    encoding: Encoding
    undefined: bool
    withheld: bool = False

    @property
    def is_encapsulated(self) -> bool:
        """Whether the value is an offset table and fragments."""
        return self.undefined and (self.tag in PIXEL_TAGS or self.vr in ("OB", "OW"))


def elements(data: bytes, encoding: Encoding) -> Iterator[Element]:
    """Elements of a data set, or of a head: one that ends with the header of its Pixel Data.

    Raises
    ------
    DicomError
        At a damaged place; the elements before it were yielded.
    """
    return _elements(data, 0, len(data), encoding, is_head=True)


def sequence_items(data: bytes, element: Element) -> list[list[Element]]:
    """Items of an element that is a sequence.

    Raises
    ------
    DicomError
        The value does not read as a sequence.
    """
    found: list[list[Element]] = []
    offset, stop = element.start, element.stop
    encoding = _encoding_of_items(data, element)
    while offset < stop:
        tag, length = _item_header(data, offset, stop, encoding)
        if tag != ITEM:
            raise DicomError(f"something else than an item in a sequence (at byte {offset})")
        offset += 8
        inner = _encoding_within(data, offset, stop, encoding)
        if length == UNDEFINED:
            item = list(_elements(data, offset, stop, inner))
            offset = item[-1].end if item else offset
            offset = _after_item(data, offset, stop, encoding)
        elif offset + length > stop:
            raise DicomError(f"an item is longer than its sequence (at byte {offset})")
        else:
            item = list(_elements(data, offset, offset + length, inner))
            offset += length
        found.append(item)
    return found


def fragments(data: bytes, element: Element) -> list[bytes]:
    """The items of an encapsulated value, its offset table being the first."""
    found: list[bytes] = []
    offset = element.start
    while offset < element.stop:
        tag, length = _item_header(data, offset, element.stop, element.encoding)
        if tag != ITEM or offset + 8 + length > element.stop:
            raise DicomError(f"something else than a fragment in encapsulated data (at byte {offset})")
        found.append(data[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return found


def _elements(data: bytes, start: int, stop: int, encoding: Encoding, *, is_head: bool = False) -> Iterator[Element]:
    """Elements from ``start`` to ``stop``, or to the delimiter of the item that they are in."""
    implicit, little_endian = encoding.implicit_vr, encoding.little_endian
    walked = walk(io.BytesIO(data), start, stop, implicit=implicit, little_endian=little_endian)
    for tag, vr, offset, value, length, end in walked:
        if tag >> 16 == 0xFFFE:
            return
        undefined = length is None
        if end <= stop:
            yield Element(tag, vr, offset, value, end - 8 if undefined else end, end, encoding, undefined)
        elif is_head and tag in PIXEL_TAGS and value == stop:
            yield Element(tag, vr, offset, value, stop, stop, encoding, undefined, withheld=True)
            return
        # What else is cut short: the walk raises next.


def _encoding_of_items(data: bytes, element: Element) -> Encoding:
    """Implicit within an element that is; the byte order is that of the items, UN being little endian."""
    encoding = element.encoding
    order = is_item(data[element.start : element.start + 4])
    return Encoding(encoding.implicit_vr or element.vr is None, encoding.little_endian if order is None else order)


def _encoding_within(data: bytes, offset: int, stop: int, encoding: Encoding) -> Encoding:
    """Items of UN are in implicit VR within an explicit data set, and some senders write others like that."""
    if encoding.implicit_vr or offset + 8 > stop or data[offset + 4 : offset + 6].isalpha():
        return encoding
    tag, length = _item_header(data, offset, stop, encoding)
    is_implicit = tag >> 16 != 0xFFFE and offset + 8 + length <= stop
    return Encoding(is_implicit, encoding.little_endian)


def _item_header(data: bytes, offset: int, stop: int, encoding: Encoding) -> tuple[int, int]:
    if offset + 8 > stop:
        raise DicomError(f"a sequence ends inside an item (at byte {offset})")
    group, number, length = struct.unpack_from("<HHL" if encoding.little_endian else ">HHL", data, offset)
    return group << 16 | number, length


def _after_item(data: bytes, offset: int, stop: int, encoding: Encoding) -> int:
    """Offset after the delimiter of an item, which some writers leave out."""
    if offset < stop and _item_header(data, offset, stop, encoding)[0] == ITEM_DELIMITATION:
        return offset + 8
    return offset
