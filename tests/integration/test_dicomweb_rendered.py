"""Rendered resources and thumbnails over a real socket (PS3.18 10.4.1.1.3, 10.4.1.1.4, 8.3.5)."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pydicom
import pytest

from data import JPEG_BASELINE, JPEG_LS, Recipe, make_instance
from integration.test_dicomweb import Served, served
from unit.services.dicomweb_fakes import parts_of

__all__ = ["served"]

GREY = Recipe(instance=1, rows=40, columns=60)
MOVING = Recipe(instance=2, frames=3, transfer_syntax=JPEG_LS)
COLOUR = Recipe(instance=3, samples=3, bits_allocated=8, bits_stored=8)
LOSSY = Recipe(instance=4, samples=3, bits_allocated=8, bits_stored=8, transfer_syntax=JPEG_BASELINE)
REPORT = Recipe(instance=5, kind="none", modality="SR")


def _dataset(recipe: Recipe) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(make_instance(recipe)))


def _stored(served: Served, ds: pydicom.Dataset) -> None:
    body = io.BytesIO()
    ds.save_as(body)
    response = served.store([body.getvalue()])
    assert response.status_code == 200, response.text


def _png(served: Served, recipe: Recipe, query: str = "", suffix: str = "/rendered") -> np.ndarray:
    response = served.get(served.row(recipe), suffix + query, "image/png")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return imagecodecs.png_decode(response.content)


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, case by case as it stands there."""
    shown = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    shown[values <= center - 0.5 - (width - 1) / 2] = 0
    shown[values > center - 0.5 + (width - 1) / 2] = 255
    return shown


def test_windows_of_data_set_and_request(served: Served) -> None:
    ds = _dataset(GREY)
    ds.RescaleSlope, ds.RescaleIntercept = 2, -1000
    ds.WindowCenter, ds.WindowWidth = [500, 40], [3000, 400]
    _stored(served, ds)
    values = ds.pixel_array * 2.0 - 1000
    assert np.abs(_png(served, GREY) - _linear(values, 500, 3000)).max() <= 1
    assert np.abs(_png(served, GREY, "?window=100,700,linear") - _linear(values, 100, 700)).max() <= 1
    exact = np.clip((values - 100) / 700 + 0.5, 0, 1) * 255
    assert np.abs(_png(served, GREY, "?window=100,700,linear-exact") - exact).max() <= 1
    sigmoid = 255 / (1 + np.exp(-4 * (values - 100) / 700))
    assert np.abs(_png(served, GREY, "?window=100,700,sigmoid") - sigmoid).max() <= 1


def test_inverse_greys_are_turned(served: Served) -> None:
    ds = _dataset(GREY)
    ds.PhotometricInterpretation = "MONOCHROME1"
    _stored(served, ds)
    pixels = ds.pixel_array.astype(float)
    expected = 255 * (pixels.max() - pixels) / (pixels.max() - pixels.min())
    assert np.abs(_png(served, GREY) - expected).max() <= 1


def test_voi_lut(served: Served) -> None:
    ds = _dataset(GREY)
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 8], [255 - (i >> 4) for i in range(4096)]
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "US"
    ds.VOILUTSequence = [item]
    _stored(served, ds)
    assert np.abs(_png(served, GREY) - (255.0 - (ds.pixel_array >> 4))).max() <= 1


def test_palettes(served: Served) -> None:
    ds = _dataset(Recipe(instance=1, bits_allocated=8, bits_stored=8))
    ds.PhotometricInterpretation = "PALETTE COLOR"
    tables = [np.roll(np.arange(256), shift).astype("<u2") * 257 for shift in (0, 50, 100)]
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        ds[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
    _stored(served, ds)
    expected = np.stack([table[ds.pixel_array] >> 8 for table in tables], -1)
    assert np.array_equal(_png(served, GREY), expected)


def test_colour_is_rgb(served: Served) -> None:
    served.store([make_instance(COLOUR), make_instance(LOSSY)])
    assert np.array_equal(_png(served, COLOUR), _dataset(COLOUR).pixel_array)
    decoded = imagecodecs.jpeg8_decode(served.get(served.row(LOSSY), "/frames/1", "image/jpeg").content)
    assert np.abs(_png(served, LOSSY).astype(int) - decoded).max() <= 2


def test_viewport_region_and_quality(served: Served) -> None:
    served.store([make_instance(GREY)])
    whole = _png(served, GREY)
    assert np.array_equal(_png(served, GREY, "?viewport=60,40"), whole)
    assert _png(served, GREY, "?viewport=30,30").shape == (20, 30)
    assert _png(served, GREY, "?viewport=120,400").shape == (80, 120)
    assert np.array_equal(_png(served, GREY, "?viewport=20,10,5,6,20,10"), whole[6:16, 5:25])
    assert np.array_equal(_png(served, GREY, "?viewport=60,40,0,0,-60,-40"), whole[::-1, ::-1])
    halved = whole.reshape(20, 2, 30, 2).mean((1, 3))
    assert np.abs(_png(served, GREY, "?viewport=30,20") - halved).max() <= 1
    low, high = (served.get(served.row(GREY), f"/rendered?quality={q}", "image/jpeg").content for q in (10, 95))
    assert len(low) < len(high)
    assert imagecodecs.jpeg8_decode(high).shape == whole.shape


@pytest.mark.parametrize(
    "query",
    [
        *("window=a,b", "window=1", "window=1,0", "window=1,2,cubic", "window=nan,5", "window=1,2,linear,4"),
        *("viewport=0,5", "viewport=1,2,3", "viewport=5,5,a,b", "viewport=99999,1", "quality=0", "quality=101"),
    ],
)
def test_parameters_that_make_no_sense(served: Served, query: str) -> None:
    served.store([make_instance(GREY)])
    assert served.get(served.row(GREY), f"/rendered?{query}").status_code == 400


def test_region_beyond_the_image(served: Served) -> None:
    served.store([make_instance(GREY)])
    assert served.get(served.row(GREY), "/rendered?viewport=9,9,50,0,20,20").status_code == 406


def test_every_level(served: Served) -> None:
    served.store([make_instance(recipe) for recipe in (GREY, MOVING, REPORT)])
    base = f"{served.url}/studies/{GREY.study_uid}"
    for url in (base, f"{base}/series/{GREY.series_uid}"):
        parts = parts_of(served.http.get(f"{url}/rendered", timeout=60))
        assert len(parts) == 4
        assert {part.fields["Content-Type"] for part in parts} == {"image/jpeg"}
        small = served.http.get(f"{url}/thumbnail", timeout=60)
        assert max(imagecodecs.jpeg8_decode(small.content).shape[:2]) == 128
        again = served.http.get(f"{url}/thumbnail", headers={"if-none-match": small.headers["etag"]})
        assert again.status_code == 304
    row = served.row(MOVING)
    two = parts_of(served.get(row, "/frames/3,1/rendered", 'multipart/related; type="image/png"'))
    assert [part.fields["Content-Location"].split("/")[-2] for part in two] == ["3", "1"]
    assert np.array_equal(imagecodecs.png_decode(two[1].content), _png(served, MOVING, suffix="/frames/1/rendered"))
    assert served.get(row, "/frames/4/rendered").status_code == 404
    assert served.get(served.row(REPORT), "/rendered", "image/png").status_code == 406
    assert served.get(row, "/rendered", "text/html").status_code == 406
    assert served.get(row, "/frames/1/thumbnail?viewport=8,8", "image/png").status_code == 200
