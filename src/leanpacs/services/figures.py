"""What is held, for the page and for Prometheus; collected at most every few seconds, whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from leanpacs.telemetry import Gauge

if TYPE_CHECKING:
    from leanpacs.archive.status import ArchiveStatus
    from leanpacs.catalog.rows import Share

_LIFETIME_SECONDS: Final = 5.0


class Figures:
    """The status of an archive, remembered for a few seconds because collecting it reads the whole catalog.

    Parameters
    ----------
    collect : callable
        Returns the status; called by one thread at a time.
    lifetime_seconds : float
        How long a status is good. After a slow collection it is good for ten times what that took.
    """

    def __init__(self, collect: Callable[[], ArchiveStatus], lifetime_seconds: float = _LIFETIME_SECONDS) -> None:
        self._collect = collect
        self._lifetime_seconds = lifetime_seconds
        self._lock = threading.Lock()
        self._status: ArchiveStatus | None = None
        self._good_until = 0.0

    def status(self) -> ArchiveStatus:
        """Return the status, at most a few seconds old."""
        with self._lock:
            started = time.monotonic()
            if self._status is None or started >= self._good_until:
                self._status = self._collect()
                ended = time.monotonic()
                self._good_until = ended + max(self._lifetime_seconds, 10 * (ended - started))
            return self._status


def gauges(status: ArchiveStatus, now: datetime | None = None) -> Iterator[Gauge]:
    """Yield the status as gauges.

    Parameters
    ----------
    status : ArchiveStatus
        What to tell.
    now : datetime, optional
        Aware; for the age of the backlog.
    """
    summary, backlog = status.summary, status.backlog
    yield Gauge("patients", "Patients held.", summary.patients)
    yield Gauge("studies", "Studies held.", summary.studies)
    yield Gauge("series", "Series held.", summary.series)
    yield from _shares("modality", summary.by_modality)
    yield from _shares("codec", summary.by_codec)
    for part, raw, stored in (
        ("head", summary.total.raw_head_bytes, summary.total.stored_head_bytes),
        ("frame", summary.total.raw_frame_bytes, summary.total.stored_frame_bytes),
    ):
        yield Gauge("settled_part_raw_bytes", "Settled instances as received, by part.", raw, {"part": part})
        yield Gauge("settled_part_bytes", "Settled instances as stored, by part.", stored, {"part": part})
    yield Gauge("backlog_instances", "Instances landed and not settled yet.", backlog.count)
    yield Gauge("backlog_bytes", "Bytes landed and not settled yet.", backlog.size_bytes)
    age = ((now or datetime.now(UTC)) - backlog.oldest).total_seconds() if backlog.oldest else 0.0
    yield Gauge("backlog_age_seconds", "How long the oldest of it has been waiting.", max(age, 0.0))
    yield Gauge("quarantined", "Files in quarantine.", status.quarantined)
    for destination, has_failed, count in status.outbox:
        labels = {"destination": destination, "state": "failed" if has_failed else "waiting"}
        yield Gauge("outbox_instances", "Instances that wait to be sent, or could not be sent.", count, labels)
    for tier, blobs, size in status.tiers:
        yield Gauge("tier_blobs", "Blobs, by tier.", blobs, {"tier": tier})
        yield Gauge("tier_bytes", "Bytes of all blobs, by tier.", size, {"tier": tier})
    for preset, tier_name, forms, raw, stored in status.forms:
        labels = {"preset": preset, "tier": tier_name}
        yield Gauge("forms", "Stored forms, by preset and tier.", forms, labels)
        yield Gauge("forms_raw_bytes", "What they hold, as received.", raw, labels)
        yield Gauge("forms_bytes", "Bytes of stored forms, by preset and tier.", stored, labels)
    for left in status.left:
        labels = {"task": left.task, "rule": left.rule}
        yield Gauge("lifecycle_left_tasks", "Tasks that the last plan has left to do.", left.tasks, labels)
        yield Gauge("lifecycle_left_saved_bytes", "Bytes that they are expected to save.", left.saved_bytes, labels)
        yield Gauge("lifecycle_left_cpu_seconds", "CPU time that they are expected to take.", left.seconds, labels)
    for one in status.lifecycle:
        labels = {"task": one.task, "rule": one.rule, "outcome": one.outcome}
        yield Gauge("lifecycle_tasks", "Lifecycle tasks done so far.", one.tasks, labels)
        saved = one.bytes_before - one.bytes_after
        yield Gauge("lifecycle_saved_bytes", "Bytes that they have saved so far.", saved, labels)
        yield Gauge("lifecycle_cpu_seconds", "CPU time that they have taken so far.", one.seconds, labels)
    yield Gauge("damaged_blobs", "Blobs that a scrub found damaged and could not repair.", status.damaged)
    yield Gauge("dictionary_bytes", "Dictionaries in the store.", status.dictionary_bytes)
    if status.free_bytes is not None:
        yield Gauge("free_bytes", "Room left in the store.", status.free_bytes)


def _shares(label: str, shares: tuple[Share, ...]) -> Iterator[Gauge]:
    for share in shares:
        labels = {label: share.name}
        yield Gauge(f"{label}_instances", f"Instances held, by {label}.", share.instances, labels)
        yield Gauge(f"{label}_raw_bytes", f"Bytes as received, by {label}.", share.raw_bytes, labels)
        yield Gauge(f"{label}_stored_bytes", f"Bytes as stored, by {label}.", share.stored_bytes, labels)
