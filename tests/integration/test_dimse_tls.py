"""TLS and address lists at the DIMSE door: dcmtk and pynetdicom as peers."""

from __future__ import annotations

import gc
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

import data
from dimse_archive import made
from dimse_peer import FakeArchive, dcmtk, door
from leanpacs.errors import ConfigError
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
                socket.create_connection(address, 10) as plain,
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
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(archive.kept) == 1


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
