"""Figures of image quality, against what they are by definition."""

from __future__ import annotations

import io

import numpy as np
import pytest

from data import Recipe, make_data_set
from leanpacs.dicom.instance import scan
from leanpacs.report.quality import Window, largest_error, psnr, ssim, window_of

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 4096, (40, 52)).astype(np.uint16)
NOISY = np.clip(IMAGE.astype(int) + RANDOM.integers(-200, 200, IMAGE.shape), 0, 4095).astype(np.uint16)


def test_psnr_and_largest_error() -> None:
    assert psnr(IMAGE, IMAGE, 4095) is None
    other = IMAGE.copy()
    other[0, 0] ^= 8
    assert psnr(IMAGE, other, 4095) == pytest.approx(10 * np.log10(4095**2 / (64 / IMAGE.size)))
    assert largest_error(IMAGE, other) == 8
    assert largest_error(np.array([[0]], np.uint16), np.array([[65535]], np.uint16)) == 65535


def test_ssim_is_that_of_its_definition() -> None:
    peak, values = 4095.0, []
    for top in range(0, 40 - 7, 4):
        for left in range(0, 52 - 7, 4):
            a, b = (one[top : top + 8, left : left + 8].astype(float) for one in (IMAGE, NOISY))
            first, second = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            covariance = ((a - a.mean()) * (b - b.mean())).mean()
            values.append(
                (2 * a.mean() * b.mean() + first)
                * (2 * covariance + second)
                / ((a.mean() ** 2 + b.mean() ** 2 + first) * (a.var() + b.var() + second))
            )
    assert ssim(IMAGE, NOISY, peak) == pytest.approx(np.mean(values))
    assert ssim(IMAGE, IMAGE, peak) == pytest.approx(1)
    assert ssim(np.stack([IMAGE] * 3, -1), np.stack([NOISY] * 3, -1), peak) == pytest.approx(np.mean(values))


def test_windows() -> None:
    ds = make_data_set(Recipe())
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = [40, 300], [400, 2000], 2, -1024
    file = io.BytesIO()
    ds.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=False)
    window = window_of(file, scan(file))
    assert window == Window(2, -1024, 40, 400)
    # PS3.3 C.11.2.1.2.1: below center - 0.5 - (width - 1) / 2 black, above center - 0.5 + (width - 1) / 2 white
    stored = np.array([[0, 432, 433, 531, 631, 632, 4095]])
    shown = window.apply(stored)[0]
    assert list(shown[[0, 1, -1]]) == [0, 0, 255]
    assert shown[3] == round((((531 * 2 - 1024) - 39.5) / 399 + 0.5) * 255)
    assert np.array_equal(shown, np.sort(shown))


def test_without_a_window_the_values_fill_it() -> None:
    window = Window().fitted(IMAGE)
    shown = window.apply(IMAGE)
    assert shown.min() == 0
    assert shown.max() == 255
    assert window.fitted(NOISY) == window
