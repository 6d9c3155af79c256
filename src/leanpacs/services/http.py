"""The HTTP door: DICOMweb, the page, health and metrics in one ASGI application."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette_compress import CompressMiddleware, add_compress_type

from leanpacs import __version__
from leanpacs.catalog import DestinationRow
from leanpacs.config import ALL_ROLES, OidcSettings, Role
from leanpacs.errors import LeanPACSError
from leanpacs.services import server, slashes, ui
from leanpacs.services.access.gate import Gate
from leanpacs.services.admin import Admin
from leanpacs.services.cargo import Accounting
from leanpacs.services.dicomweb import media
from leanpacs.services.dicomweb.app import DicomWeb, DicomWebOptions
from leanpacs.services.dicomweb.capabilities import WADL
from leanpacs.services.dicomweb.dictionary import DictionaryMiddleware
from leanpacs.services.dicomweb.problems import answer_http_error, answer_known_error, problem_response
from leanpacs.services.figures import Figures, gauges
from leanpacs.services.operations import OPERATION, Operation, Right, openapi, routes
from leanpacs.services.origin import origin
from leanpacs.services.proxies import Network, Proxied
from leanpacs.services.server import ServerOptions
from leanpacs.services.threads import Threads

if TYPE_CHECKING:
    import socket
    import threading

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from leanpacs.archive.archive import Archive
    from leanpacs.services.access.tokens import Tokens
    from leanpacs.services.ledger import Ledger
    from leanpacs.services.links import Links
    from leanpacs.telemetry import Metrics

_log = logging.getLogger(__name__)

_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_COMPRESSED: Final = (media.DICOM_JSON, "application/problem+json", media.DICOM_XML, WADL)
"""Media types that the middleware does not know to be text."""
_EXPOSED: Final = (
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "etag",
    "link",
    "retry-after",
    "warning",
)
"""Header fields that scripts of other origins may read, beyond those that they always may."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Who may come in.

    Attributes
    ----------
    anonymous : tuple of Role
        What callers without credentials may do.
    key_seconds : float
        How long it is remembered that an API key is good.
    oidc : OidcSettings
        Whose bearer tokens are taken.
    trusted_proxies : tuple of networks
        Proxies whose word counts for who the client is.
    allowed_addresses : tuple of networks
        Clients that may come in; empty: all.
    """

    anonymous: tuple[Role, ...] = ALL_ROLES
    key_seconds: float = 5.0
    oidc: OidcSettings = field(default_factory=OidcSettings)
    trusted_proxies: tuple[Network, ...] = ()
    allowed_addresses: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the door behaves.

    Attributes
    ----------
    dicomweb : DicomWebOptions
        Limits and addresses of the DICOMweb service.
    reading_threads : int
        Calls into the archive at the same time for those who search and retrieve.
    storing_threads : int
        The same for those who store.
    dimse_address : str
        Address of the DIMSE door, for the page; '' when there is none.
    ae_title : str
        AE title of the DIMSE door, for the page.
    viewer : ViewerOptions, optional
        A viewer for browsers.
    server : ServerOptions
        How connections are handled.
    cors_origins : tuple of str
        Origins whose scripts may use this door from a browser; ``*``: any.
    access : AccessOptions
        Who may come in.
    destinations : tuple of DestinationRow
        Where may be sent to by the settings, for administrators to see.
    """

    dicomweb: DicomWebOptions = field(default_factory=DicomWebOptions)
    reading_threads: int = 16
    storing_threads: int = 8
    dimse_address: str = ""
    ae_title: str = ""
    viewer: ui.ViewerOptions | None = None
    server: ServerOptions = field(default_factory=ServerOptions)
    cors_origins: tuple[str, ...] = ()
    access: AccessOptions = field(default_factory=AccessOptions)
    destinations: tuple[DestinationRow, ...] = ()


def serve(
    listener: socket.socket,
    archive: Archive,
    options: HttpOptions,
    stop: threading.Event,
    *,
    metrics: Metrics | None = None,
    ledger: Ledger | None = None,
    links: Links | None = None,
) -> None:
    """Serve HTTP until ``stop`` is set, then let the current answers finish.

    Parameters
    ----------
    listener : socket
        Listening; stays open.
    archive : Archive
        Open; not closed here.
    options : HttpOptions
        How the door behaves.
    stop : Event
        Set from another thread.
    metrics : Metrics, optional
        Where requests are counted.
    ledger : Ledger, optional
        Where bytes are counted.
    links : Links, optional
        How fast lines are, where that is known beforehand.
    """
    app = create_app(archive, options, metrics=metrics, ledger=ledger, links=links)
    try:
        server.serve(listener, app, stop, options.server)
    finally:
        for close in app.state.closes:
            close()


