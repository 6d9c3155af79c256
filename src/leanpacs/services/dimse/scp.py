"""The DIMSE door: accepts connections and serves each association in a thread of its own.

Several processes may serve one listening socket. All of them see a connection that comes in; each waits a
moment, the longer the more associations it has, before it tries to take it. So the least busy one gets it; of
those that are equally busy it is always the same one, which has at hand what was asked for lately.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import Outgoing
from leanpacs.services.dimse.allowed import Roles, guarded
from leanpacs.services.dimse.association import Association, Service, Timeouts, echo
from leanpacs.services.dimse.commitment import STORAGE_COMMITMENT, CommitmentService, Durable
from leanpacs.services.dimse.directory import Directory
from leanpacs.services.dimse.find import Finding, FindService
from leanpacs.services.dimse.giving import Giving
from leanpacs.services.dimse.headers import InHeaders
from leanpacs.services.dimse.message import Command, CommandField
from leanpacs.services.dimse.models import MODELS
from leanpacs.services.dimse.negotiation import Terms, prepare
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.retrieve import RetrieveService
from leanpacs.services.dimse.security import Network, is_allowed
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.dimse.store import Landing, StoreService
from leanpacs.services.dimse.worklist import MODALITY_WORKLIST, Scheduling, WorklistService
from leanpacs.services.ledger import Ledger, Party
from leanpacs.telemetry import Metrics

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_HOLD_BACK_SECONDS = 0.002
_LONGEST_HOLD_BACK_SECONDS = 0.04
_TURN_SECONDS = 0.0005
_FULL_HOLD_BACK_SECONDS = 2 * _LONGEST_HOLD_BACK_SECONDS
"""Of a process that would have to reject: one that has room goes first."""
# Those who have not asked for anything yet, or are being rejected, take a thread as well; beyond this many,
# connections wait in the listen queue.
_NOT_ADMITTED_AT_ONCE = 16
_SILENT_SECONDS = 2.0
"""Who has said nothing for so long has to go when others wait."""
_NAMES = {
    CommandField.C_ECHO_RQ: "C-ECHO",
    CommandField.C_STORE_RQ: "C-STORE",
    CommandField.C_FIND_RQ: "C-FIND",
    CommandField.C_GET_RQ: "C-GET",
    CommandField.C_MOVE_RQ: "C-MOVE",
    CommandField.N_ACTION_RQ: "N-ACTION",
}
SERVED = (*MODELS, MODALITY_WORKLIST, STORAGE_COMMITMENT)
"""SOP classes beside verification and storage, where there is an archive to ask."""
_SEVERITY = dict.fromkeys(("rejected", "silent", "violation", "failed"), logging.WARNING)


@dataclass(frozen=True, slots=True)
class DimseOptions:
    """How the door behaves.

    Parameters
    ----------
    ae_title : str
        AE title of this archive.
    max_pdu_bytes : int
        Largest PDU that peers are asked to send. Memory does not depend on it.
    max_associations : int
        Associations of one process; further ones are rejected as a transient condition (PS3.8 9.3.4).
    max_associations_of_one : int
        The same for those of one calling AE title; 0 is any number.
    allowed_calling : frozenset of str
        AE titles that may connect; empty lets any.
    check_called : bool
        Whether peers must call the archive by ``ae_title``.
    relational : bool
        Whether queries and retrievals may leave out the unique keys of higher levels.
    read_headers : bool
        Whether keys that the catalog does not hold are looked for in the headers of instances.
    destinations : tuple of Peer
        Where moves may go to, beside the destinations in the catalog.
    certificate : (Path, Path), optional
        PEM files of certificate and key, shown to destinations in the catalog that use TLS.
    allowed_addresses : tuple of networks
        From where peers may connect; empty lets any.
    roles : mapping of str to collection of Role
        What calling AE titles may do; empty lets any do all.
    tls : SSLContext, optional
        How connections are secured, if they are.
    largest_instance_bytes : int
        Larger instances are refused.
    timeouts : Timeouts
        How long peers may take.
    restore_wait_seconds : float
        How long retrievals wait for what must be brought back from an archive class.
    stop_seconds : float
        How long associations may finish their current message when the door is closed.
    turn : int
        Number of this process among those that serve one socket: of equally busy ones the lowest takes a connection.
    """

    ae_title: str = "LEANPACS"
    max_pdu_bytes: int = 1 << 17
    max_associations: int = 64
    max_associations_of_one: int = 0
    allowed_calling: frozenset[str] = frozenset()
    check_called: bool = False
    relational: bool = True
    read_headers: bool = True
    restore_wait_seconds: float = 0.0
    destinations: tuple[Peer, ...] = ()
    certificate: tuple[Path, Path] | None = None
    allowed_addresses: tuple[Network, ...] = ()
    roles: Roles = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    largest_instance_bytes: int = sys.maxsize
    timeouts: Timeouts = field(default_factory=Timeouts)
    stop_seconds: float = 10.0
    turn: int = 0

    def terms(self, served: Collection[str] = ()) -> Terms:
        """The part that peers negotiate about; ``served`` are SOP classes beside verification and storage."""
        return Terms(
            self.ae_title,
            self.max_pdu_bytes,
            self.check_called,
            self.allowed_calling,
            served=served,
            relational=self.relational,
            gives=bool(served),
        )


class Known(Finding, Durable, Protocol):
    """What the services need of a catalog."""

    @property
    def outgoing(self) -> Outgoing:
        """Destinations, and reports that are owed."""
        ...


class Holdings(Protocol):
    """What querying and retrieving need of an archive."""

    @property
    def catalog(self) -> Known:
        """What is held."""
        ...

    @property
    def retriever(self) -> Giving:
        """Gives what is held."""
        ...

    @property
    def searcher(self) -> InHeaders:
        """Searches headers for what the catalog does not hold."""
        ...

    @property
    def worklist(self) -> Scheduling:
        """What is scheduled."""
        ...


def serve(
    listener: socket.socket | int,
    archive: Landing,
    options: DimseOptions,
    stop: threading.Event,
    *,
    holdings: Holdings | None = None,
    metrics: Metrics | None = None,
    ledger: Ledger | None = None,
) -> None:
    """Serve associations until ``stop`` is set, then let the current messages finish.

    Parameters
    ----------
    listener : socket.socket or int
        A listening socket (see :func:`bind`) or its descriptor; other processes may serve it at the same
        time. It stays open.
    archive : Landing
        Where instances go; used from many threads.
    options : DimseOptions
        How to behave.
    stop : threading.Event
        Ends the service; noticed within a quarter of a second.
    holdings : Holdings, optional
        What can be queried; without it the door only takes in.
    metrics : Metrics, optional
        Counts associations and times requests.
    ledger : Ledger, optional
        Counts bytes.
    """
    descriptor = listener if isinstance(listener, int) else listener.fileno()
    with socket.socket(fileno=os.dup(descriptor)) as door:
        door.setblocking(False)
        service = _Door(archive, options, holdings, metrics, ledger)
        poll = select.poll()
        poll.register(door, select.POLLIN)
        try:
            while not stop.is_set():
                if poll.poll(_POLL_SECONDS * 1000):
                    stop.wait(service.hold_back_seconds())
                    service.accept(door)
        finally:
            service.close()


class _Door:
    """The associations of one process."""

    def __init__(
        self,
        archive: Landing,
        options: DimseOptions,
        holdings: Holdings | None,
        metrics: Metrics | None,
        ledger: Ledger | None,
    ) -> None:
        self._options = options
        self._metrics = metrics
        self._ledger = ledger
        store = StoreService(
            archive, largest_instance_bytes=options.largest_instance_bytes, metrics=metrics, ledger=ledger
        )
        services: dict[CommandField, Service] = {CommandField.C_ECHO_RQ: echo, CommandField.C_STORE_RQ: store}
        if holdings is not None:
            prepare()
            services.update(_giving(holdings, options, ledger))
        self._terms = options.terms(SERVED if holdings is not None else ())
        self._services: Mapping[int, Service] = {
            field: _timed(_NAMES[field], guarded(field, service, options.roles, ledger), metrics)
            for field, service in services.items()
        }
        self._threads: dict[Association, threading.Thread] = {}
        self._since: dict[Association, float] = {}
        self._admitted: set[Association] = set()
        self._lock = threading.Lock()

    def hold_back_seconds(self) -> float:
        """How long to leave a new connection to other processes."""
        if self._is_crowded():
            return _POLL_SECONDS
        turn = min(self._options.turn * _TURN_SECONDS, _HOLD_BACK_SECONDS * 0.75)
        if len(self._threads) >= self._options.max_associations:
            return _FULL_HOLD_BACK_SECONDS + turn
        return min(len(self._threads) * _HOLD_BACK_SECONDS, _LONGEST_HOLD_BACK_SECONDS) + turn

    def accept(self, listener: socket.socket) -> None:
        """Take and serve a connection, if no other process has taken it meanwhile."""
        if self._is_crowded():
            self._show_out()
            return
        try:
            connection, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # the peer is gone again, or there are no descriptors left
            self._not_accepted(error)
            return
        try:
            connection.setblocking(True)  # on some systems it inherits that it is not
            if not is_allowed(str(address[0]), self._options.allowed_addresses):
                log.warning("address not allowed", extra={"action": "associate", "peer": str(address[0])})
                self._turned_away("", str(address[0]))
                connection.close()
                return
            if self._options.tls is not None:
                connection.getpeername()  # fails when the peer has gone again: wrapped then, it would stay open
                # The handshake is part of the first read, in the association's own thread and within its time.
                connection = self._options.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._start(Association(connection, str(address[0]), self._services, self._options.timeouts))
        except (OSError, RuntimeError) as error:  # gone, or there are no threads left
            connection.close()
            self._not_accepted(error)

    def _is_crowded(self) -> bool:
        return len(self._threads) >= self._options.max_associations + _NOT_ADMITTED_AT_ONCE

    def _show_out(self) -> None:
        """Cut off those who have connected and said nothing, while others wait for their places."""
        latest = time.monotonic() - _SILENT_SECONDS
        for association, since in list(self._since.items()):
            if since < latest and not association.has_asked:
                association.cut()

    def _admit(self, association: Association) -> bool:
        """Whether there is room for an association whose peer is known; it is taken then."""
        most = self._options.max_associations_of_one
        with self._lock:
            if len(self._admitted) >= self._options.max_associations:
                return False
            if most and sum(one.calling == association.calling for one in self._admitted) >= most:
                return False
            self._admitted.add(association)
        return True

    def _start(self, association: Association) -> None:
        thread = threading.Thread(target=self._run, args=(association,), name="dimse", daemon=True)
        self._threads[association], self._since[association] = thread, time.monotonic()
        try:
            thread.start()
        except RuntimeError:
            self._forget(association)
            raise

    def _forget(self, association: Association) -> None:
        with self._lock:
            self._admitted.discard(association)
        del self._threads[association], self._since[association]

    def _not_accepted(self, error: Exception) -> None:
        log.warning("connection not accepted: %s", error, extra={"action": "associate"})
        time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """End all associations, those in the middle of a message after it."""
        threads = dict(self._threads)
        for association in threads:
            association.stop()
        deadline = time.monotonic() + self._options.stop_seconds
        for association, thread in threads.items():
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                association.cut()
        for thread in threads.values():
            thread.join(self._options.timeouts.linger + 1)

    def _run(self, association: Association) -> None:
        started = time.monotonic()
        ended = "failed"
        try:
            ended = association.run(self._terms, lambda: self._admit(association))
        finally:
            self._forget(association)
            if association.is_stranger:
                self._turned_away(association.calling, association.peer)
            if self._metrics:
                self._metrics.associations.labels(ended).inc()
            log.log(
                _SEVERITY.get(ended, logging.INFO),
                "association %s",
                ended,
                extra={
                    "action": "associate",
                    "peer": association.peer,
                    "calling": association.calling,
                    "messages": association.messages,
                    "why": association.why,
                    "seconds": round(time.monotonic() - started, 3),
                },
            )

    def _turned_away(self, calling: str, peer: str) -> None:
        if self._ledger is not None:
            self._ledger.tell(AuditAction.LOGIN, Party("dimse", calling or peer, peer), AuditOutcome.REFUSED)


def _giving(holdings: Holdings, options: DimseOptions, ledger: Ledger | None) -> Mapping[CommandField, Service]:
    """Services that find and give back what is held."""
    query = FindService(
        holdings.catalog,
        ae_title=options.ae_title,
        relational=options.relational,
        headers=holdings.searcher if options.read_headers else None,
    )
    worklist = WorklistService(holdings.worklist)

    def find(association: Association, command: Command) -> Reply:
        of_worklist = association.contexts[command.context_id].abstract_syntax == MODALITY_WORKLIST
        return (worklist if of_worklist else query)(association, command)

    peers = Directory(options.destinations, holdings.catalog.outgoing, options.certificate)
    retrieve = RetrieveService(
        holdings.catalog,
        holdings.retriever,
        ae_title=options.ae_title,
        relational=options.relational,
        peers=peers,
        timeout_seconds=options.timeouts.network,
        ledger=ledger,
        wait_seconds=options.restore_wait_seconds,
    )
    commitment = CommitmentService(holdings.catalog, holdings.catalog.outgoing, ae_title=options.ae_title, peers=peers)
    return {
        CommandField.N_ACTION_RQ: commitment,
        CommandField.C_FIND_RQ: find,
        CommandField.C_GET_RQ: retrieve.get,
        CommandField.C_MOVE_RQ: retrieve.move,
    }


def _timed(operation: str, service: Service, metrics: Metrics | None) -> Service:
    if metrics is None:
        return service
    seconds = metrics.dimse_seconds

    def timed(association: Association, command: Command) -> Reply | None:
        started = time.perf_counter()
        reply = service(association, command)
        code = reply.status if reply else Status.SUCCESS
        seconds.labels(operation, f"{code:04X}").observe(time.perf_counter() - started)
        return reply

    return timed
