"""OHIF in Chromium shows what this archive holds; judged by the pixels of screenshots."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
import numpy as np
import pydicom
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Response, Route
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_rescale, apply_windowing, convert_color_space, pixel_array

from browser import fetch_ohif_script, fitted, image_shown, likeness, ohif, patient_page, running_browser
from data import corpus_folder
from serving import Server

pytestmark = [pytest.mark.external, pytest.mark.corpus, pytest.mark.slow, pytest.mark.xdist_group("browser")]

ALIKE = 0.98
SECONDS = 120.0

CT = [f"CT/GE-head/{number:02}.dcm" for number in range(1, 29)]
MAMMOGRAM = "MG/fo-dicom__GH133.dcm"
ULTRASOUND = {
    "palette, RLE": "US/dcm4che__US-PAL-8-10x-echo",
    "RGB": "US/pydicom__examples_rgb_color.dcm",
    "YBR_FULL_422, JPEG": "US/pydicom__examples_ybr_color.dcm",
}


class Archive:
    """A server with the files, and OHIF beside."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.url = server.http.rstrip("/")
        self._folder = folder

    def read(self, name: str) -> Dataset:
        return pydicom.dcmread(self._folder / name)

    def store(self, names: Sequence[str]) -> None:
        with httpx.Client(base_url=self.url, headers={"content-type": "application/dicom"}, timeout=120) as client:
            for name in names:
                client.post("/dicom-web/studies", content=(self._folder / name).read_bytes()).raise_for_status()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    viewer, files = ohif(), corpus_folder()
    folder = tmp_path_factory.mktemp("ohif") / "archive"
    with Server(folder, environment={"LEANPACS_VIEWER__FOLDER": str(viewer)}) as server:
        archive = Archive(server, files)
        archive.store([*CT, MAMMOGRAM, *ULTRASOUND.values()])
        yield archive


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = patient_page(browser, viewport={"width": 1100, "height": 700})
    # The first visit would begin with a guided tour.
    page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
    yield page
    page.close()


def as_people_see_it(ds: Dataset, frame: int = 0) -> NDArray[np.uint8]:
    """A frame by pydicom: window, palette and colour applied. (rows, columns) or (rows, columns, RGB), 8 bits."""
    values = pixel_array(ds, raw=True, index=frame)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return (apply_color_lut(values, ds) >> 8).astype(np.uint8)
    if ds.SamplesPerPixel == 3:
        return convert_color_space(values, ds.PhotometricInterpretation, "RGB")
    shown = apply_windowing(apply_rescale(values, ds), ds).astype(np.float64)
    low, high = shown.min(), shown.max()
    return ((shown - low) * (255 / (high - low))).astype(np.uint8)


def open_study(page: Page, archive: Archive, study_uid: str) -> list[Response]:
    """Show a study; what the server answers to requests for frames is gathered."""
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if "/frames/" in answer.url else None)
    page.goto(f"{archive.url}/viewer/viewer?StudyInstanceUIDs={study_uid}")
    page.wait_for_selector("canvas.cornerstone-canvas", timeout=SECONDS * 1000)
    return answers


