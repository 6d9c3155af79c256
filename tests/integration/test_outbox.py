"""Forward rules and the outbox: what arrives goes on, and waits for a receiver that is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage
from typer.testing import CliRunner

import data
from dimse_archive import made, put, settings
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.catalog import DestinationRow
from leanpacs.cli.main import app
from leanpacs.config import ForwardRule
from leanpacs.errors import ConfigError
from leanpacs.services.dimse.directory import Directory
from leanpacs.services.dimse.dispatch import Dispatcher, DispatchOptions
from leanpacs.services.figures import gauges
from ports import free_port
from serving import Server

OPTIONS = DispatchOptions("LEANPACS", "tests", timeout_seconds=60)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(seconds=1)

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def receiver(port: int = 0, *statuses: int, wanted: int = 0) -> Iterator[tuple[int, list[str], threading.Event]]:
    """A storage SCP: its port, what it has got, and an event for when it has got all that is wanted."""
    received: list[str] = []
    complete = threading.Event()
    left = list(statuses)

    def store(event: Any) -> int:
        status = left.pop(0) if left else 0
        if not status:
            received.append(event.dataset.SOPInstanceUID)
        if len(received) >= wanted:
            complete.set()
        return status

    ae = AE("RECEIVER")
    for sop_class in (CTImageStorage, MRImageStorage):
        ae.add_supported_context(sop_class, [data.EXPLICIT_LE, data.IMPLICIT_LE])
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], received, complete
    finally:
        server.shutdown()


def know(archive: Archive, port: int, title: str = "RECEIVER") -> None:
    archive.catalog.outgoing.keep_destination(DestinationRow(title, "127.0.0.1", port), datetime.now(UTC))


def dispatcher(archive: Archive, clock: Clock) -> Dispatcher:
    peers = Directory((), archive.catalog.outgoing)
    return Dispatcher(archive.catalog, archive.retriever, peers, OPTIONS, clock)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    rule = ForwardRule(to=("RECEIVER",), modality=("c*", "US"))
    with open_archive(tmp_path / "archive", settings(forward=(rule,))) as opened:
        yield opened


def test_rules_choose(tmp_path: Path) -> None:
    rules = (
        ForwardRule(to=("A", "B"), modality=("CT",), sender=("CT?",)),
        ForwardRule(to=("B", "C"), study_description=("*knee*", "x"), name="knees"),
        ForwardRule(to=("D",), door=("stow",)),
    )
    with open_archive(tmp_path / "archive", settings(forward=rules)) as archive:

        def land(number: int, sender: str, **attributes: Any) -> list[tuple[str, str]]:
            path = archive.spool_folder / f"{number}"
            path.write_bytes(made(data.Recipe(instance=number, study=number), **attributes))
            uid = archive.land(Incoming(path, sender, "dimse")).sop_uid
            entries = archive.catalog.outgoing.entries()
            return [(one.destination, one.cause) for one in entries if one.sop_uid == uid]

        assert land(1, "CT1") == [("A", "rule to A, B"), ("B", "rule to A, B")]
        assert land(2, "CT10") == []
        assert land(3, "MR", StudyDescription="Left KNEE, 3 [x]") == [("B", "knees"), ("C", "knees")]
        assert land(4, "B", StudyDescription="knee") == [("C", "knees")]  # never to whom it came from
        assert land(5, "CT1", StudyDescription="X") == [
            ("A", "rule to A, B"),
            ("B", "rule to A, B"),
            ("C", "knees"),
        ]
        before = archive.catalog.outgoing.totals()
        assert land(5, "CT1", StudyDescription="X")
        assert archive.catalog.outgoing.totals() == before


def test_what_arrives_is_sent_on(archive: Archive) -> None:
    uids = [put(archive, made(data.Recipe(instance=number))) for number in range(3)]
    put(archive, made(data.Recipe(modality="MR", series=1, instance=9)))
    with receiver() as (port, received, _):
        know(archive, port)
        dispatcher(archive, Clock()).send_due()
    assert received == uids
    assert archive.catalog.outgoing.entries() == []


def test_a_receiver_that_is_away(archive: Archive) -> None:
    uids = [put(archive, made(data.Recipe(instance=number))) for number in range(2)]
    clock, port = Clock(), free_port()
    outgoing = archive.catalog.outgoing
    sending = dispatcher(archive, clock)
    sending.send_due()
    assert {row.reason for row in outgoing.entries()} == {
        "no such destination is known; `leanpacs destination add` makes it known"
    }
    know(archive, port)
    for attempt, seconds in ((2, 15), (3, 30), (4, 60)):
        assert outgoing.due(clock.now) == []
        clock.now += timedelta(seconds=seconds)
        sending.send_due()
        assert {(row.attempts, row.failed) for row in outgoing.entries()} == {(attempt, False)}
    clock.now += timedelta(minutes=2)
    with receiver(port) as (_, received, _):
        sending.send_due()
    assert received == uids
    assert outgoing.entries() == []


def test_giving_up_and_trying_again(archive: Archive) -> None:
    put(archive, made())
    clock, outgoing = Clock(), archive.catalog.outgoing
    know(archive, free_port())
    clock.now += timedelta(days=8)
    dispatcher(archive, clock).send_due()
    (row,) = outgoing.entries(failed=True)
    assert row.reason.startswith("given up: RECEIVER")
    assert outgoing.due(clock.now) == []
    with receiver() as (port, received, _):
        know(archive, port)
        outgoing.retry([row.id], clock.now)
        dispatcher(archive, clock).send_due()
    assert received == [row.sop_uid]


def test_what_is_refused_waits_for_a_decision(archive: Archive) -> None:
    uids = [put(archive, made(data.Recipe(instance=number))) for number in range(3)]
    clock, outgoing = Clock(), archive.catalog.outgoing
    with receiver(0, 0xA900, 0xA700) as (port, received, _):
        know(archive, port)
        dispatcher(archive, clock).send_due()
        assert received == [uids[2]]
        assert [(row.sop_uid, row.failed, row.reason) for row in outgoing.entries()] == [
            (uids[0], True, "status A900"),
            (uids[1], False, "status A700"),
        ]
        clock.now += timedelta(seconds=15)
        dispatcher(archive, clock).send_due()
        assert received == [uids[2], uids[1]]


def test_an_instance_that_was_deleted_meanwhile(archive: Archive) -> None:
    uid = put(archive, made())
    archive.deleter().delete(sop_uid=uid, actor="test", reason="test")
    with receiver() as (port, received, _):
        know(archive, port)
        dispatcher(archive, Clock()).send_due()
    assert received == []
    assert [row.reason for row in archive.catalog.outgoing.entries(failed=True)] == ["not in the archive any more"]


def test_figures_tell_what_waits(archive: Archive) -> None:
    for number in range(2):
        put(archive, made(data.Recipe(instance=number)))
    told = {(one.labels["destination"], one.labels["state"]): one.value for one in _outbox_gauges(archive)}
    assert told == {("RECEIVER", "waiting"): 2}


def _outbox_gauges(archive: Archive) -> list[Any]:
    return [one for one in gauges(archive.status()) if one.name == "outbox_instances"]


def run(folder: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--data", str(folder)])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def refused(arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, arguments).exception, ConfigError)


def test_commands(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    with open_archive(folder, settings()) as archive:
        uids = [put(archive, made(data.Recipe(instance=number))) for number in range(2)]
    refused(["send", "--queue", "--to", "RECEIVER", "--data", str(folder)])
    run(folder, "destination", "add", "RECEIVER", "127.0.0.1:104", "--prefer", "JPEGLSLossless")
    refused(["destination", "add", "R", "nowhere", "--data", str(folder)])
    (known,) = run(folder, "destination", "list", "--json")
    assert (known["ae_title"], known["port"], known["prefer"]) == ("RECEIVER", 104, [data.JPEG_LS])
    assert "JPEGLSLossless" in run(folder, "destination", "list")
    queued = {"queued": 2, "waiting_already": 0}
    assert run(folder, "send", "--queue", "--to", "RECEIVER", "--json") == queued
    again = {"queued": 0, "waiting_already": 1}
    assert run(folder, "send", "--queue", "--to", "RECEIVER", "--instance", uids[0], "--json") == again
    entries = run(folder, "outbox", "list", "--json")["entries"]
    assert [(one["instance"], one["state"]) for one in entries] == [(uid, "waiting") for uid in uids]
    assert "RECEIVER: 2 waiting" in run(folder, "outbox", "list")
    run(folder, "outbox", "drop", str(entries[0]["number"]))
    refused(["outbox", "drop", "99", "--data", str(folder)])
    assert "1 to be" in run(folder, "outbox", "retry", str(entries[1]["number"]))
    run(folder, "destination", "remove", "RECEIVER")
    assert run(folder, "destination", "list", "--json") == []


def test_a_killed_server_forgets_nothing(tmp_path: Path) -> None:
    """Entries outlive a kill, and the server that is started next sends them."""
    folder, files = tmp_path / "archive", tmp_path / "files"
    files.mkdir()
    for number in range(5):
        (files / f"{number}.dcm").write_bytes(made(data.Recipe(instance=number)))
    port = free_port()
    environment = {
        "LEANPACS_FORWARD": '[{"to": ["RECEIVER"], "modality": ["CT"]}]',
        "LEANPACS_OUTBOX__FIRST_RETRY_SECONDS": "0.5",
        "LEANPACS_OUTBOX__LONGEST_RETRY_SECONDS": "0.5",
    }
    with Server(folder, processes=1, workers=1, environment=environment) as server:
        run(folder, "destination", "add", "RECEIVER", f"127.0.0.1:{port}")
        sent = CliRunner().invoke(app, ["send", "--to", f"{server.ae_title}@127.0.0.1:{server.port}", str(files)])
        assert sent.exit_code == 0, sent.output
        server.kill()
    assert len(run(folder, "outbox", "list", "--json")["entries"]) == 5
    with (
        receiver(port, wanted=5) as (_, received, complete),
        Server(folder, processes=1, workers=1, environment=environment) as server,
    ):
        assert complete.wait(60)
        assert server.stop() == 0
    assert sorted(set(received)) == sorted(data.Recipe(instance=number).sop_uid for number in range(5))
    assert run(folder, "outbox", "list", "--json")["entries"] == []
