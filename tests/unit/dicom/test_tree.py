"""Data sets in memory, as trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import encoded
from encoded import BIG, EXPLICIT, IMPLICIT
from leanpacs.dicom.tree import Element, Encoding, elements, fragments, sequence_items
from leanpacs.errors import DicomError

_ENCODINGS = pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])


def _parse(data: bytes, encoding: encoded.Encoding = EXPLICIT) -> list[Element]:
    return list(elements(data, Encoding(encoding.implicit, encoding.little)))


def _value(data: bytes, element: Element) -> bytes:
    return data[element.start : element.stop]


@_ENCODINGS
@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("undefined_items", [True, False])
def test_items_within_items(encoding: encoded.Encoding, undefined: bool, undefined_items: bool) -> None:
    leaf = encoding.element(0x00080100, "SH", b"code")
    inner = encoding.sequence(0x0040A168, [encoding.item(leaf, undefined=undefined_items)], undefined=undefined)
    items = [
        encoding.item(leaf + inner, undefined=undefined_items),
        encoding.item(b"", undefined=undefined_items),
        encoding.item(leaf, undefined=undefined_items),
    ]
    data = encoding.sequence(0x0040A730, items, undefined=undefined) + encoding.element(0x00420010, "ST", b"end ")

    sequence, last = _parse(data, encoding)
    assert (sequence.undefined, _value(data, last), last.end) == (undefined, b"end ", len(data))
    first, second, third = sequence_items(data, sequence)
    assert [element.tag for element in first] == [0x00080100, 0x0040A168]
    assert (second, [_value(data, element) for element in third]) == ([], [b"code"])
    ((innermost,),) = sequence_items(data, first[1])
    assert _value(data, innermost) == b"code"


@_ENCODINGS
def test_a_head_ends_with_the_header_of_pixel_data(encoding: encoded.Encoding) -> None:
    head = encoding.element(0x00280010, "US", b"\0\0") + encoding.header(0x7FE00010, "OW", 1 << 20)
    rows, pixel = _parse(head, encoding)
    assert (rows.withheld, pixel.withheld, pixel.undefined) == (False, True, False)
    assert _value(head, pixel) == b""


def test_a_head_of_an_encapsulated_instance() -> None:
    head = EXPLICIT.header(0x7FE00010, "OB", encoded.UNDEFINED)
    (pixel,) = _parse(head)
    assert (pixel.withheld, pixel.undefined, pixel.is_encapsulated) == (True, True, True)


def test_only_the_last_element_may_be_withheld() -> None:
    icon = EXPLICIT.sequence(0x00880200, [EXPLICIT.item(EXPLICIT.header(0x7FE00010, "OW", 64))])
    (sequence,) = _parse(icon)
    with pytest.raises(DicomError):
        sequence_items(icon, sequence)


def test_elements_before_a_damaged_place_are_found() -> None:
    data = EXPLICIT.element(0x00080060, "CS", b"CT") + EXPLICIT.header(0x00081030, "LO", 50) + b"short"
    parsed = elements(data, Encoding(implicit_vr=False, little_endian=True))
    assert next(parsed).tag == 0x00080060
    with pytest.raises(DicomError):
        next(parsed)


def test_items_of_un_are_implicit() -> None:
    item = IMPLICIT.item(IMPLICIT.element(0x00080100, "SH", b"code"))
    for undefined in (True, False):
        data = EXPLICIT.sequence(0x00091001, [item], undefined=undefined, vr="UN")
        (sequence,) = _parse(data)
        ((leaf,),) = sequence_items(data, sequence)
        assert (leaf.vr, leaf.encoding.implicit_vr, _value(data, leaf)) == (None, True, b"code")


def test_explicit_items_of_un_are_read_as_they_are() -> None:
    data = EXPLICIT.sequence(0x00091001, [EXPLICIT.item(EXPLICIT.element(0x00080100, "SH", b"code"))], vr="UN")
    ((leaf,),) = sequence_items(data, _parse(data)[0])
    assert (leaf.vr, _value(data, leaf)) == ("SH", b"code")


@pytest.mark.parametrize(
    "value",
    [
        b"no items at all ",
        EXPLICIT.header(0xFFFEE000, "", 100) + b"x" * 8,
        EXPLICIT.item(EXPLICIT.header(0x00080100, "SH", 100)),
        EXPLICIT.item(b"")[:6],
    ],
    ids=["text", "item too long", "element too long", "half a header"],
)
def test_values_that_are_no_sequences(value: bytes) -> None:
    data = EXPLICIT.element(0x00081140, "SQ", value)
    with pytest.raises(DicomError):
        sequence_items(data, _parse(data)[0])


def test_fragments_include_the_offset_table() -> None:
    data = EXPLICIT.encapsulated(0x7FE00010, [b"one!", b"two "], table=b"\0\0\0\0")
    assert fragments(data, _parse(data)[0]) == [b"\0\0\0\0", b"one!", b"two "]


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, implicit_vr: bool, little_endian: bool) -> None:
    found = []
    try:
        for element in elements(data, Encoding(implicit_vr, little_endian)):
            found.append(element)
            sequence_items(data, element)
    except DicomError:
        pass
    assert all(0 <= e.offset < e.start <= e.stop <= e.end <= len(data) for e in found)
