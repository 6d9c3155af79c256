"""Folding of person names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog.names import folded_groups, parts, words


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Doe^John", ("doe^john", "", "")),
        ("DOE^JOHN^^^ ", ("doe^john", "", "")),
        ("Doe  Smith ^ John", ("doe smith^john", "", "")),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("yamada^tarou", "山田^太郎", "やまだ^たろう")),
        ("=山田^太郎", ("", "山田^太郎", "")),
        ("Wei\u00df", ("weiss", "", "")),
        ("A=B=C=D", ("a", "b", "c=d")),
        ("", ("", "", "")),
        ("^^", ("", "", "")),
    ],
)
def test_groups(name: str, groups: tuple[str, str, str]) -> None:
    assert folded_groups(name) == groups


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Müller-Lüdenscheid^Jörg", ("muller", "ludenscheid", "jorg")),
        ("DOE^John^Q.^Dr", ("doe", "john", "q", "dr")),
        ("Doe^John=Doe^John", ("doe", "john")),
        ("^=", ()),
    ],
)
def test_words(name: str, expected: tuple[str, ...]) -> None:
    assert words(name) == expected


@given(st.text())
def test_folding_twice_is_folding_once(name: str) -> None:
    once = folded_groups(name)
    assert folded_groups("=".join(once)) == once
    assert all(text for _, text in parts(name))
