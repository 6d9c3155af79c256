"""Landing: what happens to a received file before its sender is told that it is safe.

The order is the promise: the bytes are durable in the store, then the catalog names them in one committed
transaction, then the sender is answered. Nothing is encoded here; settling does that later.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Literal, cast

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.catalog import Arrival, Catalog, DuplicateInstance, InstanceRow, Landing, Transaction
from leanpacs.config import DuplicatePolicy, IngestSettings
from leanpacs.dicom.attributes import InstanceIndex, index
from leanpacs.dicom.instance import Layout, scan
from leanpacs.errors import DicomError, StoreFull, StoreUnavailable
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.local import LocalStore

log = logging.getLogger(__name__)

Door = Literal["dimse", "stow", "import"]
READ_BYTES = 1 << 20
LOOK_SECONDS = 0.25


class Outcome(StrEnum):
    """What became of one received instance."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same data set was held already; nothing was stored."""
    REPLACED = "replaced"
    KEPT_BOTH = "kept both"
    """Other bytes under a UID that is held; kept aside in the quarantine."""
    REFUSED = "refused"
    """Other bytes under a UID that is held; not kept."""
    QUARANTINED = "quarantined"
    """Does not read as DICOM; kept aside."""


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of a whole file, and of what follows its first ``preface_length`` bytes: the data set."""

    preface_length: int
    file: Digest
    data_set: Digest


@dataclass(frozen=True, slots=True)
class Incoming:
    """One received file, complete and closed.

    Parameters
    ----------
    path : Path
        The file, in the archive's spool folder; the archive takes it over.
    sender : str
        AE title, address or folder it came from.
    door : str
        Which way it came.
    transfer_syntax : str, optional
        UID negotiated for it, when its bytes do not say so themselves.
    name : str
        What people know it by (a file name), for reports.
    stays : bool
        The file belongs to somebody else, may be anywhere, and is copied instead of taken over.
    digests : Digests, optional
        Where the door has computed them while the bytes came in.
    """

    path: Path
    sender: str
    door: Door
    transfer_syntax: str | None = None
    name: str = ""
    stays: bool = False
    digests: Digests | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to one :class:`Incoming`; UIDs are '' when it could not be read."""

    outcome: Outcome
    size_bytes: int
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A file that was read and is durable, to be named in the catalog; ``index`` is None when it is no DICOM."""

    incoming: Incoming
    blob: BlobRef
    index: InstanceIndex | None
    landing: Landing | None
    reason: str


class Ingest:
    """Takes received files into the archive.

    Parameters
    ----------
    store : LocalStore
        Where landed files rest.
    catalog : Catalog
        Where they are named.
    settings : IngestSettings
        What to do with duplicates, and how much may wait to be settled.
    audit : AuditTrail
        Told of what is refused, replaced or put in quarantine.
    grace : timedelta
        How long what is replaced stays before it is swept.
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        store: LocalStore,
        catalog: Catalog,
        settings: IngestSettings,
        audit: AuditTrail,
        *,
        grace: timedelta,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._audit = audit
        self._grace = grace
        self._step = step
        self._gate = BacklogGate(catalog, settings)

    def land(self, incoming: Incoming) -> Receipt:
        """Land one file; see :meth:`land_many`."""
        return self.land_many([incoming])[0]

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        """Make files durable and name them in the catalog, in one transaction.

        Returns
        -------
        list of Receipt
            One for each file, in order. All of them hold when this returns.

        Raises
        ------
        StorageError, CatalogError
            Nothing is promised for any of them, and nothing of them stays.
        """
        try:
            self._gate.wait()
            prepared = [self._prepare(incoming) for incoming in batch]
            self._step("adopted")
            with self._catalog.writing() as transaction:
                receipts = [self._record(transaction, item) for item in prepared]
                self._step("recorded")
            self._step("committed")
            self._tell(batch, receipts)
            return receipts
        finally:
            for incoming in batch:
                if not incoming.stays:
                    incoming.path.unlink(missing_ok=True)

    def _prepare(self, incoming: Incoming) -> _Prepared | Receipt:
        """Read one file and make it durable, unless what it holds is here already."""
        size = incoming.path.stat().st_size
        try:
            with incoming.path.open("rb") as reader:
                layout = scan(
                    reader,
                    transfer_syntax=incoming.transfer_syntax,
                    spool=self._scratch,
                    inflate_limit_bytes=self._settings.largest_inflated_bytes,
                )
                digests = incoming.digests
                if digests is None or digests.preface_length != layout.preface_length:
                    digests = _digests(reader, layout.preface_length)
            file_digest, data_set_digest = digests.file, digests.data_set
            found = index(layout, data_set_digest)
        except DicomError as error:
            blob = self._take(incoming, None)
            return _Prepared(incoming, blob, None, None, str(error))
        if incoming.stays and (receipt := self._known(found, data_set_digest, size)) is not None:
            return receipt
        self._step("read")
        blob = self._take(incoming, file_digest)
        return _Prepared(incoming, blob, found, _landing(incoming, layout, blob, data_set_digest), "")

    def _known(self, found: InstanceIndex, data_set_digest: Digest, size_bytes: int) -> Receipt | None:
        """Answer for what need not be copied: an import that is run again finds most of it here.

        Spooled files are not looked up: they are only renamed, and `_record` asks the same question.
        """
        held = self._catalog.instances(sop_uid=found.sop_uid)
        if held and held[0].data_set_digest == data_set_digest:
            return _receipt(Outcome.DUPLICATE, found, size_bytes)
        if held and self._settings.duplicates is DuplicatePolicy.REFUSE:
            return _receipt(Outcome.REFUSED, found, size_bytes, _OTHER_BYTES)
        return None

    def _scratch(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._store.spool_folder()))

    def _take(self, incoming: Incoming, digest: Digest | None) -> BlobRef:
        """Make the file durable in the store."""
        if not incoming.stays:
            return self._store.adopt(incoming.path, digest)
        with incoming.path.open("rb") as source, self._store.writer() as writer:
            shutil.copyfileobj(source, writer.file, READ_BYTES)
            blob = writer.commit()
        if digest not in (None, blob.digest):
            raise StoreUnavailable(f"{incoming.name} changed while it was read; import it again")
        return blob

    def _record(self, transaction: Transaction, item: _Prepared | Receipt) -> Receipt:
        """Name one durable file in the catalog."""
        if isinstance(item, Receipt):
            return item
        if not self._store.exists(item.blob.digest):
            # Swept between being adopted and now: it was there already, and nobody referred to it.
            raise StoreUnavailable(f"blob {item.blob.digest} was swept while it was being taken in; send it again")
        if item.index is None or item.landing is None:
            return self._quarantined(transaction, item, Receipt(Outcome.QUARANTINED, item.blob.size_bytes))
        try:
            transaction.land(item.index, item.landing)
        except DuplicateInstance as duplicate:
            return self._duplicate(transaction, item, item.index, item.landing, duplicate.existing)
        return _receipt(Outcome.STORED, item.index, item.blob.size_bytes)

    def _duplicate(
        self,
        transaction: Transaction,
        item: _Prepared,
        found: InstanceIndex,
        landing: Landing,
        existing: InstanceRow,
    ) -> Receipt:
        """Decide about a SOP Instance UID that is held already."""
        size, now = item.blob.size_bytes, landing.arrival.received_at
        if existing.data_set_digest == landing.arrival.data_set_digest:
            transaction.discard(item.blob, now=now, due_at=now)
            return _receipt(Outcome.DUPLICATE, found, size)
        match self._settings.duplicates:
            case DuplicatePolicy.REFUSE:
                transaction.discard(item.blob, now=now, due_at=now)
                return _receipt(Outcome.REFUSED, found, size, _OTHER_BYTES)
            case DuplicatePolicy.KEEP:
                receipt = _receipt(Outcome.KEPT_BOTH, found, size, _OTHER_BYTES)
                return self._quarantined(transaction, item, receipt)
            case DuplicatePolicy.REPLACE:
                transaction.replace_instance(
                    found, landing, actor=item.incoming.sender, reason=_OTHER_BYTES, due_at=now + self._grace
                )
                return _receipt(Outcome.REPLACED, found, size, _OTHER_BYTES)

    def _quarantined(self, transaction: Transaction, item: _Prepared, receipt: Receipt) -> Receipt:
        reason = item.reason or receipt.reason
        transaction.quarantine(
            item.blob,
            name=item.incoming.name,
            sender=item.incoming.sender,
            door=item.incoming.door,
            reason=reason,
            now=datetime.now(UTC),
        )
        return replace(receipt, reason=reason)

    def _tell(self, batch: Sequence[Incoming], receipts: Sequence[Receipt]) -> None:
        """Log and put on the audit trail whatever was not simply stored."""
        told = [pair for pair in zip(batch, receipts, strict=True) if pair[1].outcome not in _UNREMARKABLE]
        for incoming, receipt in told:
            extra = {"action": "store", "sender": incoming.sender, "sop_uid": receipt.sop_uid}
            log.warning("%s: %s", receipt.outcome, receipt.reason, extra=extra)
        if told:
            self._audit.record(*(_audit_event(incoming, receipt) for incoming, receipt in told))


