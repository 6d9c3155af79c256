"""The traffic ledger of a running server: what is counted is what went over the lines."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyRootFind
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as StudyRootGet

from data import Recipe, make_instance
from leanpacs.audit import AuditAction, AuditTrail
from serving import Server

EXPLICIT_LE, JPEG_LS = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"
CT = Recipe(modality="CT", rows=64, columns=64)
MR = Recipe(modality="MR", rows=32, columns=32, study=1)
SITES = '{"here": {"addresses": ["127.0.0.0/8"]}, "scanner": {"ae_titles": ["CT1"]}}'


COUNTED = 'leanpacs_traffic_bytes_total{direction="in",modality="CT",protocol="dimse"'


def traffic(data: Path, *by: str) -> list[dict[str, Any]]:
    groups = [part for name in by for part in ("--by", name)]
    command = [sys.executable, "-m", "leanpacs", "traffic", "--json", *groups, "--data", str(data)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def store(server: Server, content: bytes) -> None:
    ae = AE("CT1")
    ae.add_requested_context(CTImageStorage, EXPLICIT_LE)
    association = ae.associate(server.host, server.port)
    assert association.is_established
    assert association.send_c_store(pydicom.dcmread(io.BytesIO(content))).Status == 0
    association.release()


def get(server: Server, study_uid: str) -> int:
    """Number of instances that came."""
    received = []
    ae = AE("READER")
    ae.add_requested_context(StudyRootGet)
    roles = []
    for sop_class in (CTImageStorage, MRImageStorage):
        ae.add_requested_context(sop_class, EXPLICIT_LE)
        roles.append(build_role(sop_class, scp_role=True))

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0

    association = ae.associate(server.host, server.port, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study_uid
    for status, _ in association.send_c_get(identifier, StudyRootGet):
        assert status.Status in (0, 0xFF00)
    association.release()
    return len(received)


def find(server: Server) -> int:
    """Number of studies that are found."""
    ae = AE("READER")
    ae.add_requested_context(StudyRootFind)
    association = ae.associate(server.host, server.port)
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", ""
    statuses = [status.Status for status, _ in association.send_c_find(identifier, StudyRootFind)]
    association.release()
    return statuses.count(0xFF00)


def test_all_that_goes_over_the_lines(tmp_path: Path) -> None:
    data = tmp_path / "archive"
    ct, mr = make_instance(CT), make_instance(MR)
    environment = {"LEANPACS_TRAFFIC__SITES": SITES, "LEANPACS_TRAFFIC__FLUSH_SECONDS": "0.5"}
    with Server(data, processes=1, workers=1, environment=environment) as server:
        store(server, ct)
        with httpx.Client(base_url=f"{server.http}dicom-web", headers={"accept-encoding": "identity"}) as client:
            stored = client.post("/studies", content=mr, headers={"content-type": "application/dicom"})
            assert stored.status_code == 200
            instance = f"/studies/{MR.study_uid}/series/{MR.series_uid}/instances/{MR.sop_uid}"
            file = client.get(instance, headers={"accept": "application/dicom"})
            coded = client.get(f"{instance}/frames/1", headers={"accept": f"image/jls; transfer-syntax={JPEG_LS}"})
            metadata = client.get(f"{instance}/metadata")
            assert client.get("/studies").status_code == 200
            assert {file.status_code, coded.status_code, metadata.status_code} == {200}
        assert get(server, CT.study_uid) == 1
        assert find(server) == 2
        exposed = ""
        deadline = time.monotonic() + 60
        while COUNTED not in exposed and time.monotonic() < deadline:
            exposed = httpx.get(f"{server.http}metrics").text
            time.sleep(0.1)
        assert server.stop() == 0
    groups = ("direction", "protocol", "site", "modality", "transfer_syntax")
    found = {tuple(one[group] for group in groups): one for one in traffic(data, *groups)}
    native = 2 * 32 * 32
    assert found["in", "http", "here", "MR", EXPLICIT_LE]["sent_bytes"] == len(mr)
    assert found["out", "http", "here", "MR", JPEG_LS]["sent_bytes"] == len(coded.content)
    assert native <= found["out", "http", "here", "MR", JPEG_LS]["raw_bytes"] <= len(mr)
    assert found["out", "http", "here", "MR", EXPLICIT_LE]["sent_bytes"] == len(file.content)
    assert found["out", "http", "here", "MR", ""]["sent_bytes"] == len(metadata.content)
    received = found["in", "dimse", "scanner", "CT", EXPLICIT_LE]
    assert (received["requests"], received["instances"]) == (1, 1)
    assert abs(received["sent_bytes"] - len(ct)) < 1000  # file meta information is not the sender's
    given = found["out", "dimse", "here", "CT", EXPLICIT_LE]
    assert (given["requests"], given["instances"]) == (1, 1)
    assert given["sent_bytes"] == given["raw_bytes"] > 2 * 64 * 64
    answers = found["out", "dimse", "here", "", ""]
    assert (answers["requests"], answers["instances"]) == (1, 0)
    assert answers["sent_bytes"] > len(CT.study_uid) + len(MR.study_uid)
    assert found["in", "dimse", "here", "", ""]["sent_bytes"] > 0
    assert {one["client"] for one in traffic(data, "client")} == {"CT1", "READER", "127.0.0.1"}
    trail = [
        (event.actor, event.action, event.study_uid, event.instances) for event in AuditTrail(data / "audit").events()
    ]
    here = "http:127.0.0.1"
    assert ("dimse:CT1@127.0.0.1", AuditAction.STORE, CT.study_uid, 1) in trail
    assert ("dimse:READER@127.0.0.1", AuditAction.SEND, CT.study_uid, 1) in trail
    assert ("dimse:READER@127.0.0.1", AuditAction.RETRIEVE, CT.study_uid, 1) in trail
    assert (here, AuditAction.STORE, MR.study_uid, 1) in trail
    read = sum(entry[3] for entry in trail if entry[:3] == (here, AuditAction.RETRIEVE, MR.study_uid))
    assert read == 1  # the file; frames and metadata are no instances
    assert (here, AuditAction.QUERY, "", 0) in trail
    assert COUNTED in exposed


def test_the_table_has_bars(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanpacs", "traffic", "--data", str(tmp_path / "archive")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "sent of raw" in printed
