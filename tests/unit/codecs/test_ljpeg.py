"""JPEG Lossless with given tables: byte for byte what libjpeg-turbo makes of the same tables."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.codec_suite import KINDS, make_frame, make_spec
from leanpacs.codecs.ljpeg import HuffmanTable, encode_scan
from leanpacs.errors import UnsupportedFrame
from lossless import encode

FLAT = HuffmanTable((0, 0, 0, 0, 17, *[0] * 11), tuple(range(17)))


def turbo(samples: NDArray[Any], bits: int, predictor: int) -> tuple[list[HuffmanTable], bytes]:
    """Tables and entropy-coded data of libjpeg-turbo."""
    colour = {"colorspace": "RGB", "outcolorspace": "RGB"} if samples.ndim == 3 else {}
    stream = bytes(imagecodecs.jpeg8_encode(samples, lossless=True, predictor=predictor, bitspersample=bits, **colour))
    position, tables = 2, {}
    while True:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4])
        body = stream[position + 4 : position + 2 + length]
        position += 2 + length
        while marker == 0xC4 and body:
            counts = tuple(body[1:17])
            tables[body[0]] = HuffmanTable(counts, tuple(body[17 : 17 + sum(counts)]))
            body = body[17 + sum(counts) :]
        if marker == 0xDA:
            used = [tables[body[2 + 2 * index] >> 4] for index in range(body[0])]
            return used, stream[position:-2]


@settings(max_examples=150)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(2, 16),
    st.sampled_from([1, 3]),
    st.integers(1, 7),
    st.sampled_from(KINDS),
)
def test_same_bytes_as_libjpeg_turbo(
    rows: int, columns: int, bits: int, samples: int, predictor: int, kind: str
) -> None:
    frame = make_frame(make_spec(rows, columns, allocated=8 if bits <= 8 else 16, stored=bits, samples=samples), kind)
    tables, scan = turbo(frame, bits, predictor)
    assert encode_scan(frame, bits, predictor, tables) == scan


def test_frames_of_several_chunks() -> None:
    for samples in (1, 3):
        frame = make_frame(make_spec(700, 500, stored=12, samples=samples), "noise")
        tables, scan = turbo(frame, 12, 1)
        assert encode_scan(frame, 12, 1, tables) == scan


@pytest.mark.parametrize("restart_rows", [0, 1, 2, 5, 100])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_restart_intervals(predictor: int, restart_rows: int) -> None:
    frame = make_frame(make_spec(23, 17, stored=12), "noise")
    stream = encode(frame, 12, predictor, [FLAT], restart_rows=restart_rows)
    markers = sum(stream.count(bytes([0xFF, 0xD0 + index])) for index in range(8))
    assert markers == (-(-23 // restart_rows) - 1 if restart_rows else 0)
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(stream), frame)


def test_components_with_tables_of_their_own() -> None:
    frame = make_frame(make_spec(23, 17, allocated=8, samples=3), "noise")
    other = HuffmanTable((0, 0, 0, 0, 17, *[0] * 11), tuple(reversed(range(17))))
    stream = encode(frame, 8, 1, [FLAT, other, FLAT])
    decoded = imagecodecs.jpeg8_decode(stream, colorspace="RGB", outcolorspace="RGB")
    np.testing.assert_array_equal(decoded, frame)


@pytest.mark.parametrize("point_transform", [1, 4])
def test_point_transform_leaves_out_low_bits(point_transform: int) -> None:
    frame = make_frame(make_spec(23, 17, stored=12), "noise")
    stream = encode(frame, 12, 4, [FLAT], point_transform=point_transform)
    expected = frame >> point_transform << point_transform
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(stream), expected)


def test_the_difference_of_half_the_range_has_no_bits_of_its_own() -> None:
    frame = np.array([[0, 0x8000, 0, 0x8000]], np.uint16)
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(encode(frame, 16, 1, [FLAT])), frame)


def test_a_table_without_the_code_that_is_needed() -> None:
    narrow = HuffmanTable((1, *[0] * 15), (0,))
    assert encode_scan(np.full((4, 4), 2048, np.uint16), 12, 1, [narrow]) == b"\x00\x00"
    with pytest.raises(UnsupportedFrame, match="no code"):
        encode_scan(np.full((4, 4), 2049, np.uint16), 12, 1, [narrow])


@pytest.mark.parametrize(
    ("counts", "symbols"),
    [((3, *[0] * 15), (0, 1, 2)), ((1, *[0] * 15), ()), ((1,), (0,))],
    ids=["too many codes", "symbols missing", "lengths missing"],
)
def test_tables_that_make_no_sense(counts: tuple[int, ...], symbols: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedFrame):
        HuffmanTable(counts, symbols)


@pytest.mark.parametrize("arguments", [(1, 1), (17, 1), (12, 0), (12, 8)])
def test_parameters_that_there_are_not(arguments: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedFrame):
        encode_scan(np.zeros((2, 2), np.uint16), *arguments, [FLAT])


def test_samples_that_it_does_not_take() -> None:
    with pytest.raises(UnsupportedFrame):
        encode_scan(np.zeros((2, 2), np.int16), 12, 1, [FLAT])
    with pytest.raises(UnsupportedFrame):
        encode_scan(np.zeros((2, 2, 3), np.uint16), 12, 1, [FLAT])
