"""Searchable attributes: what comes out of scanned elements, odd ones included."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.multival import MultiValue

from data import NATIVE, Recipe, bundled, corpus, make_instance
from leanpacs.dicom import instance
from leanpacs.dicom.attributes import (
    INDEXED_TAGS,
    LEVEL_ATTRIBUTES,
    InstanceAttributes,
    InstanceIndex,
    LevelAttribute,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
    index,
)
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout, RawValue
from leanpacs.dicom.vrs import VRS
from leanpacs.errors import NotDicom
from leanpacs.refs import Digest

_DIGEST = Digest.of(b"a data set")
_LEVELS = {
    "patient": PatientAttributes,
    "study": StudyAttributes,
    "series": SeriesAttributes,
    "instance": InstanceAttributes,
}
_CONVERTED = [a for a in LEVEL_ATTRIBUTES if not a.computed and a.vr != "UI"]


def _layout(elements: dict[int, bytes | RawValue], *, little_endian: bool = True) -> Layout:
    values = {
        tag: value if isinstance(value, RawValue) else RawValue(None, value, little_endian)
        for tag, value in elements.items()
    }
    return Layout(
        preface_length=0,
        length=0,
        transfer_syntax="",
        implicit_vr=True,
        little_endian=little_endian,
        pixel=None,
        elements=values,
    )


def _index(elements: dict[int, bytes | RawValue], *, little_endian: bool = True) -> InstanceIndex:
    return index(_layout(elements, little_endian=little_endian), _DIGEST)


def _field(found: InstanceIndex, attribute: LevelAttribute) -> str | int | None:
    return getattr(getattr(found, attribute.level), attribute.field)


@pytest.mark.parametrize("attribute", LEVEL_ATTRIBUTES, ids=lambda a: f"{a.level}-{a.keyword}")
def test_the_table_agrees_with_the_data_dictionary(attribute: LevelAttribute) -> None:
    assert keyword_for_tag(attribute.tag) == attribute.keyword
    assert dictionary_VR(attribute.tag) == attribute.vr


def test_the_table_has_each_field_once() -> None:
    for level, values in _LEVELS.items():
        named = [a.field for a in _CONVERTED if a.level == level]
        assert sorted(named) == sorted(field.name for field in dataclasses.fields(values))


def test_a_scan_collects_what_the_index_needs() -> None:
    assert INDEXED_TAGS <= instance.INDEXED_TAGS


@pytest.mark.parametrize("transfer_syntax", NATIVE)
def test_all_levels_of_a_made_instance(transfer_syntax: str) -> None:
    recipe = Recipe(modality="MR", frames=3, rows=18, columns=10, instance=7, transfer_syntax=transfer_syntax)
    found = index(scan(io.BytesIO(make_instance(recipe))), _DIGEST)
    assert (found.study_uid, found.series_uid) == (recipe.study_uid, recipe.series_uid)
    assert (found.sop_uid, found.sop_class) == (recipe.sop_uid, recipe.sop_class)
    assert found.assigned == ()
    assert found.patient == PatientAttributes(patient_id="P0", patient_name="Synthetic^Patient0")
    assert found.study == StudyAttributes(
        study_date="20240229",
        study_time="101112",
        accession_number="A0",
        study_id="0",
        study_description="Study 0",
    )
    assert found.series == SeriesAttributes(modality="MR", series_number=0, manufacturer="Synthetic")
    assert found.instance == InstanceAttributes(
        instance_number=7,
        rows=18,
        columns=10,
        bits_allocated=16,
        number_of_frames=3,
        image_type="ORIGINAL\\PRIMARY",
        photometric_interpretation="MONOCHROME2",
    )


def test_absent_attributes_are_empty() -> None:
    found = _index({})
    assert (found.patient, found.study) == (PatientAttributes(), StudyAttributes())
    assert (found.series, found.instance) == (SeriesAttributes(), InstanceAttributes())
    assert found.sop_class == ""


class TestAbsentUIDs:
    def test_all_three_are_derived_and_named(self) -> None:
        found = _index({})
        assert found.assigned == ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        uids = {found.study_uid, found.series_uid, found.sop_uid}
        assert len(uids) == 3
        for uid in uids:
            assert pydicom.uid.UID(uid).is_valid
            assert uid.startswith("2.25.")

    def test_the_same_bytes_get_the_same_uids_and_others_do_not(self) -> None:
        again, other = _index({}), index(_layout({}), Digest.of(b"another data set"))
        assert again == _index({})
        assert other.study_uid != again.study_uid
        assert other.sop_uid != again.sop_uid

    def test_empty_and_padded_values_count_as_absent(self) -> None:
        assert "StudyInstanceUID" in _index({0x0020000D: b" \0"}).assigned

    def test_file_meta_gives_the_instance_and_its_class(self) -> None:
        found = _index({0x00020003: b"1.2.3\0", 0x00020002: b"1.2.840.10008.5.1.4.1.1.7\0"})
        assert (found.sop_uid, found.sop_class) == ("1.2.3", "1.2.840.10008.5.1.4.1.1.7")
        assert "SOPInstanceUID" not in found.assigned

    def test_instances_of_one_study_and_modality_share_a_derived_series(self) -> None:
        elements: dict[int, bytes | RawValue] = {0x0020000D: b"1.2.3\0", 0x00080060: b"CT"}
        found = _index(elements)
        other = index(_layout(elements), Digest.of(b"another data set"))
        assert found.assigned == ("SeriesInstanceUID", "SOPInstanceUID")
        assert found.series_uid == other.series_uid
        assert found.series_uid != _index({**elements, 0x00080060: b"MR"}).series_uid

    def test_instances_of_one_series_share_a_derived_study(self) -> None:
        found = _index({0x0020000E: b"1.2.4\0"})
        other = index(_layout({0x0020000E: b"1.2.4\0"}), Digest.of(b"another data set"))
        assert found.study_uid == other.study_uid


class TestText:
    @pytest.mark.parametrize(
        ("character_set", "value", "name"),
        [
            (b"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
            (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
            (
                b"\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
                "Yamada^Tarou=山田^太郎",
            ),
            (
                b"\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
                "Hong^Gildong=洪^吉洞",
            ),
            (b"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
            (b"", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
            (b"no such set", "Buc^Jérôme".encode(), "Buc^Jérôme"),
            (b"ISO_IR 192", b"Buc^J\xe9r\xf4me", "Buc^J\ufffdr\ufffdme"),
        ],
    )
    def test_names_are_decoded_by_the_character_set(self, character_set: bytes, value: bytes, name: str) -> None:
        assert _index({0x00080005: character_set, 0x00100010: value}).patient.patient_name == name

    def test_padding_goes_from_each_value(self) -> None:
        assert _index({0x00080008: b" DERIVED \\PRIMARY\\ \\MPR\0"}).instance.image_type == "DERIVED\\PRIMARY\\\\MPR"

    def test_no_nul_is_left(self) -> None:
        assert _index({0x00100020: b"4\x007\0\0"}).patient.patient_id == "47"

    def test_long_text_is_not_cut(self) -> None:
        assert _index({0x00081030: b"x" * 5000}).study.study_description == "x" * 5000

    def test_a_sequence_in_the_place_of_text_is_absent(self) -> None:
        assert _index({0x00081030: RawValue("SQ", b"\xfe\xff\0\xe0\0\0\0\0")}).study.study_description == ""


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "number"),
        [
            (b"12", 12),
            (b" +12 ", 12),
            (b"-3\0", -3),
            (b"12.0", 12),
            (b"7\\8", 7),
            (b"2147483647", 2**31 - 1),
            (b"2147483648", None),
            (b"1A", None),
            (b"1.5", None),
            (b"1_0", None),
            (b"", None),
            (b"\\4", None),
            (b"9" * 5000, None),
            ("१२".encode(), None),
        ],
    )
    def test_integer_strings(self, value: bytes, number: int | None) -> None:
        assert _index({0x00200013: value}).instance.instance_number == number

    @pytest.mark.parametrize("little_endian", [True, False])
    def test_words_in_both_byte_orders(self, little_endian: bool) -> None:
        value = struct.pack("<H" if little_endian else ">H", 515)
        assert _index({0x00280010: value}, little_endian=little_endian).instance.rows == 515

    @pytest.mark.parametrize(
        ("raw", "number"),
        [
            (RawValue("US", b"\x01\x02\x05\x05"), 0x0201),
            (RawValue("UL", b"\x01\x00\x00\x00"), 1),
            (RawValue("SS", b"\xff\xff"), -1),
            (RawValue("IS", b"512 "), 512),
            (RawValue("US", b"\x01"), None),
            (RawValue("UL", b"\x01\x00"), None),
            (RawValue("UN", b"\x01\x00"), 1),
            (RawValue("US", b""), None),
        ],
    )
    def test_other_vrs_than_the_dictionary_has(self, raw: RawValue, number: int | None) -> None:
        assert _index({0x00280010: raw}).instance.rows == number


_RAW_VALUES = st.builds(
    RawValue,
    st.sampled_from([None, *sorted(VRS)]),
    st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)),
    st.booleans(),
)
_CHARACTER_SETS = st.sampled_from(
    [
        b"ISO_IR 192",
        b"ISO_IR 13\\ISO 2022 IR 87",
        b"\\ISO 2022 IR 149",
        b"GB18030",
        b"ISO_IR 999",
        b"\\\\",
        b"\xff",
    ]
)


@given(
    st.dictionaries(st.sampled_from(sorted(INDEXED_TAGS)), _RAW_VALUES),
    st.none() | _CHARACTER_SETS.map(lambda value: RawValue("CS", value)),
)
def test_any_bytes_give_values_that_a_catalog_can_hold(
    elements: dict[int, RawValue], character_set: RawValue | None
) -> None:
    if character_set is not None:
        elements[0x00080005] = character_set
    found = index(_layout(dict(elements)), _DIGEST)
    for uid in (found.study_uid, found.series_uid, found.sop_uid):
        assert uid
    for attribute in _CONVERTED:
        value = _field(found, attribute)
        if attribute.vr in ("IS", "US"):
            assert value is None or -(2**31) <= int(value) < 2**32
        else:
            assert "\0" not in str(value).encode("utf-8").decode()


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.name)
def test_bundled_files_agree_with_pydicom(path: Path) -> None:
    _compare_with_pydicom(path)


@pytest.mark.corpus
def test_the_corpus_agrees_with_pydicom() -> None:
    for path in corpus():
        _compare_with_pydicom(path)


def _compare_with_pydicom(path: Path) -> None:
    ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    try:
        with path.open("rb") as reader:
            found = index(scan(reader), _DIGEST)
    except NotDicom:
        assert "SOPClassUID" not in ds
        return
    assert found.study_uid == ds.get("StudyInstanceUID") or "StudyInstanceUID" in found.assigned
    assert found.sop_uid in (ds.get("SOPInstanceUID"), ds.file_meta.get("MediaStorageSOPInstanceUID")) or (
        "SOPInstanceUID" in found.assigned
    )
    for attribute in _CONVERTED:
        if attribute.keyword in ds:
            value = _field(found, attribute)
            # pydicom takes away the delimiters of empty component groups at the end.
            value = str(value).rstrip("=") if attribute.vr == "PN" else value
            assert value == _expected(attribute, ds), attribute.keyword


def _expected(attribute: LevelAttribute, ds: pydicom.Dataset) -> str | int | None:
    try:
        value: Any = ds[attribute.keyword].value
    except ValueError:
        return None
    values = list(value) if isinstance(value, MultiValue) else [value]
    if attribute.vr in ("IS", "US"):
        return int(values[0]) if str(values[0]).isdecimal() else None
    return "\\".join("" if part is None else str(part).strip() for part in values)
