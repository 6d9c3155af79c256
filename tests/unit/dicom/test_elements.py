"""The walk over encoded elements."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import encoded
from encoded import BIG, EXPLICIT, IMPLICIT, UNDEFINED, Drawn, Encoding
from leanpacs.dicom.elements import (
    MAX_DEPTH,
    MAX_FRAGMENTS,
    RawElement,
    tag_text,
    walk,
    walk_items,
)
from leanpacs.dicom.headers import Window
from leanpacs.errors import DicomError, Truncated


def walked(data: bytes, encoding: Encoding = EXPLICIT, start: int = 0) -> list[RawElement]:
    implicit, little_endian = encoding.implicit, encoding.little
    return list(walk(io.BytesIO(data), start, len(data), implicit=implicit, little_endian=little_endian))


def walked_until_damage(data: bytes, encoding: Encoding = EXPLICIT) -> tuple[list[RawElement], DicomError | None]:
    found: list[RawElement] = []
    implicit, little_endian = encoding.implicit, encoding.little
    try:
        for element in walk(io.BytesIO(data), 0, len(data), implicit=implicit, little_endian=little_endian):
            found.append(element)  # noqa: PERF402 -- what came before the error is wanted
    except DicomError as error:
        return found, error
    return found, None


class CountingReader(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


class SparseReader(io.RawIOBase):
    """Some bytes, a hole of zeros, some more bytes; nothing of the hole is held."""

    def __init__(self, first: bytes, hole: int, last: bytes) -> None:
        self.parts = {0: first, len(first) + hole: last}
        self.length = len(first) + hole + len(last)
        self.position = 0
        self.count = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.position = (0, self.position, self.length)[whence] + offset
        return self.position

    def read(self, size: int = -1, /) -> bytes:
        size = min(size, self.length - self.position)
        assert 0 <= size <= 1 << 20, "a declared length was believed"
        data = bytearray(size)
        for offset, part in self.parts.items():
            low, high = max(offset, self.position), min(offset + len(part), self.position + size)
            if low < high:
                data[low - self.position : high - self.position] = part[low - offset : high - offset]
        self.position += size
        self.count += size
        return bytes(data)


@given(encoded.instances(file=False))
def test_every_element_is_found_where_it_is(drawn: Drawn) -> None:
    found = walked(drawn.data, drawn.encoding)

    assert [(element.tag, element.offset, element.end) for element in found] == drawn.ends()
    for element, (_, header, _) in zip(found, drawn.parts, strict=True):
        assert element.value_offset == element.offset + len(header)
        assert element.length is None or element.end == element.value_offset + element.length


@given(encoded.instances(file=False), st.data())
def test_a_walk_is_the_same_whatever_is_read_in_between(drawn: Drawn, data: st.DataObject) -> None:
    reader = io.BytesIO(drawn.data)
    implicit, little_endian = drawn.encoding.implicit, drawn.encoding.little
    found = []
    for element in walk(reader, 0, len(drawn.data), implicit=implicit, little_endian=little_endian):
        found.append(element)
        reader.seek(data.draw(st.integers(0, len(drawn.data))))
        reader.read(3)

    assert found == walked(drawn.data, drawn.encoding)


@given(encoded.instances(file=False, own_vrs=False))
def test_whatever_is_cut_off_the_rest_is_found(drawn: Drawn) -> None:
    drawn.padding = b""
    whole = walked(drawn.data, drawn.encoding)
    for length in range(len(drawn.data)):
        found, error = walked_until_damage(drawn.data[:length], drawn.encoding)
        complete = [element for element in whole if element.end <= length]
        if error is None:
            rest = drawn.data[complete[-1].end if complete else 0 : length]
            assert found == complete
            assert len(rest) < 8
            assert not rest.strip(b"\0")
        elif len(found) > len(complete):
            assert found[:-1] == complete
            assert found[-1].end > length
        else:
            assert found == complete


@given(st.binary(max_size=400), encoded.encodings)
@example(b"\x10\0\x10\0SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 10, EXPLICIT)
def test_noise_gives_elements_or_a_dicom_error(data: bytes, encoding: Encoding) -> None:
    found, _ = walked_until_damage(data, encoding)

    assert all(a.end == b.offset for a, b in pairwise(found))
    assert all(element.offset < element.value_offset <= len(data) for element in found)


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG])
def test_an_item_that_is_not_delimited_ends_with_the_next_one(encoding: Encoding) -> None:
    item = encoding.header(0xFFFEE000, "", UNDEFINED) + encoding.element(0x00080100, "SH", b"ab")
    data = encoding.sequence(0x00081140, [item, item], undefined=True) + encoding.element(0x00100010, "PN", b"x ")

    assert [element.tag for element in walked(data, encoding)] == [0x00081140, 0x00100010]


def test_un_of_undefined_length_holds_implicit_little_endian_items_in_big_endian_too() -> None:
    items = IMPLICIT.item(IMPLICIT.element(0x00080100, "SH", b"ab"), undefined=True)
    data = BIG.header(0x00091010, "UN", UNDEFINED) + items + IMPLICIT.delimiter(0xFFFEE0DD)
    data += BIG.element(0x00100010, "PN", b"x ")

    assert [element.tag for element in walked(data, BIG)] == [0x00091010, 0x00100010]


def test_un_of_undefined_length_may_hold_explicit_items() -> None:
    inner = EXPLICIT.sequence(0x00091012, [EXPLICIT.item(EXPLICIT.element(0x00080100, "SH", b"ab"))], undefined=True)
    data = EXPLICIT.sequence(0x00091010, [EXPLICIT.item(inner, undefined=True)], undefined=True, vr="UN")

    assert [element.end for element in walked(data)] == [len(data)]


def test_items_in_implicit_vr_within_an_explicit_data_set() -> None:
    inner = IMPLICIT.sequence(0x00091012, [IMPLICIT.item(IMPLICIT.element(0x00080100, "SH", b"ab"))], undefined=True)
    data = EXPLICIT.sequence(0x00081140, [EXPLICIT.item(inner, undefined=True)], undefined=True)

    assert [element.end for element in walked(data)] == [len(data)]


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG])
def test_bare_bytes_before_a_sequence_delimiter(encoding: Encoding) -> None:
    for length in (0, 5, 4091, 65530, 200_001):
        value = bytes(range(1, 200)) * (length // 199 + 1)
        data = encoding.header(0x00091010, "OB", UNDEFINED) + value[:length] + encoding.delimiter(0xFFFEE0DD)
        data += encoding.element(0x00100010, "PN", b"x ")

        assert [element.tag for element in walked(data, encoding)] == [0x00091010, 0x00100010], length


@pytest.mark.parametrize(
    ("header", "vr"),
    [
        (struct.pack("<HH2sH", 0x0009, 0x1010, b"ZZ", 6), "ZZ"),
        (struct.pack("<HH2sHL", 0x0009, 0x1010, b"ZZ", 0, 6), "ZZ"),
        (struct.pack("<HH2sH", 0x0009, 0x1010, b"??", 6), "UN"),
        (struct.pack("<HH2sHL", 0x0009, 0x1010, b"??", 0, 6), "UN"),
        (struct.pack("<HH2sH", 0x0009, 0x1010, b"\0\0", 6), "UN"),
        (struct.pack("<HHL", 0x0009, 0x1010, 6), None),
    ],
)
def test_an_invalid_vr_has_the_length_after_which_another_element_follows(header: bytes, vr: str | None) -> None:
    before = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 100")
    after = EXPLICIT.element(0x00100010, "PN", b"x ")
    for following in (after, b""):
        data = before + header + b"abcdef" + following
        element = walked(data)[1]

        assert (element.vr, element.end - element.value_offset) == (vr, 6)
        assert element.end == len(data) - len(following)


def test_an_implicit_sequence_in_an_explicit_data_set() -> None:
    item = IMPLICIT.item(IMPLICIT.element(0x00080100, "SH", b"ab"))
    for undefined in (False, True):
        data = IMPLICIT.sequence(0x00081140, [item], undefined=undefined)
        data += EXPLICIT.element(0x00100010, "PN", b"x ")

        assert [(e.tag, e.vr) for e in walked(data)] == [(0x00081140, None), (0x00100010, "PN")]


def test_nesting_is_bounded_without_recursion() -> None:
    step = EXPLICIT.header(0x00081140, "SQ", UNDEFINED) + EXPLICIT.header(0xFFFEE000, "", UNDEFINED)
    closing = EXPLICIT.delimiter(0xFFFEE00D) + EXPLICIT.delimiter(0xFFFEE0DD)
    deepest = step * (MAX_DEPTH + 1) + closing * (MAX_DEPTH + 1)

    assert [element.end for element in walked(deepest)] == [len(deepest)]
    with pytest.raises(DicomError, match="nested deeper"):
        walked(step * 100_000)


def test_the_number_of_elements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanpacs.dicom.elements.MAX_ELEMENTS", 100)
    item = EXPLICIT.item(EXPLICIT.element(0x00080100, "SH", b"ab"))
    few, many = (EXPLICIT.sequence(0x00081140, [item] * count, undefined=True) for count in (40, 200))

    assert len(walked(EXPLICIT.element(0x00100010, "PN", b"") * 100)) == 100
    assert len(walked(few * 2)) == 2
    for data in (EXPLICIT.element(0x00100010, "PN", b"") * 101, many, few * 3):
        with pytest.raises(DicomError, match="the data set has more than"):
            walked(data)


def test_a_value_larger_than_memory_is_stepped_over() -> None:
    first = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 100") + EXPLICIT.header(0x00091010, "OB", 0xFFFFFFF0)
    last = EXPLICIT.element(0x00100010, "PN", b"x ")
    reader = SparseReader(first, 0xFFFFFFF0, last)

    found = list(walk(reader, 0, reader.length, implicit=False, little_endian=True))

    assert [element.tag for element in found] == [0x00080005, 0x00091010, 0x00100010]
    assert reader.count < 1 << 18


def test_a_declared_length_allocates_nothing() -> None:
    data = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 100") + EXPLICIT.header(0x00091010, "OB", 0xFFFFFFF0) + b"abc"

    found, error = walked_until_damage(data)

    assert isinstance(error, Truncated)
    assert "(0009,1010) holds 3 of 4294967280 bytes" in str(error)
    assert found[-1].end > len(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda tag: EXPLICIT.header(tag, "OB", UNDEFINED) + EXPLICIT.delimiter(0xFFFEE0DD),
        lambda tag: EXPLICIT.header(tag, "OB", UNDEFINED) + b"abcd" + EXPLICIT.delimiter(0xFFFEE0DD),
        lambda tag: EXPLICIT.encapsulated(0x7FE00010, [b""]),
        lambda tag: EXPLICIT.sequence(tag, [EXPLICIT.item(b"", undefined=True)], undefined=True),
        lambda tag: EXPLICIT.element(tag, "ZZ", bytes(5000)),
        lambda tag: EXPLICIT.element(tag, "??", bytes(5000)),
        lambda tag: EXPLICIT.element(tag, "OB", bytes(9000)),
        lambda tag: EXPLICIT.element(tag, "CS", b""),
    ],
)
def test_bytes_read_do_not_grow_faster_than_the_data(make: Callable[[int], bytes]) -> None:
    count = min(30_000, 2_000_000 // len(make(0x00090000)))
    reader = CountingReader(b"".join(make(0x00090001 + index) for index in range(count)))
    size = len(reader.getbuffer())

    found = list(walk(reader, 0, size, implicit=False, little_endian=True))

    assert len(found) == count
    assert reader.count < 4 * size


def test_zeros_after_the_last_element_are_padding() -> None:
    data = EXPLICIT.element(0x00100010, "PN", b"x ")
    for length in (1, 7, 8, 100_000):
        assert len(walked(data + bytes(length))) == 1


@pytest.mark.parametrize("rest", [b"abc", bytes(8) + b"a", bytes(100_000) + b"a"])
def test_other_bytes_after_the_last_element_are_damage(rest: bytes) -> None:
    data = EXPLICIT.element(0x00100010, "PN", b"x ")

    with pytest.raises(DicomError, match=f"{len(rest)} bytes that are no data elements"):
        walked(data + rest)


def items(data: bytes) -> list[RawElement]:
    return list(walk_items(Window(io.BytesIO(data), len(data)), 0))


def test_items_of_an_encapsulated_value() -> None:
    data = EXPLICIT.fragments([b"abc", b""], table=b"\0\0\0\0")

    assert [(item.tag, item.length) for item in items(data)] == [
        (0xFFFEE000, 4),
        (0xFFFEE000, 3),
        (0xFFFEE000, 0),
        (0xFFFEE0DD, 0),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no Sequence Delimitation Item"),
        (EXPLICIT.item(b"abc"), "no Sequence Delimitation Item"),
        (EXPLICIT.item(b"abc")[:-1], "an item holds 2 of 3 bytes"),
        (EXPLICIT.element(0x00100010, "PN", b"x "), r"\(0010,0010\) where an item of Pixel Data is expected"),
        (EXPLICIT.item(b"", undefined=True), "where an item of Pixel Data is expected"),
        (EXPLICIT.item(b"") * (MAX_FRAGMENTS + 1), "more than 1048576 items"),
    ],
)
def test_items_that_are_none(data: bytes, reason: str) -> None:
    with pytest.raises(DicomError, match=reason):
        items(data)


def test_tags_are_written_as_people_write_them() -> None:
    assert tag_text(0x300A00B0) == "(300A,00B0)"
    assert tag_text(0x7FE00010) == "Pixel Data"
