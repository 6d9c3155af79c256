"""Signs, bits and types of samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.codec_suite import make_spec
from leanpacs.codecs.samples import (
    decoded_spec,
    from_offset_binary,
    from_twos_complement,
    to_offset_binary,
)


@given(st.integers(1, 16), st.data())
def test_offset_binary_comes_back(precision: int, data: st.DataObject) -> None:
    half = 1 << precision - 1
    values = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=9))
    allocated = 16 if precision > 8 else data.draw(st.sampled_from([8, 16]))
    samples = np.array([values], f"i{allocated // 8}")
    unsigned = to_offset_binary(samples, precision)
    np.testing.assert_array_equal(unsigned, np.array([values]) + half)
    assert unsigned.dtype == (np.uint8 if precision <= 8 else np.uint16)
    spec = make_spec(1, len(values), allocated=allocated, pixel_representation=1)
    back = from_offset_binary(unsigned, spec, precision)
    np.testing.assert_array_equal(back, samples)
    assert back.dtype == samples.dtype


def test_unsigned_values_have_no_offset() -> None:
    samples = np.array([[0, 7, 200]], np.uint16)
    np.testing.assert_array_equal(to_offset_binary(samples, 8), samples)


@pytest.mark.parametrize(
    ("stream", "precision", "signed", "expected"),
    [
        (np.array([[6192]], np.uint16), 13, 1, -2000),  # unsigned code stream of signed values
        (np.array([[4095]], np.uint16), 13, 1, 4095),
        (np.array([[-2000]], np.int16), 13, 0, 6192),  # signed code stream of unsigned values
        (np.array([[-1]], np.int16), 16, 0, 65535),
        (np.array([[65535]], np.uint16), 16, 1, -1),
        (np.array([[127]], np.uint8), 7, 1, -1),
        (np.array([[255]], np.uint8), 8, 0, 255),
        (np.array([[-3]], np.int8), 8, 1, -3),
    ],
)
def test_pixel_representation_says_what_the_bits_mean(
    stream: np.ndarray, precision: int, signed: int, expected: int
) -> None:
    values = from_twos_complement(stream, make_spec(1, 1, pixel_representation=signed), precision)
    assert values.dtype == (np.int16 if signed else np.uint16)
    assert values.item() == expected


def test_decoded_frames_have_full_chroma_and_stand_interleaved() -> None:
    spec = make_spec(2, 2, allocated=8, samples=3, planar_configuration=1, photometric_interpretation="YBR_FULL_422")
    decoded = decoded_spec(spec)
    assert (decoded.photometric_interpretation, decoded.planar_configuration) == ("YBR_FULL", 0)
    assert not decoded.is_subsampled
    partial = decoded_spec(make_spec(2, 2, samples=3, photometric_interpretation="YBR_PARTIAL_422"))
    assert not partial.is_subsampled
    assert decoded_spec(spec, "RGB").photometric_interpretation == "RGB"
