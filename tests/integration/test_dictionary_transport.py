"""RFC 9842 with a browser: Chromium finds the dictionary by itself and reads what was encoded with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

from browser import patient_page, running_browser
from data import Recipe, make_instance
from serving import Server
from unit.services.dicomweb_fakes import multipart

STORE = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'}
FETCH = """async (path) => {
  const response = await fetch(path, {cache: 'no-store'});
  return [response.headers.get('content-encoding'), await response.json()];
}"""


@pytest.mark.external
def test_chromium_reads_json_that_was_encoded_with_the_dictionary(tmp_path: Path) -> None:
    recipe = Recipe()
    path = f"/dicom-web/studies/{recipe.study_uid}/metadata"
    viewer = tmp_path / "viewer"
    viewer.mkdir()
    (viewer / "index.html").write_text("<!doctype html><title>viewer</title>")
    environment = {"LEANPACS_VIEWER__FOLDER": str(viewer)}
    with Server(tmp_path / "archive", environment=environment) as server, running_browser() as browser:
        origin = server.http.rstrip("/")
        body = multipart([make_instance(recipe)])
        assert httpx.post(f"{origin}/dicom-web/studies", content=body, headers=STORE).status_code == 200
        page = patient_page(browser)
        page.goto(f"{origin}/viewer/")
        coding, found, deadline = "", [], time.monotonic() + 60
        while coding != "dcz" and time.monotonic() < deadline:
            coding, found = page.evaluate(FETCH, path)
            threading.Event().wait(0.2)  # it fetches the dictionary when it has nothing else to do
        assert coding == "dcz"
        assert found == httpx.get(origin + path).json()
