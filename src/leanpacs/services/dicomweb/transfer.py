"""One store request on its way: from received bytes to reports, in batches.

Everything here is synchronous; the HTTP side calls it in threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from leanpacs.archive.intake.incoming import Incoming, Receipt
from leanpacs.dicom.instance import scan
from leanpacs.errors import DicomError, LeanPACSError, StoreFull
from leanpacs.services.dicomweb import storeresponse
from leanpacs.services.dicomweb.receive import BrokenBody, ReceivedPart, Receiver, remove_files
from leanpacs.services.dicomweb.storeresponse import FailureReason, PartReport

if TYPE_CHECKING:
    from leanpacs.telemetry import Metrics

_log = logging.getLogger(__name__)

_BATCH_PARTS: Final = 32
_BATCH_BYTES: Final = 64 << 20
_SOP_CLASS, _SOP_UID, _STUDY_UID = 0x00080016, 0x00080018, 0x0020000D


class Lander(Protocol):
    """What storing needs of the archive."""

    @property
    def spool_folder(self) -> Path:
        """Where received files are written."""

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        """Take files over; they are durable and committed when this returns."""


class Transfer:
    """Takes the body of one store request; lands its parts in batches while the client waits with the rest.

    Parameters
    ----------
    archive : Lander
        Where the parts go.
    receiver : Receiver
        Reads the body; owned by the transfer.
    sender : str
        Address of the client.
    study_uid : str
        All instances have to be of this study; '' when any will do.
    metrics : Metrics, optional
        Where received instances are counted.
    """

    def __init__(
        self,
        archive: Lander,
        receiver: Receiver,
        sender: str,
        study_uid: str = "",
        metrics: Metrics | None = None,
    ) -> None:
        self._archive = archive
        self._receiver = receiver
        self._sender = sender
        self._study_uid = study_uid
        self._metrics = metrics
        self._waiting: list[ReceivedPart] = []
        self._reports: list[PartReport] = []
        self._stopped = False

    def take(self, data: bytes) -> None:
        """Take the next bytes of the body; after a fault that ends it, they are passed over."""
        if not self._stopped:
            self._advance(lambda: self._receiver.feed(data))

    def end(self) -> list[PartReport]:
        """Take note of the end of the body.

        Returns
        -------
        list of PartReport
            One for each part, in order; one more when the body ended in a fault.
        """
        if not self._stopped:
            self._advance(self._receiver.finish)
        while self._waiting:
            self._land()
        return sorted(self._reports, key=lambda report: report.number)

    def discard(self) -> None:
        """Remove every file that the archive has not taken over; to be called in any case."""
        remove_files(self._waiting)
        self._receiver.discard()

    def _advance(self, step: Callable[[], None]) -> None:
        fault: tuple[FailureReason, str] | None = None
        try:
            step()
        except BrokenBody as error:
            fault = FailureReason.NOT_UNDERSTOOD, str(error)
        except StoreFull as error:
            fault = FailureReason.OUT_OF_RESOURCES, str(error)
        self._accept(self._receiver.completed())
        if fault is not None:
            self._stopped = True
            self._reports.append(PartReport(self._count() + 1, failure=fault[0], reason=fault[1]))

    def _accept(self, parts: Iterable[ReceivedPart]) -> None:
        for part in parts:
            if part.path is None:
                reason = FailureReason.OUT_OF_RESOURCES if part.too_large else FailureReason.NOT_UNDERSTOOD
                self._reports.append(
                    PartReport(part.number, part.sop_class, part.sop_uid, failure=reason, reason=part.refusal)
                )
            else:
                self._waiting.append(part)
        while len(self._waiting) >= _BATCH_PARTS or self._waiting_bytes() >= _BATCH_BYTES:
            self._land()

    def _waiting_bytes(self) -> int:
        return sum(part.size_bytes for part in self._waiting)

    def _count(self) -> int:
        return len(self._reports) + len(self._waiting)

    def _land(self) -> None:
        """Hand a batch to the archive, but not the parts of another study than the one named."""
        taken, self._waiting = self._waiting[:_BATCH_PARTS], self._waiting[_BATCH_PARTS:]
        others = [report for part in taken if (report := self._other_study(part))]
        barred = {report.number for report in others}
        try:
            self._reports += others + self._landed([part for part in taken if part.number not in barred])
        finally:
            remove_files(taken)  # those that the archive took over are not there any more

    def _landed(self, batch: Sequence[ReceivedPart]) -> list[PartReport]:
        if not batch:
            return []
        incoming = [Incoming(_path(part), self._sender, "stow", name=f"part {part.number}") for part in batch]
        try:
            started = time.perf_counter()
            receipts = self._archive.land_many(incoming)
            self._measure(receipts, time.perf_counter() - started)
        except LeanPACSError as error:
            _log.warning("store failed: %s", error, extra={"action": "store", "sender": self._sender})
            reason = storeresponse.reason_of(error)
            return [PartReport(part.number, failure=reason, reason=str(error)) for part in batch]
        return [storeresponse.of_receipt(part.number, receipt) for part, receipt in zip(batch, receipts, strict=True)]

    def _measure(self, receipts: Sequence[Receipt], seconds: float) -> None:
        if self._metrics is None:
            return
        for receipt in receipts:
            self._metrics.received.labels("stow", receipt.outcome.value).inc()
            self._metrics.received_bytes.labels("stow").inc(receipt.size_bytes)
            self._metrics.land_seconds.labels("stow").observe(seconds)

    def _other_study(self, part: ReceivedPart) -> PartReport | None:
        """Report of a part that is of another study; None when it is of the right one or is not readable."""
        if not self._study_uid:
            return None
        try:
            with _path(part).open("rb") as file:
                elements = scan(file, wanted=(_SOP_CLASS, _SOP_UID, _STUDY_UID)).elements
        except DicomError:
            return None
        sop_class, sop_uid, study_uid = (
            elements[tag].value.decode("ascii", "replace").strip(" \0") if tag in elements else ""
            for tag in (_SOP_CLASS, _SOP_UID, _STUDY_UID)
        )
        if study_uid == self._study_uid:
            return None
        text = f"is of study {study_uid}" if study_uid else "names no study"
        return PartReport(
            part.number,
            sop_class,
            sop_uid,
            failure=FailureReason.OTHER_STUDY,
            reason=f"{text}, not {self._study_uid}",
        )


def _path(part: ReceivedPart) -> Path:
    assert part.path is not None
    return part.path
