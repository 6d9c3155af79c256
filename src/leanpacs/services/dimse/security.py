"""TLS for DIMSE, and which addresses may connect (PS3.15 B.9 and B.12: BCP 195)."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from leanpacs.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, those that BCP 195 recommends (RFC 9325 section 4.2); TLS 1.3 has no others."""


def server_tls(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later for a door.

    Parameters
    ----------
    certificate, key : Path
        PEM files: the chain of certificates of this server, and its private key.
    client_ca : Path, optional
        PEM file of authorities; peers must show a certificate that one of them issued.

    Raises
    ------
    ConfigError
        A file cannot be read, or certificate and key do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    _load(context, certificate, key)
    if client_ca is not None:
        _trust(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later towards a destination, whose certificate must be valid for its host name.

    Parameters
    ----------
    ca : Path, optional
        PEM file of authorities to trust; those of the system by default.
    certificate, key : Path, optional
        What this side shows when it is asked to.

    Raises
    ------
    ConfigError
        As `server_tls`.
    """
    context = ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if ca is not None:
        _trust(context, ca)
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a peer's address lies in one of the networks; any does when there are none."""
    if not networks:
        return True
    found = ipaddress.ip_address(address.split("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in network for network in networks)


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # also what is wrong with their content
        raise ConfigError("dimse.tls_certificate", str(certificate), f"cannot be used: {error}") from error


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise ConfigError("dimse.tls_client_ca", str(authorities), f"cannot be used: {error}") from error
