"""The values of the catalog."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog import FrameTable, Span

LENGTHS = st.integers(0, 2**64 - 1)


@given(st.lists(st.builds(Span, LENGTHS, LENGTHS), max_size=20))
def test_frame_table_holds_its_spans(spans: list[Span]) -> None:
    table = FrameTable.of(spans)
    assert len(table) == len(spans)
    assert list(table) == spans
    assert [table[index] for index in range(len(spans))] == spans
    assert FrameTable(table.data) == table


@pytest.mark.parametrize("index", [-1, 2])
def test_frame_table_has_no_other_frames(index: int) -> None:
    with pytest.raises(IndexError):
        FrameTable.of([Span(0, 1), Span(1, 2)])[index]
