"""Values as the DICOM JSON Model writes them."""

from __future__ import annotations

import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.dicom import text
from leanpacs.dicom.jsonvalues import JSONValue, attribute_json, json_values
from leanpacs.dicom.vrs import BINARY_VRS, VRS


def _values(vr: str, value: bytes, *, little_endian: bool = True, character_set: bytes = b"") -> list[JSONValue]:
    return json_values(vr, value, little_endian=little_endian, declared=text.encodings(character_set))


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("CS", b"DERIVED \\PRIMARY\\\\MPR ", ["DERIVED", "PRIMARY", None, "MPR"]),
        ("LO", b"", []),
        ("LO", b"  \0", []),
        ("LO", b"\\", [None, None]),
        ("UI", b"1.2.840\0", ["1.2.840"]),
        ("LT", b"one\\two ", ["one\\two"]),
        ("UR", b"http://example.org/a\\b  ", ["http://example.org/a\\b"]),
        ("UC", b"one\\two", ["one", "two"]),
        ("DA", b"20240229", ["20240229"]),
        ("IS", b"1 \\-2\\+3", [1, -2, 3]),
        ("IS", b"\\4", [None, 4]),
        ("IS", b"12.0", [12]),
        ("DS", b"0.5\\-1e3 \\7\\.25\\3.", [0.5, -1000.0, 7, 0.25, 3.0]),
        ("AT", struct.pack("<4H", 0x0018, 0x00FF, 0x7FE0, 0x0010), ["001800FF", "7FE00010"]),
        ("US", struct.pack("<2H", 1, 65535), [1, 65535]),
        ("SS", struct.pack("<h", -1), [-1]),
        ("FL", struct.pack("<f", 0.25), [0.25]),
        ("FD", struct.pack("<3d", float("nan"), float("inf"), float("-inf")), ["NaN", "inf", "-inf"]),
        ("SV", struct.pack("<2q", -7, 2**53), [-7, "9007199254740992"]),
        ("UV", struct.pack("<Q", 2**64 - 1), ["18446744073709551615"]),
        (
            "PN",
            "Yamada^Tarou=山田=\\=山\\\\A=B=C=D ".encode(),
            [
                {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田"},
                {"Ideographic": "山"},
                None,
                {"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C"},
            ],
        ),
    ],
)
def test_values_of_each_kind(vr: str, value: bytes, expected: list[JSONValue]) -> None:
    assert _values(vr, value) == expected


def test_big_endian_numbers_and_tags() -> None:
    assert _values("US", struct.pack(">H", 515), little_endian=False) == [515]
    assert _values("AT", struct.pack(">2H", 0x0018, 0x00FF), little_endian=False) == ["001800FF"]


def test_text_by_character_set() -> None:
    assert _values("LO", "Größe\\小".encode("gb18030"), character_set=b"GB18030") == ["Größe", "小"]
    # A backslash that is the second byte of a character separates nothing.
    assert _values("LO", "乗x".encode("gbk"), character_set=b"GBK") == ["乗x"]


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("IS", b"1A"),
        ("IS", b"1\\two"),
        ("DS", b"0,5"),
        ("DS", b"nan"),
        ("DS", b"1e999"),
        ("DS", b"1_0"),
        ("US", b"abc"),
        ("FD", b"1234"),
        ("AT", b"12"),
    ],
)
def test_values_that_do_not_agree_with_their_vr(vr: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _values(vr, value)


@given(st.sampled_from(sorted(VRS - BINARY_VRS - {"SQ"})), st.binary(max_size=40), st.booleans())
def test_any_bytes_give_json_or_value_error(vr: str, value: bytes, little_endian: bool) -> None:
    try:
        values = _values(vr, value, little_endian=little_endian, character_set=b"\\ISO 2022 IR 87")
    except ValueError:
        return
    assert orjson.loads(orjson.dumps(values)) == values


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("LO", "", {"vr": "LO"}),
        ("IS", None, {"vr": "IS"}),
        ("IS", 0, {"vr": "IS", "Value": [0]}),
        ("US", 512, {"vr": "US", "Value": [512]}),
        ("CS", "ORIGINAL\\PRIMARY", {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]}),
        ("CS", ("CT", "MR"), {"vr": "CS", "Value": ["CT", "MR"]}),
        ("CS", (), {"vr": "CS"}),
        ("PN", "A^B=C", {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "C"}]}),
        ("UR", "http://example.org/studies/1", {"vr": "UR", "Value": ["http://example.org/studies/1"]}),
        ("DS", "no number", {"vr": "DS"}),
    ],
)
def test_attributes_that_are_not_encoded(vr: str, value: object, expected: dict[str, object]) -> None:
    assert attribute_json(vr, value) == expected  # type: ignore[arg-type]
