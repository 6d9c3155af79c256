"""The HTTP door in one process: granian around an ASGI application, on a socket that is listening already.

granian's embedded server runs on an event loop of ours, so that there is one process and one interpreter, and
the archive is open where the requests are. Its Rust side does HTTP/1.1 and HTTP/2, bounds the connections,
and breaks a connection off when the application fails in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.embed import Server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_log = logging.getLogger(__name__)

_BUFFER_BYTES: Final = 1 << 18
"""What is read ahead of a request, for each connection."""

_LOGGING: Final = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {"_granian": {}}}
"""Only set the level: the handlers are the caller's."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of TLS.

    Attributes
    ----------
    certificate, key : Path
        The chain of certificates of this server, and its private key.
    client_ca : Path, optional
        Authorities; clients must show a certificate that one of them issued.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How connections are handled.

    Attributes
    ----------
    max_connections : int
        Open connections; more wait in the listen queue.
    stop_seconds : float
        How long answers may take to finish when the door is closed.
    tls : TlsFiles, optional
        How connections are secured, if they are.
    """

    max_connections: int = 1024
    stop_seconds: float = 10.0
    tls: TlsFiles | None = None


class _Server(Server):
    """The embedded server, on a socket that it is given and does not have to open."""

    def __init__(self, app: ASGIApp, listener: socket.socket, options: ServerOptions) -> None:
        address, port = _address(listener)
        tls = options.tls
        super().__init__(
            app,
            address=address,
            port=port,
            interface=Interfaces.ASGINL,
            backlog=options.max_connections,
            backpressure=options.max_connections,
            runtime_blocking_threads=1,
            http1_settings=HTTP1Settings(max_buffer_size=_BUFFER_BYTES),
            websockets=False,
            log_level=LogLevels.critical,
            log_dictconfig=dict(_LOGGING),
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_cert=tls.certificate if tls else None,
            ssl_key=tls.key if tls else None,
            ssl_ca=tls.client_ca if tls else None,
            ssl_client_verify=bool(tls and tls.client_ca),
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # The library closes the descriptor that it is given.
        descriptor = os.dup(self._listener.fileno())
        self._shd = SocketHolder(descriptor, False, self.backlog)  # type: ignore[assignment, call-arg]
        self._ssp = None


def serve(listener: socket.socket, app: ASGIApp, stop: threading.Event, options: ServerOptions | None = None) -> None:
    """Serve until ``stop`` is set, then let the current answers finish.

    Parameters
    ----------
    listener : socket
        Listening; stays open, and may be served by several processes.
    app : ASGI application
        Its lifespan events are not used.
    stop : Event
        Set from another thread.
    options : ServerOptions, optional
        Defaults when not given.
    """
    asyncio.run(_serve(listener, app, stop, options or ServerOptions()))


async def _serve(listener: socket.socket, app: ASGIApp, stop: threading.Event, options: ServerOptions) -> None:
    async with anyio.create_task_group():
        pass  # loads what it needs, which streamed answers need, too: now, and not while the first client waits
    server = _Server(app, listener, options)
    serving = asyncio.create_task(server.serve())
    loop = asyncio.get_running_loop()
    waiting = threading.Thread(target=_tell, args=(stop, loop, server), name="http-stop", daemon=True)
    waiting.start()
    while not stop.is_set():
        done, _ = await asyncio.wait({serving}, timeout=1.0)
        if done and not stop.is_set():
            serving.result()
            raise RuntimeError("the HTTP server ended by itself")
    done, _ = await asyncio.wait({serving}, timeout=options.stop_seconds)
    if not done:
        _log.warning("connections are broken off", extra={"action": "stop"})
        serving.cancel()
        await asyncio.wait({serving}, timeout=1.0)


def _tell(stop: threading.Event, loop: asyncio.AbstractEventLoop, server: Server) -> None:
    stop.wait()
    try:
        loop.call_soon_threadsafe(server.stop)
    except RuntimeError:  # the loop is closed: the server has ended by itself
        return


def _address(listener: socket.socket) -> tuple[str, int]:
    """Address for the library's messages."""
    address = listener.getsockname()
    return str(address[0]), int(address[1])
