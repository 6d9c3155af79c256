"""A folder of files that are a viewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from leanpacs.errors import ConfigError
from leanpacs.services.http import HttpOptions
from leanpacs.services.ui import ViewerOptions
from unit.services.dicomweb_fakes import Client, FakeArchive, study_row


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "viewer"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>viewer</title>")
    (folder / "app.bundle.0f6159c501addfe9.js").write_text("run()")
    (folder / "0ddf166f7a343eda.wasm").write_bytes(b"\0asm")
    (folder / "app-config.js").write_text("window.config = {}")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> Client:
    archive = FakeArchive(tmp_path)
    archive.catalog.found = [study_row()]
    return Client(archive, HttpOptions(viewer=ViewerOptions(folder, "/show")))


def test_its_page_is_found_without_and_with_a_slash(client: Client) -> None:
    bare = client.request("GET", "/show")
    assert (bare.status_code, bare.headers["location"]) == (307, "/show/")
    page = client.request("GET", "/show/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>viewer</title>" in page.text


def test_pages_that_it_draws_itself_are_its_page(client: Client) -> None:
    page = client.request("GET", "/show/viewer?StudyInstanceUIDs=1.2.3")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-cache")
    assert "<title>viewer</title>" in page.text


@pytest.mark.parametrize(
    ("name", "media_type", "lasting"),
    [
        ("app.bundle.0f6159c501addfe9.js", "text/javascript", True),
        ("0ddf166f7a343eda.wasm", "application/wasm", True),
        ("app-config.js", "text/javascript", False),
    ],
)
def test_files_have_the_type_that_browsers_insist_on(client: Client, name: str, media_type: str, lasting: bool) -> None:
    answer = client.request("GET", f"/show/{name}")
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("immutable" in answer.headers["cache-control"]) is lasting
    again = client.request("GET", f"/show/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_what_looks_like_a_file_and_is_none_is_not_found(client: Client) -> None:
    assert client.request("GET", "/show/missing.js").status_code == 404


@pytest.mark.parametrize("path", ["/show/../secret.txt", "/show/%2e%2e/secret.txt", "/show/..%2fsecret.txt"])
def test_nothing_outside_the_folder_is_given(client: Client, path: str) -> None:
    assert "secret" not in client.request("GET", path).text


def test_it_takes_nothing(client: Client) -> None:
    assert client.request("POST", "/show/", content=b"x").status_code == 405


def test_the_page_of_the_archive_links_studies_to_it(client: Client) -> None:
    uid = study_row().study_uid
    assert f'href="/show/viewer?StudyInstanceUIDs={uid}"' in client.request("GET", "/").text


def test_without_a_viewer_there_is_none(tmp_path: Path) -> None:
    plain = Client(FakeArchive(tmp_path))
    assert plain.request("GET", "/viewer/").status_code == 404
    assert "StudyInstanceUIDs" not in plain.request("GET", "/").text


def test_a_folder_that_is_no_viewer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.html"):
        Client(FakeArchive(tmp_path), HttpOptions(viewer=ViewerOptions(tmp_path / "elsewhere")))


def test_it_is_in_the_description_of_the_door(client: Client) -> None:
    paths = client.request("GET", "/openapi.json").json()["paths"]
    assert paths["/show/{path}"]["get"]["x-right"] == "none"
    assert client.request("OPTIONS", "/show/app-config.js").headers["allow"] == "GET, HEAD, OPTIONS"
