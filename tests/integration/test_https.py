"""TLS at the HTTP door in one process: both versions of HTTP, and clients that have to show a certificate."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from certificates import issued_by_an_authority, self_signed
from leanpacs.services.http import create_app
from leanpacs.services.server import ServerOptions, TlsFiles, serve
from unit.services.dicomweb_fakes import FakeArchive

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issued_by_an_authority(self_signed(tmp_path_factory.mktemp("pem")))


@contextmanager
def door(folder: Path, tls: TlsFiles) -> Iterator[str]:
    """A door; yields its URL."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, create_app(FakeArchive(folder)), stop, ServerOptions(tls=tls))
        thread = threading.Thread(target=serve, args=arguments)
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join(60)
            assert not thread.is_alive()


def trusting(pem: Path, *, shown: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pem / "cert.pem")
    if shown:
        context.load_cert_chain(pem / "client.pem", pem / "client.key")
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(tmp_path: Path, pem: Path, version: ssl.TLSVersion) -> None:
    context = trusting(pem)
    context.minimum_version = context.maximum_version = version
    with door(tmp_path, TlsFiles(pem / "cert.pem", pem / "key.pem")) as url:
        answer = httpx.get(f"{url}/health", verify=context)
    assert answer.status_code == 200


def test_clients_show_a_certificate_where_that_is_set(tmp_path: Path, pem: Path) -> None:
    with door(tmp_path, TlsFiles(pem / "cert.pem", pem / "key.pem", pem / "ca.pem")) as url:
        assert httpx.get(f"{url}/health", verify=trusting(pem, shown=True)).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health", verify=trusting(pem))
