"""Storage commitment, push model: who asks is told what is durably held (PS3.4 annex J).

Answered from committed rows of the catalog alone, which refer to durable blobs only. The report goes out on the
association of the request, right after its response; or on a new one where the settings say so, and when the peer has
left meanwhile.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from leanpacs.catalog import InstanceRow
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.errors import LeanPACSError
from leanpacs.services.dimse import status
from leanpacs.services.dimse.association import Association
from leanpacs.services.dimse.exchange import Exchange
from leanpacs.services.dimse.identifiers import LONGEST_BYTES
from leanpacs.services.dimse.message import SOME_DATA_SET, Command, CommandField, Element, encode
from leanpacs.services.dimse.requester import Peer, Unreachable, associated
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.dimse.transport import Aborted, AbortReason, Disconnected, Released, Silence, Violation

log = logging.getLogger(__name__)

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
REQUEST_STORAGE_COMMITMENT: Final = 1
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
ATTEMPTS: Final = 5
RETRY_SECONDS: Final = 30.0
"""Before a report is tried again; twice as long each time."""

_SUCCESSFUL, _WITH_FAILURES = 1, 2
_ENDS = (Aborted, Disconnected, Released, Silence, Violation)


class Durable(Protocol):
    """What commitments need of a catalog."""

    def instances(
        self, *, study_uid: str | None = None, series_uid: str | None = None, sop_uid: str | None = None
    ) -> Sequence[InstanceRow]:
        """The instances that have all the UIDs given."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What is committed to, and what not, with the reasons."""

    transaction_uid: str
    held: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, int], ...]

    @property
    def event_type(self) -> int:
        """Event Type ID (PS3.4 table J.3-3)."""
        return _WITH_FAILURES if self.failed else _SUCCESSFUL

    def data_set(self, transfer_syntax: str, ae_title: str) -> bytes:
        """Event information, encoded."""
        ds = Dataset()
        ds.TransactionUID = self.transaction_uid
        ds.RetrieveAETitle = ae_title
        if self.held:
            ds.ReferencedSOPSequence = Items([_reference(*names) for names in self.held])
        if self.failed:
            ds.FailedSOPSequence = Items([_reference(*names) for names in self.failed])
        stream = DicomBytesIO()
        stream.is_implicit_VR = transfer_syntax == IMPLICIT_LE
        stream.is_little_endian = transfer_syntax != EXPLICIT_BE
        write_dataset(stream, ds)
        return stream.getvalue()


def _reference(sop_class: str, sop_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class), UID(sop_uid)
    if reason is not None:
        item.FailureReason = reason
    return item


def check(transaction_uid: str, references: Sequence[tuple[str, str]], catalog: Durable) -> Report:
    """Look up each reference, a SOP class and a SOP instance, among what is committed."""
    held: list[tuple[str, str]] = []
    failed: list[tuple[str, str, int]] = []
    for sop_class, sop_uid in references:
        rows = catalog.instances(sop_uid=sop_uid)
        if not rows:
            failed.append((sop_class, sop_uid, NO_SUCH_OBJECT_INSTANCE))
        elif rows[0].sop_class != sop_class:
            failed.append((sop_class, sop_uid, CLASS_INSTANCE_CONFLICT))
        else:
            held.append((sop_class, sop_uid))
    return Report(transaction_uid, tuple(held), tuple(failed))


