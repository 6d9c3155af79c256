from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.services.dicomweb.multipart import BodyPart, body, body_length, evened, new_boundary


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 30))
def test_evened_chunks_are_the_same_bytes(chunks: list[bytes], size: int) -> None:
    found = list(evened(iter(chunks), size))
    assert b"".join(found) == b"".join(chunks)
    assert all(size <= len(chunk) < 2 * size for chunk in found[:-1])
    assert all(0 < len(chunk) < max(2 * size, 2) for chunk in found)


def test_the_first_chunk_may_come_sooner() -> None:
    found = list(evened(iter([b"abc"] * 8), 6, first_bytes=2))
    assert found == [b"abc", b"abcabc", b"abcabc", b"abcabc", b"abc"]


@pytest.mark.parametrize("first", [b"", b"a few before it"])
def test_of_a_large_chunk_only_what_is_sent_is_copied(first: bytes) -> None:
    large, size = bytes(64 << 20), 1 << 20
    tracemalloc.start()
    try:
        sent = sum(map(len, evened(iter([first, memoryview(large)]), size)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == len(first) + len(large)
    assert most < 4 * size


def _chunks(closed: list[str], name: str) -> Iterator[bytes]:
    try:
        yield b"abc"
        yield b"def"
    finally:
        closed.append(name)


def test_parts_are_opened_one_by_one_and_closed() -> None:
    closed: list[str] = []
    opened: list[str] = []

    def parts() -> Iterator[BodyPart]:
        for name in ("one", "two"):
            opened.append(name)
            yield BodyPart("a/b", _chunks(closed, name), "http://x/" + name)

    pieces = body(parts(), "B")
    assert next(pieces) == b"--B\r\nContent-Type: a/b\r\nContent-Location: http://x/one\r\n\r\n"
    assert (opened, closed) == (["one"], [])
    assert b"".join(pieces) == (
        b"abcdef\r\n--B\r\nContent-Type: a/b\r\nContent-Location: http://x/two\r\n\r\nabcdef\r\n--B--\r\n"
    )
    assert closed == ["one", "two"]


def test_body_that_is_given_up_closes_the_part_at_hand() -> None:
    closed: list[str] = []
    pieces = evened(body(iter([BodyPart("a/b", _chunks(closed, "one"))]), "B"), 4)
    given = b""
    while b"\r\n\r\nab" not in given:
        given += next(pieces)
    pieces.close()
    assert closed == ["one"]


@pytest.mark.parametrize("location", ["", "http://x/y"])
def test_length_is_that_of_the_body(location: str) -> None:
    part = BodyPart("a/b", iter([b"12345"]), location, 5)
    assert body_length(part, "B") == len(b"".join(body(iter([part]), "B")))
    assert body_length(BodyPart("a/b", iter([])), "B") is None


def test_boundaries_differ() -> None:
    assert len({new_boundary() for _ in range(100)}) == 100
