"""The main functions of the door processes. Each imports what it needs when it starts, and nothing else."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs import telemetry
from leanpacs.cli import exposure
from leanpacs.cli.leftout import OF_TERMINALS, UNUSED, leave_out
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, LeanPACSError, UnsupportedTransferSyntax
from leanpacs.workers.memory import Rests, keep_freed_memory

if TYPE_CHECKING:
    import ssl

    from leanpacs.archive.archive import Archive
    from leanpacs.catalog import DestinationRow, TrafficKey, Volume
    from leanpacs.services.dimse import Peer
    from leanpacs.services.dimse.dispatch import Dispatcher
    from leanpacs.services.ledger import Ledger
    from leanpacs.services.links import Links
    from leanpacs.services.server import TlsFiles
    from leanpacs.services.ui import ViewerOptions

_KEPT_BYTES: Final = 32 << 20
_ARENAS: Final = 2
"""Threads of a door work in turns: with few arenas, one takes over what another has freed."""

_LOOK_SECONDS: Final = 5.0
"""How often is looked whether there is nothing to do, so that freed memory is of no more use."""

_COLLECTED_OBJECTS: Final = 10_000
"""New ones after which is looked for garbage; an answer to a search takes thousands, and leaves none."""

TURN_SECONDS: Final = 0.0002
"""After how long a thread lets others have the interpreter. A codec asks for it several times for each frame: with the
usual 5 ms, a frame that is decoded in 1.7 ms took 17 beside a thread that computes."""


def serve_dimse(settings: Settings, listener: socket.socket, lifeline: Connection, number: int) -> None:
    """Serve the DIMSE door until the lifeline closes, as the process of this number among those that do."""
    leave_out(*UNUSED, *OF_TERMINALS)
    from leanpacs.archive.archive import open_archive
    from leanpacs.services.dimse import DimseOptions, Timeouts, serve

    stop, rests = _begin(settings, lifeline)
    options = DimseOptions(
        ae_title=settings.dimse.ae_title,
        max_pdu_bytes=settings.dimse.max_pdu_bytes,
        max_associations=settings.dimse.max_associations,
        max_associations_of_one=settings.dimse.max_associations_of_one,
        check_called=settings.dimse.check_called,
        allowed_calling=frozenset(settings.dimse.allowed_calling),
        relational=settings.dimse.relational_queries,
        read_headers=settings.dimse.query_headers,
        restore_wait_seconds=settings.dimse.restore_wait_seconds,
        destinations=peers(settings),
        certificate=own_certificate(settings),
        allowed_addresses=settings.dimse.allowed_addresses,
        roles=settings.dimse.roles,
        tls=_tls(settings),
        largest_instance_bytes=settings.ingest.largest_instance_bytes,
        turn=number,
        timeouts=Timeouts(network=settings.dimse.network_timeout_seconds, idle=settings.dimse.idle_timeout_seconds),
    )
    with open_archive(settings.storage.data, settings) as archive:
        metrics = telemetry.Metrics()
        counting = ledger(settings, archive, metrics)
        rests.forget_with(archive.forget_unused)
        _warm_up(archive)
        leave_out_of_collections()
        lifeline.send("ready")
        with counting.running(settings.traffic.flush_seconds):
            serve(listener, archive, options, stop, holdings=archive, metrics=metrics, ledger=counting)


def peers(settings: Settings) -> tuple[Peer, ...]:
    """The known destinations.

    Raises
    ------
    ConfigError
        One prefers a transfer syntax that does not exist or is not written here.
    """
    from leanpacs.services.dimse import Peer
    from leanpacs.services.dimse.security import client_tls

    return tuple(
        Peer(
            ae_title,
            known.host,
            known.port,
            tuple(_syntax(ae_title, name) for name in known.prefer),
            known.reports_apart,
            client_tls(known.tls_ca, settings.dimse.tls_certificate, settings.dimse.tls_key) if known.tls else None,
        )
        for ae_title, known in settings.dimse.destinations.items()
    )


def own_certificate(settings: Settings) -> tuple[Path, Path] | None:
    """PEM files of certificate and key of this archive, if it has them."""
    certificate, key = settings.dimse.tls_certificate, settings.dimse.tls_key
    return None if certificate is None or key is None else (certificate, key)


def ledger(settings: Settings, archive: Archive, metrics: telemetry.Metrics | None = None) -> Ledger:
    """What counts the traffic of this process."""
    from leanpacs.services.journal import Journal
    from leanpacs.services.ledger import Ledger, Sites

    def write(volumes: dict[TrafficKey, Volume]) -> None:
        archive.catalog.write(lambda transaction: transaction.add_traffic(volumes))

    journal = Journal(archive.audit.record, transfers=settings.audit.transfers)
    return Ledger(write, sites=Sites(settings.traffic.sites), metrics=metrics, journal=journal)


def dispatcher(settings: Settings, archive: Archive, counting: Ledger | None = None) -> Dispatcher:
    """What sends the instances and reports that wait in an archive."""
    from leanpacs.services.dimse.directory import Directory
    from leanpacs.services.dimse.dispatch import Dispatcher, DispatchOptions

    outbox = settings.outbox
    options = DispatchOptions(
        ae_title=settings.dimse.ae_title,
        owner=archive.host,
        senders=outbox.senders,
        first_retry=timedelta(seconds=outbox.first_retry_seconds),
        longest_retry=timedelta(seconds=outbox.longest_retry_seconds),
        give_up=timedelta(seconds=outbox.give_up_seconds),
        timeout_seconds=settings.dimse.network_timeout_seconds,
    )
    known = Directory(peers(settings), archive.catalog.outgoing, own_certificate(settings))
    return Dispatcher(archive.catalog, archive.retriever, known, options, ledger=counting)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    from leanpacs.services.dimse.security import server_tls

    dimse = settings.dimse
    if dimse.tls_certificate is None or dimse.tls_key is None:
        return None
    return server_tls(dimse.tls_certificate, dimse.tls_key, dimse.tls_client_ca)


def _syntax(ae_title: str, name: str) -> str:
    from leanpacs.transcode.target import syntax_named

    try:
        return syntax_named(name)
    except UnsupportedTransferSyntax as error:
        raise ConfigError(f"dimse.destinations.{ae_title}.prefer", name, str(error)) from error


def serve_http(settings: Settings, listener: socket.socket, lifeline: Connection, _number: int) -> None:
    """Serve the HTTP door until the lifeline closes."""
    leave_out(*UNUSED, *OF_TERMINALS)
    from leanpacs.archive.archive import open_archive
    from leanpacs.services.dicomweb.app import DicomWebOptions
    from leanpacs.services.http import AccessOptions, HttpOptions, serve
    from leanpacs.services.server import ServerOptions

    stop, rests = _begin(settings, lifeline)
    options = HttpOptions(
        dicomweb=DicomWebOptions(
            largest_instance_bytes=settings.ingest.largest_instance_bytes,
            max_results=settings.http.max_results,
            public_url=settings.http.public_url,
            deleting=settings.http.deleting,
        ),
        cors_origins=settings.http.cors_origins,
        dimse_address=f"{settings.dimse.host}:{settings.dimse.port}",
        ae_title=settings.dimse.ae_title,
        destinations=_fixed_destinations(settings),
        server=ServerOptions(tls=_tls_files(settings)),
        access=AccessOptions(
            anonymous=exposure.anonymous_roles(settings),
            key_seconds=settings.access.key_seconds,
            oidc=settings.oidc,
            trusted_proxies=settings.http.trusted_proxies,
            allowed_addresses=settings.http.allowed_addresses,
        ),
        viewer=_viewer(settings),
    )
    with open_archive(settings.storage.data, settings) as archive:
        metrics = telemetry.Metrics()
        counting = ledger(settings, archive, metrics)
        rests.forget_with(archive.forget_unused)
        _warm_up(archive, pictures=True)
        leave_out_of_collections()
        lifeline.send("ready")
        with counting.running(settings.traffic.flush_seconds):
            serve(listener, archive, options, stop, metrics=metrics, ledger=counting, links=_links(settings))
    # Threads of the HTTP server may still be about to call into an interpreter that is being taken down.
    sys.stderr.flush()
    os._exit(0)


def _links(settings: Settings) -> Links:
    from leanpacs.services.ledger import Sites
    from leanpacs.services.links import Links

    sites = settings.traffic.sites
    return Links(Sites(sites), {name: site.megabits_per_second for name, site in sites.items()})


def _fixed_destinations(settings: Settings) -> tuple[DestinationRow, ...]:
    from leanpacs.catalog import DestinationRow

    return tuple(
        DestinationRow(title, one.host, one.port, one.prefer, one.tls, str(one.tls_ca or ""), one.reports_apart)
        for title, one in settings.dimse.destinations.items()
    )


def _tls_files(settings: Settings) -> TlsFiles | None:
    from leanpacs.services.server import TlsFiles

    http = settings.http
    if http.tls_certificate is None or http.tls_key is None:
        return None
    return TlsFiles(http.tls_certificate, http.tls_key, http.tls_client_ca)


def _viewer(settings: Settings) -> ViewerOptions | None:
    from leanpacs.services.ui import ViewerOptions

    viewer = settings.viewer
    return ViewerOptions(viewer.folder, viewer.path, viewer.study) if viewer.folder else None


TARGETS: Final[dict[str, Callable[[Settings, socket.socket, Connection, int], None]]] = {
    "dimse": serve_dimse,
    "http": serve_http,
}


def _warm_up(archive: Archive, *, pictures: bool = False) -> None:
    """Have what is needed at hand, ``pictures`` included, before somebody waits for it."""
    with suppress(LeanPACSError):  # whoever asks is told
        archive.warm_up(pictures=pictures)


def leave_out_of_collections() -> None:
    """Keep what is there after the start, which stays, out of what is looked through for garbage in cycles.

    Going through all of it takes 40 ms, during which nobody is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_OBJECTS, 20, 20)


def _begin(settings: Settings, lifeline: Connection) -> tuple[threading.Event, Rests]:
    """Set up the process: the event that is set when the supervisor wants it to stop, or is gone; and its rests."""
    # Ctrl-C goes to all processes of the terminal; only the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    telemetry.configure_logging(level=settings.log.level, format=settings.log.format)
    keep_freed_memory(_KEPT_BYTES, arenas=_ARENAS)
    sys.setswitchinterval(TURN_SECONDS)
    stop = threading.Event()
    rests = Rests()

    def wait_for_the_end() -> None:
        try:
            while not lifeline.poll(_LOOK_SECONDS):
                rests.look()
            lifeline.recv()
        except (EOFError, OSError):
            stop.set()

    threading.Thread(target=wait_for_the_end, name="lifeline", daemon=True).start()
    return stop, rests
