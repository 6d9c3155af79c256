"""PS3.18 10.4.1.1.3, 10.4.1.1.4 and 8.3.5: images of frames."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import Recipe, make_instance, make_samples
from dimse_archive import made
from unit.services.dicomweb_fakes import parts_of

CINE, REPORT, US = RECIPES[4], RECIPES[3], RECIPES[6]
PNG, GIF = "image/png", "image/gif"
ICC = Recipe(study=52, instance=1, samples=3, bits_allocated=8, bits_stored=8, modality="XC")
MOVING = Recipe(study=53, instance=1, samples=3, frames=3, bits_allocated=8, bits_stored=8, modality="ES")


def _picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def _is_colour(data: bytes) -> bool:
    rgb = np.asarray(_picture(data).convert("RGB"))
    return bool((rgb[..., 0] != rgb[..., 2]).any())


def _profile(data: bytes) -> ImageCms.core.CmsProfile:
    found = _picture(data).info.get("icc_profile") or data[data.index(b"colr\x02") + 7 : data.index(b"jp2c") - 4]
    return ImageCms.ImageCmsProfile(io.BytesIO(found)).profile


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
        (GIF, lambda data: np.asarray(_picture(data).convert("RGB" if _is_colour(data) else "L"))),
        ("image/jp2", lambda data: np.asarray(_picture(data))),
        ("image/jph", imagecodecs.jpeg2k_decode),
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


@pytest.mark.clause("8.7.4")
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/jp2", "image/jph", "image/jxl"])
def test_images_with_loss_look_like_those_without(door: Door, media_type: str) -> None:
    for recipe in (CT, US):
        path = f"{instance(recipe)}/rendered?quality=95&viewport=120,160"
        data = door.get(path, media_type).content
        decode = {"image/jxl": imagecodecs.jpegxl_decode, "image/jph": imagecodecs.jpeg2k_decode}
        shown = decode[media_type](data) if media_type in decode else np.asarray(_picture(data))
        assert np.abs(shown.astype(int) - _shown(door, path)).mean() < 4


@pytest.mark.clause("8.7.4")
def test_high_throughput_files_are_in_boxes(door: Door) -> None:
    data = door.get(f"{instance(CT)}/rendered", "image/jph").content
    assert data[4:8] == b"jP  "
    assert data[16:24] == b"ftypjph "
    assert b"colr" in data[:100]


@pytest.mark.clause("10.4.1.1.3", "8.7.4")
def test_frames_of_an_instance_move_in_one_gif(door: Door) -> None:
    ds = pydicom.dcmread(io.BytesIO(make_instance(MOVING)))
    ds.FrameTime, ds.FrameIncrementPointer = "250", 0x00181063
    buffer = io.BytesIO()
    ds.save_as(buffer)
    assert door.store([buffer.getvalue()]).status_code == 200
    for recipe, count, milliseconds in ((MOVING, 3, 250), (CINE, 4, 100)):
        response = door.get(f"{instance(recipe)}/rendered", GIF)
        assert response.headers["content-type"] == GIF
        moving = _picture(response.content)
        assert moving.n_frames == count
        assert moving.info["loop"] == 0
        for number in range(count):
            moving.seek(number)
            assert moving.info["duration"] == milliseconds
            one = _picture(door.get(f"{instance(recipe)}/frames/{number + 1}/rendered", GIF).content)
            assert np.array_equal(np.asarray(moving.convert("RGB")), np.asarray(one.convert("RGB")))
    some = _picture(door.get(f"{instance(CINE)}/frames/4,2/rendered", GIF).content)
    assert some.n_frames == 2
    assert _picture(door.get(f"{series(CT)}/rendered", GIF).content).n_frames == 1
    parts = parts_of(door.get(f"{instance(CINE)}/rendered", f'multipart/related; type="{GIF}"'))
    assert [_picture(part.content).n_frames for part in parts] == [1] * 4


@pytest.mark.clause("8.3.5.1.5")
@pytest.mark.parametrize("media_type", ["image/jpeg", PNG, "image/jp2"])
def test_profile_names_the_colour_space(door: Door, media_type: str) -> None:
    path = f"{instance(US)}/rendered?quality=100"
    plain = np.asarray(_picture(door.get(path, media_type).content)).astype(int)
    assert "icc_profile" not in _picture(door.get(f"{path}&iccprofile=no", media_type).content).info
    seen = []
    for space, green in (("srgb", 0.60), ("adobergb", 0.70), ("displayp3", 0.675), ("rommrgb", 0.84)):
        data = door.get(f"{path}&iccprofile={space}", media_type).content
        profile = _profile(data)
        assert profile.green_primary[1][1] == pytest.approx(green, abs=0.01)
        shown = ImageCms.profileToProfile(
            _picture(data), ImageCms.ImageCmsProfile(profile), ImageCms.createProfile("sRGB"), renderingIntent=1
        )
        assert np.abs(np.asarray(shown).astype(int) - plain).mean() < 4  # the same colours by other numbers
        seen.append(np.asarray(_picture(data)).astype(int))
    assert all((one != plain).any() for one in seen[1:])
    grey = door.get(f"{instance(CT)}/rendered?iccprofile=yes", media_type).content
    assert _profile(grey).xcolor_space.strip() == "RGB"
    assert _picture(grey).mode == "RGB"


@pytest.mark.clause("8.3.5.1.5")
def test_profile_of_the_data_set_is_passed_on_or_converted_from(door: Door) -> None:
    ds = pydicom.dcmread(io.BytesIO(make_instance(ICC)))
    ds.ICCProfile = imagecodecs.cms_profile("adobergb")
    buffer = io.BytesIO()
    ds.save_as(buffer)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ICC.sop_uid}.9"
    ds.ICCProfile = b"no profile"
    broken = io.BytesIO()
    ds.save_as(broken)
    assert door.store([buffer.getvalue(), broken.getvalue()]).status_code == 200
    path = f"{instance(ICC)}/rendered"
    own = door.get(f"{path}?iccprofile=yes", PNG).content
    assert "Adobe" in _profile(own).profile_description
    assert np.array_equal(np.asarray(_picture(own)), _shown(door, path))
    assert not np.array_equal(_shown(door, f"{path}?iccprofile=srgb"), _shown(door, path))
    assert door.get(f"{path}?iccprofile=yes", "image/jxl").status_code == 406
    assert door.get(f"{path}?iccprofile=srgb", "image/jxl").status_code == 200
    damaged = f"{series(ICC)}/instances/{ds.SOPInstanceUID}/rendered"
    assert door.get(damaged, PNG).status_code == 200
    response = door.get(f"{damaged}?iccprofile=srgb", PNG)
    assert response.status_code == 406
    assert "ICC profile" in response.json()["detail"]


@pytest.mark.clause("8.3.5.1.5", "8.7.4")
def test_what_has_no_place_for_a_profile_is_not_sent_with_one(door: Door) -> None:
    path = f"{instance(US)}/rendered?iccprofile"
    assert door.get(f"{path}=adobergb", GIF).status_code == 406
    assert door.get(f"{path}=adobergb", "image/jxl").status_code == 406
    other = door.get(f"{path}=adobergb", "image/gif, image/png;q=0.5")
    assert other.headers["content-type"] == PNG
    assert door.get(f"{path}=srgb", "image/jxl").headers["content-type"] == "image/jxl"
    assert door.get(f"{path}=cmyk").status_code == 400
    assert door.get(f"{instance(US)}/thumbnail?iccprofile=displayp3").status_code == 200


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


@pytest.mark.parametrize(
    ("suffix", "accept"),
    [
        ("/thumbnail", "image/jpeg"),
        ("/rendered", "image/jpeg"),
        ("/rendered", 'multipart/related; type="image/jpeg"'),
        ("/rendered", GIF),
        ("/pixeldata", "*/*"),
        ("/bulkdata/7FE00010", "*/*"),
    ],
)
def test_frames_that_a_data_set_only_claims_are_refused_at_once(door: Door, suffix: str, accept: str) -> None:
    claiming = Recipe(study=55, instance=1, frames=2)
    assert door.store([made(claiming, NumberOfFrames=2_000_000_000)]).status_code == 200
    assert door.get(instance(claiming) + suffix, accept).status_code in (404, 406)
    assert door.get(instance(claiming)).status_code == 200


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
