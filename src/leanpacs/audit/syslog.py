"""Audit messages to a collector over syslog: UDP, TCP or TLS.

References
----------
RFC 5424 (form), RFC 5425 (TLS), RFC 5426 (UDP), RFC 6587 3.4.1 (TCP, octet counting); PS3.15 A.6, A.7.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
_SECURITY: Final = 10
"""Facility: security and authorization messages (PS3.15 A.6)."""
_NOTICE: Final = 5
_WARNING: Final = 4
_MSGID: Final = "DICOM+RFC3881"
_CONNECT_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Collector:
    """Where messages go.

    Parameters
    ----------
    scheme : str
        ``udp``, ``tcp`` or ``tls``.
    host, port : str, int
        Its address.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Read ``udp://HOST[:PORT]``, ``tcp://...`` or ``tls://...``.

        Raises
        ------
        ValueError
            It is none of these.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("a collector is udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


def framed(message: bytes, at: datetime, *, is_success: bool) -> bytes:
    """A message with the header of RFC 5424."""
    priority = _SECURITY * 8 + (_NOTICE if is_success else _WARNING)
    host = re.sub(r"[^!-~]", "", socket.gethostname())[:255] or "-"
    moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<{priority}>1 {moment} {host} leanpacs {os.getpid()} {_MSGID} - ".encode() + message


class SyslogSender:
    """Sends messages to a collector; connects when there is something to send.

    Parameters
    ----------
    collector : Collector
        Where to.
    ca : Path, optional
        PEM file of authorities to trust; those of the system by default.
    certificate, key : Path, optional
        What this side shows when it is asked to.
    """

    def __init__(
        self, collector: Collector, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self._collector = collector
        self._tls = _context(ca, certificate, key) if collector.scheme == "tls" else None
        self._connection: socket.socket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages that `framed` has made.

        TCP does not tell what has been read: when this returns, the collector was there and its side has taken them.

        Raises
        ------
        OSError
            The collector is away; some of them may have been sent.
        """
        try:
            connection = self._connected()
            for message in messages:
                if self._collector.scheme == "udp":
                    connection.send(message)
                else:
                    connection.sendall(f"{len(message)} ".encode() + message)
        except OSError:
            self._drop()
            raise

    def close(self) -> None:
        """Close the connection, after the collector has taken what is under way."""
        if self._connection is not None and self._collector.scheme != "udp":
            with suppress(OSError, ValueError):
                _end(self._connection)
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> socket.socket:
        if self._connection is not None and self._collector.scheme != "udp" and _is_gone(self._connection):
            self._drop()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> socket.socket:
        address = (self._collector.host, self._collector.port)
        if self._collector.scheme == "udp":
            family, kind, protocol, _, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
            connection = socket.socket(family, kind, protocol)
            connection.connect(where)
            return connection
        connection = socket.create_connection(address, _CONNECT_SECONDS)
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_hostname=self._collector.host)
        except OSError:
            connection.close()
            raise


def _end(connection: socket.socket) -> None:
    """Say that nothing more comes, and wait for the other side to close.

    Closing at once would reset the connection where something unread has come, such as tickets of TLS 1.3, and what the
    collector has not read yet would be lost.
    """
    connection.settimeout(_CLOSE_SECONDS)
    if isinstance(connection, ssl.SSLSocket):
        connection = connection.unwrap()
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed; collectors send nothing."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_CONNECT_SECONDS)


def _context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
