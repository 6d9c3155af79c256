"""Audit messages reach a collector over UDP, TCP and TLS, and none is lost while it is away."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from certificates import self_signed
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.audit.message import Source
from leanpacs.audit.relay import MessageFile, MessageSender, Relay
from leanpacs.audit.syslog import Collector, SyslogSender
from ports import free_port
from serving import Server

SOURCE = Source("ARCHIVE")


def events(count: int, start: int = 0) -> list[AuditEvent]:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return [
        AuditEvent(at, "cli:test", AuditAction.DELETE, AuditOutcome.SUCCESS, study_uid=f"1.{number}", detail="x" * 300)
        for number in range(start, start + count)
    ]


def studies(messages: list[bytes]) -> list[str]:
    """Study UIDs of messages, without their headers."""
    documents = [ElementTree.fromstring(one[one.index(b"<AuditMessage") :]) for one in messages]
    return [
        found.attrib["ParticipantObjectID"]
        for one in documents
        for found in one.iter("ParticipantObjectIdentification")
    ]


def expected(count: int) -> list[str]:
    return [f"1.{number}" for number in range(count)]


class Stream:
    """A collector over TCP or TLS that keeps what it reads."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.context = context
        self.data = bytearray()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                while piece := connection.recv(65536):
                    self.data += piece
            except OSError:
                pass
            finally:
                connection.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def messages(self) -> list[bytes]:
        """Messages by their counted octets (RFC 5425 4.3)."""
        data, found = bytes(self.data), []
        while data:
            length, _, rest = data.partition(b" ")
            found.append(rest[: int(length)])
            data = rest[int(length) :]
        return found


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    return AuditTrail(tmp_path / "audit", segment_bytes=4096)


def relay(trail: AuditTrail, url: str, ca: Path | None = None) -> tuple[Relay, SyslogSender]:
    sender = SyslogSender(Collector.of(url), ca)
    return Relay(trail, MessageSender(sender, SOURCE), "syslog"), sender


def test_file_over_many_segments_and_starts(trail: AuditTrail, tmp_path: Path) -> None:
    target = tmp_path / "messages.xml"
    for start in range(0, 60, 20):
        trail.record(*events(20, start))
        assert Relay(trail, MessageFile(target, SOURCE), "file").pass_on() == 20
    assert len(trail.segments()) >= 3
    assert studies(target.read_bytes().splitlines()) == expected(60)


def test_lines_that_are_no_events_are_passed_over(trail: AuditTrail, tmp_path: Path) -> None:
    target = tmp_path / "messages.xml"
    trail.record(*events(1))
    with trail.current.open("ab") as file:
        file.write(b'{"torn": ')
    passing = Relay(trail, MessageFile(target, SOURCE), "file")
    assert passing.pass_on() == 1
    trail.record(*events(1, 1))
    assert passing.pass_on() == 1
    assert studies(target.read_bytes().splitlines()) == expected(2)


def test_udp(trail: AuditTrail) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(60)
        passing, sender = relay(trail, f"udp://127.0.0.1:{collector.getsockname()[1]}")
        trail.record(*events(3))
        assert passing.pass_on() == 3
        messages = [collector.recv(65536) for _ in range(3)]
        sender.close()
    assert all(one.startswith(b"<85>1 ") for one in messages)
    assert studies(messages) == expected(3)


def test_tcp_while_the_collector_comes_and_goes(trail: AuditTrail) -> None:
    port, received = free_port(), []
    collector = Stream(port)
    passing, sender = relay(trail, f"tcp://127.0.0.1:{port}")
    trail.record(*events(5))
    assert passing.pass_on() == 5
    sender.close()
    collector.close()
    received += collector.messages()
    trail.record(*events(150, 5))
    with pytest.raises(OSError, match="refused"):
        passing.pass_on()
    collector = Stream(port)
    assert passing.pass_on() == 150
    sender.close()
    collector.close()
    assert studies(received + collector.messages()) == expected(155)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return self_signed(tmp_path_factory.mktemp("pem"))


def test_tls(trail: AuditTrail, pem: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem / "cert.pem", pem / "key.pem")
    collector = Stream(context=context)
    try:
        trail.record(*events(4))
        stranger, _ = relay(trail, f"tls://localhost:{collector.port}")
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.pass_on()
        passing, sender = relay(trail, f"tls://localhost:{collector.port}", pem / "cert.pem")
        assert passing.pass_on() == 4
        sender.close()
    finally:
        collector.close()
    assert studies(collector.messages()) == expected(4)


def test_a_running_server_passes_its_trail_on(tmp_path: Path) -> None:
    data, target = tmp_path / "archive", tmp_path / "messages.xml"
    environment = {"LEANPACS_AUDIT__MESSAGES": str(target), "LEANPACS_AUDIT__SOURCE": "ARCHIVE"}
    with Server(data, processes=1, workers=1, environment=environment) as server:
        made = httpx.post(f"{server.http}admin/keys", json={"name": "viewer", "roles": ["read"]})
        assert made.status_code == 201
        assert server.stop() == 0
    found = [ElementTree.fromstring(line) for line in target.read_bytes().splitlines()]
    types = [code.attrib["csd-code"] for one in found for code in one.iter("EventTypeCode")]
    assert (types[0], types[-1]) == ("110120", "110121")
    assert "110129" in types
    command = [
        sys.executable,
        "-m",
        "leanpacs",
        "audit",
        "--form",
        "json",
        "--action",
        "configure",
        "--data",
        str(data),
    ]
    (line,) = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "viewer" in json.loads(line)["detail"]
