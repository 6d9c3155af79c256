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
from leanpacs.transcode.rendering import View, Viewport, Window
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
