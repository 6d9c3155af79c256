"""JPEG XL: frames that libjxl gets wrong at effort 1, and received code streams."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.codec_suite import KINDS, make_frame, make_spec
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.jpegxl import decode_received, is_doubtful, may_overflow
from leanpacs.codecs.registry import by_name
from leanpacs.dicom.uids import JPEG_XL, JPEG_XL_LOSSLESS, JPEG_XL_RECOMPRESSION

CODEC = by_name("jpegxl")


def is_exact_as_it_is(samples: NDArray[Any]) -> bool:
    """What libjxl makes of the samples at effort 1 without precautions."""
    stream = imagecodecs.jpegxl_encode(samples, effort=1, lossless=True, numthreads=1)
    try:
        return np.array_equal(imagecodecs.jpegxl_decode(stream, numthreads=1), samples)
    except imagecodecs.JpegxlError:
        return False


def saturated_stripes(seed: int) -> NDArray[np.uint8]:
    """One row of green and magenta in turn: chroma steps of 510."""
    samples = np.random.default_rng(seed).integers(0, 40, (64, 256, 3), np.uint8)
    samples[8, 0::2] = (255, 0, 255)
    samples[8, 1::2] = (0, 255, 0)
    return samples


def few_colours(count: int, seed: int) -> NDArray[np.uint8]:
    """Black, with each of ``count`` colours once and a row of the first and the last in turn."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (count, 3))
    colours = colours[np.argsort(colours @ (0.299, 0.587, 0.114))]
    indexes = np.zeros((64, 256), np.intp)
    indexes.ravel()[512 : 512 + count] = np.arange(count)
    indexes[8, 1::2] = count - 1
    return colours[indexes].astype(np.uint8)


def confused_with_black() -> NDArray[np.uint8]:
    """Black, and a colour with the same place as black in the hash table that palettes are made with."""
    return np.array([[[255, 255, 255], [0, 0, 0]], [[11, 6, 4], [12, 10, 11]]], np.uint8)


def colour_frames() -> list[NDArray[np.uint8]]:
    """Frames of which libjxl 0.11 gets about every tenth wrong at effort 1."""
    counts = (256, 260, 300, 400, 512)
    return [
        confused_with_black(),
        *(saturated_stripes(seed) for seed in range(16)),
        *(few_colours(count, seed) for count in counts for seed in range(8)),
    ]


def test_colour_that_libjxl_gets_wrong_is_exact_all_the_same() -> None:
    for samples in colour_frames():
        spec, options = make_spec(*samples.shape[:2], allocated=8, samples=3), EncodeOptions(1, 8)
        np.testing.assert_array_equal(CODEC.decode(CODEC.encode(samples, spec, options), spec, options), samples)


def test_colour_that_libjxl_gets_wrong_is_doubted() -> None:
    for samples in colour_frames():
        assert is_exact_as_it_is(samples) or is_doubtful(samples, 8)


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.integers(1, 60), st.integers(1, 300), st.sampled_from([8, 7, 3]))
def test_what_is_not_doubted_is_exact(kind: str, seed: int, rows: int, columns: int, stored: int) -> None:
    samples = make_frame(make_spec(rows, columns, allocated=8, stored=stored, samples=3), kind, seed)
    stream = imagecodecs.jpegxl_encode(samples, effort=1, lossless=True, bitspersample=stored, numthreads=1)
    if not is_doubtful(samples, stored):
        np.testing.assert_array_equal(imagecodecs.jpegxl_decode(stream, numthreads=1), samples)


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.integers(80, 256), st.integers(80, 256), st.integers(9, 16))
def test_what_is_not_suspected_fits_the_buffer_of_libjxl(
    kind: str, seed: int, rows: int, columns: int, stored: int
) -> None:
    samples = make_frame(make_spec(rows, columns, stored=stored), kind, seed)
    if not may_overflow(samples, stored):
        stream = imagecodecs.jpegxl_encode(samples, effort=1, lossless=True, bitspersample=stored, numthreads=1)
        assert 8 * len(stream) <= 16 * samples.size + 100_000


def test_noise_of_a_small_deep_frame_is_suspected() -> None:
    assert may_overflow(make_frame(make_spec(256, 256), "noise"), 16)
    assert may_overflow(make_frame(make_spec(200, 200, samples=3), "constant"), 16)


@pytest.mark.parametrize(
    ("samples", "precision"),
    [
        (make_frame(make_spec(256, 256, stored=12), "smooth"), 12),
        (make_frame(make_spec(256, 257), "noise"), 16),
        (make_frame(make_spec(100, 100), "noise"), 16),
        (make_frame(make_spec(256, 256, allocated=8), "noise"), 8),
        (make_frame(make_spec(256, 256, allocated=8, samples=3), "noise"), 8),
    ],
    ids=["smooth", "two groups", "small", "8 bits", "colour"],
)
def test_usual_frames_are_not_suspected(samples: NDArray[Any], precision: int) -> None:
    assert not may_overflow(samples, precision)


def test_photographs_are_not_doubted() -> None:
    random = np.random.default_rng(1)
    assert not is_doubtful(random.integers(100, 200, (50, 60, 3), np.uint8), 8)
    assert not is_doubtful(make_frame(make_spec(99, 99, allocated=8), "noise"), 8)


def test_signed_values_are_held_as_offset_binary() -> None:
    spec = make_spec(4, 4, stored=12, pixel_representation=1)
    samples = np.full((4, 4), -1000, np.int16)
    stream = CODEC.encode(samples, spec, EncodeOptions(1, 12))
    np.testing.assert_array_equal(imagecodecs.jpegxl_decode(stream), np.full((4, 4), 1048, np.uint16))


def test_received_signed_values_are_twos_complement() -> None:
    spec = make_spec(4, 4, stored=12, pixel_representation=1)
    stream = imagecodecs.jpegxl_encode(np.full((4, 4), 0xFFF, np.uint16), lossless=True, bitspersample=12)
    decoded = decode_received(stream, JPEG_XL_LOSSLESS, spec)
    np.testing.assert_array_equal(decoded.samples, np.full((4, 4), -1, np.int16))


@pytest.mark.parametrize(
    ("syntax", "photometric", "expected"),
    [
        (JPEG_XL_LOSSLESS, "RGB", "RGB"),
        (JPEG_XL_LOSSLESS, "YBR_FULL", "YBR_FULL"),
        (JPEG_XL, "XYB", "RGB"),
        (JPEG_XL_RECOMPRESSION, "YBR_FULL_422", "RGB"),
        (JPEG_XL_RECOMPRESSION, "YBR_FULL", "RGB"),
    ],
)
def test_colour_space_of_received_streams(syntax: str, photometric: str, expected: str) -> None:
    spec = make_spec(16, 16, allocated=8, samples=3, photometric_interpretation=photometric)
    samples = make_frame(make_spec(16, 16, allocated=8, samples=3), "smooth")
    stream = imagecodecs.jpegxl_encode(samples, lossless=True)
    if syntax == JPEG_XL_RECOMPRESSION:
        jpeg = imagecodecs.jpeg8_encode(samples, level=90)
        stream = imagecodecs.jpegxl_encode_jpeg(jpeg)
    decoded = decode_received(stream, syntax, spec)
    assert decoded.photometric_interpretation == expected
    if syntax == JPEG_XL_RECOMPRESSION:
        shown = imagecodecs.jpeg8_decode(jpeg).astype(int)
        assert np.abs(decoded.samples.astype(int) - shown).mean() < 2  # other arithmetic, the same picture
    else:
        np.testing.assert_array_equal(decoded.samples, samples)
