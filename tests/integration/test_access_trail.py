"""Who is turned away at a door, and who changes what from the command line, is on the audit trail."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from certificates import issued_by_an_authority, self_signed
from commands import run
from data import Recipe, make_instance
from dimse_archive import made, served
from dimse_peer import Peer, dcmtk
from leanpacs.config import DimseSettings
from serving import Server

NOT_AUTHORIZED = 0x0124
ROLES = DimseSettings(roles={"CT1": ["write"], "VIEWER": ["read"], "*": []}).roles
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def trail(archive: Path) -> list[dict[str, Any]]:
    """What is on it, without starts and stops."""
    events = [json.loads(line) for line in run("audit", "--form", "json", "--data", archive).splitlines()]
    return [event for event in events if event["action"] not in ("start", "stop")]


def refused(archive: Path) -> set[str]:
    """Who was turned away."""
    return {one["actor"] for one in trail(archive) if (one["action"], one["outcome"]) == ("login", "refused")}


def echoed(server: Server, calling: str, *options: str) -> bool:
    """Whether C-ECHO succeeds."""
    command = [dcmtk("echoscu"), *options, "-aet", calling, "-aec", server.ae_title, server.host, str(server.port)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.external
@needs_openssl
def test_peers_that_are_turned_away_are_on_the_trail_even_without_transfers(tmp_path: Path) -> None:
    pem = issued_by_an_authority(self_signed(tmp_path))
    environment = {
        "LEANPACS_DIMSE__TLS_CERTIFICATE": str(pem / "cert.pem"),
        "LEANPACS_DIMSE__TLS_KEY": str(pem / "key.pem"),
        "LEANPACS_DIMSE__TLS_CLIENT_CA": str(pem / "ca.pem"),
        "LEANPACS_DIMSE__ALLOWED_CALLING": '["CT1"]',
        "LEANPACS_ACCESS__ANONYMOUS": "[]",
        "LEANPACS_AUDIT__TRANSFERS": "false",
    }
    shown = ("+tls", str(pem / "client.key"), str(pem / "client.pem"), "+cf", str(pem / "cert.pem"))
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        assert echoed(server, "CT1", *shown)
        with Peer((server.host, server.port)):
            pass  # it connects and leaves, as those do who look whether the port is open
        assert server.stop() == 0
    assert refused(tmp_path / "archive") == set()
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        assert not echoed(server, "STRANGER", *shown)
        assert httpx.get(server.http + "dicom-web/studies").status_code == 401
        assert server.stop() == 0
    assert refused(tmp_path / "archive") == {"dimse:STRANGER@127.0.0.1", "http:127.0.0.1"}
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        assert not echoed(server, "CT1", "+tla", "+cf", str(pem / "cert.pem"))  # no certificate
        assert server.stop() == 0
    assert refused(tmp_path / "archive") == {"dimse:STRANGER@127.0.0.1", "http:127.0.0.1", "dimse:127.0.0.1"}


def test_addresses_that_are_turned_away_are_on_the_trail(tmp_path: Path) -> None:
    elsewhere = '["192.0.2.0/24"]'
    environment = {"LEANPACS_DIMSE__ALLOWED_ADDRESSES": elsewhere, "LEANPACS_HTTP__ALLOWED_ADDRESSES": elsewhere}
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        assert httpx.get(server.http + "health").status_code == 403
        with Peer((server.host, server.port)) as peer:
            assert peer.read_pdu() is None
        assert server.stop() == 0
    assert refused(tmp_path / "archive") == {"dimse:127.0.0.1", "http:127.0.0.1"}


def test_changes_and_imports_from_the_command_line_are_on_the_trail(tmp_path: Path) -> None:
    archive, file, spoilt = tmp_path / "archive", tmp_path / "one.dcm", tmp_path / "spoilt.dcm"
    file.write_bytes(make_instance(Recipe()))
    spoilt.write_bytes(bytes(128) + b"DICM" + b"nothing of that kind")
    key = run("key", "create", "viewer", "--role", "read", "--json", "--data", archive)
    run("key", "revoke", key["id"], "--data", archive)
    run("destination", "add", "VIEWER", "127.0.0.1:104", "--data", archive)
    run("destination", "remove", "VIEWER", "--data", archive)
    run("import", file, "--quiet", "--data", archive)
    run("import", spoilt, "--quiet", "--data", archive)
    run("quarantine", "drop", "1", "--data", archive)
    told = [(one["action"], one.get("detail", "")) for one in trail(archive) if one["action"] != "quarantine"]
    assert told == [
        ("configure", f"made key {key['id']} (viewer): read"),
        ("configure", f"revoked key {key['id']}"),
        ("configure", "destination VIEWER is 127.0.0.1:104"),
        ("configure", "removed destination VIEWER"),
        ("store", ""),
        ("configure", "quarantine: dropped file 1"),
    ]
    assert all(one["actor"].startswith("cli:") for one in trail(archive) if one["action"] != "quarantine")
    assert key["key"] not in (archive / "audit" / "audit.jsonl").read_text()


def test_table_shows_names_as_they_are(tmp_path: Path) -> None:
    """A name is neither marked up nor does it steer the terminal."""
    for name in (":key: [bold]x[/bold]", "[/x]", "a\x1b[2Jb"):
        run("key", "create", name, "--role", "read", "--data", tmp_path)
    table = run("key", "list", "--data", tmp_path)
    assert ":key: [bold]x[/bold]" in table
    assert "[/x]" in table
    assert "a\N{REPLACEMENT CHARACTER}[2Jb" in table
    assert "\x1b" not in run("audit", "--data", tmp_path)


def answers(address: tuple[str, int], calling: str, to: Sequence[UID]) -> list[int]:
    """Statuses of C-GET, C-MOVE and N-ACTION for an AE title."""
    ae = AE(calling)
    for one in to:
        ae.add_requested_context(one)
    association = ae.associate(*address, ae_title="LEANPACS")
    assert association.is_established
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.PatientID = "PATIENT", "nobody"
    report, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3"
    report.TransactionUID, report.ReferencedSOPSequence = "1.2.4", [item]
    got = [status.Status for status, _ in association.send_c_get(wanted, to[0])]
    moved = [status.Status for status, _ in association.send_c_move(wanted, "VIEWER", to[1])]
    committed, _ = association.send_n_action(report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    return [got[-1], moved[-1], committed.Status]


@pytest.mark.parametrize(
    ("calling", "not_authorized"),
    [("CT1", [True, True, False]), ("VIEWER", [False, False, True]), ("STRANGER", [True, True, True])],
)
def test_retrieving_and_commitment_need_their_roles(tmp_path: Path, calling: str, not_authorized: list[bool]) -> None:
    models = (
        PatientRootQueryRetrieveInformationModelGet,
        PatientRootQueryRetrieveInformationModelMove,
        StorageCommitmentPushModel,
    )
    with served(tmp_path / "archive", made(), roles=ROLES) as (_, address):
        assert [status == NOT_AUTHORIZED for status in answers(address, calling, models)] == not_authorized
