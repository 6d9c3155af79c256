"""Data sets re-encoded: explicit and implicit VR, little and big endian."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

import encoded
from data import (
    JPEG_BASELINE,
    Recipe,
    bundled,
    corpus,
    make_instance,
)
from encoded import BIG, EXPLICIT, IMPLICIT, UNDEFINED
from leanpacs.dicom.deflate import inflate
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.reencode import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NestedPixels,
    element_header,
    reencode,
)
from leanpacs.dicom.tree import Element, Encoding, elements, sequence_items
from leanpacs.dicom.write import (
    read_head,
)
from leanpacs.errors import DicomError, NotDicom

_ENCODINGS = pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])


def _explicit(data: bytes, encoding: encoded.Encoding = EXPLICIT, **options: Any) -> bytes:
    return reencode(data, Encoding(encoding.implicit, encoding.little), EXPLICIT_LITTLE, **options)


def test_explicit_elements_keep_every_byte() -> None:
    kept = b"".join(
        (
            EXPLICIT.element(0x00080005, "CS", b"no such set"),
            EXPLICIT.sequence(0x00081140, [EXPLICIT.item(b"", undefined=True)], undefined=True),
            EXPLICIT.element(0x00091001, "UN", IMPLICIT.item(b"")),
            EXPLICIT.element(0x00100010, "PN", b"odd"),
            EXPLICIT.element(0x00200013, "IS", b"1A"),
        )
    )
    lengths = EXPLICIT.element(0x00080000, "UL", b"\0\0\0\0")
    assert _explicit(lengths + kept + EXPLICIT.header(0x7FE00010, "OB", UNDEFINED)) == kept


_LEAF = (0x00080100, "SH", b"code")


@pytest.mark.parametrize("encoding", [IMPLICIT, BIG], ids=["implicit", "big"])
@pytest.mark.parametrize("undefined", [True, False])
def test_headers_are_written_anew(encoding: encoded.Encoding, undefined: bool) -> None:
    def level(written: encoded.Encoding, is_source: bool) -> bytes:
        item = written.item(written.element(*_LEAF), undefined=undefined and is_source)
        return b"".join(
            (
                written.element(0x00080060, "CS", b"\xff?"),
                written.sequence(0x0040A730, [item, item], undefined=undefined and is_source),
                written.element(0x00280009, "AT", written.pack("HH", 0x18, 0x1063)),
                written.element(0x00280010, "US", written.pack("H", 515)),
                written.element(0x00280103, "US", written.pack("H", 1)),
                written.element(0x00280106, "SS", written.pack("h", -3)),
                written.element(0x00290010, "LO", b"SIEMENS CSA HEADER"),
                written.element(0x00291008, "CS", b"odd"),
                written.element(0x00281201, "OW", written.pack("2H", 1, 2)),
                written.element(0x00189087, "FD", written.pack("d", 0.1)),
            )
        )

    by_tag = _sorted_elements(level(EXPLICIT, is_source=False))
    assert _explicit(level(encoding, is_source=True), encoding) == by_tag


def _sorted_elements(data: bytes) -> bytes:
    found = sorted(elements(data, Encoding(implicit_vr=False, little_endian=True)), key=lambda e: e.tag)
    return b"".join(data[element.offset : element.end] for element in found)


class TestUnknownOrTooLong:
    def test_implicit_elements_that_are_unknown_become_un(self) -> None:
        assert _explicit(IMPLICIT.element(0x00091001, "", b"what"), IMPLICIT) == EXPLICIT.element(
            0x00091001, "UN", b"what"
        )

    def test_a_value_too_long_for_its_vr_becomes_un(self) -> None:
        long = b"1\\" * 40000
        assert _explicit(IMPLICIT.element(0x00181151, "DS", long), IMPLICIT) == EXPLICIT.element(0x00181151, "UN", long)

    def test_a_sequence_that_is_none_becomes_un(self) -> None:
        value = b"no items"
        assert _explicit(IMPLICIT.element(0x00081140, "SQ", value), IMPLICIT) == EXPLICIT.element(
            0x00081140, "UN", value
        )

    def test_a_big_endian_sequence_that_is_none_is_refused(self) -> None:
        with pytest.raises(DicomError):
            _explicit(BIG.element(0x00081140, "SQ", b"no items"), BIG)

    def test_a_vr_of_a_future_standard_is_replaced(self) -> None:
        data = EXPLICIT.element(0x00091001, "ZZ", b"what") + EXPLICIT.element(0x00100020, "LO", b"47")
        assert _explicit(data) == EXPLICIT.element(0x00091001, "UN", b"what") + EXPLICIT.element(
            0x00100020, "LO", b"47"
        )

    def test_a_truncated_head_is_refused(self) -> None:
        with pytest.raises(DicomError):
            _explicit(EXPLICIT.header(0x00081030, "LO", 100) + b"short")

    def test_sequences_nested_beyond_reason(self) -> None:
        data = IMPLICIT.element(0x00080100, "SH", b"code")
        for _ in range(300):
            data = IMPLICIT.sequence(0x0040A730, [IMPLICIT.item(data)])
        assert len(_explicit(data, IMPLICIT)) >= len(data)


class TestChanges:
    _HEAD = EXPLICIT.element(0x00080008, "CS", b"ORIGINAL") + EXPLICIT.element(0x00280004, "CS", b"YBR_FULL")

    def test_elements_are_replaced_inserted_in_order_and_removed(self) -> None:
        changes = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "ImageType": None, "Rows": 2}
        assert _explicit(self._HEAD, changes=changes) == b"".join(
            (
                EXPLICIT.element(0x00280002, "US", b"\3\0"),
                EXPLICIT.element(0x00280004, "CS", b"RGB "),
                EXPLICIT.element(0x00280010, "US", b"\2\0"),
            )
        )

    def test_text_is_written_in_the_character_set_of_the_data_set(self) -> None:
        head = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 192")
        written = _explicit(head, changes={"DerivationDescription": "Jérôme"})
        assert written.endswith("Jérôme".encode())

    def test_several_values_and_sequences(self) -> None:
        item = Dataset()
        item.CodeValue = "113040"
        changes = {"ImageType": ["DERIVED", "PRIMARY"], "DerivationCodeSequence": [item]}
        ds = read_head(_explicit(self._HEAD, changes=changes), implicit_vr=False, little_endian=True)
        assert ds.ImageType == ["DERIVED", "PRIMARY"]
        assert ds.DerivationCodeSequence[0].CodeValue == "113040"

    def test_keywords_have_to_exist(self) -> None:
        with pytest.raises(ValueError, match="Photometry"):
            _explicit(self._HEAD, changes={"Photometry": "RGB"})


class TestPixelHeader:
    @pytest.mark.parametrize("length", [2**32 - 2, 70000, 2, None])
    def test_pixel_data_has_a_long_length(self, length: int | None) -> None:
        written = element_header(0x7FE00010, "OW", length, EXPLICIT_LITTLE)
        assert written == EXPLICIT.header(0x7FE00010, "OW", UNDEFINED if length is None else length)

    def test_in_other_encodings(self) -> None:
        assert element_header(0x7FE00008, "OF", 64, EXPLICIT_BIG) == BIG.header(0x7FE00008, "OF", 64)
        assert element_header(0x7FE00010, "OW", 64, IMPLICIT_LITTLE) == IMPLICIT.header(0x7FE00010, "OW", 64)


class TestIcons:
    def _icon(self, encoding: encoded.Encoding = EXPLICIT) -> bytes:
        content = b"".join(
            (
                encoding.element(0x00280004, "CS", b"YBR_FULL"),
                encoding.element(0x00280010, "US", encoding.pack("H", 1)),
                encoding.encapsulated(0x7FE00010, [b"code", b"stream"]),
            )
        )
        return encoding.item(content)

    def test_the_samples_and_changed_attributes_take_the_place_of_the_code_stream(self) -> None:
        seen = []

        def decode(item: Dataset) -> NestedPixels:
            seen.append((item.Rows, item.PixelData))
            item.PhotometricInterpretation = "RGB"
            return NestedPixels(b"\1\2\3")

        head = EXPLICIT.element(0x00080060, "CS", b"CT")
        head += EXPLICIT.sequence(0x00880200, [self._icon()], undefined=True)
        content = b"".join(
            (
                EXPLICIT.element(0x00280004, "CS", b"RGB "),
                EXPLICIT.element(0x00280010, "US", b"\1\0"),
                EXPLICIT.element(0x7FE00010, "OW", b"\1\2\3\0"),
            )
        )
        assert _explicit(head, recode_icon=decode) == EXPLICIT.element(0x00080060, "CS", b"CT") + EXPLICIT.sequence(
            0x00880200, [EXPLICIT.item(content)]
        )
        ((rows, value),) = seen
        assert rows == 1
        assert list(pydicom.encaps.generate_fragments(value)) == [b"", b"code", b"stream"]

    @pytest.mark.parametrize("undefined", [True, False])
    def test_icons_in_private_sequences_are_found(self, undefined: bool) -> None:
        inner = EXPLICIT.sequence(0x07A310CE, [self._icon()], undefined=undefined)
        head = EXPLICIT.sequence(0x00081140, [EXPLICIT.item(inner, undefined=undefined)], undefined=undefined)
        written = _explicit(head, recode_icon=lambda _item: NestedPixels(b"\1\2"))
        assert written.endswith(EXPLICIT.element(0x7FE00010, "OW", b"\1\2"))
        assert b"stream" not in written

    def test_items_that_are_not_decoded_are_dropped(self) -> None:
        other = EXPLICIT.item(EXPLICIT.element(*_LEAF))
        head = EXPLICIT.sequence(0x00880200, [self._icon(), other])
        kept = EXPLICIT.sequence(0x00880200, [other])
        assert _explicit(head, recode_icon=lambda _item: None) == kept
        assert _explicit(head) == kept

    def test_a_sequence_of_nothing_else_is_dropped_with_them(self) -> None:
        assert _explicit(EXPLICIT.sequence(0x00880200, [self._icon()])) == b""

    def test_native_icons_keep_every_byte(self) -> None:
        icon = EXPLICIT.item(EXPLICIT.element(0x7FE00010, "OW", b"\1\2"), undefined=True)
        head = EXPLICIT.sequence(0x00880200, [icon], undefined=True)
        assert _explicit(head) == head

    def test_of_a_made_instance(self) -> None:
        recipe = Recipe(bits_allocated=8, bits_stored=8, transfer_syntax=JPEG_BASELINE, icon=True)
        head, _ = _head_and_tail(file := io.BytesIO(make_instance(recipe)), scan(file))
        written = _explicit(head, recode_icon=lambda item: NestedPixels(bytes(item.Rows * item.Columns)))
        ds = read_head(written, implicit_vr=False, little_endian=True)
        assert ds.IconImageSequence[0].PixelData == bytes(64)


def _in_pairs(value: bytes) -> bytes:
    """Words that are the same in both byte orders: pydicom writes words as they are given."""
    return b"".join(bytes((byte, byte)) for byte in value)


_ELEMENT = st.one_of(
    st.tuples(st.just("PatientName"), st.sampled_from(["A^B", "Jérôme^=王^=", ""])),
    st.tuples(st.just("Rows"), st.integers(0, 65535)),
    st.tuples(st.just("PixelSpacing"), st.lists(st.sampled_from(["0.5", "1e-3", "7"]), max_size=3)),
    st.tuples(st.just("RedPaletteColorLookupTableData"), st.binary(max_size=5).map(_in_pairs)),
    st.tuples(st.just("FrameIncrementPointer"), st.lists(st.sampled_from([0x00181063, 0x00181065]), max_size=2)),
    st.tuples(st.just("RealWorldValueSlope"), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("SelectorULValue"), st.lists(st.integers(0, 2**32 - 1), max_size=3)),
    st.tuples(st.just("SelectorUVValue"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("TextValue"), st.sampled_from(["one", "two\\three"])),
)
_FLAT = st.lists(_ELEMENT, max_size=5)
_DATA_SETS = st.recursive(
    _FLAT,
    lambda inner: st.tuples(_FLAT, st.lists(inner, max_size=2)).map(
        lambda parts: [*parts[0], ("ContentSequence", parts[1])]
    ),
    max_leaves=6,
)


def _data_set(drawn: list[tuple[str, Any]]) -> Dataset:
    ds = Dataset()
    for keyword, value in drawn:
        setattr(ds, keyword, [_data_set(item) for item in value] if keyword == "ContentSequence" else value)
    return ds


def _encode(ds: Dataset, encoding: encoded.Encoding) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = encoding.implicit, encoding.little
    write_dataset(file, ds)
    return file.getvalue()


@given(_DATA_SETS, st.sampled_from([EXPLICIT, IMPLICIT, BIG]), st.sampled_from([EXPLICIT, IMPLICIT, BIG]))
def test_all_encodings_of_a_data_set_become_the_same(
    drawn: list[tuple[str, Any]], source: encoded.Encoding, target: encoded.Encoding
) -> None:
    ds = _data_set(drawn)
    ds.SpecificCharacterSet = "ISO_IR 192"
    encodings = (Encoding(source.implicit, source.little), Encoding(target.implicit, target.little))
    assert reencode(_encode(ds, source), *encodings) == _encode(ds, target)


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])
def test_changes_and_icons_are_written_as_the_rest(target: encoded.Encoding) -> None:
    icon = IMPLICIT.item(IMPLICIT.element(0x00280010, "US", b"\2\0") + IMPLICIT.element(0x7FE00010, "OW", b"old!"))
    data = IMPLICIT.element(0x00280010, "US", b"\1\0") + IMPLICIT.sequence(0x00880200, [icon])
    written = reencode(
        data,
        IMPLICIT_LITTLE,
        Encoding(target.implicit, target.little),
        changes={"Columns": 515},
        recode_icon=lambda _item: NestedPixels(b"\1\2\3\4", vr="OW"),
        native_icons_too=True,
    )
    pixels = target.element(0x7FE00010, "OW", target.pack("HH", 0x0201, 0x0403))
    item = target.item(target.element(0x00280010, "US", target.pack("H", 2)) + pixels)
    rows, columns = (target.element(tag, "US", target.pack("H", v)) for tag, v in ((0x00280010, 1), (0x00280011, 515)))
    assert written == rows + columns + target.sequence(0x00880200, [item])


def test_native_pixel_data_of_an_item_may_become_encapsulated() -> None:
    item = EXPLICIT.item(EXPLICIT.element(0x7FE00010, "OW", b"old!"))
    fragments = EXPLICIT.fragments([b"new!"])
    written = reencode(
        EXPLICIT.sequence(0x00880200, [item]),
        EXPLICIT_LITTLE,
        EXPLICIT_LITTLE,
        recode_icon=lambda _item: NestedPixels(fragments, encapsulated=True),
        native_icons_too=True,
    )
    pixels = EXPLICIT.header(0x7FE00010, "OB", UNDEFINED) + fragments
    assert written == EXPLICIT.sequence(0x00880200, [EXPLICIT.item(pixels)])


@given(encoded.instances(own_vrs=False, kinds=("none",)))
def test_values_of_drawn_instances_stay_as_they_are(drawn: encoded.Drawn) -> None:
    data = drawn.data[len(drawn.preface) :]
    _compare(
        data, Encoding(drawn.encoding.implicit, drawn.encoding.little), recode_icon=lambda _item: NestedPixels(b"xy")
    )


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.name)
def test_values_of_bundled_files_stay_as_they_are(path: Path) -> None:
    _compare_file(path)


@pytest.mark.corpus
def test_values_of_the_corpus_stay_as_they_are() -> None:
    for path in corpus():
        _compare_file(path)


def _compare_file(path: Path) -> None:
    with path.open("rb") as reader:
        try:
            layout = scan(reader)
        except NotDicom:
            return
        head, tail = _head_and_tail(reader, layout)
    encoding = Encoding(layout.implicit_vr, layout.little_endian)
    if layout.problem is None:
        _compare(head, encoding, recode_icon=lambda _item: NestedPixels(b"xy"))
        _compare(tail, encoding, recode_icon=None)


def _head_and_tail(reader: Any, layout: Layout) -> tuple[bytes, bytes]:
    with inflate(reader, layout.preface_length) if layout.deflated else nullcontext(reader) as data:
        data.seek(layout.preface_length)
        head = data.read(layout.head_end - layout.preface_length)
        data.seek(layout.tail_start)
        return head, data.read(layout.length - layout.tail_start)


def _compare(data: bytes, encoding: Encoding, **options: Any) -> None:
    """Every value is there, at its place, with its bytes in little endian order."""
    written = reencode(data, encoding, EXPLICIT_LITTLE, **options)
    found = list(elements(written, Encoding(implicit_vr=False, little_endian=True)))
    received = [element for element in elements(data, encoding) if not element.withheld]
    _compare_level(written, found, data, [element for element in received if element.tag & 0xFFFF])


def _compare_level(written: bytes, found: list[Element], data: bytes, received: list[Element]) -> None:
    expected = sorted((element for element in received), key=lambda element: element.tag)
    assert [element.tag for element in found] == [element.tag for element in expected if element.tag & 0xFFFF]
    for element, source in zip(found, (e for e in expected if e.tag & 0xFFFF), strict=True):
        value, other = written[element.start : element.stop], data[source.start : source.stop]
        if source.is_encapsulated:
            assert value == b"xy"
        elif element.vr == "SQ" and value != other:
            items, others = sequence_items(written, element), sequence_items(data, source)
            assert len(items) == len(others)
            for item, other_item in zip(items, others, strict=True):
                _compare_level(written, item, data, other_item)
        elif source.encoding.little_endian or element.vr in ("OB", "UN"):
            assert value == other
        else:
            # The same bytes, moved within words; what the words are, the tests of vrs say.
            assert sorted(value) == sorted(other)
