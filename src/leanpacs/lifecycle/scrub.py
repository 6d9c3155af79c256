"""Scrubbing: read every blob back on a schedule, decode a sample with another library, repair what can be."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from leanpacs.archive.archive import Archive
from leanpacs.archive.care.repair import Repair, repair
from leanpacs.archive.care.secondlook import look_again
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome
from leanpacs.catalog import Kind, Transaction
from leanpacs.catalog.ageing import Done, Outcome, ScrubRow
from leanpacs.errors import BeingRestored, LeanPACSError, StoreUnavailable, WorkerError
from leanpacs.refs import BlobRef

log = logging.getLogger(__name__)

PAGE: Final = 200
NAME: Final = "scrub"


@dataclass(slots=True)
class Scrubbed:
    """What a scrub has found: blobs and bytes read, instances decoded, what was repaired and what could not be.

    ``waiting`` are those that wait for what they can be repaired from, in an archive class. ``without`` counts decoded
    instances that no second decoder here reads, by what their frames are coded with.
    """

    blobs: int = 0
    size_bytes: int = 0
    decoded: int = 0
    second: int = 0
    repaired: int = 0
    damaged: int = 0
    waiting: int = 0
    without: Counter[str] = field(default_factory=Counter)
    unreachable: int = 0


class Scrubber:
    """Reads back what is held.

    Parameters
    ----------
    archive : Archive
        What is held.
    executor : Executor
        Where packs are decoded.
    now : callable, optional
        The time.
    chance : random.Random, optional
        Chooses what is decoded.
    """

    def __init__(
        self,
        archive: Archive,
        executor: Executor,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: random.Random | None = None,
    ) -> None:
        self._archive = archive
        self._executor = executor
        self._now = now
        self._chance = chance or random.Random()

    def run(
        self,
        *,
        older_than: timedelta,
        decode_percent: float,
        stop: Callable[[], bool] = lambda: False,
        told: Callable[[BlobRef, str], None] = lambda blob, problem: None,
    ) -> Scrubbed:
        """Scrub all blobs that nobody has read back for so long; those never read back come first.

        What was found damaged before is tried again at the beginning: what it needs may have come.
        """
        total, before, skipped = Scrubbed(), self._now() - older_than, set[BlobRef]()
        self._repair_known(total, told, stop)
        while not stop():
            page = self._archive.catalog.ageing.to_scrub(before, PAGE + len(skipped))
            page = [row for row in page if row.blob not in skipped]
            if not page:
                break
            for row in page:
                if stop():
                    break
                if not self._scrub(row, decode_percent, total, told):
                    skipped.add(row.blob)
        return total

    def _repair_known(self, total: Scrubbed, told: Callable[[BlobRef, str], None], stop: Callable[[], bool]) -> None:
        for row in self._archive.catalog.ageing.damaged():
            if stop():
                return
            blob, now = row.blob, self._now()
            with suppress(StoreUnavailable):
                problem = self._problem(blob, 100.0, total)
                if not problem:
                    self._note(blob, "", Outcome.DONE, now)
                elif repair(self._archive, blob, now) is Repair.DONE:
                    total.repaired += 1
                    told(blob, f"repaired: {problem}")
                    self._tell(blob, f"repaired: {problem}", AuditOutcome.SUCCESS)
                    self._note(blob, "", Outcome.DONE, now)

    def _scrub(
        self, row: ScrubRow, decode_percent: float, total: Scrubbed, told: Callable[[BlobRef, str], None]
    ) -> bool:
        """Scrub one blob; False when its store does not answer."""
        blob, now = row.blob, self._now()
        try:
            problem = self._problem(blob, decode_percent, total)
        except StoreUnavailable as error:
            log.warning("scrubbing waits for tier %s: %s", blob.tier, error, extra={"action": "scrub"})
            total.unreachable += 1
            return False
        total.blobs += 1
        total.size_bytes += blob.size_bytes
        outcome = Outcome.DONE
        repaired = repair(self._archive, blob, now) if problem else Repair.DONE
        if problem and repaired is Repair.DONE:
            total.repaired += 1
            told(blob, f"repaired: {problem}")
            self._tell(blob, f"repaired: {problem}", AuditOutcome.SUCCESS)
            problem = ""
        elif problem:
            outcome = Outcome.WAITING if repaired is Repair.WAITING else Outcome.FAILED
            if repaired is Repair.WAITING:
                problem = f"{problem}; it is repaired when a copy has been brought back from an archive class"
                total.waiting += 1
            else:
                total.damaged += 1
            told(blob, problem)
            self._tell(blob, problem, AuditOutcome.FAILURE)
        self._note(blob, problem, outcome, now)
        return True

    def _note(self, blob: BlobRef, problem: str, outcome: Outcome, now: datetime) -> None:
        def note(transaction: Transaction) -> None:
            transaction.ageing.note_scrub(blob, problem, now=now)
            transaction.ageing.add_up(Done(NAME, "", outcome, blob.size_bytes), now=now)

        self._archive.catalog.write(note)

    def _problem(self, blob: BlobRef, decode_percent: float, total: Scrubbed) -> str:
        """What is wrong with a blob; '' when its bytes, and what was decoded of it, are as they should be."""
        store = self._archive.stores.at(blob.tier)
        try:
            store.check(blob.digest)
        except StoreUnavailable:
            raise
        except (LeanPACSError, OSError) as error:
            return str(error)
        if self._chance.random() * 100 >= decode_percent:
            return ""
        names = tuple(store.kept_names())
        for instance in self._archive.catalog.instances_in(blob.digest)[:PAGE]:
            forms = self._archive.catalog.representations(instance.id)
            if not any(form.blob == blob and form.kind is Kind.PACK for form in forms):
                continue
            work = (store, names, blob.digest, instance.sop_uid, instance.data_set_digest)
            try:
                look = self._executor.submit(look_again, *work).result()
            except BeingRestored:
                return ""  # its digest is right; nobody waits hours to decode a sample
            except (LeanPACSError, WorkerError, OSError) as error:
                return f"{instance.sop_uid}: {error}"
            total.decoded += 1
            total.second += bool(look.decoder)
            if look.codec and not look.decoder:
                total.without[look.codec] += 1
        return ""

    def _tell(self, blob: BlobRef, problem: str, outcome: AuditOutcome) -> None:
        log.error("scrub: blob %s on tier %s: %s", blob.digest.hex, blob.tier, problem, extra={"action": "scrub"})
        detail = f"blob {blob.digest.hex} on tier {blob.tier}: {problem}"
        holders = self._archive.catalog.instances_in(blob.digest)
        self._archive.audit.record(
            AuditEvent(
                at=self._now(),
                actor="scrub",
                action=AuditAction.VERIFY,
                outcome=outcome,
                sop_uid=holders[0].sop_uid if len(holders) == 1 else "",
                detail=detail,
            )
        )