def create_app(
    archive: Archive,
    options: HttpOptions | None = None,
    *,
    metrics: Metrics | None = None,
    ledger: Ledger | None = None,
    links: Links | None = None,
) -> Starlette:
    """Return the application: DICOMweb at its root, ``/``, ``/health`` and ``/metrics``.

    Parameters
    ----------
    archive : Archive
        Open; not closed here.
    options : HttpOptions, optional
        Defaults when not given.
    metrics : Metrics, optional
        Where requests are counted; without it ``/metrics`` answers 404.
    ledger : Ledger, optional
        Where bytes are counted.
    links : Links, optional
        How fast lines are, where that is known beforehand.
    """
    options = options or HttpOptions()
    for name in _COMPRESSED:
        add_compress_type(name)
    reading, storing = Threads(options.reading_threads), Threads(options.storing_threads)
    dicomweb = DicomWeb(archive, options.dicomweb, reading, storing, metrics)
    figures = Figures(archive.status)
    page = ui.Page(
        archive.catalog,
        figures,
        reading,
        ui.Addresses(
            options.dicomweb.root,
            options.dimse_address,
            options.ae_title,
            options.dicomweb.public_url,
            options.viewer.study_url if options.viewer else "",
        ),
    )
    state = _State(archive, figures, reading, metrics)
    admin = Admin(archive, storing, figures, options.destinations)
    viewer = ui.viewer_operations(options.viewer) if options.viewer else []
    # Paths are tried in this order: what is asked for most comes first.
    operations = [*dicomweb.operations(), *_own(page, state), *admin.operations(), *viewer]
    description = _Description(operations, options.dicomweb.public_url)
    operations.append(description.operation())
    gate = _gate(archive, options.access)
    app = Starlette(
        routes=routes(operations, gate),
        middleware=[
            Middleware(_Watch, metrics=metrics),
            *_proxied(options.access, ledger),
            *([Middleware(Accounting, ledger=ledger, links=links)] if ledger is not None else []),
            *_cors(options.cors_origins),
            Middleware(CompressMiddleware, zstd_level=3, brotli_quality=4, gzip_level=4),
            Middleware(DictionaryMiddleware, root=options.dicomweb.root),
        ],
        exception_handlers={HTTPException: answer_http_error, LeanPACSError: answer_known_error},
    )
    app.state.closes = reading.close, storing.close, gate.close
    slashes.pass_over(app.router)
    return app


def _gate(archive: Archive, access: AccessOptions) -> Gate:
    return Gate(
        keys=archive.catalog,
        tokens=_tokens(access.oidc) if access.oidc.enabled else None,
        anonymous=access.anonymous,
        key_seconds=access.key_seconds,
    )


def _tokens(settings: OidcSettings) -> Tokens:
    from leanpacs.services.access.tokens import Tokens  # cryptography takes 10 MB: only where it is used

    return Tokens(settings)


def _proxied(access: AccessOptions, ledger: Ledger | None) -> list[Middleware]:
    if not access.trusted_proxies and not access.allowed_addresses:
        return []
    return [Middleware(Proxied, trusted=access.trusted_proxies, allowed=access.allowed_addresses, ledger=ledger)]


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    """Let scripts of other origins in, as the setting says; credentials only those of origins that are named."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
            allow_headers=("*",),
            allow_credentials="*" not in origins,
            expose_headers=_EXPOSED,
            max_age=3600,
        )
    ]


def _own(page: ui.Page, state: _State) -> list[Operation]:
    """What the door answers beside DICOMweb."""
    return [
        Operation("page", "GET", "/", page.show, Right.READ, "A page about the archive.", gives={200: ("text/html",)}),
        Operation(
            "health",
            "GET",
            "/health",
            state.health,
            Right.NONE,
            "Whether the archive works.",
            gives={200: ("application/json",)},
            refuses=(503,),
        ),
        Operation(
            "metrics",
            "GET",
            "/metrics",
            state.metrics,
            Right.READ,
            "Metrics in the text format of Prometheus.",
            gives={200: ("text/plain",)},
            refuses=(404,),
        ),
    ]


class _Description:
    """The OpenAPI description of all operations."""

    def __init__(self, operations: list[Operation], public_url: str) -> None:
        self._operations = operations
        self._public_url = public_url

    def operation(self) -> Operation:
        return Operation(
            "openapi",
            "GET",
            "/openapi.json",
            self._show,
            Right.NONE,
            "This description (OpenAPI 3.1).",
            gives={200: ("application/json",)},
        )

    async def _show(self, request: Request) -> Response:
        server = origin(request, self._public_url)
        document = openapi(self._operations, title="LeanPACS", version=__version__, server=server)
        return Response(orjson.dumps(document), headers={"cache-control": "no-cache"}, media_type="application/json")


class _State:
    """Health and metrics."""

    def __init__(self, archive: Archive, figures: Figures, threads: Threads, metrics: Metrics | None) -> None:
        self._archive = archive
        self._figures = figures
        self._threads = threads
        self._metrics = metrics

    async def health(self, _request: Request) -> Response:
        """Answer whether the archive works: 200, or 503 when the catalog does not answer."""
        try:
            backlog = await self._threads.run(self._archive.catalog.backlog)
        except LeanPACSError as error:
            return problem_response(503, str(error))
        body = {
            "status": "ok",
            "version": __version__,
            "backlog_instances": backlog.count,
            "backlog_bytes": backlog.size_bytes,
        }
        headers = {"cache-control": "no-store"}
        return Response(orjson.dumps(body), headers=headers, media_type="application/json")

    async def metrics(self, _request: Request) -> Response:
        """Answer with all metrics in the Prometheus text format."""
        if self._metrics is None:
            return problem_response(404, "No metrics are kept here.")
        text = await self._threads.run(self._exposition, self._metrics)
        return Response(text, headers={"cache-control": "no-store", "content-type": _EXPOSITION})

    def _exposition(self, metrics: Metrics) -> bytes:
        return metrics.exposition(gauges(self._figures.status()))


class _Watch:
    """Around everything: counts, sets header fields that all answers have, and answers for faults of ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics | None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            _log.debug("the client has gone", extra={"action": scope["method"]})
        except Exception:
            _log.exception("request failed", extra={"action": scope["method"], "path": scope["path"]})
            if status:
                raise  # too late for another answer: the connection has to break off
            answer = problem_response(500, "The server failed on this request; its log tells why.")
            await answer(scope, receive, watched)
        finally:
            if self._metrics is not None:
                operation = scope.get(OPERATION)
                route = operation.name if operation else "none"
                elapsed = time.perf_counter() - started
                self._metrics.http_seconds.labels(route, str(status or 499)).observe(elapsed)
