"""``leanpacs send`` to storage SCPs of pynetdicom and dcmtk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage
from typer.testing import CliRunner

import data
from dimse_archive import made, put
from leanpacs.archive.archive import open_archive
from leanpacs.audit import AuditAction
from leanpacs.cli.main import app
from leanpacs.services.dimse.delivery import Parcel, Sent
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.sending import deliver_with_retries, may_help
from ports import free_port

EXPLICIT_LE, IMPLICIT_LE = data.EXPLICIT_LE, data.IMPLICIT_LE


class Receiver:
    """A storage SCP on a free port; answers with the statuses it is given, then with success."""

    def __init__(self, syntaxes: list[str], *statuses: int) -> None:
        self.received: list[tuple[str, str]] = []
        self._statuses = list(statuses)
        ae = AE("RECEIVER")
        ae.add_supported_context(CTImageStorage, syntaxes)
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.peer = Peer("RECEIVER", "127.0.0.1", self._server.server_address[1])
        self.to = f"RECEIVER@127.0.0.1:{self.peer.port}"

    def _store(self, event: Any) -> int:
        status = self._statuses.pop(0) if self._statuses else 0
        if not status:
            self.received.append((event.dataset.SOPInstanceUID, event.context.transfer_syntax))
        return status

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        syntax = (EXPLICIT_LE, data.JPEG_LS, data.RLE)[number]
        (folder / f"{number}.dcm").write_bytes(made(data.Recipe(instance=number, transfer_syntax=syntax)))
    return folder


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["send", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else {}


def test_files(files: Path) -> None:
    with Receiver([EXPLICIT_LE, data.JPEG_LS]) as receiver:
        code, said = run("--to", receiver.to, files)
    assert (code, said["sent"], said["failed"]) == (0, 3, [])
    # As they are where that is accepted, else transcoded.
    assert sorted(syntax for _, syntax in receiver.received) == [EXPLICIT_LE, EXPLICIT_LE, data.JPEG_LS]


def test_an_archive(files: Path, tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive") as archive:
        uids = [put(archive, path.read_bytes()) for path in sorted(files.iterdir())]
    with Receiver([IMPLICIT_LE, data.JPEG_2000]) as receiver:
        code, said = run("--to", receiver.to, "--data", tmp_path / "archive", "--prefer", "JPEG2000Lossless")
        assert (code, said["sent"]) == (0, 3)
        assert sorted(receiver.received) == sorted((uid, data.JPEG_2000) for uid in uids)
        code, said = run("--to", receiver.to, "--data", tmp_path / "archive", "--instance", uids[0])
        assert (code, said["sent"]) == (0, 1)
        with open_archive(tmp_path / "archive") as archive:
            volumes = dict(archive.catalog.traffic(["client"]))
            events = [(event.actor, event.action, event.instances) for event in archive.audit.events()]
        assert [(volume.requests, volume.instances) for volume in volumes.values()] == [(4, 4)]
        told = [one for one in events if one[0] == "dimse:RECEIVER@127.0.0.1"]
        assert [one[2] for one in told if one[1] is AuditAction.SEND] == [3, 1]
        assert sum(one[2] for one in told if one[1] is AuditAction.RETRIEVE) == 4
        assert run("--to", receiver.to, "--data", tmp_path / "archive", "--study", "1.2.3")[0] == 1


def test_what_cannot_be_sent_is_told(files: Path) -> None:
    (files / "text.dcm").write_text("no DICOM")
    (files / "mr.dcm").write_bytes(made(data.Recipe(modality="MR", instance=9)))
    with Receiver([EXPLICIT_LE]) as receiver:
        code, said = run("--to", receiver.to, files)
    assert (code, said["sent"]) == (1, 3)
    assert len(said["failed"]) == 2


def test_nobody_there(files: Path) -> None:
    code, said = run("--to", f"GONE@127.0.0.1:{free_port()}", files, "--attempts", "2", "--pause", "0")
    assert (code, said["sent"], len(said["failed"])) == (1, 0, 3)


@pytest.mark.parametrize("to", ["", "X", "X@host", "@host:1", "X@host:port"])
def test_destinations_that_are_none(files: Path, to: str) -> None:
    assert CliRunner().invoke(app, ["send", "--to", to, str(files)]).exit_code == 1


def parcels(files: Path) -> list[Parcel]:
    """What is to be sent, as it is."""
    found = []
    for path in sorted(files.iterdir()):
        ds = pydicom.dcmread(path)
        if ds.file_meta.TransferSyntaxUID == EXPLICIT_LE:
            content = path.read_bytes()[144 + ds.file_meta.FileMetaInformationGroupLength :]
            data_set = type("DataSet", (), {"transfer_syntax": EXPLICIT_LE, "chunks": iter([content])})
            found.append(
                Parcel(CTImageStorage, ds.SOPInstanceUID, EXPLICIT_LE, lambda _, d=data_set, c=content: _again(d, c))
            )
    return found


def _again(data_set: Any, content: bytes) -> Any:
    data_set.chunks = iter([content])
    return data_set


def test_retries_what_may_pass(files: Path) -> None:
    pauses: list[float] = []
    with Receiver([EXPLICIT_LE], 0xA700, 0x0110) as receiver:
        results = list(
            deliver_with_retries(
                receiver.peer, "SENDER", parcels(files), attempts=3, pause_seconds=4, sleep=pauses.append
            )
        )
    assert [sent.status for _, sent in results] == [0]
    assert pauses == [4, 8]
    with Receiver([EXPLICIT_LE], 0xA900) as receiver:
        results = list(
            deliver_with_retries(
                receiver.peer, "SENDER", parcels(files), attempts=3, pause_seconds=4, sleep=pauses.append
            )
        )
    assert [sent.status for _, sent in results] == [0xA900]
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (Sent(0xA700), True),
        (Sent(0x0110), True),
        (Sent(0xA900), False),
        (Sent(0xC000), False),
        (Sent(None), False),
        (Sent(None, may_help=True), True),
    ],
)
def test_what_may_help(sent: Sent, expected: bool) -> None:
    assert may_help(sent) is expected
