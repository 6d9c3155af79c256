"""Inflating data sets, and deflating them again to the same bytes."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.dicom.deflate import (
    DeflateRecipe,
    find_deflate_recipe,
    inflate,
    inflate_leniently,
    redeflate,
)
from leanpacs.errors import InflateError

PREFACE = b"preamble and file meta information"


def content(size: int, seed: int = 0) -> bytes:
    """Bytes as compressible as a data set is."""
    generator = random.Random(seed)
    words = [generator.randbytes(generator.randrange(2, 30)) for _ in range(200)]
    return b"".join(generator.choices(words, k=size // 16))[:size]


def deflated(data: bytes, level: int = -1, mem_level: int = 8, strategy: int = 0, wbits: int = -15) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, wbits, mem_level, strategy)
    return compressor.compress(data) + compressor.flush()


def recipe_for(stream: bytes, data: bytes) -> DeflateRecipe | None:
    return find_deflate_recipe(io.BytesIO(PREFACE + stream), len(PREFACE), io.BytesIO(PREFACE + data))


@given(st.binary(max_size=2000), st.integers(1, 9), st.binary(max_size=3))
def test_what_inflates_is_the_preface_and_the_data_set(data: bytes, level: int, trailing: bytes) -> None:
    received = io.BytesIO(PREFACE + deflated(data, level) + trailing)

    with inflate(received, len(PREFACE)) as inflated:
        assert inflated.read() == PREFACE + data


def test_a_zlib_header_is_tolerated() -> None:
    data = content(10_000)
    with inflate(io.BytesIO(deflated(data, wbits=15)), 0) as inflated:
        assert inflated.read() == data
    assert recipe_for(deflated(data, wbits=15), data) is None


def test_a_stored_block_is_not_taken_for_a_zlib_header() -> None:
    # 0x78 0x01 may be both: a zlib header, or a stored block that is followed by more.
    data = bytes(0x0001)
    stored = bytes([0x78, 0x01, 0x00, 0xFE, 0xFF]) + data + deflated(b"rest")
    with inflate(io.BytesIO(stored), 0) as inflated:
        assert inflated.read() == data + b"rest"


@pytest.mark.parametrize("stream", [b"", b"\xff" * 50, deflated(content(5000))[:-1]])
def test_a_damaged_stream_is_an_error(stream: bytes) -> None:
    with pytest.raises(InflateError):
        inflate(io.BytesIO(PREFACE + stream), len(PREFACE))


def test_of_a_damaged_stream_there_is_what_came_before() -> None:
    data = content(500_000)
    stream = deflated(data)

    inflated, problem = inflate_leniently(io.BytesIO(stream[: len(stream) // 2]), 0)

    with inflated:
        some = inflated.read()
    assert problem == "the deflated data set ends early"
    assert len(some) > 100_000
    assert data.startswith(some)


@given(st.binary(max_size=200))
def test_noise_inflates_or_is_an_error(noise: bytes) -> None:
    try:
        with inflate(io.BytesIO(noise), 0, limit_bytes=1 << 16):
            pass
    except InflateError as error:
        assert str(error)  # noqa: PT017 -- noise may inflate


def test_a_bomb_is_stopped_at_the_limit() -> None:
    files: list[io.BytesIO] = []

    def spool() -> io.BytesIO:
        files.append(io.BytesIO())
        return files[-1]

    with pytest.raises(InflateError, match="more than 1000000 bytes"):
        inflate(io.BytesIO(deflated(bytes(1 << 26))), 0, spool=spool, limit_bytes=1_000_000)
    assert files[0].closed


@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize("mem_level", [8, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED])
def test_a_recipe_is_found_for_what_zlib_writes(level: int, mem_level: int, strategy: int) -> None:
    data = content(150_000, seed=level)
    stream = deflated(data, level, mem_level, strategy)

    recipe = recipe_for(stream + b"\0", data)

    assert recipe is not None
    assert recipe.trailing == b"\0"
    assert b"".join(redeflate([data], recipe)) == stream + b"\0"


@given(st.lists(st.binary(max_size=3000), max_size=5), st.sampled_from([2, 3, 4]))
def test_a_recipe_holds_however_the_data_set_is_cut(chunks: list[bytes], strategy: int) -> None:
    data = b"".join(chunks)
    stream = deflated(data, strategy=strategy)

    recipe = recipe_for(stream, data)

    assert recipe is not None
    assert b"".join(redeflate(chunks, recipe)) == stream


def test_a_recipe_holds_for_more_than_one_window() -> None:
    data = content(3_000_000)
    recipe = recipe_for(deflated(data, 4), data)

    assert recipe is not None
    cut = random.Random(3)
    chunks, position = [], 0
    while position < len(data):
        size = cut.randrange(1, 200_000)
        chunks.append(data[position : position + size])
        position += size
    assert b"".join(redeflate(chunks, recipe)) == deflated(data, 4)


@pytest.mark.parametrize(
    "stream",
    [
        deflated(content(9000), wbits=-9),
        deflated(content(9000), level=0) + bytes(300),
        deflated(content(9000))[:-1],
        b"\xff" * 100,
        b"",
    ],
)
def test_there_is_no_recipe_for_other_streams(stream: bytes) -> None:
    assert recipe_for(stream, content(9000)) is None


def test_the_search_for_a_recipe_is_bounded() -> None:
    # Deflates alike at most levels; only at its end it is seen that no recipe fits.
    data = bytes(6_000_000)
    compressor = zlib.compressobj(wbits=-15)
    stream = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH) + compressor.flush()
    inflated = CountingFile(data)

    assert find_deflate_recipe(io.BytesIO(stream), 0, inflated) is None
    assert inflated.count < 12 * len(data)


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data
