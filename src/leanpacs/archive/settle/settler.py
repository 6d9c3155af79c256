"""Settling in the background: claim what has landed, hand it to workers, commit what they prove, drop the rest.

The catalog says what is to be done; nothing is remembered here that a restart would miss. Any number of settlers,
in any number of processes, may work on one archive.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain

from leanpacs.archive.manifest import Form, Manifest, Received
from leanpacs.archive.recent import Recent
from leanpacs.archive.settle.committing import BATCH_SECONDS, Committer
from leanpacs.archive.settle.encode import Preferences, SeriesChoice, SeriesChoices
from leanpacs.archive.settle.settling import Settled, SettleTask, settle_some, warm_up
from leanpacs.catalog import Catalog, LandedWork
from leanpacs.config import SettleSettings, WorkerSettings
from leanpacs.errors import LeanPACSError
from leanpacs.storage.store import BlobStore
from leanpacs.telemetry import Metrics
from leanpacs.workers import WorkerPool

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
"""A claim ends after this time unless it is held on to, so that what a dead settler had claimed is taken up again."""

RETRY = timedelta(seconds=5)
IDLE_SECONDS = 0.1
PATIENCE_SECONDS = 0.1
"""Between the first instances and their claim: it shows then whether a burst begins, which is measured otherwise."""

CLAIMED_AT_ONCE = 64
"""Instances claimed in one transaction: enough that claiming is rare, for it keeps landing waiting."""

SERIES_REMEMBERED = 1000
AHEAD = 2
"""Tasks for each worker that are under way: enough that none idles while packs are claimed."""

TRIMMED_SHARE = 8
"""What is kept in memory of what has just arrived may be too much by so large a part."""

TOGETHER = 16
TOGETHER_BYTES = 8 << 20
"""So many instances of a series at most, and so many bytes, make one task: handing one over takes about a millisecond.
"""

CLAIM_BYTES = 1 << 30
ATTEMPTS = 3
"""After so many failed attempts an instance is packed whole, which no encoder can fail on."""


class Settler:
    """Turns landed files into proven packs.

    Parameters
    ----------
    store : BlobStore
        Where landed files are and packs go.
    catalog : Catalog
        What has landed.
    settings : SettleSettings
        Workers and budgets.
    limits : WorkerSettings
        What a worker may use.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are packed as they are.
    host : str
        Name of this host, which its claims begin with.
    metrics : Metrics, optional
        Counts what is settled.
    executor : callable, optional
        Makes the executor that runs :func:`~leanpacs.archive.settle.settling.settle_some`; a pool of worker processes
        by default.
    recent : Recent, optional
        Where copies of what has just arrived are kept for a while.
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        store: BlobStore,
        catalog: Catalog,
        settings: SettleSettings,
        limits: WorkerSettings = WorkerSettings(),  # noqa: B008 -- it is frozen
        *,
        limit_inflated_bytes: int,
        host: str = "",
        metrics: Metrics | None = None,
        executor: Callable[[], Executor] | None = None,
        recent: Recent | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._limits = limits
        self._limit_inflated_bytes = limit_inflated_bytes
        self._workers = settings.workers or os.cpu_count() or 1
        self._make_executor = executor or self._worker_pool
        self._recent = recent
        self._step = step
        self._owner = f"{host}:{uuid.uuid4().hex}"
        self._executor: Executor | None = None
        self._running: dict[Future[list[Settled]], Sequence[LandedWork]] = {}
        self._claimed: deque[LandedWork] = deque()
        self._alone: deque[LandedWork] = deque()
        self._choices: dict[int, SeriesChoices] = {}
        self._names: tuple[str, ...] = ()
        self._pressed = False
        self._patience_seconds = 0.0
        self._committer = Committer(store, catalog, self._choices, metrics, step)
        self._failures = 0
        self._kept_bytes = 0
        self._held_at = datetime.min.replace(tzinfo=UTC)

    def run(self, stop: threading.Event) -> None:
        """Settle whatever lands until ``stop`` is set; then finish what is under way."""
        self._patience_seconds = PATIENCE_SECONDS
        try:
            self._warm_up()
            while not stop.is_set():
                if not self._round_or_wait(stop):
                    stop.wait(IDLE_SECONDS)
            self._finish_running()
        except (LeanPACSError, OSError) as error:
            log.error("what was being settled is left for later: %s", error, extra={"action": "settle"})
        finally:
            self.close()

    def drain(self, until: Callable[[], bool] = lambda: False) -> None:
        """Settle until nothing is left, or ``until`` says that it is time to stop; then stop the workers.

        What fails is tried again until it is packed whole; what fails even so is left as it landed.
        """
        try:
            for attempt in range(ATTEMPTS + 2):
                self._failures = 0
                while self._round() and not until():
                    pass
                self._finish_running()
                if not self._failures or until():
                    return
                time.sleep((RETRY * (attempt + 1)).total_seconds())
        finally:
            self.close()

    def close(self) -> None:
        """Stop the workers."""
        self._committer.close()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _warm_up(self) -> None:
        """Start the workers before there is anything to do."""
        self._executor = self._make_executor()
        for _ in range(self._workers):
            self._executor.submit(os.getpid)

    def _round_or_wait(self, stop: threading.Event) -> bool:
        """One round; when store or catalog fail, say so and wait. What was under way is claimed anew later."""
        try:
            return self._round()
        except (LeanPACSError, OSError) as error:
            log.error("settling waits: %s", error, extra={"action": "settle"})
            stop.wait(RETRY.total_seconds())
            return True

    def _round(self) -> bool:
        """Claim, submit, wait for the first to be done, commit; False when there is nothing to do."""
        self._claim()
        self._feed()
        if self._running:
            self._finish(wait(self._running, timeout=BATCH_SECONDS, return_when=FIRST_COMPLETED).done)
            return True
        self._committer.commit_all()
        return False

    def _finish_running(self) -> None:
        self._give_back_claims()
        while self._running:
            self._finish(wait(self._running, timeout=BATCH_SECONDS, return_when=FIRST_COMPLETED).done)
        self._give_back_claims()
        self._committer.commit_all()

    def _give_back_claims(self) -> None:
        """Let others settle what was claimed and not begun."""
        ids = [work.representation.id for work in (*self._alone, *self._claimed)]
        if ids:
            now = datetime.now(UTC)
            self._catalog.write(lambda transaction: transaction.release_claims(self._owner, ids, now))
            self._alone.clear()
            self._claimed.clear()

    def _claim(self) -> None:
        """Claim a batch when little is left of the last; hold on to what is claimed."""
        now = datetime.now(UTC)
        under_way = sum(map(len, self._running.values()))
        held = len(self._claimed) + len(self._alone) + under_way + len(self._committer.works)
        if held and now - self._held_at > LEASE / 4:
            self._hold(now)
        if len(self._claimed) > CLAIMED_AT_ONCE // 2:
            return
        backlog, most = self._catalog.backlog(), self._settings.pressed_backlog_bytes
        if backlog.count <= held:
            return
        if not held and self._patience_seconds and backlog.size_bytes <= most:
            time.sleep(self._patience_seconds)
            backlog = self._catalog.backlog()
        works = self._catalog.write(
            lambda transaction: transaction.claim_landed(
                self._owner,
                limit_count=CLAIMED_AT_ONCE,
                limit_bytes=CLAIM_BYTES,
                lease_seconds=LEASE.total_seconds(),
                now=now,
            )
        )
        self._step("claimed")
        # More may have come since. What is left of a burst is settled as the burst was, lest it be measured twice.
        waiting = max(backlog.size_bytes, sum(work.representation.blob.size_bytes for work in works))
        self._pressed = waiting > (most // 4 if self._pressed else most)
        self._claimed.extend(works)
        self._names = tuple(self._store.kept_names())

    def _feed(self) -> None:
        """Give the workers something to do, late enough that what was learnt of a series is used for the next."""
        while (self._claimed or self._alone) and len(self._running) < AHEAD * self._workers:
            self._submit([self._alone.popleft()] if self._alone else self._next_together())

    def _next_together(self) -> list[LandedWork]:
        """The oldest of what is claimed, and others of its series; few where there is little, so that all work."""
        together = [self._claimed.popleft()]
        first, most = together[0], min(TOGETHER, len(self._claimed) // (AHEAD * self._workers))
        left = TOGETHER_BYTES - first.representation.blob.size_bytes
        for work in [one for one in self._claimed if one.instance.series_id == first.instance.series_id]:
            left -= work.representation.blob.size_bytes
            if len(together) >= most or left < 0:
                break
            together.append(work)
            self._claimed.remove(work)
        return together

    def _hold(self, now: datetime) -> None:
        under_way = chain.from_iterable(self._running.values())
        works = [*self._claimed, *self._alone, *under_way, *self._committer.works]
        mine = [work.representation.id for work in works]
        self._catalog.write(lambda transaction: transaction.extend_claims(self._owner, mine, now + LEASE))
        self._held_at = now

    def _submit(self, works: Sequence[LandedWork]) -> None:
        if self._executor is None:
            self._executor = self._make_executor()
        tasks = tuple(map(self._task, works))
        self._running[self._executor.submit(settle_some, tasks)] = works

    def _task(self, work: LandedWork) -> SettleTask:
        attempts = work.representation.attempts
        return SettleTask(
            self._store,
            work.representation.blob.digest,
            _facts(work),
            self._preferences(work),
            self._names,
            self._limit_inflated_bytes,
            whole_because=f"{attempts - 1} attempts to encode it failed" if attempts > ATTEMPTS else "",
            recent=self._recent,
        )

    def _preferences(self, work: LandedWork) -> Preferences:
        settings = self._settings
        budget = settings.pressed_budget_seconds_per_gb if self._pressed else settings.budget_seconds_per_gb
        choices = self._choices.get(work.instance.series_id) or SeriesChoices.from_json(work.series_choice)
        return Preferences(
            choices,
            budget,
            (work.instance.sop_class,),
            in_haste=self._pressed,
            preset=settings.preset,
            recode=settings.recode and not self._pressed,
        )

    def _finish(self, done: set[Future[list[Settled]]]) -> None:
        finished = [(self._running.pop(future), future) for future in done]
        for works, future in finished:
            error = future.exception()
            settled = [] if error is not None else future.result()
            for work, one in zip(works, settled, strict=False):
                if one.encoded.choice is not None:
                    self._learn(work, one.encoded.choice)
                self._committer.add(work, one)
                self._kept_bytes += work.representation.blob.size_bytes
            if error is not None and len(works) == 1:
                self._failed(works[0], error)
            else:
                # Which of them is at fault, if not the first, turns out when each has a worker to itself.
                self._alone.extend(works[len(settled) :])
        self._committer.commit_when_due(nothing_else=not self._running)
        if self._recent is not None and self._kept_bytes > self._recent.room_bytes // TRIMMED_SHARE:
            self._recent.trim()
            self._kept_bytes = 0

    def _learn(self, work: LandedWork, choice: SeriesChoice) -> None:
        series_id = work.instance.series_id
        known = self._choices.pop(series_id, None) or SeriesChoices.from_json(work.series_choice)
        self._choices[series_id] = known.having(choice)
        if len(self._choices) > SERIES_REMEMBERED:
            self._choices.pop(next(iter(self._choices)))

    def _failed(self, work: LandedWork, error: BaseException | None) -> None:
        self._failures += 1
        log.error(
            "settling failed; the landed form stays",
            extra={"action": "settle", "sop_uid": work.instance.sop_uid, "error": repr(error)},
        )
        if not isinstance(error, LeanPACSError | OSError | MemoryError):
            log.error("unexpected error while settling", exc_info=error)
        # It is tried again after a while, by whoever comes first; each claim counts as an attempt.
        retry_at = datetime.now(UTC) + RETRY * work.representation.attempts
        ids = [work.representation.id]
        self._catalog.write(lambda transaction: transaction.release_claims(self._owner, ids, retry_at))

    def _worker_pool(self) -> Executor:
        # Receiving and answering have precedence over settling.
        return WorkerPool(
            self._workers,
            memory_limit_bytes=self._limits.memory_bytes,
            time_limit_seconds=self._limits.instance_seconds,
            nice=19,
            initializer=partial(warm_up, self._store, tuple(self._store.kept_names())),
        )


def _facts(work: LandedWork) -> Manifest:
    """What the manifest says of an instance before its form is decided."""
    instance, landed = work.instance, work.representation
    return Manifest(
        study_uid=instance.study_uid,
        series_uid=instance.series_uid,
        sop_uid=instance.sop_uid,
        sop_class=instance.sop_class,
        transfer_syntax=instance.transfer_syntax,
        length=instance.data_set_length,
        digest=instance.data_set_digest,
        form=Form.WHOLE,
        received=Received(instance.received_at.isoformat(), instance.sender, instance.door),
        preface=landed.preface_length,
        file_digest=landed.blob.digest if landed.preface_length else None,
        assigned=instance.assigned,
    )
