"""The administration over HTTP: on a real archive, and by Schemathesis against its own description."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette

from data import Recipe, make_instance
from dimse_archive import put
from dimse_archive import settings as small
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.audit import AuditAction
from leanpacs.catalog import DestinationRow, Outbound, TrafficKey, Volume
from leanpacs.config import Role
from leanpacs.services.access.keys import make_key
from leanpacs.services.http import AccessOptions, HttpOptions, create_app

NOW = datetime.now(UTC)
EXAMPLES = int(os.environ.get("LEANPACS_TEST_API_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
FIXED = DestinationRow("FIXED", "192.0.2.1", 104)


class Client:
    """Calls the application in process, with a key."""

    def __init__(self, app: Starlette, key: str) -> None:
        self._transport = httpx.ASGITransport(app)
        self._headers = {"authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url="http://archive", headers=self._headers
            ) as client:
                return await client.request(method, path, **more)

        return asyncio.run(call())


def filled(folder: Path) -> Archive:
    """An archive with something of everything that administrators see."""
    archive = open_archive(folder, small())
    uid = put(archive, make_instance(Recipe()))
    for number in range(2):
        path = archive.spool_folder / f"{number}"
        path.write_bytes(b"no DICOM" * (number + 1))
        archive.land(Incoming(path, "TESTER", "import", name=f"{number}.dcm"))
    row = archive.catalog.instances(sop_uid=uid)[0]
    archive.catalog.outgoing.enqueue([Outbound("REMOTE", row.study_uid, row.series_uid, uid, "test")], NOW)
    key = TrafficKey(NOW.replace(minute=0, second=0, microsecond=0), "in", "dimse", "CT1", "north", "CT", "1.2")
    with archive.catalog.writing() as transaction:
        transaction.add_traffic({key: Volume(1, 1, 10, 20)})
    return archive


def app_of(archive: Archive) -> tuple[Starlette, str]:
    """The application, and a key for it."""
    text, row = make_key("boss", [Role.ADMIN], "test", now=NOW)
    with archive.catalog.writing() as transaction:
        transaction.add_key(row)
    options = HttpOptions(access=AccessOptions(anonymous=(), key_seconds=60), destinations=(FIXED,))
    return create_app(archive, options), text


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with filled(tmp_path / "archive") as opened:
        yield opened


@pytest.fixture
def client(archive: Archive) -> Client:
    return Client(*app_of(archive))


def test_keys_are_made_shown_once_and_revoked(archive: Archive, client: Client) -> None:
    made = client("POST", "/admin/keys", json={"name": "viewer", "roles": ["read"], "days": 3})
    assert made.status_code == 201
    key = made.json()["key"]
    app, _ = app_of(archive)
    assert Client(app, key)("GET", "/dicom-web/studies").status_code == 200
    assert Client(app, key)("GET", "/admin/keys").status_code == 403
    listed = client("GET", "/admin/keys")
    assert {one["name"] for one in listed.json()} == {"boss", "viewer"}
    assert key not in listed.text
    assert client("DELETE", f"/admin/keys/{made.json()['id']}").status_code == 204
    assert client("DELETE", f"/admin/keys/{made.json()['id']}").status_code == 404
    assert Client(app_of(archive)[0], key)("GET", "/dicom-web/studies").status_code == 401


def test_destinations(archive: Archive, client: Client) -> None:
    body = {"host": "192.0.2.9", "port": 104, "prefer": ["JPEGLSLossless"]}
    assert client("PUT", "/admin/destinations/REMOTE", json=body).json()["prefer"] == ["1.2.840.10008.1.2.4.80"]
    assert client("PUT", "/admin/destinations/FIXED", json=body).status_code == 409
    assert client("PUT", "/admin/destinations/REMOTE", json=body | {"prefer": ["nothing"]}).status_code == 400
    found = {one["ae_title"]: one["origin"] for one in client("GET", "/admin/destinations").json()}
    assert found == {"FIXED": "settings", "REMOTE": "catalog"}
    assert client("DELETE", "/admin/destinations/REMOTE").status_code == 204
    assert archive.catalog.outgoing.destinations() == []


def test_outbox(archive: Archive, client: Client) -> None:
    (entry,) = client("GET", "/admin/outbox?destination=REMOTE&failed=false").json()
    assert client("GET", "/admin/outbox?failed=true").json() == []
    assert client("POST", "/admin/outbox/retry", json={"ids": [entry["id"], 999]}).json() == {"count": 1}
    assert client("DELETE", f"/admin/outbox/{entry['id']}").status_code == 204
    assert archive.catalog.outgoing.entries() == []


def test_quarantine(archive: Archive, client: Client) -> None:
    first, second = client("GET", "/admin/quarantine").json()
    assert first["name"] == "0.dcm"
    tried = client("POST", "/admin/quarantine/retry", json={"ids": [first["id"]]}).json()
    assert [one["outcome"] for one in tried] == ["quarantined"]
    assert client("DELETE", f"/admin/quarantine/{second['id']}").status_code == 204
    assert [row.id for row in archive.catalog.quarantined()] == [first["id"]]


def test_status_and_traffic(client: Client) -> None:
    status = client("GET", "/admin/status").json()
    assert (status["instances"], status["quarantined"], status["outbox_waiting"]) == (1, 2, 1)
    assert client("GET", "/admin/traffic?by=site&by=client").json() == [
        {"site": "north", "client": "CT1", "requests": 1, "instances": 1, "sent_bytes": 10, "raw_bytes": 20}
    ]
    assert client("GET", "/admin/traffic?since=2100-01-01").json() == []
    assert client("GET", "/admin/traffic?by=colour").status_code == 400


def test_changes_are_on_the_audit_trail(archive: Archive, client: Client) -> None:
    client("POST", "/admin/keys", json={"name": "viewer", "roles": ["read"]})
    (event,) = [event for event in archive.audit.events() if event.action is AuditAction.CONFIGURE]
    assert event.actor.startswith("http:key:boss@")
    assert "viewer" in event.detail


def test_pages_of_others_cannot_ask_for_changes(client: Client) -> None:
    body = json.dumps({"name": "thief", "roles": ["admin"]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        asked = client("POST", "/admin/keys", content=body, headers={"content-type": kind})
        assert asked.status_code == 415


def test_long_bodies_are_not_read(client: Client) -> None:
    asked = client("POST", "/admin/outbox/retry", content=b" " * 300_000, headers={"content-type": "application/json"})
    assert asked.status_code == 413


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with filled(tmp_path_factory.mktemp("described") / "archive") as opened:
        app, key = app_of(opened)
        schema = schemathesis.openapi.from_asgi("/openapi.json", app).include(path_regex="^/admin")
        schema.config.update(headers={"authorization": f"Bearer {key}"})
        yield schema


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_what_the_description_says(described: Any, mode: GenerationMode) -> None:
    """Valid and invalid requests, drawn from the description (Schemathesis)."""
    asked = 0
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # nothing in such a request can be wrong

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            assert case.call_and_validate(checks=CHECKS).status_code not in (401, 403)

        check()
        asked += 1
    assert asked >= 6
