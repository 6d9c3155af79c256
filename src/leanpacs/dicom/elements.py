"""Walking over encoded data elements (PS3.5 7): headers are read, values are only stepped over.

The walk tolerates what is met in the field: elements in implicit VR within an explicit VR data set, unknown
and invalid VRs, UN of undefined length, missing Item Delimitation Items. It never allocates by a declared
length, every step moves forward, and the number of steps is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import BinaryIO, Final, NamedTuple

from leanpacs.dicom.headers import (
    LONG_VRS,
    ORDERS,
    SHORT_VRS,
    UNDEFINED,
    Window,
    is_item,
    odd_header,
    starts_implicit,
)
from leanpacs.errors import DicomError, Truncated

__all__ = [
    "ITEM",
    "ITEM_DELIMITATION",
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_FRAGMENTS",
    "PIXEL_TAGS",
    "SEQUENCE_DELIMITATION",
    "UNDEFINED",
    "RawElement",
    "is_item",
    "tag_text",
    "walk",
    "walk_items",
    "walk_window",
]

ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and (integer) Pixel Data."""

MAX_DEPTH: Final = 128
"""Sequences of undefined length nested deeper than this are taken for damage."""
MAX_ELEMENTS: Final = 1 << 24
"""Elements, those in sequences of undefined length included, beyond which a data set is taken for damage."""
ALWAYS_TOLD: Final = 3
"""Of the first elements, whoever walks wants to know whether they make sense, whatever they are."""
MAX_FRAGMENTS: Final = 1 << 20
"""Items in one encapsulated value beyond which it is taken for damage."""

_TOO_MANY: Final = f"the data set has more than {MAX_ELEMENTS} elements"


class RawElement(NamedTuple):
    """Where one encoded element is; a tuple because a walk makes thousands of them.

    Parameters
    ----------
    tag : int
        Group in the upper, element in the lower 16 bits.
    vr : str or None
        VR as encoded; None where the element is in implicit VR.
    offset, value_offset : int
        First byte of the element, first byte of its value.
    length : int or None
        Declared length of the value in bytes; None when undefined.
    end : int
        First byte after the element, its Sequence Delimitation Item included.
    """

    tag: int
    vr: str | None
    offset: int
    value_offset: int
    length: int | None
    end: int


def walk(reader: BinaryIO, start: int, stop: int, *, implicit: bool, little_endian: bool) -> Iterator[RawElement]:
    """Top-level elements of the data set in ``[start, stop)``, in the order in which they stand.

    Parameters
    ----------
    reader : BinaryIO
        Seekable; it may be read elsewhere between two elements.
    start, stop : int
        Where the data set is in the reader.
    implicit, little_endian : bool
        Encoding of the data set.

    Yields
    ------
    RawElement
        An element that is cut short, or a sequence that is never closed, is yielded too, with `end` past
        ``stop``, before the error is raised.

    Raises
    ------
    Truncated
        The data set ends inside an element.
    DicomError
        Items that do not form a sequence, or nesting beyond reason.

    References
    ----------
    PS3.5 7.1 (elements), 7.5 (nesting), 6.2.2 (UN of undefined length is implicit VR little endian)
    """
    return walk_window(Window(reader, stop), start, implicit=implicit, little_endian=little_endian)