class CommitmentService:
    """Answers N-ACTION requests for storage commitment, and reports.

    Parameters
    ----------
    catalog : Durable
        What is committed.
    ae_title : str
        By which what is held can be retrieved, and by which reports on new associations are sent.
    destinations : mapping of str to Peer
        Where reports go, by AE title, that cannot or shall not go out on the association of the request.
    timeout_seconds : float
        How long a peer may take.
    start : callable
        Runs a function in the background, after some seconds.
    """

    def __init__(
        self,
        catalog: Durable,
        *,
        ae_title: str,
        destinations: Mapping[str, Peer],
        timeout_seconds: float,
        start: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._catalog = catalog
        self._ae_title = ae_title
        self._destinations = destinations
        self._timeout_seconds = timeout_seconds
        self._start = start or _in_background

    def __call__(self, association: Association, command: Command) -> Reply | None:
        """Take the request, answer it, and report."""
        context = association.contexts[command.context_id]
        if context.abstract_syntax != STORAGE_COMMITMENT:
            return Reply(Status.SOP_CLASS_NOT_SUPPORTED)
        if command.sop_uid != WELL_KNOWN_INSTANCE:
            return Reply(Status.NO_SUCH_SOP_INSTANCE, command.sop_uid)
        if command.number(Element.ACTION_TYPE_ID, 0) != REQUEST_STORAGE_COMMITMENT:
            return Reply(Status.NO_SUCH_ACTION)
        encoded = bytearray()
        for part in association.data_set():
            if len(encoded) + len(part) > LONGEST_BYTES:
                return Reply(Status.INVALID_ARGUMENT_VALUE, "the list is too long")
            encoded += part
        try:
            transaction_uid, references = _read(bytes(encoded), context.transfer_syntax)
        except ValueError as error:
            return Reply(Status.INVALID_ARGUMENT_VALUE, str(error))
        try:
            report = check(transaction_uid, references, self._catalog)
        except LeanPACSError as error:
            log.warning("commitment failed: %s", error, extra={"action": "commit", "calling": association.calling})
            return status.of_error(error)
        log.info(
            "storage commitment",
            extra={
                "action": "commit",
                "calling": association.calling,
                "count": len(report.held),
                "failed": len(report.failed),
            },
        )
        association.respond(command, Reply(Status.SUCCESS))
        peer = self._destinations.get(association.calling)
        if peer is not None and peer.reports_apart:
            self._start(0.0, lambda: self._report_apart(peer, report, 1))
            return None
        try:
            self._send(association.exchange, command.context_id, context.transfer_syntax, report)
        except _ENDS:
            if peer is None:
                log.warning("report not sent", extra={"action": "commit", "calling": association.calling})
            else:
                self._start(0.0, lambda: self._report_apart(peer, report, 1))
            raise
        return None

    def _send(self, exchange: Exchange, context_id: int, transfer_syntax: str, report: Report) -> None:
        """Send a report and wait until it is acknowledged."""
        elements: dict[int, int | str] = {
            Element.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
            Element.COMMAND_FIELD: CommandField.N_EVENT_REPORT_RQ,
            Element.MESSAGE_ID: 1,
            Element.COMMAND_DATA_SET_TYPE: SOME_DATA_SET,
            Element.AFFECTED_SOP_INSTANCE_UID: WELL_KNOWN_INSTANCE,
            Element.EVENT_TYPE_ID: report.event_type,
        }
        exchange.send(context_id, encode(elements), (report.data_set(transfer_syntax, self._ae_title),))
        answer = exchange.receive()
        exchange.skip_data_set()
        if answer.field != CommandField.N_EVENT_REPORT_RQ | 0x8000:
            raise Violation(AbortReason.UNEXPECTED_PDU, f"command field {answer.field:#06x} instead of a response")

    def _report_apart(self, peer: Peer, report: Report, attempt: int) -> None:
        offers = [(STORAGE_COMMITMENT, EXPLICIT_LE), (STORAGE_COMMITMENT, IMPLICIT_LE)]
        roles = {STORAGE_COMMITMENT: (False, True)}
        try:
            with associated(
                peer, self._ae_title, offers, roles=roles, timeout_seconds=self._timeout_seconds
            ) as exchange:
                if not exchange.contexts:
                    raise Unreachable(f"{peer.ae_title} takes no reports of storage commitment")
                context = next(iter(exchange.contexts.values()))
                self._send(exchange, context.context_id, context.transfer_syntax, report)
        except (Unreachable, *_ENDS) as error:
            log.warning("report not sent: %s", error, extra={"action": "commit", "calling": peer.ae_title})
            if attempt < ATTEMPTS:
                wait = RETRY_SECONDS * 2 ** (attempt - 1)
                self._start(wait, lambda: self._report_apart(peer, report, attempt + 1))


def _read(encoded: bytes, transfer_syntax: str) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and references of action information; raises ValueError where they are not there."""
    try:
        ds = read_dataset(io.BytesIO(encoded), transfer_syntax == IMPLICIT_LE, transfer_syntax != EXPLICIT_BE)
        transaction_uid = str(ds.get("TransactionUID") or "")
        references = [
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in ds.get("ReferencedSOPSequence") or ()
        ]
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise ValueError("the action information cannot be read") from error
    if not transaction_uid or not references:
        raise ValueError("Transaction UID or Referenced SOP Sequence is missing")
    return transaction_uid, references


def _in_background(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
