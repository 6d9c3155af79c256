"""Inflating data sets, and deflating them again to the same bytes."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.dicom.deflate import (
    inflate,
    inflate_leniently,
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


@given(st.binary(max_size=2000), st.integers(1, 9), st.binary(max_size=3))
def test_what_inflates_is_the_preface_and_the_data_set(data: bytes, level: int, trailing: bytes) -> None:
    received = io.BytesIO(PREFACE + deflated(data, level) + trailing)

    with inflate(received, len(PREFACE)) as inflated:
        assert inflated.read() == PREFACE + data


def test_a_zlib_header_is_tolerated() -> None:
    data = content(10_000)
    with inflate(io.BytesIO(deflated(data, wbits=15)), 0) as inflated:
        assert inflated.read() == data


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