def see(page: Page, expected: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Wait until the page shows this image; what it shows."""
    deadline, best = time.monotonic() + SECONDS, 0.0
    while time.monotonic() < deadline:
        shown = image_shown(page)
        alike = likeness(shown, fitted(expected, shown.shape))
        if alike > ALIKE:
            return shown
        best = max(best, alike)
        page.wait_for_timeout(500)
    pytest.fail(f"it does not come; the likest image was {best:.3f} alike")


def test_ct_series_is_scrolled_through(archive: Archive, page: Page) -> None:
    slices = [as_people_see_it(archive.read(name)) for name in CT]
    answers = open_study(page, archive, archive.read(CT[0]).StudyInstanceUID)
    for place in (0, 1, 2):
        shown = see(page, slices[place])
        alike = [likeness(shown, fitted(one, shown.shape)) for one in slices]
        assert int(np.argmax(alike)) == place
        page.locator("canvas.cornerstone-canvas").first.hover()
        page.keyboard.press("ArrowDown")
    assert {answer.status for answer in answers} == {200}


def test_mammogram(archive: Archive, page: Page) -> None:
    ds = archive.read(MAMMOGRAM)
    open_study(page, archive, ds.StudyInstanceUID)
    see(page, as_people_see_it(ds))


@pytest.mark.parametrize("kind", ULTRASOUND)
def test_colour_ultrasound(archive: Archive, page: Page, kind: str) -> None:
    ds = archive.read(ULTRASOUND[kind])
    open_study(page, archive, ds.StudyInstanceUID)
    expected = as_people_see_it(ds)
    shown = see(page, expected)
    wanted = fitted(expected, shown.shape).astype(int)
    assert np.abs(shown.astype(int) - wanted).mean() < 4  # of 255, in each colour
    assert (np.ptp(shown, axis=2) > 60).any()  # it is coloured


def test_study_list(archive: Archive, page: Page) -> None:
    page.goto(f"{archive.url}/viewer")
    page.get_by_text("MAMMOSCREENING 1E LEZING").first.wait_for(timeout=SECONDS * 1000)


@pytest.mark.parametrize("name", [CT[0], MAMMOGRAM, ULTRASOUND["RGB"]])
def test_images_come_as_htj2k_over_slow_lines(archive: Archive, page: Page, name: str) -> None:
    fetch = fetch_ohif_script()
    settings = fetch.configuration(fetch.Place(compressed=True))
    page.route("**/app-config.js", lambda route: route.fulfill(body=settings, content_type="text/javascript"))
    ds = archive.read(name)
    answers = open_study(page, archive, ds.StudyInstanceUID)
    see(page, as_people_see_it(ds))
    assert answers
    for answer in answers:
        assert 'type="image/jphc"' in answer.headers["content-type"]


def test_people_log_in_before_they_look(tmp_path: Path, page: Page) -> None:
    """OpenID Connect by authorization code; the provider is played by the test, the tokens are real."""
    viewer, fetch = ohif(), fetch_ohif_script()
    authority, signer = "https://id.example.org", rsa.generate_private_key(65537, 2048)
    public = json.loads(RSAAlgorithm.to_jwk(signer.public_key())) | {"kid": "one", "use": "sig"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public]}))
    environment = {
        "LEANPACS_VIEWER__FOLDER": str(viewer),
        "LEANPACS_ACCESS__ANONYMOUS": "[]",
        "LEANPACS_OIDC__ISSUER": authority,
        "LEANPACS_OIDC__AUDIENCE": "viewer",
        "LEANPACS_OIDC__JWKS": str(tmp_path / "jwks.json"),
        "LEANPACS_OIDC__ROLES": '{"radiologist": ["read", "write"]}',
    }
    asked: dict[str, str] = {}

    def token(**claims: object) -> str:
        told = {"iss": authority, "aud": "viewer", "sub": "ann", "exp": time.time() + 300, "iat": time.time()}
        return jwt.encode(told | {"roles": ["radiologist"]} | claims, signer, "RS256", {"kid": "one"})

    def provide(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.path == "/authorize":
            asked.update(parse_qsl(url.query))
            back = f"{asked['redirect_uri']}?{urlencode({'code': 'c0de', 'state': asked['state']})}"
            route.fulfill(status=302, headers={"location": back})
            return
        answers = {
            "/.well-known/openid-configuration": {
                "issuer": authority,
                "authorization_endpoint": f"{authority}/authorize",
                "token_endpoint": f"{authority}/token",
                "jwks_uri": f"{authority}/jwks",
                "userinfo_endpoint": f"{authority}/me",
            },
            "/token": {"access_token": token(), "id_token": token(nonce=asked.get("nonce")), "token_type": "Bearer"},
            "/me": {"sub": "ann", "name": "Ann"},
        }
        body = json.dumps(answers.get(url.path, {}))
        allowed = {"access-control-allow-origin": "*", "access-control-allow-headers": "*"}
        route.fulfill(body=body, content_type="application/json", headers=allowed)

    page.route(f"{authority}/**", provide)
    settings = fetch.configuration(fetch.Place(oidc_authority=authority, oidc_client="viewer"))
    page.route("**/app-config.js", lambda route: route.fulfill(body=settings, content_type="text/javascript"))
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        files = {"content-type": "application/dicom", "authorization": f"Bearer {token()}"}
        content = (corpus_folder() / MAMMOGRAM).read_bytes()
        assert httpx.post(f"{server.http}dicom-web/studies", content=content).status_code == 401
        httpx.post(f"{server.http}dicom-web/studies", content=content, headers=files, timeout=60).raise_for_status()
        page.goto(f"{server.http}viewer")
        page.get_by_text("MAMMOSCREENING 1E LEZING").first.wait_for(timeout=SECONDS * 1000)
        assert asked["redirect_uri"] == f"{server.http}viewer/callback"
    assert (asked["client_id"], asked["response_type"]) == ("viewer", "code")
    assert asked["code_challenge_method"] == "S256"
