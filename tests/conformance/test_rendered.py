"""PS3.18 10.4.1.1.3, 10.4.1.1.4 and 8.3.5: images of frames."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import make_samples
from unit.services.dicomweb_fakes import parts_of

CINE, REPORT, US = RECIPES[4], RECIPES[3], RECIPES[6]
PNG = "image/png"


def _shown(door: Door, path: str, accept: str = PNG) -> NDArray[np.uint8]:
    response = door.get(path, accept)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == accept
    return imagecodecs.png_decode(response.content)


@pytest.mark.clause("10.4.1.1.3", "8.7.4")
@pytest.mark.parametrize(
    ("media_type", "decode"),
    [
        ("image/jpeg", imagecodecs.jpeg8_decode),
        (PNG, imagecodecs.png_decode),
        ("image/jxl", imagecodecs.jpegxl_decode),
    ],
)
def test_instance_and_frame_come_as_one_image(door: Door, media_type: str, decode: Callable) -> None:
    for path in (f"{instance(CT)}/rendered", f"{instance(CINE)}/frames/2/rendered"):
        response = door.get(path, media_type)
        assert response.headers["content-type"] == media_type
        assert decode(response.content).shape == (32, 24)
    colour = door.get(f"{instance(US)}/rendered", media_type)
    assert decode(colour.content).shape == (32, 24, 3)


@pytest.mark.clause("10.4.1.1.3", "10.4.4")
def test_several_frames_come_each_in_a_part(door: Door) -> None:
    for path, count in ((instance(CINE), 4), (series(CT), 2), (study(CT), 3)):
        response = door.get(f"{path}/rendered", f'multipart/related; type="{PNG}"')
        parts = parts_of(response)
        assert len(parts) == count
        assert all(part.fields["Content-Location"].endswith("/rendered") for part in parts)
    parts = parts_of(door.get(f"{instance(CINE)}/frames/3,1/rendered", f'multipart/related; type="{PNG}"'))
    assert np.array_equal(imagecodecs.png_decode(parts[1].content), _shown(door, f"{instance(CINE)}/frames/1/rendered"))


@pytest.mark.clause("8.3.5")
def test_window_says_which_values_are_shown(door: Door) -> None:
    samples = make_samples(CT)[0]
    center, width = int(np.median(samples)), 200
    low = center - 0.5 - (width - 1) / 2
    wanted = np.clip((samples - low) / (width - 1), 0, 1) * 255
    shown = _shown(door, f"{instance(CT)}/rendered?window={center},{width},linear")
    assert np.abs(shown - wanted).max() <= 1
    exact = _shown(door, f"{instance(CT)}/rendered?window={center},{width},linear-exact")
    assert not np.array_equal(shown, exact)
    sigmoid = _shown(door, f"{instance(CT)}/rendered?window={center},{width},sigmoid")
    assert np.abs(sigmoid - 255 / (1 + np.exp(-4.0 * (samples - center) / width))).max() <= 1


@pytest.mark.clause("8.3.5")
def test_viewport_says_how_large_and_which_region(door: Door) -> None:
    whole = _shown(door, f"{instance(CT)}/rendered")
    assert _shown(door, f"{instance(CT)}/rendered?viewport=12,100").shape == (16, 12)
    assert _shown(door, f"{instance(CT)}/rendered?viewport=48,64").shape == (64, 48)
    part = _shown(door, f"{instance(CT)}/rendered?viewport=10,20,4,6,10,20")
    assert np.array_equal(part, whole[6:26, 4:14])
    turned = _shown(door, f"{instance(CT)}/rendered?viewport=24,32,0,0,-24,-32")
    assert np.array_equal(turned, whole[::-1, ::-1])


@pytest.mark.clause("8.3.5")
def test_quality_is_that_of_jpeg(door: Door) -> None:
    sizes = [len(door.get(f"{instance(CT)}/rendered?quality={q}", "image/jpeg").content) for q in (5, 50, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.clause("8.3.5")
def test_annotation_writes_into_the_image(door: Door) -> None:
    path = f"{instance(CT)}/rendered?viewport=240,320"
    plain = _shown(door, path)
    changed = {
        kinds: np.argwhere(_shown(door, f"{path}&annotation={kinds}") != plain)[:, 1]
        for kinds in ("patient", "technique", "patient,technique")
    }
    assert changed["patient"].min() < 20
    assert changed["technique"].max() > 220
    assert len(changed["patient,technique"]) > max(len(changed["patient"]), len(changed["technique"]))
    other = door.get(f"{path}&annotation=nothing", PNG)
    assert "annotation" in other.headers["warning"]


@pytest.mark.clause("8.3.5", "8.5")
@pytest.mark.parametrize(
    "query",
    [
        "window=1",
        "window=1,0",
        "window=1,2,cubic",
        "viewport=0,5",
        "viewport=5",
        "quality=0",
        "quality=101",
        "quality=x",
    ],
)
def test_parameters_that_are_not_understood_are_refused(door: Door, query: str) -> None:
    assert door.get(f"{instance(CT)}/rendered?{query}").status_code == 400


@pytest.mark.clause("10.4.1.1.4")
def test_thumbnail_is_one_small_image_of_whatever_the_path_names(door: Door) -> None:
    for path in (study(CT), series(CT), instance(CINE), f"{instance(CINE)}/frames/2"):
        response = door.get(f"{path}/thumbnail")
        assert response.headers["content-type"] == "image/jpeg"
        rows, columns = imagecodecs.jpeg8_decode(response.content).shape[:2]
        assert max(rows, columns) <= 128
        shown = response.headers["content-location"]
        assert door.http.get(shown, headers={"accept": PNG}).status_code == 200
    assert _shown(door, f"{instance(CT)}/thumbnail?viewport=6,8").shape == (8, 6)
    assert door.get(f"{instance(REPORT)}/thumbnail").status_code == 404
    assert door.get(f"{instance(CT)}/thumbnail", "text/plain").status_code == 406
