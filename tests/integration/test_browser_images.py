"""What Chromium makes of the images and code streams that this archive sends."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from browser import patient_page, running_browser
from data import Recipe, make_instance, make_samples
from serving import Server

pytestmark = [pytest.mark.external, pytest.mark.slow, pytest.mark.xdist_group("browser")]

GREY = Recipe(study=1, rows=48, columns=40)
COLOUR = Recipe(study=2, rows=48, columns=40, samples=3, bits_allocated=8, bits_stored=8, modality="US")
DRAWN = """async ([url, accept]) => {
    const answer = await fetch(url, accept ? {headers: {accept}} : {});
    const kind = answer.headers.get('content-type').split(';')[0];
    const image = await createImageBitmap(new Blob([await answer.arrayBuffer()], {type: kind}));
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return [kind, image.width, image.height, Array.from(context.getImageData(0, 0, image.width, image.height).data)];
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("images") / "archive", processes=1, workers=1) as server:
        for recipe in (GREY, COLOUR):
            headers = {"content-type": "application/dicom"}
            stored = httpx.post(f"{server.http}dicom-web/studies", content=make_instance(recipe), headers=headers)
            assert stored.status_code == 200
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    page = patient_page(browser)
    page.goto(f"{server.http}health")  # the page of the archive lets no script run
    yield page
    page.close()


def path(recipe: Recipe) -> str:
    return f"/dicom-web/studies/{recipe.study_uid}/series/{recipe.series_uid}/instances/{recipe.sop_uid}"


def drawn(page: Page, url: str, accept: str) -> NDArray[np.uint8]:
    """Pixels of an image as the browser has them: RGB."""
    kind, width, height, values = page.evaluate(DRAWN, [url, accept])
    assert kind == accept
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


@pytest.mark.parametrize("recipe", [GREY, COLOUR])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif", "image/jxl"])
def test_rendered_images_are_shown(page: Page, server: Server, recipe: Recipe, media_type: str) -> None:
    url = f"{path(recipe)}/rendered?quality=95"
    png = httpx.get(server.http.rstrip("/") + url, headers={"accept": "image/png"}).content
    expected = imagecodecs.png_decode(png)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    shown = drawn(page, url, media_type)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < (0.5 if media_type == "image/png" else 5)


def test_a_picture_in_a_page_comes_as_jpeg_xl(page: Page) -> None:
    with page.expect_response("**/rendered") as answered:
        size = page.evaluate(
            """url => new Promise((good, bad) => {
                const image = new Image();
                image.onload = () => good([image.naturalWidth, image.naturalHeight]);
                image.onerror = () => bad('not shown');
                image.src = url;
            })""",
            f"{path(GREY)}/rendered",
        )
    assert size == [GREY.columns, GREY.rows]
    assert answered.value.headers["content-type"] == "image/jxl"


def test_frames_in_jpeg_xl_are_exact_with_8_bits_and_a_preview_with_16(page: Page) -> None:
    shown = drawn(page, f"{path(COLOUR)}/frames/1", "image/jxl")
    assert np.array_equal(shown, make_samples(COLOUR)[0])
    preview = drawn(page, f"{path(GREY)}/frames/1", "image/jxl")[..., 0].astype(float)
    samples = make_samples(GREY)[0].astype(float)
    assert len(np.unique(preview)) < len(np.unique(samples))  # 8 bits are left: not for diagnosis
    ranks = [np.argsort(np.argsort(values, axis=None)) for values in (samples, preview)]
    assert np.corrcoef(*ranks)[0, 1] > 0.99  # but brighter is brighter
