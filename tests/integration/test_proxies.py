"""A server behind nginx: who the client is, by which name it knows the server, and who may come in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

import nginx
from data import Recipe, make_instance
from ports import free_port
from serving import Server

CLIENT, STRANGER = "127.0.0.2", "127.0.0.3"
RECIPE = Recipe()
LOCATION = """
proxy_pass {origin};
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto https;
proxy_set_header X-Forwarded-Host pacs.example;
"""

pytestmark = [
    pytest.mark.external,
    nginx.NEEDED,
]


@contextmanager
def proxied(folder: Path, origin: str) -> Iterator[str]:
    """Run nginx before a server; the URL at which it is asked."""
    port = free_port()
    with nginx.running(folder, port, LOCATION.format(origin=origin)):
        yield f"http://127.0.0.1:{port}"


def client(address: str, url: str) -> httpx.Client:
    """A client that comes from an address of its own."""
    return httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=address))


def clients_in_ledger(data: Path) -> set[str]:
    command = [sys.executable, "-m", "leanpacs", "traffic", "--json", "--by", "client", "--data", str(data)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {row["client"] for row in json.loads(output)}


def retrieve_url(found: httpx.Response) -> str:
    assert found.status_code == 200, found.text
    return found.json()[0]["00081190"]["Value"][0]


def test_the_word_of_a_trusted_proxy_counts_and_that_of_others_does_not(tmp_path: Path) -> None:
    environment = {
        "LEANPACS_HTTP__TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "LEANPACS_HTTP__ALLOWED_ADDRESSES": f'["{CLIENT}/32"]',
        "LEANPACS_TRAFFIC__FLUSH_SECONDS": "0.2",
    }
    forged = {"x-forwarded-for": f"{CLIENT}, 192.0.2.1", "x-forwarded-host": "forged.example"}
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path / "archive", processes=1, workers=1, environment=environment))
        front = stack.enter_context(proxied(tmp_path / "nginx", server.http.rstrip("/")))
        through = stack.enter_context(client(CLIENT, front))
        direct = stack.enter_context(client(CLIENT, server.http))
        stranger = stack.enter_context(client(STRANGER, server.http))
        barred = stack.enter_context(client(STRANGER, front))
        sent = through.post(
            "/dicom-web/studies", content=make_instance(RECIPE), headers={"content-type": "application/dicom"}
        )
        assert sent.status_code == 200

        assert retrieve_url(through.get("/dicom-web/studies")).startswith("https://pacs.example/dicom-web/")
        said = retrieve_url(through.get("/dicom-web/studies", headers={"x-forwarded-for": "192.0.2.1"}))
        assert said.startswith("https://pacs.example/")
        metadata = through.get(f"/dicom-web/studies/{RECIPE.study_uid}/metadata").json()[0]
        assert metadata["7FE00010"]["BulkDataURI"].startswith("https://pacs.example/")
        assert barred.get("/dicom-web/studies").status_code == 403

        plain = retrieve_url(direct.get("/dicom-web/studies", headers=forged | {"x-forwarded-proto": "https"}))
        assert plain.startswith(server.http)
        assert stranger.get("/dicom-web/studies", headers=forged).status_code == 403
        refused = stranger.get("/health")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["x-content-type-options"] == "nosniff"
    assert clients_in_ledger(tmp_path / "archive") == {CLIENT}


def test_without_trusted_proxies_nobodys_word_counts(tmp_path: Path) -> None:
    with Server(tmp_path / "archive", processes=1, workers=1) as server, client(CLIENT, server.http) as asking:
        headers = {"content-type": "application/dicom", "x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.2"}
        assert asking.post("/dicom-web/studies", content=make_instance(RECIPE), headers=headers).status_code == 200
        assert retrieve_url(asking.get("/dicom-web/studies", headers=headers)).startswith(server.http)
    assert clients_in_ledger(tmp_path / "archive") == {CLIENT}
