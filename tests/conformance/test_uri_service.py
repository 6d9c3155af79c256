"""PS3.18 chapter 9: the URI service."""

from __future__ import annotations

import io

import httpx
import imagecodecs
import numpy as np
import pydicom
import pytest

from conformance.conftest import CT, RECIPES, Door
from data import EXPLICIT_LE, JPEG_LS, Recipe, make_samples

CINE = RECIPES[4]
REPORT = RECIPES[3]


def _get(door: Door, recipe: Recipe, accept: str = "*/*", **parameters: str | int) -> httpx.Response:
    uids = {"studyUID": recipe.study_uid, "seriesUID": recipe.series_uid, "objectUID": recipe.sop_uid}
    asked = {"requestType": "WADO", **uids, **parameters}
    return door.http.get(f"{door.origin}/wado", params=asked, headers={"accept": accept})


@pytest.mark.clause("9.4", "9.1.2")
def test_instance_comes_as_a_file_in_explicit_little_endian(door: Door) -> None:
    response = _get(door, RECIPES[1], contentType="application/dicom")
    assert response.status_code == 200
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT_LE}"
    ds = pydicom.dcmread(io.BytesIO(response.content))
    assert ds.file_meta.TransferSyntaxUID == EXPLICIT_LE
    assert np.array_equal(ds.pixel_array, make_samples(RECIPES[1])[0])


@pytest.mark.clause("9.4")
def test_instance_comes_in_the_transfer_syntax_asked_for(door: Door) -> None:
    response = _get(door, CT, contentType="application/dicom", transferSyntax=JPEG_LS)
    ds = pydicom.dcmread(io.BytesIO(response.content))
    assert ds.file_meta.TransferSyntaxUID == JPEG_LS
    assert np.array_equal(ds.pixel_array, make_samples(CT)[0])
    assert _get(door, CT, contentType="application/dicom", transferSyntax="1.2.3").status_code == 406


@pytest.mark.clause("9.5")
def test_image_is_jpeg_unless_another_type_is_asked_for(door: Door) -> None:
    assert _get(door, CT).headers["content-type"] == "image/jpeg"
    response = _get(door, CT, contentType="image/png")
    assert imagecodecs.png_decode(response.content).shape == (CT.rows, CT.columns)
    assert _get(door, CT, accept="image/png").headers["content-type"] == "image/png"
    assert _get(door, CT, contentType="text/html").status_code == 406
    assert _get(door, REPORT, contentType="application/dicom").headers["content-type"].startswith("application/dicom")


@pytest.mark.clause("9.5")
def test_image_is_shown_as_asked(door: Door) -> None:
    whole = imagecodecs.png_decode(_get(door, CINE, contentType="image/png").content)
    other = imagecodecs.png_decode(_get(door, CINE, contentType="image/png", frameNumber=3).content)
    assert not np.array_equal(whole, other)
    small = imagecodecs.png_decode(_get(door, CINE, contentType="image/png", rows=8).content)
    assert small.shape == (8, 6)
    part = imagecodecs.png_decode(_get(door, CINE, contentType="image/png", region="0.5,0,1,0.5").content)
    assert np.array_equal(part, whole[:16, 12:])
    dark = _get(door, CINE, contentType="image/png", windowCenter=60000, windowWidth=10)
    assert not imagecodecs.png_decode(dark.content).any()
    worse, better = (_get(door, CINE, imageQuality=quality) for quality in (5, 100))
    assert len(worse.content) < len(better.content)


@pytest.mark.clause("9.1.2")
@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": "other"}, 400),
        ({"studyUID": ""}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"frameNumber": "0"}, 400),
        ({"frameNumber": "5"}, 404),
        ({"rows": "-1"}, 400),
        ({"region": "0,0,2,1"}, 400),
        ({"windowCenter": "1"}, 400),
        ({"imageQuality": "101"}, 400),
        ({"transferSyntax": JPEG_LS}, 400),
        ({"contentType": "application/dicom", "rows": "5"}, 400),
        ({"anonymize": "yes", "contentType": "application/dicom"}, 501),
        ({"presentationUID": "1.2.3"}, 501),
    ],
)
def test_what_is_not_understood_is_refused_with_the_reason(door: Door, parameters: dict[str, str], status: int) -> None:
    response = _get(door, CINE, **parameters)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]
