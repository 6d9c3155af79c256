"""A certificate for tests of TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path


def self_signed(folder: Path) -> Path:
    """Write ``cert.pem`` and ``key.pem``: for localhost, and an authority for itself; needs openssl."""
    _run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    )
    return folder


def issued_by_an_authority(folder: Path) -> Path:
    """Write ``ca.pem``, and ``client.pem`` with ``client.key``, which that authority has issued; needs openssl."""
    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    authority = ("openssl", "req", "-x509", *key, "-subj", "/CN=authority")
    _run(*authority, "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"))
    client = ("openssl", "req", "-x509", *key, "-subj", "/CN=client", "-addext", "extendedKeyUsage=clientAuth")
    signed = ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-addext", "basicConstraints=CA:FALSE")
    _run(*client, *signed, "-keyout", str(folder / "client.key"), "-out", str(folder / "client.pem"))
    return folder


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
