"""C-GET and C-MOVE: instances to the peer, or to another one (PS3.4 C.4.2 and C.4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from leanpacs.catalog import FoundInstance, InstanceRow, Match, Query, Universal, parse_match
from leanpacs.errors import InvalidQuery, LeanPACSError
from leanpacs.services.dimse import status
from leanpacs.services.dimse.association import Association
from leanpacs.services.dimse.counting import counted
from leanpacs.services.dimse.delivery import Courier, Parcel, Sent
from leanpacs.services.dimse.directory import Peers
from leanpacs.services.dimse.find import read_level, require_above
from leanpacs.services.dimse.giving import Giving
from leanpacs.services.dimse.identifiers import Identifier, Writer, read_identifier
from leanpacs.services.dimse.message import Command, Element
from leanpacs.services.dimse.models import MODELS, UNIQUE_KEYS, Model
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.sending import deliver
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.dimse.waiting import wait_for
from leanpacs.services.ledger import Ledger, Party

log = logging.getLogger(__name__)

FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058


class FindingInstances(Protocol):
    """What retrievals need of a catalog."""

    def find_instances(self, query: Query) -> Sequence[FoundInstance]:
        """Instances that match."""
        ...


@dataclass(slots=True)
class Progress:
    """How far the sub-operations of one request are."""

    remaining: int
    completed: int = 0
    warnings: int = 0
    failed: list[str] = field(default_factory=list)

    def elements(self, *, remaining: bool) -> Mapping[int, int | str]:
        """Numbers of sub-operations; those that remain only in responses that are not the last, or when cancelled."""
        numbers: dict[int, int | str] = {
            Element.NUMBER_OF_COMPLETED_SUBOPERATIONS: self.completed,
            Element.NUMBER_OF_FAILED_SUBOPERATIONS: len(self.failed),
            Element.NUMBER_OF_WARNING_SUBOPERATIONS: self.warnings,
        }
        return numbers | {Element.NUMBER_OF_REMAINING_SUBOPERATIONS: self.remaining} if remaining else numbers

    def final(self, writer: Writer, comment: str, *, cancelled: bool) -> Reply:
        """The last response, which names the instances that failed (PS3.4 C.4.2.1.4.2)."""
        if cancelled:
            code = Status.CANCELLED
        elif self.failed and not self.completed and not self.warnings:
            code = Status.NO_SUB_OPERATION_POSSIBLE
        elif self.failed or self.warnings:
            code = Status.SUB_OPERATIONS_FAILED
        else:
            code = Status.SUCCESS
        listed = None
        if self.failed:
            listed = writer.write([(FAILED_SOP_INSTANCE_UID_LIST, "UI", "\\".join(self.failed))])
        return Reply(code, comment, listed, self.elements(remaining=cancelled))


class _Job:
    """One request while it is worked on: sends parcels, reports, notices when it is cancelled."""

    def __init__(self, association: Association, command: Command, parcels: Sequence[Parcel]) -> None:
        self.association = association
        self.command = command
        self.parcels = parcels
        self.progress = Progress(len(parcels))
        self.cancelled = False
        self.comment = ""

    def meanwhile(self, received: Command) -> None:
        """Note what came instead of a response."""
        self.cancelled = self.association.is_cancellation(received, self.command) or self.cancelled

    def is_cancelled(self) -> bool:
        """Whether the peer wants no more."""
        self.cancelled = self.cancelled or self.association.is_cancelled(self.command)
        return self.cancelled

    def note(self, parcel: Parcel, sent: Sent, *, hold: bool = False) -> None:
        """Count an instance, and report; with ``hold`` along with the next message on the association."""
        if sent.is_success:
            self.progress.completed += 1
        elif sent.is_warning:
            self.progress.warnings += 1
        else:
            self.progress.failed.append(parcel.sop_uid)
            self.comment = sent.reason or f"status {sent.status or 0:04X}"
        self.report(hold=hold)

    def goes_on(self) -> bool:
        """Tell the peer that nothing is sent yet; whether it still wants it."""
        if not self.is_cancelled():
            self.association.respond(self.command, Reply(Status.PENDING, more=self.progress.elements(remaining=True)))
        return not self.cancelled

    def report(self, *, hold: bool = False) -> None:
        """Tell the peer how far it is."""
        self.progress.remaining -= 1
        pending = Reply(Status.PENDING, more=self.progress.elements(remaining=True))
        if self.progress.remaining:
            self.association.respond(self.command, pending, hold=hold)


class RetrieveService:
    """Answers C-GET and C-MOVE requests.

    Parameters
    ----------
    catalog : FindingInstances
        What is held.
    archive : Giving
        Gives it.
    ae_title : str
        By which it is sent.
    relational : bool
        Whether a request may leave out the unique keys of higher levels.
    peers : Peers
        Known destinations of moves.
    timeout_seconds : float
        How long a destination may take.
    ledger : Ledger, optional
        Where bytes are counted.
    wait_seconds : float
        How long to wait for what must be brought back from an archive class.
    """

    def __init__(
        self,
        catalog: FindingInstances,
        archive: Giving,
        *,
        ae_title: str,
        relational: bool,
        peers: Peers,
        timeout_seconds: float,
        ledger: Ledger | None = None,
        wait_seconds: float = 0.0,
    ) -> None:
        self._catalog = catalog
        self._archive = archive
        self._ae_title = ae_title
        self._relational = relational
        self._peers = peers
        self._timeout_seconds = timeout_seconds
        self._ledger = ledger
        self._wait_seconds = wait_seconds

    def get(self, association: Association, command: Command) -> Reply:
        """Send what is asked for on the association that it is asked on."""
        party = Party("dimse", association.calling, association.peer)
        return self._retrieve(association, command, "get", self._send_back, party)

    def move(self, association: Association, command: Command) -> Reply:
        """Send what is asked for to a known destination."""
        title = command.text(Element.MOVE_DESTINATION)
        try:
            peer = self._peers.get(title)
        except LeanPACSError as error:
            log.warning("move failed: %s", error, extra={"action": "move", "calling": association.calling})
            return status.of_error(error)
        if peer is None:
            extra = {"action": "move", "calling": association.calling, "destination": title}
            log.warning("unknown destination: `leanpacs destination add` makes it known", extra=extra)
            return Reply(Status.MOVE_DESTINATION_UNKNOWN, f"{title} is no destination that is known here")
        party = Party("dimse", peer.ae_title, peer.host)
        return self._retrieve(association, command, "move", partial(self._send_to, peer), party)

    def _retrieve(
        self,
        association: Association,
        command: Command,
        operation: str,
        send: Callable[[_Job], None],
        receiver: Party,
    ) -> Reply:
        context = association.contexts[command.context_id]
        model = MODELS.get(context.abstract_syntax)
        if model is None or model.operation != operation:
            return Reply(Status.SOP_CLASS_NOT_SUPPORTED)
        try:
            identifier = read_identifier(association.data_set(), context.transfer_syntax)
            found = self._catalog.find_instances(read_retrieval(identifier, model, relational=self._relational))
        except LeanPACSError as error:
            log.warning("retrieval failed: %s", error, extra={"action": operation, "calling": association.calling})
            return status.of_error(error)
        rows = sorted(found, key=lambda row: (row.held.series_id, row.instance.instance_number or 0, row.held.id))
        archive = counted(self._archive, self._ledger, receiver)
        archive.expect([row.held for row in rows])
        job = _Job(association, command, [parcel_of(row.held, archive) for row in rows])
        wait_for(rows, self._archive.bring, self._wait_seconds, job.goes_on)
        send(job)
        if job.progress.failed:
            self._tell(job, operation, receiver)
        return job.progress.final(Writer(context.transfer_syntax), job.comment, cancelled=job.cancelled)

    @staticmethod
    def _tell(job: _Job, operation: str, receiver: Party) -> None:
        """Tell the log, once for a request, what did not get where it should: the last reason stands for all."""
        extra = {
            "action": operation,
            "calling": job.association.calling,
            "destination": receiver.client,
            "failed": len(job.progress.failed),
            "count": job.progress.completed + job.progress.warnings,
        }
        log.warning("not all was sent: %s", job.comment, extra=extra)

    def _send_back(self, job: _Job) -> None:
        association = job.association
        contexts = [context for context in association.contexts.values() if context.peer_stores]
        courier = Courier(association.exchange, contexts, self._preferred(association.calling), job.meanwhile)
        for number, parcel in enumerate(job.parcels, 1):
            if job.is_cancelled():
                return
            job.note(parcel, courier.send(parcel, coming=job.parcels[number:]), hold=True)

    def _preferred(self, ae_title: str) -> tuple[str, ...]:
        """Transfer syntaxes that a peer prefers, where it is a known destination."""
        try:
            peer = self._peers.get(ae_title)
        except LeanPACSError as error:  # it gets what it asks for all the same
            log.warning("destination: %s", error, extra={"action": "get", "calling": ae_title})
            return ()
        return peer.prefer if peer else ()

    def _send_to(self, peer: Peer, job: _Job) -> None:
        originator: dict[int, int | str] = {
            Element.MOVE_ORIGINATOR_AE_TITLE: job.association.calling,
            Element.MOVE_ORIGINATOR_MESSAGE_ID: job.command.message_id,
        }
        results = deliver(
            peer,
            self._ae_title,
            job.parcels,
            more=originator,
            stop=job.is_cancelled,
            timeout_seconds=self._timeout_seconds,
        )
        with closing(results):  # also when who asked is gone meanwhile
            for parcel, sent in results:
                job.note(parcel, sent)


def parcel_of(held: InstanceRow, archive: Giving) -> Parcel:
    """An instance of an archive, to be sent."""
    return Parcel(
        held.sop_class,
        held.sop_uid,
        held.transfer_syntax,
        lambda uid: archive.data_set(held, uid),
        lambda uid: archive.data_set_soon(held, uid),
        held.data_set_length,
        lambda among: archive.at_hand(held, among),
    )


def read_retrieval(identifier: Identifier, model: Model, *, relational: bool) -> Query:
    """The instances that an identifier names.

    Raises
    ------
    InvalidQuery
        It lacks the unique key of its level, or one of those above where relational retrievals are not allowed; or
        one of them is empty or a pattern (PS3.4 C.4.2.2.1).
    """
    level = read_level(identifier, model)
    if not relational:
        require_above(identifier, model, level)
    wanted = {UNIQUE_KEYS[one] for one in (*model.above(level), level)}
    filters: dict[str, Match] = {}
    for key in identifier.keys.values():
        if key.keyword in wanted and key.text:
            match = parse_match(key.keyword, key.vr, key.text)
            if isinstance(match, Universal) or any(special in key.text for special in "*?"):
                raise InvalidQuery(key.keyword, "has to be a value, not a pattern")
            filters[key.keyword] = match
    if UNIQUE_KEYS[level] not in filters:
        raise InvalidQuery(UNIQUE_KEYS[level], f"is needed to retrieve at the level {level}")
    return Query("instance", filters)
