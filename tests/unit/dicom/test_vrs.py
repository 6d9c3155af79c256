"""Value representations."""

from __future__ import annotations

import struct

import pytest
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from leanpacs.dicom.vrs import (
    LONG_VRS,
    VRS,
    actual_vr,
    creator_of,
    is_private_creator,
    little_endian_words,
    private_block,
)


def test_the_tables_agree_with_pydicom() -> None:
    assert {str(vr) for vr in STANDARD_VR} == VRS
    assert {str(vr) for vr in EXPLICIT_VR_LENGTH_32} == LONG_VRS


@pytest.mark.parametrize(
    ("encoded", "tag", "creator", "is_signed", "vr"),
    [
        ("LO", 0x00100010, "", False, "LO"),
        (None, 0x00100010, "", False, "PN"),
        ("UN", 0x00100010, "", False, "PN"),
        ("QQ", 0x00100010, "", False, "PN"),
        (None, 0x00280106, "", False, "US"),
        (None, 0x00280106, "", True, "SS"),
        (None, 0x7FE00010, "", False, "OW"),
        (None, 0x00283006, "", True, "OW"),
        (None, 0x60123000, "", False, "OW"),
        (None, 0x00100011, "", False, "UN"),
        (None, 0x00290010, "", False, "LO"),
        (None, 0x00291008, "SIEMENS CSA HEADER", False, "CS"),
        (None, 0x00291008, "", False, "UN"),
        ("UN", 0x00291108, "SIEMENS CSA HEADER", False, "CS"),
        ("DS", 0x00291008, "", False, "DS"),
    ],
)
def test_the_actual_vr(encoded: str | None, tag: int, creator: str, is_signed: bool, vr: str) -> None:
    assert actual_vr(encoded, tag, creator=creator, is_signed=is_signed) == vr


def test_private_blocks() -> None:
    assert is_private_creator(0x00290010)
    assert is_private_creator(0x002900FF)
    assert not is_private_creator(0x00291010)
    assert not is_private_creator(0x00280010)
    creators = {private_block(0x00290011): "A"}
    assert creator_of(0x002911FE, creators) == "A"
    assert creator_of(0x002910FE, creators) == ""
    assert creator_of(0x002811FE, creators) == ""


@pytest.mark.parametrize(
    ("vr", "code", "values"),
    [
        ("AT", "2H", (0x0028, 0x0009)),
        ("FD", "2d", (1.5, -2.0)),
        ("FL", "f", (0.25,)),
        ("OD", "d", (1.5,)),
        ("OF", "2f", (1.5, 2.5)),
        ("OL", "I", (70000,)),
        ("OV", "Q", (2**40,)),
        ("OW", "3H", (1, 2, 65535)),
        ("SL", "i", (-5,)),
        ("SS", "h", (-5,)),
        ("SV", "q", (-(2**40),)),
        ("UL", "I", (70000,)),
        ("US", "H", (515,)),
        ("UV", "Q", (2**63,)),
    ],
)
def test_words_are_swapped_by_their_width(vr: str, code: str, values: tuple[float, ...]) -> None:
    big, little = struct.pack(f">{code}", *values), struct.pack(f"<{code}", *values)
    assert little_endian_words(vr, big, little_endian=False) == little
    assert little_endian_words(vr, little, little_endian=True) == little


@pytest.mark.parametrize(("vr", "value"), [("OB", b"abcd"), ("UN", b"abcd"), ("LO", b"abcd"), ("US", b"abc")])
def test_what_has_no_whole_words_stays(vr: str, value: bytes) -> None:
    assert little_endian_words(vr, value, little_endian=False) == value
