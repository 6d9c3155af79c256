"""Landing: what happens to a received file before its sender is told that it is safe.

The order is the promise: the bytes are durable in the store, then the catalog names them in one committed
transaction, then the sender is answered. Nothing is encoded here; settling does that later.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

from leanpacs.archive.intake.backlog import BacklogGate
from leanpacs.archive.intake.forwarding import Forwarding
from leanpacs.archive.intake.incoming import Digests, Incoming, Outcome, Receipt
from leanpacs.archive.intake.together import Together
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.catalog import Arrival, Catalog, DuplicateInstance, InstanceRow, Landing, Transaction
from leanpacs.config import DuplicatePolicy, IngestSettings
from leanpacs.dicom.attributes import InstanceIndex, index, native_bytes
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.errors import DicomError, LeanPACSError, RefusedByPolicy, StoreUnavailable
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.store import BlobStore

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A complete file in the spool that was read; ``found`` and ``layout`` are None when it is no DICOM."""

    incoming: Incoming
    path: Path
    digest: Digest | None
    found: InstanceIndex | None = None
    layout: Layout | None = None
    data_set_digest: Digest | None = None
    reason: str = ""


_Batch = Sequence[_Prepared | Receipt]


class Ingest:
    """Takes received files into the archive.

    Parameters
    ----------
    store : BlobStore
        Where landed files rest.
    catalog : Catalog
        Where they are named.
    settings : IngestSettings
        What to do with duplicates, and how much may wait to be settled.
    audit : AuditTrail
        Told of what is refused, replaced or put in quarantine.
    grace : timedelta
        How long what is replaced stays before it is swept.
    forwarding : Forwarding, optional
        What is sent on when it has arrived; nothing by default.
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        store: BlobStore,
        catalog: Catalog,
        settings: IngestSettings,
        audit: AuditTrail,
        *,
        grace: timedelta,
        forwarding: Forwarding | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._audit = audit
        self._grace = grace
        self._forwarding = forwarding or Forwarding(())
        self._step = step
        self._gate = BacklogGate(catalog, settings)
        self._together = Together(self._land_all)

    def land(self, incoming: Incoming) -> Receipt:
        """Land one file; see :meth:`land_many`."""
        return self.land_many([incoming])[0]

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        """Make files durable and name them in the catalog, in one transaction.

        What other threads bring meanwhile goes into the same transaction.

        Returns
        -------
        list of Receipt
            One for each file, in order. All of them hold when this returns.

        Raises
        ------
        StorageError, CatalogError
            Nothing is promised for any of them, and nothing of them stays.
        """
        prepared: list[_Prepared | Receipt] = []
        try:
            self._gate.wait()
            prepared.extend(map(self._prepare, batch))
            receipts = self._together(prepared)
            self._tell(batch, receipts)
            return receipts
        finally:
            for incoming in batch:
                if not incoming.stays:
                    incoming.path.unlink(missing_ok=True)
            for item in prepared:
                if isinstance(item, _Prepared) and item.incoming.stays:
                    item.path.unlink(missing_ok=True)

    def _prepare(self, incoming: Incoming) -> _Prepared | Receipt:
        """Read one file, and copy it into the spool if it is not there; nothing is durable yet."""
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
            found = index(layout, digests.data_set, sop_class=incoming.sop_class, sop_uid=incoming.sop_uid)
        except DicomError as error:
            return _Prepared(incoming, self._spooled(incoming, None), None, reason=str(error))
        syntax = layout.transfer_syntax
        if incoming.stays and (receipt := self._known(found, syntax, digests.data_set, size)) is not None:
            return receipt
        self._step("read")
        path = self._spooled(incoming, digests.file)
        return _Prepared(incoming, path, digests.file, found, layout, digests.data_set)

    def _land_all(self, batches: Sequence[_Batch]) -> Sequence[list[Receipt] | Exception]:
        """Land what several threads have brought: each folder is synced once, and there is one commit."""
        items = [item for batch in batches for item in batch if isinstance(item, _Prepared)]
        blobs = self._store.adopt_all([(item.path, item.digest) for item in items])
        blob_of = dict(zip(map(id, items), blobs, strict=True))
        self._step("adopted")
        try:
            return self._record_all(batches, blob_of)
        except LeanPACSError as error:
            if len(batches) == 1:
                return [error]
        # One thread's trouble is not to be another's.
        return [self._record_alone(batch, blob_of) for batch in batches]

    def _record_alone(self, batch: _Batch, blob_of: Mapping[int, BlobRef]) -> list[Receipt] | Exception:
        try:
            return self._record_all([batch], blob_of)[0]
        except LeanPACSError as error:
            return error

    def _record_all(self, batches: Sequence[_Batch], blob_of: Mapping[int, BlobRef]) -> list[list[Receipt]]:
        def record(transaction: Transaction) -> list[list[Receipt]]:
            items = [item for batch in batches for item in batch if isinstance(item, _Prepared)]
            landed = _landed(transaction, items, blob_of)
            receipts = [
                [
                    item if isinstance(item, Receipt) else self._record(transaction, item, blob_of[id(item)], landed)
                    for item in batch
                ]
                for batch in batches
            ]
            self._step("recorded")
            return receipts

        receipts = self._catalog.write(record)
        self._step("committed")
        return receipts

    def _known(self, found: InstanceIndex, syntax: str, data_set_digest: Digest, size_bytes: int) -> Receipt | None:
        """Answer for what need not be copied: an import that is run again finds most of it here.

        Spooled files are not looked up: they are only renamed, and `_record` asks the same question.
        """
        held = self._catalog.instances(sop_uid=found.sop_uid)
        if held and held[0].data_set_digest == data_set_digest:
            return _receipt(Outcome.DUPLICATE, found, syntax, size_bytes)
        if held and self._settings.duplicates is DuplicatePolicy.REFUSE:
            return _receipt(Outcome.REFUSED, found, syntax, size_bytes, _OTHER_BYTES)
        return None

    def _scratch(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._store.spool_folder()))

    def _spooled(self, incoming: Incoming, digest: Digest | None) -> Path:
        """The file itself when the archive may have it, else a copy in the spool."""
        if not incoming.stays:
            return incoming.path
        descriptor, name = tempfile.mkstemp(prefix="import-", dir=self._store.spool_folder())
        copied = hashlib.sha256()
        try:
            with os.fdopen(descriptor, "wb") as target, incoming.path.open("rb") as source:
                while chunk := source.read(READ_BYTES):
                    copied.update(chunk)
                    target.write(chunk)
            if digest not in (None, Digest(copied.digest())):
                raise StoreUnavailable(f"{incoming.name} changed while it was read; import it again")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)

    def _record(
        self, transaction: Transaction, item: _Prepared, blob: BlobRef, landed: Mapping[int, Landing]
    ) -> Receipt:
        """Name one durable file in the catalog, unless it is among those that have ``landed``."""
        receipt = self._named(transaction, item, blob, landed.get(id(item)))
        # Looked at only now that the catalog names it, for from now on nobody sweeps it.
        if not self._store.exists(blob.digest):
            # Swept between being adopted and now: it was there already, and nobody referred to it.
            raise StoreUnavailable(f"blob {blob.digest} was swept while it was being taken in; send it again")
        return receipt

    def _named(self, transaction: Transaction, item: _Prepared, blob: BlobRef, landed: Landing | None) -> Receipt:
        if item.found is None:
            return self._quarantined(transaction, item, blob, Receipt(Outcome.QUARANTINED, blob.size_bytes))
        landing = landed or _landing(item, blob)
        try:
            if landed is None:
                transaction.land(item.found, landing)
        except DuplicateInstance as duplicate:
            return self._duplicate(transaction, item, item.found, landing, duplicate.existing)
        self._forward(transaction, item.incoming, item.found, landing)
        return _receipt(Outcome.STORED, item.found, landing.arrival.transfer_syntax, blob.size_bytes)

    def _duplicate(
        self,
        transaction: Transaction,
        item: _Prepared,
        found: InstanceIndex,
        landing: Landing,
        existing: InstanceRow,
    ) -> Receipt:
        """Decide about a SOP Instance UID that is held already."""
        blob, now = landing.blob, landing.arrival.received_at
        size, syntax = blob.size_bytes, landing.arrival.transfer_syntax
        if existing.data_set_digest == landing.arrival.data_set_digest:
            transaction.discard(blob, now=now, due_at=now)
            return _receipt(Outcome.DUPLICATE, found, syntax, size)
        match self._settings.duplicates:
            case DuplicatePolicy.REFUSE:
                transaction.discard(blob, now=now, due_at=now)
                return _receipt(Outcome.REFUSED, found, syntax, size, _OTHER_BYTES)
            case DuplicatePolicy.KEEP:
                receipt = _receipt(Outcome.KEPT_BOTH, found, syntax, size, _OTHER_BYTES)
                return self._quarantined(transaction, item, blob, receipt)
            case DuplicatePolicy.REPLACE:
                try:
                    transaction.replace_instance(
                        found, landing, actor=item.incoming.sender, reason=_OTHER_BYTES, due_at=now + self._grace
                    )
                except RefusedByPolicy as refusal:
                    receipt = _receipt(Outcome.KEPT_BOTH, found, syntax, size, f"{_OTHER_BYTES}; {refusal}")
                    return self._quarantined(transaction, item, blob, receipt)
                self._forward(transaction, item.incoming, found, landing)
                return _receipt(Outcome.REPLACED, found, syntax, size, _OTHER_BYTES)

    def _forward(self, transaction: Transaction, incoming: Incoming, found: InstanceIndex, landing: Landing) -> None:
        """Let what has arrived wait to be sent on, where a rule says so."""
        entries = self._forwarding(found, sender=incoming.sender, door=incoming.door)
        if entries:
            transaction.enqueue(entries, landing.arrival.received_at)

    def _quarantined(self, transaction: Transaction, item: _Prepared, blob: BlobRef, receipt: Receipt) -> Receipt:
        reason = item.reason or receipt.reason
        transaction.quarantine(
            blob,
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


def _digests(reader: BinaryIO, preface_length: int) -> Digests:
    reader.seek(0)
    whole = hashlib.sha256(reader.read(preface_length))
    data_set = hashlib.sha256()
    while chunk := reader.read(READ_BYTES):
        whole.update(chunk)
        data_set.update(chunk)
    return Digests(preface_length, Digest(whole.digest()), Digest(data_set.digest()))


def _landed(transaction: Transaction, items: Sequence[_Prepared], blob_of: Mapping[int, BlobRef]) -> dict[int, Landing]:
    """Land what is not held, all in one go; what it landed as, by the ``id`` of the item."""
    arrived = [(item, item.found, _landing(item, blob_of[id(item)])) for item in items if item.found is not None]
    keys = transaction.land_all([(found, landing) for _, found, landing in arrived])
    return {id(item): landing for (item, _, landing), key in zip(arrived, keys, strict=True) if key is not None}


def _landing(item: _Prepared, blob: BlobRef) -> Landing:
    layout, data_set_digest = item.layout, item.data_set_digest
    assert layout is not None
    assert data_set_digest is not None
    pixel_bytes = layout.pixel.length if layout.pixel else 0
    arrival = Arrival(
        transfer_syntax=layout.transfer_syntax,
        data_set_length=blob.size_bytes - layout.preface_length,
        data_set_digest=data_set_digest,
        received_at=datetime.now(UTC),
        sender=item.incoming.sender,
        door=item.incoming.door,
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


def _receipt(outcome: Outcome, found: InstanceIndex, syntax: str, size_bytes: int, reason: str = "") -> Receipt:
    image = found.instance
    native = native_bytes(
        image.rows, image.columns, image.number_of_frames, image.bits_allocated, image.photometric_interpretation
    )
    return Receipt(
        outcome,
        size_bytes,
        found.sop_class,
        found.sop_uid,
        found.study_uid,
        found.series_uid,
        reason,
        found.series.modality,
        syntax,
        (native if transfer_syntax(syntax).encapsulated else 0) or size_bytes,
    )
