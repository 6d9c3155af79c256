"""Storage commitment, push model: who asks is told what is durably held (PS3.4 annex J).

Answered from committed rows of the catalog alone, which refer to durable blobs only. The report goes out on the
association of the request, right after its response; or on a new one where the destination says so, and when the
peer has left meanwhile.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from leanpacs.services.dimse.directory import Peers
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
SAME_ASSOCIATION: Final = timedelta(seconds=180)
"""After which a report is sent on an association of its own, if it was not acknowledged on that of its request."""

_SUCCESSFUL, _WITH_FAILURES = 1, 2
_UNANSWERED: Final = "not acknowledged before the association ended"
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


class Owed(Protocol):
    """What notes reports that are owed, so that a restart forgets none."""

    def ask_commitment(
        self,
        destination: str,
        transaction_uid: str,
        instances: Sequence[tuple[str, str]],
        *,
        now: datetime,
        due_at: datetime,
    ) -> int:
        """Note that a report is owed; its key."""
        ...

    def end_commitment(self, key: int) -> None:
        """It is delivered."""
        ...

    def put_off_commitment(self, key: int, due_at: datetime, reason: str) -> None:
        """It is to be tried again from then on."""
        ...


class CommitmentService:
    """Answers N-ACTION requests for storage commitment, and reports.

    What is owed to a known destination is noted before the request is answered. Reports that cannot or shall not go
    out on the association of the request are left to a `leanpacs.services.dimse.dispatch.Dispatcher`.

    Parameters
    ----------
    catalog : Durable
        What is committed.
    owed : Owed
        Where it is noted.
    ae_title : str
        By which what is held can be retrieved.
    peers : Peers
        Known destinations.
    """

    def __init__(self, catalog: Durable, owed: Owed, *, ae_title: str, peers: Peers) -> None:
        self._catalog = catalog
        self._owed = owed
        self._ae_title = ae_title
        self._peers = peers

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
            peer = self._peers.get(association.calling)
            apart = peer is not None and peer.reports_apart
            key = None if peer is None else self._note(peer, transaction_uid, references, apart=apart)
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
        if not apart:
            self._report(association, command, report, key)
        return None

    def _note(self, peer: Peer, transaction_uid: str, references: Sequence[tuple[str, str]], *, apart: bool) -> int:
        now = datetime.now(UTC)
        due_at = now if apart else now + SAME_ASSOCIATION
        return self._owed.ask_commitment(peer.ae_title, transaction_uid, references, now=now, due_at=due_at)

    def _report(self, association: Association, command: Command, report: Report, key: int | None) -> None:
        """Report on the association of the request, which goes on: the peer may ask again before it answers."""
        syntax = association.contexts[command.context_id].transfer_syntax

        def answered(is_taken: bool) -> None:
            try:
                if key is not None and is_taken:
                    self._owed.end_commitment(key)
                elif key is not None:
                    self._owed.put_off_commitment(key, datetime.now(UTC), _UNANSWERED)
                elif not is_taken:
                    log.warning("report %s", _UNANSWERED, extra={"action": "commit", "calling": association.calling})
            except LeanPACSError as error:  # it is delivered once more
                log.warning("commitment: %s", error, extra={"action": "commit", "calling": association.calling})

        association.report(command.context_id, _event(report), report.data_set(syntax, self._ae_title), answered)


def _event(report: Report) -> dict[int, int | str]:
    """Elements of the command set of a report, beside Message ID."""
    return {
        Element.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
        Element.COMMAND_FIELD: CommandField.N_EVENT_REPORT_RQ,
        Element.COMMAND_DATA_SET_TYPE: SOME_DATA_SET,
        Element.AFFECTED_SOP_INSTANCE_UID: WELL_KNOWN_INSTANCE,
        Element.EVENT_TYPE_ID: report.event_type,
    }


def _send_report(exchange: Exchange, context_id: int, data_set: bytes, report: Report) -> None:
    """Send a report on an association and wait until it is acknowledged; raises what ends associations."""
    exchange.send(context_id, encode({**_event(report), Element.MESSAGE_ID: 1}), (data_set,))
    answer = exchange.receive()
    exchange.skip_data_set()
    if answer.field != CommandField.N_EVENT_REPORT_RQ | 0x8000:
        raise Violation(AbortReason.UNEXPECTED_PDU, f"command field {answer.field:#06x} instead of a response")


def report_apart(peer: Peer, report: Report, *, ae_title: str, timeout_seconds: float) -> None:
    """Send a report on an association of its own, in which this side proposes the SCP role.

    Raises
    ------
    Unreachable
        There is no association, it takes no reports, or it broke.
    """
    offers = [(STORAGE_COMMITMENT, EXPLICIT_LE), (STORAGE_COMMITMENT, IMPLICIT_LE)]
    roles = {STORAGE_COMMITMENT: (False, True)}
    try:
        with associated(peer, ae_title, offers, roles=roles, timeout_seconds=timeout_seconds) as exchange:
            if not exchange.contexts:
                raise Unreachable(f"{peer.ae_title} takes no reports of storage commitment")
            context = next(iter(exchange.contexts.values()))
            data_set = report.data_set(context.transfer_syntax, ae_title)
            _send_report(exchange, context.context_id, data_set, report)
    except _ENDS as error:
        raise Unreachable(f"{peer.ae_title}: the association broke: {error}") from error


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
