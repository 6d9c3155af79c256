from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.services.dicomweb.media import (
    ANYTHING,
    MediaRange,
    accepted,
    choose,
    parse_accept,
    parse_media_type,
)


def test_multipart_ranges_name_the_type_of_their_parts() -> None:
    assert parse_accept('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50') == [
        MediaRange("application/dicom", True, "1.2.840.10008.1.2.4.50")
    ]
    assert parse_accept("multipart/related; type=image/jls") == [MediaRange("image/jls", True)]
    assert parse_accept("multipart/related") == [MediaRange("*/*", True)]
    assert parse_accept("application/dicom;transfer-syntax=*") == [MediaRange("application/dicom", False, "*")]
    assert parse_accept("*/*") == [ANYTHING]


def test_the_best_range_comes_first_and_equal_ones_stay_in_order() -> None:
    found = parse_accept("a/a;q=0.5, b/b, c/c;q=0.5, d/d;q=0, e/e;q=1.0")
    assert [(r.name, r.quality) for r in found] == [("b/b", 1), ("e/e", 1), ("a/a", 0.5), ("c/c", 0.5)]


def test_commas_within_quotes_do_not_separate() -> None:
    assert parse_accept('a/a; x="1,2;\\"3", b/b') == [MediaRange("a/a", False), MediaRange("b/b", False)]


@pytest.mark.parametrize("text", ["nonsense", "/", ",,,", "a/b;q=x", "a/b;transfer-syntax=evil", "a b/c;d"])
def test_what_is_not_understood_is_passed_over(text: str) -> None:
    names = [accepted.name for accepted in parse_accept(text + ", application/dicom+json")]
    assert names[-1] == "application/dicom+json"
    assert "a/b" not in names


@given(st.text(max_size=300))
def test_any_header_can_be_read(text: str) -> None:
    for found in parse_accept(text):
        assert 0 < found.quality <= 1
        assert "/" in found.name


def test_header_of_many_ranges_is_cut() -> None:
    assert len(parse_accept("a/a," * 100_000)) <= 100


def test_parameter_goes_before_header_and_nothing_accepts_anything() -> None:
    assert accepted("a/a", "b/b") == [MediaRange("b/b", False)]
    assert accepted("a/a", "") == [MediaRange("a/a", False)]
    assert accepted(None) == accepted("") == [ANYTHING]


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("*/*", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/*;q=0.5, application/dicom+xml", "application/dicom+xml"),
        ("application/dicom+json;q=0.1, */*", "application/json"),
        ("text/html", None),
        ("application/dicom+json;q=0", None),
        ("application/dicom+json;q=0, */*", "application/json"),
        ("application/*, application/json;q=0.0, application/dicom+json; q=0", "application/dicom+xml"),
    ],
)
def test_choice_follows_quality_and_specificity(header: str, chosen: str | None) -> None:
    offers = ("application/dicom+json", "application/json", "application/dicom+xml")
    assert choose(parse_accept(header), offers) == chosen


def test_media_type_with_parameters() -> None:
    found = parse_media_type('Multipart/Related; TYPE="application/dicom"; boundary="a b;c"')
    assert found is not None
    assert found.name == "multipart/related"
    assert found.get("type") == "application/dicom"
    assert found.get("boundary") == "a b;c"
    assert found.get("charset") is None
    assert parse_media_type("multipart/related; boundary") is None
    assert parse_media_type("") is None
