"""Sends what waits: instances in the outbox, and reports of storage commitment that are owed.

One thread looks for what is due; each destination is served by a thread of its own, so that one which is slow or away
holds up no other. What a crash interrupts is sent again: receivers may get an instance twice, and never miss one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from leanpacs.catalog import CommitmentRow, InstanceRow, OutboxRow, Outgoing
from leanpacs.errors import LeanPACSError
from leanpacs.services.dimse.commitment import check, report_apart
from leanpacs.services.dimse.counting import counted
from leanpacs.services.dimse.delivery import Parcel, Sent
from leanpacs.services.dimse.directory import Peers
from leanpacs.services.dimse.giving import Giving
from leanpacs.services.dimse.requester import Peer, Unreachable
from leanpacs.services.dimse.retrieve import parcel_of
from leanpacs.services.dimse.sending import deliver, may_help
from leanpacs.services.ledger import Ledger, Party

log = logging.getLogger(__name__)

BATCH: Final = 100
LEASE: Final = timedelta(seconds=300)
LOOK_SECONDS: Final = 1.0
NOTE_SECONDS: Final = 1.0
"""What was sent is noted this often: after a crash so much may be sent again."""
_NO_DESTINATION: Final = "no such destination is known; `leanpacs destination add` makes it known"


class Holding(Protocol):
    """What sending needs of a catalog."""

    @property
    def outgoing(self) -> Outgoing:
        """What waits."""
        ...

    def instances(
        self, *, study_uid: str | None = None, series_uid: str | None = None, sop_uid: str | None = None
    ) -> Sequence[InstanceRow]:
        """The instances that have all the UIDs given."""
        ...


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """How patiently is sent.

    Parameters
    ----------
    ae_title : str
        By which this archive sends.
    owner : str
        Who claims what is to be sent; the same after a restart, another one on another host.
    senders : int
        Destinations that are served at the same time.
    first_retry, longest_retry : timedelta
        Until a destination that does not answer is tried again; doubles each time, up to the second.
    give_up : timedelta
        How long after it was queued an entry may be tried.
    timeout_seconds : float
        How long a destination may take at a time.
    """

    ae_title: str
    owner: str
    senders: int = 4
    first_retry: timedelta = timedelta(seconds=15)
    longest_retry: timedelta = timedelta(seconds=1800)
    give_up: timedelta = timedelta(days=7)
    timeout_seconds: float = 60.0

    def pause(self, attempts: int) -> timedelta:
        """How long to wait after so many attempts."""
        return min(self.first_retry * float(2 ** min(max(attempts - 1, 0), 20)), self.longest_retry)


class Dispatcher:
    """Sends what waits until it is told to stop.

    Parameters
    ----------
    catalog : Holding
        What waits, and what is held.
    archive : Giving
        Gives what is held.
    peers : Peers
        Known destinations.
    options : DispatchOptions
        How patiently.
    clock : callable
        Aware time now.
    ledger : Ledger, optional
        Where bytes are counted.
    """

    def __init__(
        self,
        catalog: Holding,
        archive: Giving,
        peers: Peers,
        options: DispatchOptions,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ledger: Ledger | None = None,
    ) -> None:
        self._catalog = catalog
        self._outgoing = catalog.outgoing
        self._archive = archive
        self._peers = peers
        self._options = options
        self._clock = clock
        self._ledger = ledger
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Look for what is due, and have it sent, until ``stop`` is set; a message that is under way is finished."""
        self._outgoing.let_go(self._options.owner)
        with ThreadPoolExecutor(self._options.senders, thread_name_prefix="sender") as senders:
            while not stop.is_set():
                try:
                    self._report(stop)
                    for destination in self._free():
                        senders.submit(self._serve, destination, stop)
                except LeanPACSError as error:  # the catalog does not answer: that may pass
                    log.warning("outbox: %s", error, extra={"action": "send"})
                stop.wait(LOOK_SECONDS)

    def send_due(self) -> None:
        """Send, in this thread, what is due now; what fails is put off."""
        stop = threading.Event()
        self._report(stop)
        for destination in self._free():
            self._serve(destination, stop)

    def _free(self) -> list[str]:
        """Destinations that something is due for and that no thread serves; from now on one does."""
        with self._lock:
            found = [title for title in self._outgoing.due(self._clock()) if title not in self._busy]
            self._busy.update(found)
        return found

    def _serve(self, destination: str, stop: threading.Event) -> None:
        try:
            while not stop.is_set() and self._send_some(destination, stop):
                pass
        except LeanPACSError as error:
            log.warning("outbox: %s", error, extra={"action": "send", "destination": destination})
        except Exception:
            log.exception("sending failed", extra={"action": "send", "destination": destination})
        finally:
            with self._lock:
                self._busy.discard(destination)

    def _send_some(self, destination: str, stop: threading.Event) -> bool:
        """Send one batch; whether there may be more that can be sent now."""
        now = self._clock()
        owner = f"{self._options.owner}/{destination}"
        rows = self._outgoing.claim(destination, owner, limit=BATCH, now=now, until=now + LEASE)
        if not rows:
            return False
        notes = _Notes(self._outgoing, owner, rows, self.again_at)
        try:
            peer = self._peers.get(destination)
            if peer is None:
                notes.rest_later(_NO_DESTINATION)
            else:
                self._deliver(peer, rows, notes, stop)
        except LeanPACSError as error:
            notes.rest_later(str(error))
        finally:
            notes.write(self._clock() + LEASE)
            self._outgoing.let_go(owner)
        if notes.sent_any or not notes.put_off:
            return True
        # Nobody is there: what is queued behind need not find that out again.
        until, reason = max(notes.put_off)
        self._outgoing.put_off(destination, until, reason)
        return False

    def _deliver(self, peer: Peer, rows: Sequence[OutboxRow], notes: _Notes, stop: threading.Event) -> None:
        archive = counted(self._archive, self._ledger, Party("dimse", peer.ae_title, peer.host))
        held = list(self._held(rows, notes))
        archive.expect(held)
        parcels = [parcel_of(one, archive) for one in held]
        results = deliver(
            peer, self._options.ae_title, parcels, stop=stop.is_set, timeout_seconds=self._options.timeout_seconds
        )
        with closing(results):  # also when the catalog does not answer
            for parcel, sent in results:
                notes.add(parcel, sent)
                if notes.is_old():
                    notes.write(self._clock() + LEASE)

    def _held(self, rows: Sequence[OutboxRow], notes: _Notes) -> Iterator[InstanceRow]:
        for row in rows:
            held = self._catalog.instances(sop_uid=row.sop_uid)
            if held:
                yield held[0]
            else:
                notes.failed(row, "not in the archive any more")

    def again_at(self, attempts: int, queued_at: datetime) -> datetime | None:
        """When to try again what was tried so often; None when it is to be given up."""
        now = self._clock()
        return now + self._options.pause(attempts) if now - queued_at < self._options.give_up else None

    def _report(self, stop: threading.Event) -> None:
        """Deliver reports of storage commitment that are owed."""
        now = self._clock()
        for row in self._outgoing.claim_commitments(now, now + LEASE):
            if stop.is_set():
                self._outgoing.put_off_commitment(row.id, now, row.reason)
                continue
            try:
                self._deliver_report(row)
                self._outgoing.end_commitment(row.id)
            except (Unreachable, LeanPACSError) as error:
                self._put_off_report(row, str(error))

    def _deliver_report(self, row: CommitmentRow) -> None:
        peer = self._peers.get(row.destination)
        if peer is None:
            raise Unreachable(_NO_DESTINATION)
        report = check(row.transaction_uid, row.instances, self._catalog)
        report_apart(peer, report, ae_title=self._options.ae_title, timeout_seconds=self._options.timeout_seconds)

    def _put_off_report(self, row: CommitmentRow, reason: str) -> None:
        then = self.again_at(row.attempts, row.asked_at)
        told = "report not delivered" if then else "report given up"
        log.warning("%s: %s", told, reason, extra={"action": "commit", "calling": row.destination})
        if then is None:
            self._outgoing.end_commitment(row.id)
        else:
            self._outgoing.put_off_commitment(row.id, then, reason)


