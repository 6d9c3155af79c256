"""Texts of matching keys and what they mean (PS3.4 C.2.2.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog import AnyOf, Between, Universal, Wildcard, parse_match
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES
from leanpacs.errors import InvalidQuery


@pytest.mark.parametrize("vr", ["LO", "UI", "DA", "TM", "DT", "IS", "PN", "CS"])
@pytest.mark.parametrize("text", ["", " ", "*", "**", "\0"])
def test_no_text_or_only_stars_match_anything(vr: str, text: str) -> None:
    assert parse_match("Keyword", vr, text) == Universal()


@pytest.mark.parametrize(
    ("vr", "text", "match"),
    [
        ("LO", " HEAD ", AnyOf(("HEAD",))),
        ("CS", "CT\\MR\\CT", AnyOf(("CT", "MR"))),
        ("LO", "HE*D", Wildcard(("HE*D",))),
        ("LO", "H**?", Wildcard(("H*?",))),
        ("SH", "A?\\B", Wildcard(("A?", "B"))),
        ("SH", "A?\\*", Universal()),
        ("LO", '""', AnyOf(("",))),
        ("UI", "1.2.3", AnyOf(("1.2.3",))),
        ("UI", "1.2.3\\1.2.4", AnyOf(("1.2.3", "1.2.4"))),
        ("UI", "1.2.3, 1.2.4", AnyOf(("1.2.3", "1.2.4"))),
        ("IS", " +007 ", AnyOf(("7",))),
        ("US", "1\\2", AnyOf(("1", "2"))),
        ("DA", "20240229", AnyOf(("20240229",))),
        ("DA", "2024.02.29", AnyOf(("20240229",))),
        ("DA", "20240101-20240131", Between("20240101", "20240131")),
        ("DA", "20240101-", Between("20240101", "")),
        ("DA", "- 20240131", Between("", "20240131")),
        ("TM", "10", Between("100000.000000", "105959.999999", is_range=False)),
        ("TM", "2359", Between("235900.000000", "235959.999999", is_range=False)),
        ("TM", "10:30-11:00:07.5", Between("103000.000000", "110007.599999")),
        ("TM", "-1100", Between("", "110059.999999")),
        ("DT", "2024", Between("20240101000000.000000", "20241231235959.999999", is_range=False)),
        ("DT", "202402-", Between("20240201000000.000000", "")),
    ],
)
def test_texts_with_a_meaning(vr: str, text: str, match: object) -> None:
    assert parse_match("Keyword", vr, text) == match


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("UI", "1.2.*"),
        ("UI", "1.2.3;4"),
        ("UI", "\\"),
        ("DA", "yesterday"),
        ("DA", "2024"),
        ("DA", "20241301"),
        ("DA", "20240100-20240101"),
        ("DA", "-"),
        ("DA", "2024*"),
        ("TM", "1"),
        ("TM", "10:3"),
        ("TM", "10-11-12"),
        ("DT", "20240101120000+0100"),
        ("IS", "1.5"),
        ("IS", "7*"),
        ("US", "many"),
        ("LO", "\\\\"),
        ("LO", "half \ud800 a character"),
        ("LO", "\\".join("*x" + str(n) for n in range(101))),
        ("LO", "*" + "x" * 512),
        ("UI", ",".join(str(n) for n in range(10_001))),
    ],
)
def test_texts_without_a_meaning(vr: str, text: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        parse_match("SomeKeyword", vr, text)
    assert caught.value.keyword == "SomeKeyword"


@given(st.sampled_from(LEVEL_ATTRIBUTES), st.text())
def test_any_text_is_understood_or_refused(attribute: object, text: str) -> None:
    try:
        match = parse_match(attribute.keyword, attribute.vr, text)
    except InvalidQuery:
        return
    assert isinstance(match, Universal | AnyOf | Wildcard | Between)
