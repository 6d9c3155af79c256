from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from data import Recipe
from leanpacs import errors
from leanpacs.services.dicomweb import problems
from unit.services.dicomweb_fakes import Client, FakeArchive


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


@pytest.fixture
def client(archive: FakeArchive) -> Client:
    return Client(archive)


def _all_errors(kind: type[errors.LeanPACSError] = errors.LeanPACSError) -> Iterator[type]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_errors(below)


def test_every_error_has_a_status() -> None:
    declared = {kind for kind in _all_errors() if kind.__module__ == "leanpacs.errors"}
    assert declared == set(problems.STATUS)
    assert all(400 <= status < 600 for status in problems.STATUS.values())


def test_what_can_be_tried_again_says_so() -> None:
    for kind, status in problems.STATUS.items():
        assert kind.transient == (status in (503, 507)), kind


def test_errors_of_other_modules_have_the_status_of_their_kind() -> None:
    class Odd(errors.InstanceNotFound):
        pass

    assert problems.status_of(Odd("1.2")) == 404


def test_faults_of_ours_tell_nothing_and_are_logged(
    archive: FakeArchive, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("secret detail")

    archive.catalog.instances = fail
    with caplog.at_level(logging.ERROR):
        response = client.get("/studies/1.2")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/studies/%00",
        "/studies/1.2%0d%0aX: y",
        "/studies/..%2f..%2fetc",
        "/studies/" + "1" * 1000,
        "/studies/1.2/series/%F0%9F%92%A9/instances",
        "/studies/%ff%fe",
        "/studies/1.2'%20OR%201=1--",
        "/studies//series//instances//metadata",
    ],
)
def test_hostile_paths(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (400, 404)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code


@pytest.mark.parametrize("host", ["[", "a b", 'x"><script>', "a/b", "user@evil", "x:99999999", ""])
def test_hostile_host_is_not_repeated(archive: FakeArchive, client: Client, host: str) -> None:
    row = archive.hold(Recipe())
    response = client.request("GET", f"/dicom-web/studies/{row.study_uid}/metadata", headers={"host": host})
    assert response.status_code == 200
    assert response.json()[0]["7FE00010"]["BulkDataURI"].startswith("http://archive.test/dicom-web/studies/")


def test_no_redirects_that_repeat_the_host(client: Client) -> None:
    for path in ("/dicom-web/studies/", "/dicom-web", "/health/", "/nothing/", "/dicom-web/studies//"):
        response = client.request("GET", path, headers={"host": "evil.example"})
        assert not 300 <= response.status_code < 400
        assert "evil.example" not in response.text


@pytest.mark.parametrize("path", ["/nothing/", "/dicom-web/nothing/", "/dicom-web/studies//"])
def test_slashes_lead_to_nothing_where_nothing_is(client: Client, path: str) -> None:
    assert client.request("GET", path).status_code == 404


def test_what_senders_write_into_uids_stays_out_of_header_fields(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    hostile = replace(row, sop_uid="1.2\r\nX-Evil: 1\ud800", transfer_syntax="1.2\r\nX-Evil: 1")
    archive.catalog.rows = [hostile]
    archive.retriever.files[hostile.sop_uid] = archive.retriever.files[row.sop_uid]
    archive.retriever.held_frames[hostile.sop_uid, hostile.transfer_syntax] = [b"x"]
    for accept in (
        "application/dicom; transfer-syntax=*",
        'multipart/related; type="application/dicom"; transfer-syntax=*',
    ):
        response = client.get(f"/studies/{row.study_uid}", accept=accept)
        assert response.status_code == 200
        assert b"\r\nX-Evil" not in response.content.split(b"DICM")[0]
        assert "x-evil" not in response.headers
    assert client.get(f"/studies/{row.study_uid}/metadata").status_code == 200


def test_other_methods_are_not_allowed(client: Client) -> None:
    response = client.request("PUT", "/dicom-web/studies/1.2/series/1.3")
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]
    assert response.headers["content-type"] == "application/problem+json"


def test_all_answers_carry_the_safety_fields(client: Client) -> None:
    for path in ("/", "/health", "/metrics", "/dicom-web/studies", "/nothing"):
        response = client.request("GET", path)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_health(archive: FakeArchive, client: Client) -> None:
    response = client.request("GET", "/health")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    assert response.json()["backlog_instances"] == 3
    archive.catalog.failure = errors.CatalogUnavailable("locked")
    assert client.request("GET", "/health").status_code == 503


def test_metrics_have_figures_and_requests(archive: FakeArchive, client: Client) -> None:
    client.get("/studies")
    client.get("/studies/1.2")
    text = client.request("GET", "/metrics").text
    assert 'leanpacs_modality_stored_bytes{modality="CT"} 600000.0' in text
    assert "leanpacs_backlog_instances 3.0" in text
    assert 'leanpacs_http_seconds_count{route="search-study",status="204"} 1.0' in text
    assert 'leanpacs_http_seconds_count{route="retrieve-instances",status="404"} 1.0' in text
