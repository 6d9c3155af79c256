"""Committing what was settled: packs are named in place of landed files, and those are deleted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from leanpacs.archive.care.delete import sweep, unlink_all
from leanpacs.archive.settle.encode import SeriesChoices
from leanpacs.archive.settle.representing import codec_name, represent
from leanpacs.archive.settle.settling import Settled
from leanpacs.catalog import Catalog, LandedWork, NewRepresentation, Swap, Transaction
from leanpacs.catalog.ageing import Done, Outcome
from leanpacs.refs import BlobRef
from leanpacs.storage.store import BlobStore
from leanpacs.telemetry import Metrics

log = logging.getLogger(__name__)

BATCH = 32
BATCH_SECONDS = 0.25
"""Packs are committed this many at a time, or this often, or when nothing else is under way."""

MOST_UNCOMMITTED = 4 * BATCH
FAULT = "settle"
"""Under this name the sums of the lifecycle count what was packed whole because a codec was not exact, or failed."""

_Proven = tuple[LandedWork, Settled]


class Committer:
    """Commits a batch of proven packs at a time, on a thread of its own, so that the workers are fed meanwhile.

    Parameters
    ----------
    store : BlobStore
        Where landed files are and packs go.
    catalog : Catalog
        What names them.
    choices : mapping of int to SeriesChoices
        What was learnt of series so far; it is kept in the catalog when packs of a series are committed.
    metrics : Metrics, optional
        Counts what is settled.
    step : callable
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        store: BlobStore,
        catalog: Catalog,
        choices: Mapping[int, SeriesChoices],
        metrics: Metrics | None,
        step: Callable[[str], None],
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._choices = choices
        self._metrics = metrics
        self._step = step
        self._proven: list[_Proven] = []
        self._in_commit: list[_Proven] = []
        self._thread: ThreadPoolExecutor | None = None
        self._committing: Future[None] | None = None
        self._committed_at = float("-inf")
        self._dropped = False

    @property
    def works(self) -> list[LandedWork]:
        """What is proven and not committed yet."""
        return [work for work, _ in (*self._proven, *self._in_commit)]

    def add(self, work: LandedWork, settled: Settled) -> None:
        """Take what a worker has made and proven; it is committed later."""
        self._proven.append((work, settled))

    def commit_when_due(self, *, nothing_else: bool) -> None:
        """Begin to commit when enough has come together, when it has waited, or with ``nothing_else`` under way."""
        waited = time.monotonic() - self._committed_at
        if len(self._proven) >= BATCH or (self._proven and (waited > BATCH_SECONDS or nothing_else)):
            if len(self._proven) > MOST_UNCOMMITTED:
                self._await_commit()
            if self._committing is None or self._committing.done():
                self._start_commit()

    def commit_all(self) -> None:
        """Commit what is proven, and delete what that drops."""
        self._await_commit()
        while self._proven or self._dropped:
            self._start_commit()
            self._await_commit()

    def close(self) -> None:
        """Stop the thread, when what it does is done."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _start_commit(self) -> None:
        self._await_commit()
        self._in_commit, self._proven = self._proven, []
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "settler-commit")
        self._committing = self._thread.submit(self._commit, self._in_commit)

    def _await_commit(self) -> None:
        """Wait for the commit under way, and raise what it raised."""
        committing, self._committing = self._committing, None
        if committing is not None:
            try:
                committing.result()
            finally:
                self._in_commit = []

    def _commit(self, proven: Sequence[_Proven]) -> None:
        """Name packs in place of landed files, and delete the files that earlier commits have dropped."""
        blobs = self._taken_over([settled for _, settled in proven])
        self._step("stored")
        now, aside = datetime.now(UTC), list[Path]()

        def swap(transaction: Transaction) -> None:
            transaction.hold_blobs(blobs, now)
            if self._dropped:
                aside.extend(sweep(self._store, transaction, now).files)
                self._step("landed form set aside")
            self._swap(transaction, proven, blobs, now)
            self._step("swapped")

        try:
            self._catalog.write(swap)
        except BaseException:
            unlink_all(aside)
            raise
        self._dropped = bool(proven)
        self._committed_at = time.monotonic()
        self._step("swap committed")
        unlink_all(aside)
        self._step("landed form deleted")
        for (_, settled), blob in zip(proven, blobs, strict=True):
            self._count(settled, blob)

    def _swap(
        self, transaction: Transaction, proven: Sequence[_Proven], blobs: Sequence[BlobRef], now: datetime
    ) -> None:
        swaps, learnt = [], dict[int, SeriesChoices]()
        for (work, settled), blob in zip(proven, blobs, strict=True):
            if not self._store.exists(blob.digest):
                # Equal to a blob that was there, unnamed, and has been swept since it was taken over.
                log.warning("a pack was swept before it was named; the landed form stays")
                transaction.discard(blob, now=now, due_at=now)
                continue
            new = _representation(settled, blob)
            swaps.append(Swap(work.instance.id, work.representation.id, new, now, now))
            if settled.fault:
                done = Done(FAULT, "", Outcome.FAILED, settled.encoded.packed.manifest.length)
                transaction.ageing.add_up(done, now=now)
            if settled.encoded.choice is not None:
                series_id = work.instance.series_id
                learnt[series_id] = self._choices.get(series_id, SeriesChoices())
        transaction.settle_all(swaps)
        for series_id, choices in learnt.items():
            transaction.remember_choice(series_id, choices.to_json())

    def _taken_over(self, packs: Sequence[Settled]) -> Sequence[BlobRef]:
        """Make packs durable in the store; what cannot be is removed, to be made again."""
        try:
            return self._store.adopt_all([(pack.path, pack.digest) for pack in packs])
        except BaseException:
            unlink_all(pack.path for pack in packs)
            raise

    def _count(self, settled: Settled, blob: BlobRef) -> None:
        if self._metrics is None:
            return
        packed = settled.encoded.packed
        codec = codec_name(packed.manifest)
        self._metrics.settled.labels(codec).inc()
        self._metrics.settled_raw_bytes.labels(codec).inc(packed.manifest.length)
        self._metrics.settled_stored_bytes.labels(codec).inc(blob.size_bytes)
        self._metrics.settle_seconds.labels(codec).observe(settled.seconds)


def _representation(settled: Settled, blob: BlobRef) -> NewRepresentation:
    packed = settled.encoded.packed
    return represent(
        blob,
        packed.manifest,
        packed.entries,
        dictionary_id=packed.dictionary_id,
        raw_head_bytes=packed.raw_head_bytes,
        pixel_bytes=packed.pixel_bytes,
        verified_at=settled.verified_at,
        decoder=settled.decoder,
        seconds=settled.seconds,
    )
