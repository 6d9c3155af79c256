"""Stands before a real S3 server and does to requests what networks and servers do on bad days."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it is told instead, or what becomes of the server's answer.

    ``status`` answers without asking the server; ``cut`` ends the connection after this part of the body;
    ``damage`` flips a bit of the body; ``pause`` waits before answering, in seconds.
    """

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: float | None = None
    damage: bool = False
    pause: float = 0.0


Rule = Callable[[Request], Answer | None]


def error(status: int, code: str) -> Answer:
    """An error as S3 words it."""
    return Answer(
        status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>for a test</Message></Error>'.encode()
    )


class _Server(ThreadingHTTPServer):
    """Knows its connections."""

    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for each."""
        self.connections.append(request)
        super().process_request(request, client_address)


class FaultProxy:
    """A proxy with a rule that may be changed at any time; passes everything on without one."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self.rule: Rule = lambda _: None
        self.seen: list[Request] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

            def handle_any(self) -> None:
                proxy._handle(self)

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """URL of the proxy."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Take no more requests, and end all connections."""
        self._server.shutdown()
        for connection in self._server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def doing(self, rule: Rule) -> Iterator[None]:
        """Follow a rule for a while."""
        self.rule = rule
        try:
            yield
        finally:
            self.rule = lambda _: None

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = _body(handler)
        request = Request(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        self.seen.append(request)
        asked = self.rule(request) or Answer()
        if asked.pause:
            time.sleep(asked.pause)
        with suppress(OSError):
            if asked.status:
                _answer(handler, asked.status, dict(asked.headers), asked.body, asked)
            else:
                self._pass_on(handler, request, asked)

    def _pass_on(self, handler: BaseHTTPRequestHandler, request: Request, asked: Answer) -> None:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
            connection.request(request.method, request.path, request.body or None, headers)
            upstream = connection.getresponse()
            answered = {k: v for k, v in upstream.getheaders() if k.lower() not in HOP_BY_HOP} | asked.headers
            _answer(handler, upstream.status, answered, upstream.read(), asked)
        finally:
            connection.close()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, asked: Answer) -> None:
    if asked.damage and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() != "content-length":
            handler.send_header(name, value)
    length = headers.get("Content-Length", headers.get("content-length", str(len(body))))
    handler.send_header("Content-Length", length if handler.command == "HEAD" else str(len(body)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if asked.cut is not None:
        handler.wfile.write(body[: int(len(body) * asked.cut)])
        handler.close_connection = True
        return
    handler.wfile.write(body)
