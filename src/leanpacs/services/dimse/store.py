"""C-STORE: an instance from the wire to the spool, then to the archive (PS3.4 annex B, PS3.7 section 9.1.1).

The data set is written to the spool as it arrives, and is neither parsed nor held in memory here. One whose bytes do
not tell its transfer syntax gets a preamble and file meta information in front, so that the file says it by itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, Self

from leanpacs.archive.intake.incoming import TAKEN, Digests, Incoming, Outcome, Receipt
from leanpacs.audit import AuditAction
from leanpacs.catalog import Volume
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.dicom.write import file_meta
from leanpacs.errors import LeanPACSError
from leanpacs.refs import Digest
from leanpacs.services.dimse import status
from leanpacs.services.dimse.message import Command
from leanpacs.services.dimse.negotiation import Context, is_storage
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.ledger import Direction, Ledger, Party
from leanpacs.telemetry import Metrics

log = logging.getLogger(__name__)

_SELF_EVIDENT: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE})
"""Transfer syntaxes that a data set tells by how it is encoded."""

_FILE_MODE: Final = 0o600


class Landing(Protocol):
    """What this door needs of an archive."""

    @property
    def spool_folder(self) -> Path:
        """Folder for incoming files."""
        ...

    def land(self, incoming: Incoming) -> Receipt:
        """Take a complete file over; when it returns, the instance is durable and in the catalog."""
        ...


class Sender(Protocol):
    """An association on which instances come, whichever side has asked for it."""

    @property
    def contexts(self) -> Mapping[int, Context]:
        """Accepted presentation contexts by ID."""
        ...

    @property
    def calling(self) -> str:
        """AE title of who sends."""
        ...

    @property
    def peer(self) -> str:
        """Its address."""
        ...

    def data_set(self) -> Iterator[memoryview]:
        """Pieces of the current message's data set."""
        ...


class StoreService:
    """Answers C-STORE requests.

    Parameters
    ----------
    archive : Landing
        Where instances go.
    largest_instance_bytes : int
        Larger ones are refused; they are read to their end, but not kept.
    metrics : Metrics, optional
        Counts what is received.
    ledger : Ledger, optional
        Counts it, too, by who sent it and what it is.
    """

    def __init__(
        self,
        archive: Landing,
        *,
        largest_instance_bytes: int = sys.maxsize,
        metrics: Metrics | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._archive = archive
        self._count = _counter(metrics) if metrics is not None else None
        self._ledger = ledger
        self._largest_file_bytes = largest_instance_bytes

    def __call__(self, association: Sender, command: Command) -> Reply:
        """Receive the instance and hand it to the archive."""
        context = association.contexts[command.context_id]
        if not is_storage(context.abstract_syntax):
            return Reply(Status.SOP_CLASS_NOT_SUPPORTED)
        if not command.has_data_set:
            return Reply(Status.CANNOT_UNDERSTAND, "C-STORE without a data set")
        meta, sop_class = b"", command.sop_class or context.abstract_syntax
        if context.transfer_syntax not in _SELF_EVIDENT:
            meta = file_meta(sop_class, command.sop_uid, context.transfer_syntax, source_ae=association.calling)
        try:
            with _Spooled(self._archive.spool_folder, meta) as spooled:
                for part in association.data_set():
                    if spooled.size_bytes + len(part) > self._largest_file_bytes:
                        return Reply(Status.OUT_OF_RESOURCES, "larger than this archive takes")
                    spooled.write(part)
                spooled.close()
                return self._land(
                    Incoming(
                        spooled.path,
                        sender=association.calling,
                        door="dimse",
                        transfer_syntax=context.transfer_syntax,
                        name=command.sop_uid,
                        sop_class=sop_class,
                        sop_uid=command.sop_uid,
                        digests=spooled.digests(),
                    ),
                    command,
                    Party("dimse", association.calling, association.peer),
                )
        except OSError as error:
            log.error("spool: %s", error, extra={"action": "store", "sop_uid": command.sop_uid})
            return status.of_error(error)

    def _land(self, incoming: Incoming, command: Command, sender: Party) -> Reply:
        extra = {"action": "store", "sender": incoming.sender, "sop_uid": command.sop_uid}
        try:
            started = time.perf_counter()
            receipt = self._archive.land(incoming)
            self._measure(receipt, sender, time.perf_counter() - started)
            reply = status.of_receipt(receipt, command)
        except LeanPACSError as error:
            log.warning("not taken: %s", error, extra=extra)
            return status.of_error(error)
        except Exception as error:
            log.exception("landing failed", extra=extra)
            return status.of_error(error)
        if reply.status is not Status.SUCCESS:
            log.warning("%s: %s", reply.status.name.lower(), reply.comment, extra=extra)
        return reply

    def _measure(self, receipt: Receipt, sender: Party, seconds: float) -> None:
        if self._ledger is not None:
            size = receipt.size_bytes
            volume = Volume(1, 1, size, receipt.raw_bytes or size)
            self._ledger.count(Direction.IN, sender, volume, receipt.modality, receipt.transfer_syntax)
            if receipt.outcome in TAKEN:
                self._ledger.tell(AuditAction.STORE, sender, study_uid=receipt.study_uid, instances=1)
        if self._count is not None:
            self._count(receipt, seconds)


def _counter(metrics: Metrics) -> Callable[[Receipt, float], None]:
    """Counts receipts; the labels are looked up once, which takes longer than to count."""
    outcomes = {outcome: metrics.received.labels("dimse", outcome.value) for outcome in Outcome}
    received_bytes, seconds = metrics.received_bytes.labels("dimse"), metrics.land_seconds.labels("dimse")

    def count(receipt: Receipt, took: float) -> None:
        outcomes[receipt.outcome].inc()
        received_bytes.inc(receipt.size_bytes)
        seconds.observe(took)

    return count


class _Spooled:
    """A file being written behind its file meta; what still has its name at the end is removed.

    Digests are computed while the peer sends, rather than while it waits for the response.
    """

    def __init__(self, folder: Path, meta: bytes) -> None:
        self.path = folder / f"dimse-{uuid.uuid4().hex}.dcm"
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        self.size_bytes = 0
        self._meta_length = len(meta)
        self._data_set_sha = hashlib.sha256()
        self._file_sha = hashlib.sha256(meta) if meta else self._data_set_sha
        self._write(meta)

    def write(self, data: bytes | memoryview) -> None:
        """Append a piece of the data set."""
        self._write(data)
        self._data_set_sha.update(data)
        if self._file_sha is not self._data_set_sha:
            self._file_sha.update(data)

    def digests(self) -> Digests:
        """Of what was written."""
        return Digests(self._meta_length, Digest(self._file_sha.digest()), Digest(self._data_set_sha.digest()))

    def _write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``, unbuffered: it comes in pieces of up to a PDU."""
        written = os.write(self._descriptor, data)
        self.size_bytes += written
        if written < len(data):  # the file system is nearly full; the next attempt says so
            self._write(data[written:])

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            self.path.unlink(missing_ok=True)