def walk_window(  # noqa: C901, PLR0912, PLR0915 -- one loop without calls: it runs for every element that is received
    window: Window, start: int, *, implicit: bool, little_endian: bool, wanted: Collection[int] | None = None
) -> Iterator[RawElement]:
    """As :func:`walk`, over a window from whose block the caller may take values.

    With ``wanted``, elements of other tags that have a length and are complete are passed over, but for the first
    :data:`ALWAYS_TOLD`.
    """
    stop = window.stop
    told_until = MAX_ELEMENTS - ALWAYS_TOLD if wanted is not None else 0
    wanted = wanted or ()
    explicit_header, implicit_header, word = ORDERS[little_endian]
    short_vr, long_vr = SHORT_VRS.get, LONG_VRS.get
    offset, base, data = start, *window.around(start)
    last = base + len(data) - 12
    vr: str | None
    left = MAX_ELEMENTS
    while offset < stop:
        left -= 1
        if left < 0:
            raise DicomError(_TOO_MANY)
        if offset > last:
            data, base = window.load(offset), offset
            last = base + len(data) - 12
            if len(data) < 8:
                _check_padding(window, offset)
                return
        at = offset - base
        if implicit:
            group, number, length = implicit_header(data, at)
            vr, value = None, offset + 8
        else:
            group, number, code, length = explicit_header(data, at)
            vr, value = short_vr(code), offset + 8
            if vr is None:
                vr = long_vr(code)
                if vr is not None and at + 12 <= len(data):
                    length, value = word(data, at + 8)[0], offset + 12
                else:
                    vr, value, length = odd_header(window, offset, little_endian)
        if not (group or number or length):
            _check_padding(window, offset)
            return
        tag = group << 16 | number
        if length != UNDEFINED:
            end = value + length
            if left >= told_until or tag in wanted or end > stop:
                yield RawElement(tag, vr, offset, value, length, end)
                if end > stop:
                    raise _cut(tag, offset, stop - value, length)
        else:
            try:
                end, steps = _end_of_undefined(window, tag, value, implicit, little_endian, left)
            except DicomError:
                yield RawElement(tag, vr, offset, value, None, stop + 1)
                raise
            yield RawElement(tag, vr, offset, value, None, end)
            data, base = window.data, window.base
            last = base + len(data) - 12
            left -= steps
        offset = end


def walk_items(window: Window, start: int, *, little_endian: bool = True) -> Iterator[RawElement]:
    """Items of an encapsulated value: offset table, fragments, Sequence Delimitation Item (PS3.5 A.4).

    Raises
    ------
    Truncated
        The value ends without its delimiter or inside an item; an item that is cut short was yielded before,
        with `end` past the window's end.
    DicomError
        Something else than an item of defined length, or more than `MAX_FRAGMENTS` of them.
    """
    header = ORDERS[little_endian].implicit
    offset, base, data = start, *window.around(start)
    for _ in range(MAX_FRAGMENTS):
        at = offset - base
        if at + 8 > len(data):
            data, base, at = window.load(offset), offset, 0
            if len(data) < 8:
                raise Truncated("Pixel Data has no Sequence Delimitation Item", offset)
        group, number, length = header(data, at)
        tag = group << 16 | number
        end = offset + 8 + length
        if tag == SEQUENCE_DELIMITATION:
            yield RawElement(tag, None, offset, offset + 8, length, offset + 8)
            return
        if tag != ITEM or length == UNDEFINED:
            raise DicomError(f"{tag_text(tag)} where an item of Pixel Data is expected (at byte {offset})")
        yield RawElement(tag, None, offset, offset + 8, length, end)
        if end > window.stop:
            raise _cut(tag, offset, window.stop - offset - 8, length)
        offset = end
    raise DicomError(f"Pixel Data has more than {MAX_FRAGMENTS} items")


def tag_text(tag: int) -> str:
    """A tag as people write it, by name where it is a kind of Pixel Data or an item."""
    names = {
        0x7FE00010: "Pixel Data",
        0x7FE00008: "Float Pixel Data",
        0x7FE00009: "Double Float Pixel Data",
        ITEM: "an item",
    }
    return names.get(tag, f"({tag >> 16:04X},{tag & 0xFFFF:04X})")


def _cut(tag: int, offset: int, there: int, declared: int) -> Truncated:
    return Truncated(f"{tag_text(tag)} holds {max(0, there)} of {declared} bytes", offset)


def _check_padding(window: Window, offset: int) -> None:
    """Zeros may follow the last element; anything else that is no element is damage."""
    start = offset
    while block := window.load(offset):
        if block.strip(b"\0"):
            raise DicomError(f"{window.stop - start} bytes that are no data elements (at byte {start})")
        offset += len(block)


