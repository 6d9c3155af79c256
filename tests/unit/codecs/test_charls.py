"""JPEG-LS of any number of bits: what two builds of CharLS write is the same, and what one of them cannot is told."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanpacs.codecs import charls


@given(
    bits=st.integers(2, 16),
    rows=st.integers(4, 40),
    columns=st.integers(4, 40),
    samples=st.sampled_from([1, 3]),
    near=st.sampled_from([0, 0, 1]),
    noise=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_same_bytes_as_pyjpegls(
    bits: int, rows: int, columns: int, samples: int, near: int, noise: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    top = 1 << bits
    smooth = np.cumsum(generator.integers(-2, 3, shape), axis=1) % top
    values = np.ascontiguousarray(generator.integers(0, top, shape) if noise else smooth)
    values = values.astype(np.uint8 if bits <= 8 else np.uint16)
    near = near if near <= (top - 1) // 2 else 0
    ours, theirs = charls._OfImagecodecs(), charls._of_pyjpegls
    try:
        expected = theirs(values, bits, near)
    except RuntimeError:
        return  # it reserves less for tiny noise
    stream = ours(values, bits, near)
    assert stream == expected
    decoded = imagecodecs.jpegls_decode(stream).astype(np.int64)
    assert np.abs(decoded - values).max() <= near


def test_this_machine_has_the_quick_one() -> None:
    assert isinstance(charls.encoder(), charls._OfImagecodecs)


def test_refusals_are_told() -> None:
    for encode in (charls._OfImagecodecs(), charls._of_pyjpegls):
        with pytest.raises((RuntimeError, ValueError)):
            encode(np.zeros((4, 4), np.uint16), 17, 0)
    noise = np.random.default_rng(1).integers(0, 4, (2, 2)).astype(np.uint8)
    assert imagecodecs.jpegls_decode(charls.encode(noise, 2)).tolist() == noise.tolist()
