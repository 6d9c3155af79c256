"""`leanpacs serve` does not open a door beyond this machine to whoever comes, unless told so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certificates import self_signed
from leanpacs.cli.exposure import anonymous_roles, check, is_loopback
from leanpacs.config import ALL_ROLES, Role, Settings
from leanpacs.errors import ConfigError

OUTSIDE = "192.0.2.10"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("pem"))


def tls(pem: Path, *, client_ca: bool = False) -> dict[str, Any]:
    files = {"tls_certificate": pem / "cert.pem", "tls_key": pem / "key.pem"}
    return files | ({"tls_client_ca": pem / "cert.pem"} if client_ca else {})


def fault(has_keys: bool = True, **sections: Any) -> str:
    """The key of the setting that keeps the doors shut; '' when they may be opened."""
    try:
        check(Settings(**sections), lambda: has_keys)
    except ConfigError as error:
        return error.key
    return ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.10", False),
        ("pacs.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_this_machine_only_is_open() -> None:
    assert fault(has_keys=False) == ""
    assert anonymous_roles(Settings()) == ALL_ROLES
    assert anonymous_roles(Settings(access={"anonymous": ["read"]})) == (Role.READ,)


@needs_openssl
def test_http_beyond_this_machine(pem: Path) -> None:
    assert fault(http={"host": OUTSIDE}) == "http.host"
    assert fault(http={"host": OUTSIDE, **tls(pem)}) == ""
    assert fault(http={"host": OUTSIDE, **tls(pem)}, has_keys=False) == "http.host"
    oidc = {"issuer": "https://id.example.org", "audience": "a", "jwks": "https://id.example.org/jwks"}
    assert fault(http={"host": OUTSIDE, **tls(pem)}, oidc=oidc, has_keys=False) == ""
    assert fault(http={"host": OUTSIDE, **tls(pem)}, access={"anonymous": ["read"]}) == "access.anonymous"
    assert anonymous_roles(Settings(http={"host": OUTSIDE})) == ()


def test_http_beyond_this_machine_in_plain_words() -> None:
    open_to_all = {"host": OUTSIDE, "insecure": True}
    assert fault(http=open_to_all, has_keys=False) == ""
    assert anonymous_roles(Settings(http=open_to_all)) == ALL_ROLES
    assert fault(http=open_to_all, has_keys=True) == "http.insecure"
    assert fault(http=open_to_all, has_keys=True, access={"anonymous": []}) == ""


@needs_openssl
def test_dimse_beyond_this_machine(pem: Path) -> None:
    assert fault(dimse={"host": OUTSIDE}) == "dimse.host"
    assert fault(dimse={"host": OUTSIDE, **tls(pem)}) == "dimse.host"
    assert fault(dimse={"host": OUTSIDE, **tls(pem, client_ca=True)}) == ""
    assert fault(dimse={"host": OUTSIDE, "insecure": True}) == ""


@needs_openssl
def test_certificates_that_cannot_be_used(pem: Path) -> None:
    assert fault(http={"tls_certificate": pem / "none.pem", "tls_key": pem / "key.pem"}) == "http.tls_certificate"
    assert fault(http={"tls_certificate": pem / "key.pem", "tls_key": pem / "key.pem"}) == "http.tls_certificate"


def test_half_of_the_settings() -> None:
    for wrong in (
        {"http": {"tls_certificate": "cert.pem"}},
        {"http": {"tls_client_ca": "ca.pem"}},
        {"oidc": {"issuer": "https://id.example.org"}},
        {"oidc": {"algorithms": ["HS256"]}},
        {"access": {"anonymous": ["everything"]}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            Settings(**wrong)


def test_serve_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanpacs", "serve", "--data", str(tmp_path / "data"), "--http", f"{OUTSIDE}:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert "http.tls_certificate" in done.stderr
    assert "--insecure" in done.stderr