class _Notes:
    """What became of claimed entries, written to the catalog now and then.

    Attributes
    ----------
    sent_any : bool
        Whether anything was taken.
    put_off : list of (datetime, str)
        Until when entries were put off, and why.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        owner: str,
        rows: Sequence[OutboxRow],
        again_at: Callable[[int, datetime], datetime | None],
    ) -> None:
        self._outgoing = outgoing
        self._owner = owner
        self._open = {row.sop_uid: row for row in rows}
        self._again_at = again_at
        self._sent: list[int] = []
        self._later: list[tuple[int, datetime, str]] = []
        self._failed: list[tuple[int, str]] = []
        self._written = time.monotonic()
        self.sent_any = False
        self.put_off: list[tuple[datetime, str]] = []

    def add(self, parcel: Parcel, sent: Sent) -> None:
        """Note what became of an instance."""
        row = self._open[parcel.sop_uid]
        reason = sent.reason if sent.status is None else f"status {sent.status:04X} {sent.reason}".rstrip()
        if sent.is_success or sent.is_warning:
            self.sent_any = True
            self._sent.append(self._open.pop(row.sop_uid).id)
        elif may_help(sent):
            self.later(row, reason)
        else:
            self.failed(row, reason)

    def rest_later(self, reason: str) -> None:
        """Try all again of which nothing is noted yet."""
        for row in list(self._open.values()):
            self.later(row, reason)

    def later(self, row: OutboxRow, reason: str) -> None:
        """Try an entry again, unless that has gone on for too long."""
        then = self._again_at(row.attempts, row.queued_at)
        if then is None:
            self.failed(row, f"given up: {reason}")
            return
        self.put_off.append((then, reason))
        self._later.append((self._open.pop(row.sop_uid).id, then, reason))

    def failed(self, row: OutboxRow, reason: str) -> None:
        """An entry waits for somebody to decide."""
        extra = {"action": "send", "destination": row.destination, "sop_uid": row.sop_uid}
        log.warning("not sent: %s", reason, extra=extra)
        self._failed.append((self._open.pop(row.sop_uid).id, reason))

    def is_old(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written > NOTE_SECONDS

    def write(self, held_until: datetime) -> None:
        """Write down what was noted, and hold the other claims until then."""
        self._outgoing.settle(
            self._owner, sent=self._sent, later=self._later, failed=self._failed, held_until=held_until
        )
        self._sent, self._later, self._failed = [], [], []
        self._written = time.monotonic()