_UNREMARKABLE = (Outcome.STORED, Outcome.DUPLICATE)
_OTHER_BYTES = "other bytes are held under this SOP Instance UID"


class BacklogGate:
    """Makes senders wait while too much has landed that is not settled yet."""

    def __init__(self, catalog: Catalog, settings: IngestSettings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._waiting_bytes = 0

    def wait(self) -> None:
        """Return as soon as the backlog is below its limit.

        Raises
        ------
        StoreFull
            If it is not after ``backlog_wait_seconds``; nothing was taken, the sender may come again.
        """
        deadline = time.monotonic() + self._settings.backlog_wait_seconds
        while self._backlog_bytes() > self._settings.backlog_bytes:
            if time.monotonic() > deadline:
                raise StoreFull("too much is waiting to be settled; send it again later")
            time.sleep(LOOK_SECONDS)

    def _backlog_bytes(self) -> int:
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._waiting_bytes = self._catalog.backlog().size_bytes
                self._looked_at = time.monotonic()
            return self._waiting_bytes


def _digests(reader: BinaryIO, preface_length: int) -> Digests:
    reader.seek(0)
    whole = hashlib.sha256(reader.read(preface_length))
    data_set = hashlib.sha256()
    while chunk := reader.read(READ_BYTES):
        whole.update(chunk)
        data_set.update(chunk)
    return Digests(preface_length, Digest(whole.digest()), Digest(data_set.digest()))


def _landing(incoming: Incoming, layout: Layout, blob: BlobRef, data_set_digest: Digest) -> Landing:
    pixel_bytes = layout.pixel.length if layout.pixel else 0
    arrival = Arrival(
        transfer_syntax=layout.transfer_syntax,
        data_set_length=blob.size_bytes - layout.preface_length,
        data_set_digest=data_set_digest,
        received_at=datetime.now(UTC),
        sender=incoming.sender,
        door=incoming.door,
        warning=layout.problem or "",
    )
    return Landing(arrival, blob, layout.preface_length, layout.length - pixel_bytes, pixel_bytes)


def _audit_event(incoming: Incoming, receipt: Receipt) -> AuditEvent:
    quarantined = receipt.outcome in (Outcome.QUARANTINED, Outcome.KEPT_BOTH)
    return AuditEvent(
        at=datetime.now(UTC),
        actor=f"{incoming.door}:{incoming.sender}",
        action=AuditAction.QUARANTINE if quarantined else AuditAction.STORE,
        outcome=AuditOutcome.REFUSED if receipt.outcome is Outcome.REFUSED else AuditOutcome.SUCCESS,
        study_uid=receipt.study_uid,
        series_uid=receipt.series_uid,
        sop_uid=receipt.sop_uid,
        detail=f"{receipt.outcome}: {receipt.reason}",
    )


def _receipt(outcome: Outcome, found: InstanceIndex, size_bytes: int, reason: str = "") -> Receipt:
    return Receipt(outcome, size_bytes, found.sop_class, found.sop_uid, found.study_uid, found.series_uid, reason)
