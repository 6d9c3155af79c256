"""Identifiers as they go over the wire."""

from __future__ import annotations

import pytest

from leanpacs.services.dimse.identifiers import SYNTAXES, Writer, read_identifier

FAILED_LIST = 0x00080058


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_list_that_is_longer_than_its_vr_allows(syntax: str) -> None:
    """Thousands of failed instances do not fit in 16 bits of length: UN is written then (PS3.5 6.2.2)."""
    uids = [f"1.2.826.0.1.3680043.10.{number}.{'7' * 30}" for number in range(3000)]
    encoded = Writer(syntax).write([(FAILED_LIST, "UI", "\\".join(uids))])
    assert read_identifier((encoded,), syntax).text(FAILED_LIST).split("\\") == uids
