"""Pictures through a viewport: made small before the window or after it, they look the same."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from data import Recipe, make_instance
from leanpacs.transcode import Transcoder
from leanpacs.transcode.greyscale import Window
from leanpacs.transcode.rendering import View, Viewport
from transcoding import opened

RECIPE = Recipe(modality="MG", rows=240, columns=180)
LOW, HIGH = 900.0, 3100.0


def picture(content: bytes, view: View) -> NDArray[np.uint8]:
    with opened(content) as source:
        return imagecodecs.png_decode(Transcoder().rendered(source, 1, view))


def windowed(function: str) -> Window:
    return Window((LOW + HIGH) / 2, HIGH - LOW, function)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("port", [Viewport(60, 80), Viewport(50, 50), Viewport(40, 40, 20, 30, -120, 160)])
def test_a_small_picture_is_the_large_one_made_small(function: str, port: Viewport) -> None:
    content = make_instance(RECIPE)
    whole = picture(content, View("image/png", window=windowed(function)))
    region = whole[30:190, 20:140][:, ::-1] if port.left else whole
    small = picture(content, View("image/png", window=windowed(function), viewport=port))
    rows, columns = small.shape
    expected = region[
        np.ix_(
            ((np.arange(rows) + 0.5) * region.shape[0] / rows).astype(int),
            ((np.arange(columns) + 0.5) * region.shape[1] / columns).astype(int),
        )
    ]
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_a_picture_without_a_window_spans_what_the_whole_image_has() -> None:
    content = make_instance(RECIPE)
    ds = pydicom.dcmread(io.BytesIO(content))
    assert "WindowCenter" not in ds
    corner = picture(content, View("image/png", viewport=Viewport(40, 40, 0, 0, 40, 40)))
    whole = picture(content, View("image/png"))
    assert np.array_equal(corner, whole[:40, :40])


@pytest.mark.parametrize("slope", [1, -2.5])
@pytest.mark.parametrize("bits_stored", [8, 12, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_each_pixel_goes_through_modality_lut_and_window_by_its_value(
    slope: float, bits_stored: int, is_signed: bool
) -> None:
    """PS3.3 C.11.1.1.2 and C.11.2.1.2.1, in double precision, pixel by pixel."""
    ds = pydicom.dcmread(io.BytesIO(make_instance(RECIPE)))
    bits_allocated = 8 if bits_stored == 8 else 16
    low = -(1 << bits_stored - 1) if is_signed else 0
    kind = np.dtype(f"{'i' if is_signed else 'u'}{bits_allocated // 8}")
    stored = np.random.default_rng(7).integers(low, low + (1 << bits_stored), (240, 180), kind)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits_allocated, bits_stored, bits_stored - 1
    ds.PixelRepresentation, ds.PixelData = int(is_signed), stored.tobytes()
    ds.RescaleSlope, ds.RescaleIntercept = slope, 3
    center, width = 3 + slope * (low + (1 << bits_stored - 2)), abs(slope) * (1 << bits_stored - 2) + 2
    file = io.BytesIO()
    ds.save_as(file)

    image = picture(file.getvalue(), View("image/png", window=Window(center, width)))

    through = ((stored * np.float64(slope) + 3 - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1) * 255
    assert np.abs(image - through).max() <= 0.51


def test_padding_does_not_count_in_the_range_of_an_image_without_a_window() -> None:
    ds = pydicom.dcmread(io.BytesIO(make_instance(RECIPE)))
    stored = np.full((240, 180), -2000, np.int16)
    stored[:, 90:] = np.arange(100, 190)
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit, ds.PixelData = 1, 16, 15, stored.tobytes()
    ds.add_new("PixelPaddingValue", "SS", -2000)
    file = io.BytesIO()
    ds.save_as(file)

    image = picture(file.getvalue(), View("image/png"))

    assert image[0, 0] == image[0, 90] == 0
    assert image[0, 179] == 255
