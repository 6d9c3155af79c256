"""The DICOM JSON Model of whole instances, against pydicom's and by example."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

import encoded
from data import EXPLICIT_BE, JPEG_BASELINE, NATIVE, Recipe, bundled, corpus, make_instance, native_pixels
from encoded import BIG, EXPLICIT, IMPLICIT, UNDEFINED
from leanpacs.dicom.deflate import inflate
from leanpacs.dicom.instance import scan
from leanpacs.dicom.jsonmodel import INLINE_LIMIT_BYTES, JSONModel, bulk_value, data_set_json
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.vrs import VRS
from leanpacs.errors import DicomError, MissingAttribute, NotDicom

_URI = "http://example.org/bulk/"


def _json(
    head: bytes, encoding: encoded.Encoding = EXPLICIT, *, tail: bytes = b"", paths: list[str] | None = None
) -> JSONModel:
    def bulk_uri(path: str) -> str:
        if paths is not None:
            paths.append(path)
        return _URI + path

    return data_set_json(
        head, implicit_vr=encoding.implicit, little_endian=encoding.little, bulk_uri=bulk_uri, tail=tail
    )


def _bulk(head: bytes, path: str, encoding: encoded.Encoding = EXPLICIT, *, tail: bytes = b"") -> tuple[str, bytes]:
    found = bulk_value(head, path, implicit_vr=encoding.implicit, little_endian=encoding.little, tail=tail)
    return found.vr, found.data


def _load(model: JSONModel) -> Dataset:
    """What a client makes of it."""
    return Dataset.from_json(orjson.dumps(model), bulk_data_uri_handler=lambda _tag, _vr, _uri: None)


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])
def test_elements_of_each_kind(encoding: encoded.Encoding) -> None:
    head = b"".join(
        (
            encoding.element(0x00080000, "UL", encoding.pack("L", 0)),
            encoding.element(0x00080005, "CS", b"ISO_IR 192"),
            encoding.element(0x00080018, "UI", b"1.2.3\0"),
            encoding.element(0x00081030, "LO", b""),
            encoding.element(0x00100010, "PN", "A^B=山".encode() + b" "),
            encoding.element(0x0020000D, "UI", b"1.2\0"),
            encoding.element(0x00200013, "IS", b"7 "),
            encoding.element(0x00280009, "AT", encoding.pack("HH", 0x0018, 0x1063)),
            encoding.element(0x00280010, "US", encoding.pack("H", 515)),
            encoding.element(0x00280103, "US", encoding.pack("H", 1)),
            encoding.element(0x00280106, "SS", encoding.pack("h", -3)),
            encoding.element(0x00281201, "OW", encoding.pack("2H", 1, 2)),
            encoding.header(0x7FE00010, "OW", 4096),
        )
    )
    assert _json(head, encoding, tail=encoding.element(0xFFFCFFFC, "OB", b"\0\0")) == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3"]},
        "00081030": {"vr": "LO"},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "山"}]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "00200013": {"vr": "IS", "Value": [7]},
        "00280009": {"vr": "AT", "Value": ["00181063"]},
        "00280010": {"vr": "US", "Value": [515]},
        "00280103": {"vr": "US", "Value": [1]},
        "00280106": {"vr": "SS", "Value": [-3]},
        "00281201": {"vr": "OW", "InlineBinary": base64.b64encode(struct.pack("<2H", 1, 2)).decode()},
        "7FE00010": {"vr": "OW", "BulkDataURI": _URI + "7FE00010"},
    }


def test_attributes_are_in_ascending_order_with_those_of_the_tail() -> None:
    head = EXPLICIT.element(0x00100020, "LO", b"47") + EXPLICIT.element(0x00080060, "CS", b"CT")
    head += EXPLICIT.header(0x7FE00010, "OB", UNDEFINED)
    model = _json(head, tail=EXPLICIT.sequence(0xFFFAFFFA, []))
    assert list(model) == ["00080060", "00100020", "7FE00010", "FFFAFFFA"]
    assert model["FFFAFFFA"] == {"vr": "SQ"}


def test_pixel_data_without_a_value_is_empty() -> None:
    assert _json(EXPLICIT.element(0x7FE00010, "OW", b"")) == {"7FE00010": {"vr": "OW"}}


def test_sequences_of_all_forms() -> None:
    leaf = EXPLICIT.element(0x00080100, "SH", b"code")
    for undefined in (True, False):
        items = [EXPLICIT.item(leaf, undefined=undefined), EXPLICIT.item(b"", undefined=undefined)]
        model = _json(EXPLICIT.sequence(0x0008103F, items, undefined=undefined))
        assert model == {"0008103F": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["code"]}}, {}]}}


def test_items_inherit_the_character_set_or_have_their_own() -> None:
    name = EXPLICIT.element(0x00081048, "PN", b"J\xe9r\xf4me")
    own = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 192")
    other = EXPLICIT.element(0x00081048, "PN", "王x".encode())
    model = _json(
        EXPLICIT.element(0x00080005, "CS", b"ISO_IR 100")
        + EXPLICIT.sequence(0x00081110, [EXPLICIT.item(name), EXPLICIT.item(own + other), EXPLICIT.item(name)])
    )
    names = [item["00081048"]["Value"][0]["Alphabetic"] for item in model["00081110"]["Value"]]
    assert names == ["Jérôme", "王x", "Jérôme"]


class TestPrivateElements:
    def test_known_creators_give_the_vr_of_implicit_elements(self) -> None:
        head = IMPLICIT.element(0x00290011, "LO", b"SIEMENS CSA HEADER")
        head += IMPLICIT.element(0x00291108, "CS", b"IMAGE NUM 4 ") + IMPLICIT.element(0x00291208, "CS", b"what")
        assert _json(head, IMPLICIT) == {
            "00290011": {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]},
            "00291108": {"vr": "CS", "Value": ["IMAGE NUM 4"]},
            "00291208": {"vr": "UN", "InlineBinary": base64.b64encode(b"what").decode()},
        }

    @pytest.mark.parametrize("undefined", [True, False])
    def test_sequences_are_found_within_un(self, undefined: bool) -> None:
        item = IMPLICIT.item(IMPLICIT.element(0x00080100, "SH", b"code"))
        head = EXPLICIT.sequence(0x00091001, [item], undefined=undefined, vr="UN")
        assert _json(head)["00091001"] == {
            "vr": "SQ",
            "Value": [{"00080100": {"vr": "SH", "Value": ["code"]}}],
        }

    def test_un_that_only_begins_like_a_sequence(self) -> None:
        value = EXPLICIT.header(0xFFFEE000, "", 400)
        expected = {"vr": "UN", "InlineBinary": base64.b64encode(value).decode()}
        assert _json(EXPLICIT.element(0x00091001, "UN", value))["00091001"] == expected


class TestBulkData:
    def test_only_values_above_the_limit_are_referred_to(self) -> None:
        inline, long = bytes(INLINE_LIMIT_BYTES), b"x" * (INLINE_LIMIT_BYTES + 2)
        head = EXPLICIT.element(0x00091001, "UN", inline) + EXPLICIT.element(0x00091002, "UN", long)
        head += EXPLICIT.element(0x00091003, "UT", long)
        paths: list[str] = []
        model = _json(head, paths=paths)
        assert base64.b64decode(model["00091001"]["InlineBinary"]) == inline
        assert model["00091002"] == {"vr": "UN", "BulkDataURI": _URI + "00091002"}
        assert model["00091003"]["Value"] == [long.decode()]
        assert paths == ["00091002"]
        assert _bulk(head, "00091002") == ("UN", long)

    def test_a_value_in_an_item_has_a_path(self) -> None:
        lut = EXPLICIT.element(0x00283006, "OW", struct.pack("<1024H", *range(1024)))
        head = EXPLICIT.sequence(0x00283000, [EXPLICIT.item(b""), EXPLICIT.item(lut)])
        model = _json(head)
        assert model["00283000"]["Value"][1]["00283006"]["BulkDataURI"] == _URI + "00283000/2/00283006"
        assert _bulk(head, "00283000/2/00283006") == ("OW", lut[12:])

    def test_big_endian_words_are_given_in_little_endian_order(self) -> None:
        head = BIG.element(0x00281201, "OW", struct.pack(">1024H", *range(1024)))
        assert _bulk(head, "00281201", BIG) == ("OW", struct.pack("<1024H", *range(1024)))

    def test_an_encapsulated_icon_is_its_code_stream(self) -> None:
        icon = EXPLICIT.item(EXPLICIT.encapsulated(0x7FE00010, [b"code ", b"stream"], table=b"\0\0\0\0"))
        head = EXPLICIT.sequence(0x00880200, [icon], undefined=True)
        path = "00880200/1/7FE00010"
        assert _json(head)["00880200"]["Value"][0]["7FE00010"] == {"vr": "OB", "BulkDataURI": _URI + path}
        assert _bulk(head, path) == ("OB", b"code stream")

    def test_a_value_in_the_tail(self) -> None:
        tail = EXPLICIT.element(0x7FE10010, "OB", b"x" * 2000)
        head = EXPLICIT.header(0x7FE00010, "OW", 100)
        assert _json(head, tail=tail)["7FE10010"]["BulkDataURI"] == _URI + "7FE10010"
        assert _bulk(head, "7FE10010", tail=tail) == ("OB", b"x" * 2000)

    @pytest.mark.parametrize(
        "path",
        [
            "7FE00010",
            "00880200/1",
            "00880200/2/00280010",
            "00880200/0/00280010",
            "00880200/x/00280010",
            "",
            "..",
            "/",
        ],
    )
    def test_paths_to_nothing(self, path: str) -> None:
        icon = EXPLICIT.item(EXPLICIT.element(0x00280010, "US", b"\0\0"))
        head = EXPLICIT.sequence(0x00880200, [icon]) + EXPLICIT.header(0x7FE00010, "OW", 100)
        with pytest.raises(MissingAttribute):
            _bulk(head, path)


class TestInvalidValues:
    @pytest.mark.parametrize(
        ("tag", "vr", "value", "expected"),
        [
            (0x00280008, "IS", b"1A", {"vr": "UC", "Value": ["1A"]}),
            (0x00280030, "DS", b"0,5\\0,5 ", {"vr": "UC", "Value": ["0,5", "0,5"]}),
            (0x00280010, "US", b"abc", {"vr": "OB", "InlineBinary": "YWJj"}),
            (0x00291010, "FD", b"abc", {"vr": "UN", "InlineBinary": "YWJj"}),
            (0x00081140, "SQ", b"no items", {"vr": "OB", "InlineBinary": "bm8gaXRlbXM="}),
            (0x00081030, "LO", b"J\xe9r\xf4me", {"vr": "LO", "Value": ["J\ufffdr\ufffdme"]}),
        ],
    )
    def test_one_element_gives_way_and_clients_load_all(
        self, tag: int, vr: str, value: bytes, expected: dict[str, Any]
    ) -> None:
        head = EXPLICIT.element(0x00080005, "CS", b"ISO_IR 192") + EXPLICIT.element(0x00080060, "CS", b"CT")
        model = _json(head + EXPLICIT.element(tag, vr, value))
        assert model[f"{tag:08X}"] == expected
        assert _load(model).Modality == "CT"

    def test_bulk_bytes_of_a_sequence_that_is_none(self) -> None:
        head = EXPLICIT.element(0x00081140, "SQ", b"no items" * 200)
        assert _json(head)["00081140"] == {"vr": "OB", "BulkDataURI": _URI + "00081140"}
        assert _bulk(head, "00081140") == ("OB", b"no items" * 200)

    def test_what_is_before_a_damaged_place_stands(self) -> None:
        head = EXPLICIT.element(0x00080060, "CS", b"CT") + EXPLICIT.header(0x00081030, "LO", 100) + b"short"
        assert _json(head) == {"00080060": {"vr": "CS", "Value": ["CT"]}}

    def test_nesting_beyond_reason_is_given_as_bytes(self) -> None:
        data = EXPLICIT.element(0x00080100, "SH", b"code")
        for _ in range(300):
            data = EXPLICIT.sequence(0x0040A730, [EXPLICIT.item(data)])
        orjson.dumps(_json(data))


_TAGS = st.sampled_from([0x00080005, 0x00080008, 0x00081140, 0x00100010, 0x00200013, 0x00280010, 0x00283006])
_DRAWN = st.tuples(
    _TAGS | st.integers(0x00090010, 0x00091100),
    st.sampled_from(sorted(VRS)),
    st.one_of(st.binary(max_size=30), st.text(max_size=10).map(str.encode)),
)


@given(st.lists(_DRAWN, max_size=6), st.sampled_from([EXPLICIT, IMPLICIT, BIG]))
def test_clients_load_whatever_was_received(drawn: list[tuple[int, str, bytes]], encoding: encoded.Encoding) -> None:
    model = _json(b"".join(encoding.element(tag, vr, value) for tag, vr, value in drawn), encoding)
    assert json.loads(orjson.dumps(model)) == model
    _load(model)


@given(encoded.instances())
def test_drawn_instances(drawn: encoded.Drawn) -> None:
    data = drawn.data[len(drawn.preface) :]
    orjson.dumps(_json(data, drawn.encoding))


@pytest.mark.parametrize("transfer_syntax", [*NATIVE, JPEG_BASELINE])
def test_made_instances_load_with_all_their_values(transfer_syntax: str) -> None:
    recipe = Recipe(
        bits_allocated=8,
        bits_stored=8,
        transfer_syntax=transfer_syntax,
        undefined_lengths=True,
        private_bytes=2000,
        icon=True,
        trailing_padding=10,
    )
    file = make_instance(recipe)
    ds = _load(next(_models(io.BytesIO(file))))
    original = pydicom.dcmread(io.BytesIO(file))
    for element in original:
        if element.VR not in ("OB", "OW", "SQ", "UN"):
            assert ds[element.tag].value == element.value
    assert ds.RequestAttributesSequence == original.RequestAttributesSequence
    assert ds.IconImageSequence[0].Rows == 8


def test_big_endian_icons_are_inline_in_little_endian_order() -> None:
    recipe = Recipe(icon=True, transfer_syntax=EXPLICIT_BE)
    icon = next(_models(io.BytesIO(make_instance(recipe))))["00880200"]["Value"][0]
    expected = native_pixels(Recipe(rows=8, columns=8, bits_allocated=8, bits_stored=8))
    assert base64.b64decode(icon["7FE00010"]["InlineBinary"]) == expected


@pytest.mark.parametrize("path", bundled(), ids=lambda path: path.name)
def test_bundled_files_agree_with_pydicom(path: Path) -> None:
    _compare_with_pydicom(path)


@pytest.mark.corpus
@pytest.mark.slow
def test_the_corpus_agrees_with_pydicom() -> None:
    for path in corpus():
        _compare_with_pydicom(path)


def _models(reader: Any) -> Iterator[JSONModel]:
    """The model of a file, nothing if it is none."""
    try:
        layout = scan(reader)
    except NotDicom:
        return
    with inflate(reader, layout.preface_length) if layout.deflated else nullcontext(reader) as data:
        head, tail = _read(data, layout, 0), _read(data, layout, 1)
    encoding = encoded.Encoding(layout.implicit_vr, layout.little_endian)
    yield _json(head, encoding, tail=tail)


def _read(data: Any, layout: Layout, part: int) -> bytes:
    start, stop = ((layout.preface_length, layout.head_end), (layout.tail_start, layout.length))[part]
    data.seek(start)
    return data.read(stop - start)


def _compare_with_pydicom(path: Path) -> None:
    with path.open("rb") as reader:
        models = list(_models(reader))
        damaged = scan(reader).problem if models else None
    if not models or damaged:
        return
    model = models[0]
    assert json.loads(orjson.dumps(model)) == model
    _load(model)
    try:
        expected = pydicom.dcmread(path, force=True, stop_before_pixels=True).to_json_dict(
            bulk_data_element_handler=lambda _: _URI, bulk_data_threshold=-(-INLINE_LIMIT_BYTES // 3) * 4
        )
    except ValueError:
        return  # pydicom does not write values that do not agree with their VR
    if path.name != "DICOMDIR-nooffset":  # its sequence is damaged
        before_pixels = {tag: attribute for tag, attribute in model.items() if tag < "7FE00008"}
        _compare_level(before_pixels, expected, path.name)


def _compare_level(model: JSONModel, expected: dict[str, Any], path: str) -> None:
    tags = {tag for tag in expected if not tag.endswith("0000") and tag != "FFFCFFFC"}
    assert set(model) == tags, path
    for tag in tags:
        found, other = model[tag], expected[tag]
        if "BulkDataURI" in found:
            assert not other.get("Value"), f"{path}/{tag}"
        elif found["vr"] == "SQ" and other["vr"] == "SQ":
            for item, other_item in zip(found.get("Value", []), other.get("Value", []), strict=True):
                _compare_level(item, other_item, f"{path}/{tag}")
        elif found["vr"] != other["vr"]:
            assert (other["vr"], found["vr"]) in _SETTLED, f"{path}/{tag}"
        else:
            assert _normal(found) == _normal(other), f"{path}/{tag}"


_SETTLED = {("UN", "SQ"), ("US or SS", "US"), ("US or OW", "OW"), ("OB or OW", "OW")}
"""VRs that pydicom leaves open."""


def _normal(attribute: dict[str, Any]) -> dict[str, Any]:
    """Without the padding and the empty component groups that pydicom leaves."""
    values = attribute.get("Value", [])
    return {**attribute, "Value": [_normal_value(value) for value in values]}


def _normal_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: group for name, group in value.items() if group} or None
    return (value.rstrip() or None) if isinstance(value, str) else value


def test_damaged_encapsulated_values_are_refused() -> None:
    broken = EXPLICIT.header(0x00091001, "OB", UNDEFINED) + EXPLICIT.item(b"") + EXPLICIT.delimiter(0xFFFEE00D)
    head = broken + EXPLICIT.delimiter(0xFFFEE0DD)
    with pytest.raises(DicomError):
        _bulk(head, "00091001")
