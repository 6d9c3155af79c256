"""TLS and address lists at the DIMSE door: dcmtk and pynetdicom as peers."""

from __future__ import annotations

import gc
import io
import ipaddress
import socket
import ssl
import struct
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove, Verification

import data
from dimse_archive import made, served
from dimse_peer import FakeArchive, dcmtk, door
from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.errors import ConfigError
from leanpacs.services.dimse import DimseOptions, Peer, bind, serve
from leanpacs.services.dimse.security import client_tls, is_allowed, server_tls

# pynetdicom leaves its socket open when its association request is cut off without an answer.
pytestmark = [
    pytest.mark.external,
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def collected_here() -> Iterator[None]:
    """What pynetdicom leaves open is collected within the test that it belongs to, not in a later one."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed certificate for localhost, which is an authority for itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    folder = tmp_path / "spool"
    folder.mkdir()
    return FakeArchive(folder)


def echo(address: tuple[str, int], context: ssl.SSLContext | None) -> bool:
    ae = AE("PEER")
    ae.add_requested_context(Verification)
    association = ae.associate(*address, tls_args=(context, "localhost") if context else None)
    if not association.is_established:
        return False
    assert association.send_c_echo().Status == 0
    association.release()
    return True


def test_only_tls_is_spoken(archive: FakeArchive, pem: Path) -> None:
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem")) as address:
        assert echo(address, client_tls(pem / "cert.pem"))
        assert not echo(address, None)
        assert echo(address, client_tls(pem / "cert.pem"))


def test_old_versions_are_refused(archive: FakeArchive, pem: Path) -> None:
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem")) as address:
        for weak in ("AES128-SHA", "ECDHE-RSA-AES128-SHA256"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(weak)
            with (
                socket.create_connection(address, 60) as plain,
                pytest.raises(OSError, match=r"(?i)handshake|closed|EOF|reset"),
            ):
                context.wrap_socket(plain)


def test_peers_must_show_a_certificate_when_that_is_set(archive: FakeArchive, pem: Path) -> None:
    tls = server_tls(pem / "cert.pem", pem / "key.pem", pem / "cert.pem")
    with door(archive, tls=tls) as address:
        assert echo(address, client_tls(pem / "cert.pem", pem / "cert.pem", pem / "key.pem"))
        assert not echo(address, client_tls(pem / "cert.pem"))


def test_dcmtk_sends_over_tls(archive: FakeArchive, pem: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.dcm"
    file.write_bytes(made(data.Recipe(rows=512, columns=512)))
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem")) as (_, port):
        done = subprocess.run(
            [
                dcmtk("storescu"),
                "+tla",
                "+cf",
                str(pem / "cert.pem"),
                "-aec",
                "LEANPACS",
                "localhost",
                str(port),
                str(file),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(archive.kept) == 1


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fails if a socket is dropped without being closed within the block."""
    gc.collect()  # what others have left
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(one.message) for one in told if "socket" in str(one.message).lower()] == []


def test_peers_that_are_gone_before_they_are_let_in_leave_nothing_open(archive: FakeArchive, pem: Path) -> None:
    options = DimseOptions(tls=server_tls(pem / "cert.pem", pem / "key.pem"))
    stop = threading.Event()
    with bind("127.0.0.1", 0) as listener, nothing_left_open():
        for _ in range(5):
            with socket.create_connection(listener.getsockname(), 60) as connection:
                reset(connection)
        serving = threading.Thread(target=serve, args=(listener, archive, options, stop))
        serving.start()
        try:
            assert echo(listener.getsockname(), client_tls(pem / "cert.pem"))  # they came before it
        finally:
            stop.set()
            serving.join(60)
    # What the log has of an error keeps its sockets from being collected: they are looked for themselves.
    assert not [one for one in gc.get_objects() if isinstance(one, ssl.SSLSocket) and one.fileno() != -1]


