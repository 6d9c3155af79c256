"""JPEG XL of large images as a whole: the bytes of imagecodecs where that makes no difference, fewer where it does."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from leanpacs.codecs import libjxl

ROWS, COLUMNS = 2200, 300


def by_imagecodecs(values: np.ndarray, effort: int, precision: int) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(values, effort=effort, lossless=True, bitspersample=precision, numthreads=1))


def stretched(rows: int, columns: int, step: int) -> np.ndarray:
    """A smooth, noisy image whose values are multiples of ``step``."""
    plane = np.add.outer(np.arange(rows), np.arange(columns)) // 8
    return ((plane + np.random.default_rng(5).integers(0, 6, plane.shape)) * step).astype(np.uint16)


@pytest.mark.parametrize("effort", [2, 3, 5])
@pytest.mark.parametrize(("precision", "samples"), [(8, 1), (5, 1), (12, 1), (16, 1), (8, 3), (16, 3)])
def test_the_same_bytes_as_imagecodecs_where_an_image_is_no_larger_than_a_part(
    precision: int, samples: int, effort: int
) -> None:
    shape = (150, 90) if samples == 1 else (150, 90, samples)
    values = np.random.default_rng(precision).integers(0, 1 << precision, shape)
    values = values.astype(np.uint8 if precision <= 8 else np.uint16)
    assert libjxl.AsAWhole()(values, effort, precision) == by_imagecodecs(values, effort, precision)


def test_this_machine_has_it() -> None:
    assert libjxl.as_a_whole() is not None


@pytest.mark.parametrize("effort", [2, 3, 4, 5])
def test_few_values_of_a_large_image_are_found(effort: int) -> None:
    values = stretched(ROWS, COLUMNS, 60)
    stream = libjxl.encode(values, effort, 16)
    assert np.array_equal(imagecodecs.jpegxl_decode(stream), values)
    assert len(stream) < (0.8 if effort < 5 else 1.0) * len(by_imagecodecs(values, effort, 16))


@pytest.mark.parametrize(("rows", "step", "effort"), [(ROWS, 1, 3), (200, 60, 3), (ROWS, 60, 1)])
def test_others_are_encoded_as_usual(rows: int, step: int, effort: int) -> None:
    values = stretched(rows, COLUMNS, step)
    assert libjxl.encode(values, effort, 16) == by_imagecodecs(values, effort, 16)


def test_without_it_images_are_encoded_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libjxl, "as_a_whole", lambda: None)
    values = stretched(ROWS, COLUMNS, 60)
    assert libjxl.encode(values, 3, 16) == by_imagecodecs(values, 3, 16)
    assert not libjxl.finds_levels(ROWS, COLUMNS, 3)
    assert libjxl.finds_levels(200, COLUMNS, 3)


def test_the_largest_are_not_held_in_memory_as_a_whole() -> None:
    assert libjxl.finds_levels(4000, 3000, 3)
    assert not libjxl.finds_levels(4000, 3000, 5)
    assert not libjxl.finds_levels(40_000, 3000, 3)


def test_refusals_are_told() -> None:
    with pytest.raises(RuntimeError, match="libjxl"):
        libjxl.AsAWhole()(np.zeros((4, 4), np.uint16), 3, 99)
