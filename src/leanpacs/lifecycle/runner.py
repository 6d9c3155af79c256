"""Carrying out plans: claim, hand to workers, commit what they prove; any number of runners may do so at once.

The catalog says what is to be done; nothing is remembered here that a restart would miss.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from leanpacs.archive.archive import Archive
from leanpacs.archive.status import Left
from leanpacs.catalog.ageing import Done, Outcome, Tried, Work
from leanpacs.config import Settings
from leanpacs.errors import (
    BeingRestored,
    BlobNotFound,
    CatalogUnavailable,
    InstanceNotFound,
    LeanPACSError,
    StoreFull,
    StoreUnavailable,
)
from leanpacs.lifecycle.deciding import Decider, Wanted
from leanpacs.lifecycle.executor import make_executor
from leanpacs.lifecycle.pacing import Pace
from leanpacs.lifecycle.plan import Plan, Step, Task, with_first
from leanpacs.lifecycle.planner import Planner
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.pricing import Prices
from leanpacs.lifecycle.scrub import Scrubbed, Scrubber
from leanpacs.lifecycle.tasks import Steps, steps
from leanpacs.refs import BlobRef, Digest, Tier

log = logging.getLogger(__name__)

WINDOW: Final = 2000
"""Tasks of one plan that are carried out before the next one is made."""

TRAINED_SECONDS: Final = 10.0
"""What training a dictionary takes, about."""

AHEAD: Final = 2
BATCH: Final = 16
LEASE: Final = timedelta(minutes=10)
FOR_EVER: Final = timedelta(days=36_500)
_TRANSIENT: Final = (StoreUnavailable, StoreFull, CatalogUnavailable, OSError, CancelledError)
_SOON: Final = timedelta(minutes=5)
_HERE: Final = frozenset({Step.DROP, Step.PLACE, Step.EXPIRE, Step.RETRAIN})
"""Steps that need the catalog or no processor: done by threads of this process."""

_LEARNING: Final = frozenset({Step.RECOMPRESS, Step.WARM})


@dataclass(slots=True)
class Report:
    """What a run has done: tasks by name and outcome, bytes, CPU seconds; and why it ended.

    ``added_bytes`` are those of what was made beside what is held, and is not settled yet.
    """

    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0
    added_bytes: int = 0
    seconds: float = 0.0
    ended: str = "nothing is left to do"

    def add(self, done: Done) -> None:
        """Count what one task has done."""
        key = (done.task, done.outcome.value)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.seconds += done.seconds
        if done.outcome is Outcome.DONE and not done.bytes_before:
            self.added_bytes += done.bytes_after
        elif done.outcome is Outcome.DONE:
            self.bytes_before += done.bytes_before
            self.bytes_after += done.bytes_after

    def join(self, later: Report) -> None:
        """Count what another run has done after this one."""
        for key, count in later.outcomes.items():
            self.outcomes[key] = self.outcomes.get(key, 0) + count
        self.bytes_before += later.bytes_before
        self.bytes_after += later.bytes_after
        self.added_bytes += later.added_bytes
        self.seconds += later.seconds
        self.ended = later.ended

    @property
    def failed(self) -> int:
        """Tasks that failed."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == Outcome.FAILED)

    @property
    def changed(self) -> int:
        """Tasks that changed something."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome == Outcome.DONE)


class Lifecycle:
    """Plans and carries out what a policy wants of an archive.

    Parameters
    ----------
    archive : Archive
        What is held.
    policy : Policy
        What is wanted.
    settings : Settings, optional
        Those of the archive when absent.
    now : callable, optional
        The time (aware, UTC); ages are reckoned from it.
    executor : callable, optional
        Makes the executor, and says how many tasks it runs at once; that of the settings by default.
    load : callable, optional
        Load of the machine for each core; work waits while it is high.
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        archive: Archive,
        policy: Policy,
        settings: Settings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        executor: Callable[[], tuple[Executor, int]] | None = None,
        load: Callable[[], float] | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._archive = archive
        self._catalog = archive.catalog
        self._policy = policy
        self._settings = settings or archive.settings
        self._own = self._settings.lifecycle
        self._now = now
        self._make_executor = executor or (lambda: make_executor(self._settings))
        self._load = load
        self._step = step
        self._owner = f"{archive.host}:{uuid.uuid4().hex}"
        grace = timedelta(seconds=self._own.replaced_grace_seconds)
        self._steps: Mapping[Step, Steps] = steps(archive, self._decider, now, grace)
        self._executor: Executor | None = None
        self._threads: Executor | None = None
        self._width = 1
        self._running: dict[Future[Any], Task] = {}
        self._held_at = now()
        self._left_behind = False
        self._learning: dict[tuple[int, str], deque[Task]] = {}
        self._learnt: set[tuple[int, str]] = set()

    # -- planning

    def _decider(self) -> Decider:
        return Decider(self._policy, self._now())

    def plan(self, limit: int = WINDOW, *, trains: bool = True) -> Plan:
        """What is not as the policy wants it, the best first; before that what is to be trained, if it ``trains``."""
        ageing = self._catalog.ageing
        newest = {row.scope: row.id for row in self._catalog.dictionaries()}
        planner = Planner(
            self._decider(),
            Prices(ageing.sums()),
            self._now(),
            dictionaries=newest,
            held_studies=frozenset(row.study_uid for row in ageing.holds()),
            tier_copies={name: tier.copies for name, tier in self._settings.tiers.items()},
            moves=bool(self._policy.tiers),
            restored=frozenset(row.form.blob.digest.raw for row in self._catalog.restores()),
            erased=ageing.erased(self._now()),
        )
        plan = planner.plan(ageing.outlines(), ageing.read, limit)
        return with_first(plan, list(self._training()), limit) if trains else plan

    def _training(self) -> Iterator[Task]:
        """Dictionaries of which many instances have come since they were trained."""
        least, ageing = self._own.retrain_after_instances, self._catalog.ageing
        for sop_class, count, first in ageing.untaught(least) if least else ():
            of_series = ageing.series_of(ageing.series_key_of(first))
            held = next((one for one in of_series if one.instance_id == first), None)
            # What was of no use is tried again when as many have come once more.
            goal = f"{Step.RETRAIN} {sop_class} {count // least}"
            before = ageing.tried(first).get(goal)
            if held is not None and (before is None or before.until <= self._now()):
                yield Task(Step.RETRAIN, goal, sop_class, "", ((held, held.forms[0]),), 0, 0, TRAINED_SECONDS, Wanted())

    # -- carrying out

    def run(
        self,
        stop: Callable[[], bool] = lambda: False,
        *,
        most_tasks: int | None = None,
        told: Callable[[Done], None] = lambda _: None,
    ) -> Report:
        """Plan and carry out until nothing is left to do, ``most_tasks`` are done, or something says stop."""
        report = Report()

        def counted(done: Done) -> None:
            report.add(done)
            told(done)

        try:
            self._take_back()
            while not stop():
                left = None if most_tasks is None else most_tasks - sum(report.outcomes.values())
                if left is not None and left <= 0:
                    report.ended = f"{most_tasks} tasks are done"
                    break
                plan = self.plan(WINDOW if left is None else min(left, WINDOW), trains=not report.outcomes)
                self._tell(plan)
                if not plan.tasks or not self._carry_out(plan, stop, counted, report):
                    break
            else:
                report.ended = "it was told to stop"
            return report
        finally:
            self.close()

    def _tell(self, plan: Plan) -> None:
        """Let others know what is left to do, without making a plan of their own."""
        left = [Left(one.name, one.rule, one.tasks, one.saved_bytes, one.seconds) for one in plan.totals]
        with self._catalog.writing() as transaction:
            transaction.ageing.switch(Left.NAME, Left.to_json(left))

    def run_for_ever(self, stop: threading.Event) -> None:
        """Follow the policy until ``stop`` is set; what fails is said in the log, and tried again later."""
        while not stop.is_set():
            try:
                report = self.run(stop.is_set)
                self.scrub(stop.is_set)
                if report.outcomes:
                    log.info("lifecycle: %s", report.ended, extra={"action": "lifecycle", "changed": report.changed})
            except (LeanPACSError, OSError) as error:
                log.error("the lifecycle waits: %s", error, extra={"action": "lifecycle"})
            except Exception:  # whatever it is, nobody else would begin anew
                log.exception("unexpected error in the lifecycle; it waits", extra={"action": "lifecycle"})
            stop.wait(self._own.interval_seconds)

    def scrub(
        self,
        stop: Callable[[], bool] = lambda: False,
        *,
        older_than: timedelta | None = None,
        decode_percent: float | None = None,
        told: Callable[[BlobRef, str], None] = lambda blob, problem: None,
    ) -> Scrubbed:
        """Read back what is due by the settings, or has not been read back for so long; see `Scrubber`."""
        days = self._own.scrub_days
        if older_than is None and not days:
            return Scrubbed()
        self._start()
        assert self._executor is not None
        try:
            pace = Pace(self._own, self._catalog, self._width, self._now, self._load)
            return Scrubber(self._archive, self._executor, now=self._now).run(
                older_than=timedelta(days=days) if older_than is None else older_than,
                decode_percent=self._own.scrub_decode_percent if decode_percent is None else decode_percent,
                stop=lambda: stop() or bool(pace.waits_for()),
                told=told,
            )
        finally:
            self.close()

    def _start(self) -> None:
        if self._executor is None:
            self._executor, self._width = self._make_executor()
            self._threads = ThreadPoolExecutor(2, "lifecycle")

    def close(self) -> None:
        """Stop the workers; what they had not done is claimed anew later."""
        for pool in (self._executor, self._threads):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        self._executor = self._threads = None
        self._left_behind = self._left_behind or bool(self._running)
        self._running.clear()
        self._learning.clear()

    def _take_back(self) -> None:
        """End the claims of an earlier run that was broken off, for example because the catalog went away."""
        if self._left_behind:
            with self._catalog.writing() as transaction:
                transaction.ageing.give_back_claims(self._owner)
            self._left_behind = False

    def _carry_out(self, plan: Plan, stop: Callable[[], bool], told: Callable[[Done], None], report: Report) -> bool:
        """Carry out a plan; False when nothing came of it or it is not the time."""
        self._start()
        pace = Pace(self._own, self._catalog, self._width, self._now, self._load)
        queue = deque(plan.tasks)
        self._learnt.clear()
        finished = 0
        waiting = ""
        while queue or self._running or self._learning:
            waiting = waiting or ("it was told to stop" if stop() else pace.waits_for())
            if waiting:
                queue.clear()
                self._learning.clear()
            elif pace.rest_seconds() > 0:
                time.sleep(min(pace.rest_seconds(), 1.0))
            else:
                self._feed(queue)
            if not self._running:
                if not queue:
                    break
                continue
            done = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED).done
            finished += self._finish(done, pace, told, queue)
            self._hold()
        if waiting:
            report.ended = waiting
            return False
        if not finished:
            report.ended = "others work on what is left"
        return finished > 0

    def _feed(self, queue: deque[Task]) -> None:
        """Claim tasks and hand them out, as many as keep the workers busy."""
        room = AHEAD * self._width + 2 - len(self._running)
        chosen: list[Task] = []
        while queue and len(chosen) < room:
            task = queue.popleft()
            if not self._waits_for_series(task):
                chosen.append(task)
        if not chosen:
            return
        now = self._now()
        with self._catalog.writing() as transaction:
            works = {_work(task): task for task in chosen}
            claimed = transaction.ageing.claim(list(works), self._owner, now=now, until=now + LEASE)
        for work in claimed:
            self._step(f"{works[work].step}: claimed")
        for work in works.keys() - set(claimed):
            self._let_go(works[work], queue)
        for work in claimed:
            self._submit(works[work])

    def _waits_for_series(self, task: Task) -> bool:
        """Whether a task is put off until another one has found out what codec suits its series."""
        if task.step not in _LEARNING:
            return False
        key = (task.first.series_id, task.target)
        if key in self._learnt:
            return False
        if key in self._learning:
            self._learning[key].append(task)
            return True
        self._learning[key] = deque()
        return False

    def _let_go(self, task: Task, queue: deque[Task]) -> None:
        """Let the other tasks of a series come next, now that its codec is known."""
        if task.step in _LEARNING:
            key = (task.first.series_id, task.target)
            self._learnt.add(key)
            queue.extendleft(reversed(self._learning.pop(key, ())))

    def _submit(self, task: Task) -> None:
        pool = self._threads if task.step in _HERE else self._executor
        assert pool is not None
        future: Future[Any]
        try:
            function, arguments = self._steps[task.step].call(task)
            future = pool.submit(function, *arguments)
        except (LeanPACSError, ValueError, RuntimeError) as error:
            future = Future()
            future.set_exception(error)
        self._running[future] = task

    def _finish(
        self,
        done: set[Future[Any]],
        pace: Pace,
        told: Callable[[Done], None],
        queue: deque[Task],
    ) -> int:
        """Commit what was done, each task by itself; the number of tasks that ended."""
        for future in done:
            task = self._running[future]
            error = CancelledError("its worker has gone") if future.cancelled() else future.exception()
            result = self._commit(task, future) if error is None else self._failed(task, error)
            del self._running[future]
            pace.spent(result.seconds, result.bytes_before + result.bytes_after)
            told(result)
            self._let_go(task, queue)
        return len(done)

    def _commit(self, task: Task, future: Future[Any]) -> Done:
        now, work = self._now(), _work(task)
        self._step(f"{task.step}: proven")
        try:
            with self._catalog.writing() as transaction:
                done = self._steps[task.step].commit(task, future.result(), transaction, now)
                note = self._steps[task.step].note(task, future.result())
                if done.outcome is Outcome.OVERTAKEN or note is None:
                    transaction.ageing.finish(work, self._owner)
                else:
                    tried = Tried(done.outcome.value, now + FOR_EVER, detail=note)
                    transaction.ageing.remember(work, self._owner, tried)
                transaction.ageing.add_up(done, now=now)
                self._step(f"{task.step}: swapped")
        except (LeanPACSError, OSError) as error:
            return self._failed(task, error)
        self._step(f"{task.step}: swap committed")
        return done

    def _failed(self, task: Task, error: BaseException) -> Done:
        """Leave what is there, say why, and try again after a while."""
        now = self._now()
        if isinstance(error, BeingRestored):
            return self._put_off(task, error, now)
        gone = isinstance(error, InstanceNotFound | BlobNotFound)
        outcome = Outcome.OVERTAKEN if gone else Outcome.FAILED
        pause = timedelta(seconds=self._own.retry_seconds)
        until = now + (_SOON if gone or isinstance(error, _TRANSIENT) else pause)
        done = Done(task.name, task.rule, outcome, task.raw_bytes)
        if not gone:
            log.error(
                "lifecycle: %s failed; what was there stays: %s",
                task.name,
                error,
                extra={"action": str(task.step), "instance_key": task.first.instance_id},
            )
        if not isinstance(error, (LeanPACSError, MemoryError, *_TRANSIENT)):
            log.error("unexpected error in the lifecycle", exc_info=error)
        with self._catalog.writing() as transaction:
            transaction.ageing.remember(
                _work(task), self._owner, Tried(outcome.value, until, detail=f"{type(error).__name__}: {error}")
            )
            transaction.ageing.add_up(done, now=now)
        return done

    def _put_off(self, task: Task, asleep: BeingRestored, now: datetime) -> Done:
        """Ask for what is in an archive class, and come again when it is there."""
        seconds = self._archive.stores.at(Tier(asleep.tier)).restore(Digest.from_hex(asleep.digest))
        done = Done(task.name, task.rule, Outcome.WAITING, task.raw_bytes)
        with self._catalog.writing() as transaction:
            until = now + timedelta(seconds=seconds)
            tried = Tried(Outcome.WAITING.value, until, detail=str(asleep))
            transaction.ageing.remember(_work(task), self._owner, tried)
            transaction.ageing.add_up(done, now=now)
        return done

    def _hold(self) -> None:
        """Hold on to what is claimed, now and then."""
        now = self._now()
        if self._running and now - self._held_at > LEASE / 4:
            with self._catalog.writing() as transaction:
                transaction.ageing.extend(map(_work, self._running.values()), self._owner, now + LEASE)
            self._held_at = now


def _work(task: Task) -> Work:
    return Work(task.first.instance_id, task.goal)
