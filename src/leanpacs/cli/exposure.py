"""Whether the doors may be opened to other machines as the settings say."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable

from leanpacs.config import ALL_ROLES, DimseSettings, HttpSettings, Role, Settings
from leanpacs.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def anonymous_roles(settings: Settings) -> tuple[Role, ...]:
    """What callers of the HTTP door who show no credentials may do."""
    if settings.access.anonymous is not None:
        return settings.access.anonymous
    return ALL_ROLES if is_loopback(settings.http.host) or settings.http.insecure else ()


def check(settings: Settings, has_keys: Callable[[], bool]) -> None:
    """Refuse to open a door beyond this machine without TLS and credentials, unless told so in plain words.

    Parameters
    ----------
    settings : Settings
        What the doors would be.
    has_keys : callable
        Whether there is an API key that is taken.

    Raises
    ------
    ConfigError
        A door would be open to whoever reaches it, or to nobody; or files of TLS cannot be used.
    """
    _check_certificate("http", settings.http)
    _check_certificate("dimse", settings.dimse)
    if not is_loopback(settings.http.host):
        _check_http(settings, has_keys)
    if not is_loopback(settings.dimse.host) and not settings.dimse.insecure:
        _check_dimse(settings)


def _check_http(settings: Settings, has_keys: Callable[[], bool]) -> None:
    http, credentials = settings.http, settings.oidc.enabled or has_keys()
    if http.insecure:
        if settings.access.anonymous is None and credentials:
            raise ConfigError(
                "http.insecure",
                True,
                "there are keys or tokens, and yet this would let everybody do everything; say which roles those "
                "without credentials have: access.anonymous = [] for none",
            )
        return
    advice = "or say `--insecure` (http.insecure = true) if whoever reaches the door may come in"
    if http.tls_certificate is None:
        text = f"beyond this machine the HTTP door needs TLS: set http.tls_certificate and http.tls_key, {advice}"
        raise ConfigError("http.host", http.host, text)
    if anonymous_roles(settings):
        text = f"beyond this machine callers have to show credentials: leave access.anonymous empty, {advice}"
        raise ConfigError("access.anonymous", list(anonymous_roles(settings)), text)
    if not credentials:
        text = f"nobody could come in: make an API key with `leanpacs key create`, or set the table [oidc], {advice}"
        raise ConfigError("http.host", http.host, text)


def _check_dimse(settings: Settings) -> None:
    dimse = settings.dimse
    if dimse.tls_certificate is None or dimse.tls_client_ca is None:
        raise ConfigError(
            "dimse.host",
            dimse.host,
            "beyond this machine the DIMSE door needs TLS and certificates of its peers: set dimse.tls_certificate, "
            "dimse.tls_key and dimse.tls_client_ca, or say `--insecure` (dimse.insecure = true) if whoever reaches "
            "the door may come in; dimse.allowed_addresses and dimse.roles still narrow that",
        )


def _check_certificate(name: str, door: HttpSettings | DimseSettings) -> None:
    certificate, key, client_ca = door.tls_certificate, door.tls_key, door.tls_client_ca
    if certificate is None or key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except OSError as error:  # also what is wrong with their content
        raise ConfigError(f"{name}.tls_certificate", str(certificate), f"cannot be used: {error}") from error
