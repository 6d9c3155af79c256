"""A real Orthanc for tests: another archive, with DICOMweb, GDCM and worklists, on free ports of 127.0.0.1.

Debian packages: orthanc, orthanc-dicomweb, orthanc-gdcm (the worklist plug-in is part of orthanc). Tests that need it
skip where it is not installed. ``with running_orthanc(tmp_path) as orthanc: ...``; a test module that shares one
makes a fixture of that with the scope it needs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks import orthanc as debian

from ports import free_ports

HOST = "127.0.0.1"
READY_SECONDS = 90.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Orthanc:
    """An Orthanc that is up.

    Attributes
    ----------
    http_port, dimse_port : int
        Where it listens on 127.0.0.1.
    ae_title : str
        AE title; it answers to any other, too.
    rest : httpx.Client
        Client of its REST API (https://api.orthanc-server.com), base URL set: ``orthanc.rest.get("/studies")``.
    worklists : Path
        Folder in which its worklist plug-in looks for ``*.wl`` files.
    log : Path
        What it says.
    """

    http_port: int
    dimse_port: int
    ae_title: str
    rest: httpx.Client
    worklists: Path
    log: Path

    @property
    def address(self) -> str:
        """``AET@HOST:PORT`` of its DIMSE door."""
        return f"{self.ae_title}@{HOST}:{self.dimse_port}"

    @property
    def dicomweb(self) -> str:
        """Base URL of its DICOMweb services."""
        return f"http://{HOST}:{self.http_port}/dicom-web"

    def json(self, path: str) -> Any:
        """What a GET of its REST API answers."""
        return self.rest.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        """What a POST of a JSON body to its REST API answers."""
        return self.rest.post(path, json=body).raise_for_status().json()

    def knows(self, name: str, ae_title: str, host: str, port: int, **more: Any) -> None:
        """Make a DIMSE peer known to it as ``name``; ``more`` are options such as ``UseDicomTls``."""
        body = {"AET": ae_title, "Host": host, "Port": port, **more}
        self.rest.put(f"/modalities/{name}", json=body).raise_for_status()

    def knows_web(self, name: str, url: str, **more: Any) -> None:
        """Make a DICOMweb server known to it as ``name``."""
        self.rest.put(f"/dicom-web/servers/{name}", json={"Url": url, **more}).raise_for_status()

    def sop_uids(self) -> set[str]:
        """SOP Instance UIDs of all it holds."""
        return {one["MainDicomTags"]["SOPInstanceUID"] for one in self.json("/instances?expand")}

    def file(self, sop_uid: str) -> bytes:
        """The file of an instance, in the transfer syntax in which it holds it."""
        found = self.rest.post("/tools/lookup", content=sop_uid).raise_for_status().json()
        (name,) = {one["ID"] for one in found if one["Type"] == "Instance"}  # a series may have the same UID
        return self.rest.get(f"/instances/{name}/file").raise_for_status().content

    def store(self, file: bytes) -> None:
        """Give it a file."""
        self.rest.post("/instances", content=file).raise_for_status()


def program() -> str:
    """Path of Orthanc, or skip."""
    found = debian.program()
    if found is None or not debian.plugins(debian.DICOMWEB):
        pytest.skip(debian.NOT_INSTALLED)
    return found


@contextmanager
def running_orthanc(folder: Path, *, ae_title: str = "ORTHANC", **options: Any) -> Iterator[Orthanc]:
    """Start an Orthanc that keeps all its files in ``folder``; stop it at the end. Skips where there is none.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    options
        What its configuration has beside (https://orthanc.uclouvain.be/book/users/configuration.html), such as
        ``IngestTranscoding="1.2.840.10008.1.2.4.80"``; a section that is given replaces that of this fixture.
    """
    command = program()
    storage, worklists, log = folder / "storage", folder / "worklists", folder / "orthanc.log"
    for one in (storage, worklists):
        one.mkdir(parents=True, exist_ok=True)
    http_port, dimse_port = free_ports(2)
    configuration = debian.configuration(
        storage,
        name="Orthanc of the tests",
        ae_title=ae_title,
        http_port=http_port,
        dimse_port=dimse_port,
        used=debian.plugins(debian.DICOMWEB, debian.GDCM, debian.WORKLISTS),
        threads=2,
    )
    configuration |= {
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomAlwaysAllowFindWorklist": True,
        "UnknownSopClassAccepted": True,
        "StableAge": 1,
        "ConcurrentJobs": 2,
        "Worklists": {"Enable": True, "Database": str(worklists), "FilterIssuerAet": False},
        **options,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration, indent=1), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, str(folder / "orthanc.json")],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TCP_NODELAY": "1"},  # else dcmtk inside it waits 40 ms for each small answer
            start_new_session=True,
        )
        try:
            with httpx.Client(base_url=f"http://{HOST}:{http_port}", timeout=120, trust_env=False) as rest:
                orthanc = Orthanc(http_port, dimse_port, ae_title, rest, worklists, log)
                _wait_until_ready(orthanc, process)
                yield orthanc
        finally:
            _stop(process)


def _wait_until_ready(orthanc: Orthanc, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, orthanc.dimse_port), 5).close()
            if orthanc.rest.get("/system").is_success:
                return
        except (OSError, httpx.TransportError):
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start: {_end_of(orthanc.log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