def move(address: tuple[str, int], content: bytes) -> Dataset:
    """Have a study moved to VIEWER; the last response."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = pydicom.dcmread(io.BytesIO(content)).StudyInstanceUID
    ae = AE("MOVER")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = ae.associate(*address)
    assert association.is_established
    try:
        return [
            status for status, _ in association.send_c_move(query, "VIEWER", ae.requested_contexts[0].abstract_syntax)
        ][-1]
    finally:
        association.release()


def test_moves_over_tls(archive: FakeArchive, pem: Path, tmp_path: Path) -> None:
    contents = [made(data.Recipe(instance=number, rows=300, columns=300)) for number in range(4)]
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem", pem / "cert.pem")) as (_, port):
        tls = client_tls(pem / "cert.pem", pem / "cert.pem", pem / "key.pem")
        viewer = Peer("VIEWER", "localhost", port, tls=tls)
        with served(tmp_path / "archive", *contents, destinations=(viewer,)) as (_, address), nothing_left_open():
            status = move(address, contents[0])
    assert (status.Status, status.NumberOfCompletedSuboperations) == (0, 4)
    assert len(archive.kept) == 4


@contextmanager
def rude(behaviour: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that treats each connection in one way and closes it; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        behaviour(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def talk(connection: socket.socket) -> None:
    connection.recv(1)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("behaviour", [lambda _: None, reset, talk], ids=["closes", "resets", "no TLS"])
def test_moves_to_destinations_that_fail_leave_nothing_open(
    behaviour: Callable[[socket.socket], None], pem: Path, tmp_path: Path
) -> None:
    content = made()
    with rude(behaviour) as port:
        viewer = Peer("VIEWER", "localhost", port, tls=client_tls(pem / "cert.pem"))
        with served(tmp_path / "archive", content, destinations=(viewer,)) as (_, address), nothing_left_open():
            for _ in range(5):
                assert move(address, content).Status == 0xA702


def test_a_destination_with_another_certificate(archive: FakeArchive, pem: Path, tmp_path: Path) -> None:
    content = made()
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem")) as (_, port):
        viewer = Peer("VIEWER", "localhost", port, tls=client_tls())  # trusts those of the system only
        with served(tmp_path / "archive", content, destinations=(viewer,)) as (_, address), nothing_left_open():
            assert move(address, content).Status == 0xA702
    assert archive.kept == []


def test_who_asked_for_a_move_is_gone(archive: FakeArchive, pem: Path, tmp_path: Path) -> None:
    """The association to the destination is ended and closed when that of the request breaks."""
    contents = [made(data.Recipe(instance=number)) for number in range(30)]
    begun, gone = threading.Event(), threading.Event()

    def wait(incoming: Incoming) -> Receipt:
        begun.set()
        gone.wait(60)
        return Receipt(Outcome.STORED, 1)

    archive.answer = wait
    with door(archive, tls=server_tls(pem / "cert.pem", pem / "key.pem")) as (_, port):
        viewer = Peer("VIEWER", "localhost", port, tls=client_tls(pem / "cert.pem"))
        with served(tmp_path / "archive", *contents, destinations=(viewer,)) as (_, address), nothing_left_open():
            ae = AE("MOVER")
            ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
            association = ae.associate(*address)
            query = Dataset()
            query.QueryRetrieveLevel = "STUDY"
            query.StudyInstanceUID = pydicom.dcmread(io.BytesIO(contents[0])).StudyInstanceUID
            responses = association.send_c_move(query, "VIEWER", StudyRootQueryRetrieveInformationModelMove)
            assert begun.wait(60)
            association.abort()
            gone.set()
            del responses
            while any(thread.name == "dimse" for thread in threading.enumerate()):
                time.sleep(0.05)


def test_certificates_that_cannot_be_used(pem: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        server_tls(tmp_path / "none.pem", pem / "key.pem")
    with pytest.raises(ConfigError):
        server_tls(pem / "cert.pem", pem / "key.pem", pem / "key.pem")
    with pytest.raises(ConfigError):
        client_tls(tmp_path / "none.pem")


def test_addresses(archive: FakeArchive) -> None:
    with door(archive, allowed_addresses=(ipaddress.ip_network("192.0.2.0/24"),)) as address:
        assert not echo(address, None)
    with door(archive, allowed_addresses=(ipaddress.ip_network("127.0.0.0/8"),)) as address:
        assert echo(address, None)


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("192.0.2.9", [], True),
        ("192.0.2.9", ["192.0.2.0/24"], True),
        ("192.0.3.9", ["192.0.2.0/24"], False),
        ("::ffff:192.0.2.9", ["192.0.2.0/24"], True),
        ("2001:db8::1", ["192.0.2.0/24", "2001:db8::/32"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
    ],
)
def test_networks(address: str, networks: list[str], expected: bool) -> None:
    assert is_allowed(address, [ipaddress.ip_network(network) for network in networks]) is expected
