"""Headers of encoded data elements (PS3.5 7.1), read from a window that moves over a seekable reader."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import BinaryIO, Final, NamedTuple

from leanpacs.errors import Truncated

UNDEFINED: Final = 0xFFFFFFFF

# PS3.5 7.1.2: these have a 16-bit length ...
SHORT_VRS: Final = {
    code.encode(): code
    for code in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
        *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    )
}
# ... and these two reserved bytes and a 32-bit length.
LONG_VRS: Final = {
    code.encode(): code for code in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
}

_BLOCK: Final = 1 << 16
_SMALL_BLOCK: Final = 1 << 12
TRIAL: Final = 4
"""So many elements that make sense tell an encoding."""


class Order(NamedTuple):
    """Unpackers of one byte order, each taking a buffer and an index into it."""

    explicit: Callable[[bytes, int], tuple[int, int, bytes, int]]
    implicit: Callable[[bytes, int], tuple[int, int, int]]
    word: Callable[[bytes, int], tuple[int]]


def _order(sign: str) -> Order:
    return Order(Struct(sign + "HH2sH").unpack_from, Struct(sign + "HHL").unpack_from, Struct(sign + "L").unpack_from)


ORDERS: Final = {True: _order("<"), False: _order(">")}
"""By whether it is little endian."""


class Header(NamedTuple):
    """VR (None if implicit), where the value is, its declared length or `UNDEFINED`."""

    vr: str | None
    value_offset: int
    length: int


class Window:
    """One block of a seekable reader, which follows a walk.

    Parameters
    ----------
    reader : BinaryIO
        Seekable; its position is moved.
    stop : int
        Nothing from here on is read.
    """

    __slots__ = ("base", "data", "reader", "stop")

    def __init__(self, reader: BinaryIO, stop: int) -> None:
        self.reader = reader
        self.stop = stop
        self.base = 0
        self.data = b""

    def load(self, offset: int) -> bytes:
        """Make the block begin at ``offset`` and return it; shorter than 12 bytes only at the end."""
        # After a jump over a long value little is likely to be wanted: fragments, the end of the data set.
        near = offset <= self.base + len(self.data)
        self.data = self._read(offset, _BLOCK if near else _SMALL_BLOCK)
        self.base = offset
        return self.data

    def around(self, offset: int) -> tuple[int, bytes]:
        """Where a block that holds ``offset`` begins, and the block: the present one if it does."""
        if not self.base <= offset < self.base + len(self.data):
            self.load(offset)
        return self.base, self.data

    def bytes_at(self, offset: int, length: int) -> bytes:
        """``length`` bytes, fewer at the end; the block stays where it is."""
        index = offset - self.base
        if index >= 0 and index + length <= len(self.data):
            return self.data[index : index + length]
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        if offset >= self.stop:
            return b""
        self.reader.seek(offset)
        return self.reader.read(min(length, self.stop - offset))


def is_item(first: bytes) -> bool | None:
    """Whether four bytes are the tag of an item or sequence delimiter: True little, False big endian."""
    if first in {b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"}:
        return True
    if first in {b"\xff\xfe\xe0\x00", b"\xff\xfe\xe0\xdd"}:
        return False
    return None


def is_known_vr(code: bytes) -> bool:
    """Whether two bytes are a VR of PS3.5 6.2."""
    return code in SHORT_VRS or code in LONG_VRS


def explicit_header(header: bytes, offset: int, order: Order) -> Header:
    """Header of an element of a known VR, from its first 12 bytes.

    Raises
    ------
    Truncated
        There are fewer.
    """
    code = header[4:6]
    if code in SHORT_VRS:
        return Header(SHORT_VRS[code], offset + 8, order.explicit(header, 0)[3])
    if len(header) < 12:
        raise Truncated("the data set ends inside the header of an element", offset)
    return Header(LONG_VRS[code], offset + 12, order.word(header, 8)[0])


def odd_header(window: Window, offset: int, little_endian: bool) -> Header:
    """Header of an element that has no known VR although the data set is in explicit VR.

    Items and delimiters have none; some writers switch to implicit VR for some elements, others use VRs of
    their own, with a 16-bit or with a 32-bit length. The form after which another element follows is taken.

    Raises
    ------
    Truncated
        The data set ends inside the header.
    """
    header = window.bytes_at(offset, 12)
    order = ORDERS[little_endian]
    group, number, length = order.implicit(header, 0)
    code = header[4:6]
    implicit = Header(None, offset + 8, length)
    if group == 0xFFFE:
        return implicit
    if is_known_vr(code):
        return explicit_header(header, offset, order)
    vr = code.decode("latin-1") if is_capital(code) else "UN"
    forms = [Header(vr, offset + 8, order.explicit(header, 0)[3])]
    if len(header) == 12:
        # An empty 16-bit length is more likely to be the two reserved bytes before a 32-bit length.
        forms.insert(bool(forms[0].length), Header(vr, offset + 12, order.word(header, 8)[0]))
    if not is_capital(code):
        forms.insert(0, implicit)
    tag = group << 16 | number
    return next((form for form in forms if _is_followed(window, tag, form, order)), forms[0])


def is_capital(code: bytes) -> bool:
    """Whether two bytes could be a VR: ASCII capitals."""
    return code.isalpha() and code.isupper()


def readable_elements(window: Window, offset: int, *, implicit: bool, little_endian: bool) -> int:
    """How many elements at ``offset`` make sense in an encoding by VR, length and order of tags; at most four."""
    order = ORDERS[little_endian]
    tag = -1
    for count in range(TRIAL):
        header = window.bytes_at(offset, 12)
        if len(header) < 8 or (header[4:6] in LONG_VRS and len(header) < 12):
            return count
        group, number, length = order.implicit(header, 0)
        previous, tag = tag, group << 16 | number
        if tag <= previous or is_known_vr(header[4:6]) == implicit:
            return count
        value = offset + 8
        if not implicit:
            _, value, length = explicit_header(header, offset, order)
        if length == UNDEFINED:
            return count + (is_item(window.bytes_at(value, 4)) is not None)
        offset = value + length
        if offset > window.stop:
            return count
    return TRIAL


def starts_implicit(window: Window, offset: int, little_endian: bool) -> bool:
    """Whether an item in an explicit VR data set begins in implicit VR, as items of UN do (PS3.5 6.2.2)."""
    header = window.bytes_at(offset, 8)
    if len(header) < 8 or header[4:6].isalpha():
        return False
    return offset + 8 + ORDERS[little_endian].implicit(header, 0)[2] <= window.stop


def _is_followed(window: Window, tag: int, form: Header, order: Order) -> bool:
    """Whether an element of a higher tag, a delimiter, padding or the end comes after an element."""
    vr, value, length = form
    if length == UNDEFINED:
        return vr is None and is_item(window.bytes_at(value, 4)) is not None
    end = value + length
    following = window.bytes_at(end, 8)
    if len(following) < 8 or not following.strip(b"\0"):
        return end <= window.stop
    group, number, _ = order.implicit(following, 0)
    return group << 16 | number > tag