def _end_of_undefined(
    window: Window, tag: int, value: int, implicit: bool, little_endian: bool, limit: int
) -> tuple[int, int]:
    """First byte after an element of undefined length, and how many steps it took to find."""
    if tag in PIXEL_TAGS:
        return deque(walk_items(window, value, little_endian=little_endian), maxlen=1)[0].end, 0
    order = is_item(window.bytes_at(value, 4))
    if order is None:  # some writers put bare bytes before the delimiter
        return _find_delimiter(window, value, little_endian), 0
    return _skip_sequence(window, value, implicit, order, limit)


def _skip_sequence(  # noqa: C901, PLR0912, PLR0915 -- one loop without calls, as above
    window: Window, start: int, implicit: bool, little_endian: bool, limit: int
) -> tuple[int, int]:
    """First byte after a sequence of undefined length, and the number of elements and items in it.

    With a stack of its own: enhanced multi-frame headers have thousands of nested elements, and hostile ones
    nest deeper than Python's stack.
    """
    stop = window.stop
    explicit_header, implicit_header, word = ORDERS[little_endian]
    outer: list[tuple[bool, bool, bool]] = []
    inherited, in_item = implicit, False
    offset, base, data = start, *window.around(start)
    for steps in range(limit):
        at = offset - base
        if at + 14 > len(data):
            data, base, at = window.load(offset), offset, 0
            if len(data) < 8:
                raise Truncated("the data set ends inside a sequence", offset)
        if in_item and not implicit:
            group, number, code, length = explicit_header(data, at)
            value = offset + 8
            if code not in SHORT_VRS:
                if group == 0xFFFE:
                    length = word(data, at + 4)[0]
                elif code in LONG_VRS and at + 12 <= len(data):
                    length, value = word(data, at + 8)[0], offset + 12
                else:
                    _, value, length = odd_header(window, offset, little_endian)
        else:
            group, number, length = implicit_header(data, at)
            value = offset + 8
        if group == 0xFFFE:
            offset += 8
            if number == 0xE0DD:
                if not outer:
                    return offset, steps
                inherited, implicit, little_endian = outer.pop()
                explicit_header, implicit_header, word = ORDERS[little_endian]
                in_item = True
            elif number == 0xE00D:
                in_item = False
            elif length == UNDEFINED:
                in_item, code = True, data[at + 12 : at + 14]
                has_vr = code in SHORT_VRS or code in LONG_VRS
                implicit = inherited or not (has_vr or not starts_implicit(window, offset, little_endian))
            else:
                in_item = False
                offset += length
        elif not in_item:
            text = tag_text(group << 16 | number)
            raise DicomError(f"{text} where an item of a sequence is expected (at byte {offset})")
        elif length != UNDEFINED:
            offset = value + length
        elif len(outer) == MAX_DEPTH:
            raise DicomError(f"sequences are nested deeper than {MAX_DEPTH} (at byte {offset})")
        elif (order := is_item(window.bytes_at(value, 4))) is None:
            offset = _find_delimiter(window, value, little_endian)
            base, data = window.base, window.data
        else:
            outer.append((inherited, implicit, little_endian))
            inherited, little_endian, in_item = implicit, order, False
            explicit_header, implicit_header, word = ORDERS[little_endian]
            offset = value
        if offset > stop:
            raise Truncated("the data set ends inside a sequence", stop)
    raise DicomError(_TOO_MANY)


def _find_delimiter(window: Window, start: int, little_endian: bool) -> int:
    """First byte after the next Sequence Delimitation Item, wherever it stands."""
    mark = b"\xfe\xff\xdd\xe0" if little_endian else b"\xff\xfe\xe0\xdd"
    base, block = window.around(start)
    offset = start
    while True:
        index = block.find(mark, offset - base)
        if index >= 0:
            return base + index + 8
        offset = max(offset, base + len(block) - 3)
        base, block = offset, window.load(offset)
        if len(block) < 8:
            raise Truncated("the data set ends before a Sequence Delimitation Item", start)
