"""Carrying out one plan: claim tasks, hand them to workers, commit what these prove, several at a time.

The catalog says what is done; what is here is only what is under way.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, chain, islice
from typing import Any, Final

from leanpacs.archive.archive import Archive
from leanpacs.catalog import Transaction
from leanpacs.catalog.ageing import Done, Outcome, Tried, Work
from leanpacs.errors import (
    BeingRestored,
    BlobNotFound,
    CatalogUnavailable,
    ConfigError,
    InstanceNotFound,
    LeanPACSError,
    StoreFull,
    StoreUnavailable,
)
from leanpacs.lifecycle.pacing import Pace
from leanpacs.lifecycle.plan import Step, Task
from leanpacs.lifecycle.tasks import Steps
from leanpacs.refs import Digest, Tier

log = logging.getLogger(__name__)

AHEAD: Final = 2
CLAIMED_AT_ONCE: Final = 32
"""Tasks claimed in one transaction: enough that claiming is rare, few enough that others find something to do."""

BATCH: Final = 32
BATCH_SECONDS: Final = 1.0
"""What is proven is committed so many at a time, or this often, or when nothing else is under way."""

LEASE: Final = timedelta(minutes=10)
FOR_EVER: Final = timedelta(days=36_500)
_TRANSIENT: Final = (StoreUnavailable, StoreFull, CatalogUnavailable, OSError, CancelledError)
_SOON: Final = timedelta(minutes=5)
_HERE: Final = frozenset({Step.DROP, Step.PLACE, Step.EXPIRE, Step.RETRAIN})
"""Steps that need the catalog or no processor: done by threads of this process."""

_LEARNING: Final = frozenset({Step.RECOMPRESS, Step.WARM})

_Proven = tuple[Task, Any]


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the work: processes, or a cluster, that run ``width`` tasks at once; and threads of this process."""

    executor: Executor
    threads: Executor
    width: int

    def shutdown(self) -> None:
        """Finish what is under way, and no more."""
        for pool in (self.executor, self.threads):
            pool.shutdown(wait=True, cancel_futures=True)


class Carrier:
    """Carries out plans, one after the other.

    Parameters
    ----------
    archive : Archive
        What is held.
    steps : mapping of Step to Steps
        How each is done.
    owner : str
        Whose the claims are.
    now : callable
        The time.
    retry : timedelta
        After what time a task that failed is tried again.
    grace : timedelta
        How long a form that was replaced stays in its store.
    step : callable
        Called with a name between every two steps.
    """

    def __init__(
        self,
        archive: Archive,
        steps: Mapping[Step, Steps],
        owner: str,
        now: Callable[[], datetime],
        *,
        retry: timedelta,
        grace: timedelta,
        step: Callable[[str], None],
    ) -> None:
        self._archive = archive
        self._catalog = archive.catalog
        self._steps = steps
        self._owner = owner
        self._now = now
        self._retry = retry
        self._grace = grace
        self._step = step
        self._queue: deque[Task] = deque()
        self._claimed: deque[Task] = deque()
        self._running: dict[Future[Any], Task] = {}
        self._proven: list[_Proven] = []
        self._learning: dict[tuple[int, str], deque[Task]] = {}
        self._learnt: set[tuple[int, str]] = set()
        self._held_at = now()
        self._committed_at = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._running or self._claimed or self._proven)

    def drop(self) -> None:
        """Forget what is under way: it is claimed anew later."""
        for some in (self._queue, self._claimed, self._running, self._proven, self._learning):
            some.clear()

    def carry_out(
        self,
        tasks: Sequence[Task],
        crew: Crew,
        pace: Pace,
        stop: Callable[[], bool],
        told: Callable[[Done], None],
    ) -> tuple[int, str]:
        """Carry out tasks; how many have ended, and why the others wait ('' when none does)."""
        self._queue = deque(long_ones_sooner(tasks, crew.width))
        self._learnt.clear()
        ended = 0
        waiting = ""
        while self._queue or self._learning or not self.is_idle:
            waiting = waiting or ("it was told to stop" if stop() else pace.waits_for())
            if waiting:
                self._queue.clear()
                self._learning.clear()
                self._give_back()
            elif pace.rest_seconds() > 0:
                time.sleep(min(pace.rest_seconds(), 1.0))
            else:
                self._feed(crew)
            if self._running:
                seconds = BATCH_SECONDS if self._proven else 1.0
                done = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED).done
                ended += self._tell(self._finish(done), pace, told)
                self._hold()
            else:
                ended += self._tell(self._commit_all(), pace, told)
                if not self._queue and not self._claimed:
                    break
        return ended, waiting

    def _tell(self, ended: Sequence[Done], pace: Pace, told: Callable[[Done], None]) -> int:
        for done in ended:
            pace.spent(done.seconds, done.bytes_before + done.bytes_after)
            told(done)
        return len(ended)

    # -- claiming

    def _feed(self, crew: Crew) -> None:
        """Hand out tasks, as many as keep the workers busy; claim some more when few are left."""
        room = AHEAD * crew.width + 2 - len(self._running)
        if len(self._claimed) < room:
            self._claim()
        while self._claimed and room > 0:
            self._submit(self._claimed.popleft(), crew)
            room -= 1

    def _claim(self) -> None:
        chosen: list[Task] = []
        while self._queue and len(chosen) < CLAIMED_AT_ONCE:
            task = self._queue.popleft()
            if not self._waits_for_series(task):
                chosen.append(task)
        if not chosen:
            return
        now = self._now()
        works = {_work(task): task for task in chosen}
        claimed = self._catalog.write(
            lambda transaction: transaction.ageing.claim(list(works), self._owner, now=now, until=now + LEASE)
        )
        for work in claimed:
            self._step(f"{works[work].step}: claimed")
        for work in works.keys() - set(claimed):
            self._let_go(works[work])
        self._claimed.extend(works[work] for work in claimed)

    def _give_back(self) -> None:
        """Let others do what was claimed and not begun."""
        if self._claimed:
            works = [_work(task) for task in self._claimed]
            self._catalog.write(lambda transaction: transaction.ageing.give_back(works, self._owner))
            self._claimed.clear()

    def _hold(self) -> None:
        """Hold on to what is claimed, now and then."""
        now = self._now()
        mine = [*self._claimed, *self._running.values(), *(task for task, _ in self._proven)]
        if mine and now - self._held_at > LEASE / 4:
            works = [_work(task) for task in mine]
            self._catalog.write(lambda transaction: transaction.ageing.extend(works, self._owner, now + LEASE))
            self._held_at = now

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

    def _let_go(self, task: Task) -> None:
        """Let the other tasks of a series come next, now that its codec is known."""
        if task.step in _LEARNING:
            key = (task.first.series_id, task.target)
            self._learnt.add(key)
            self._queue.extendleft(reversed(self._learning.pop(key, ())))

    def _submit(self, task: Task, crew: Crew) -> None:
        pool = crew.threads if task.step in _HERE else crew.executor
        future: Future[Any]
        try:
            function, arguments = self._steps[task.step].call(task)
            future = pool.submit(function, *arguments)
        except ConfigError:  # there are no workers any more, and nothing comes of what was given to them
            self._claimed.extend([task, *self._running.values()])
            self._running.clear()
            self._give_back()
            raise
        except (LeanPACSError, ValueError, RuntimeError) as error:
            future = Future()
            future.set_exception(error)
        self._running[future] = task

    # -- committing

    def _finish(self, done: Collection[Future[Any]]) -> list[Done]:
        """Take what was done; commit it when enough has come together."""
        failed = []
        for future in done:
            task = self._running[future]
            error = CancelledError("its worker has gone") if future.cancelled() else future.exception()
            if error is None:
                self._steps[task.step].learn(task, future.result())
                self._proven.append((task, future.result()))
            else:
                failed.append(self._failed(task, error))
            del self._running[future]
            self._let_go(task)
        is_due = time.monotonic() - self._committed_at > BATCH_SECONDS
        if is_due or len(self._proven) >= BATCH or not self._running:
            return [*failed, *self._commit_all()]
        return failed

    def _commit_all(self) -> list[Done]:
        """Commit what is proven: all of it in one go, or, when that fails, each by itself."""
        proven = self._proven
        for task, _ in proven:
            self._step(f"{task.step}: proven")
        try:
            ended = self._commit(proven) if proven else []
        except (LeanPACSError, OSError):
            ended = [self._commit_alone(*one) for one in proven]
        # Only now: what raises something else leaves them behind, to be claimed anew.
        self._proven = []
        self._committed_at = time.monotonic()
        return ended

    def _commit_alone(self, task: Task, result: Any) -> Done:
        try:
            return self._commit([(task, result)])[0]
        except (LeanPACSError, OSError) as error:
            return self._failed(task, error)

    def _commit(self, proven: Sequence[_Proven]) -> list[Done]:
        now = self._now()

        def commit(transaction: Transaction) -> list[Done]:
            swaps = [self._steps[task.step].swaps(task, result) for task, result in proven]
            swapped = transaction.ageing.swap_all(list(chain(*swaps)), now=now, due_at=now + self._grace)
            of_task = iter(swapped)
            ended, shown = [], []
            for (task, result), own in zip(proven, swaps, strict=True):
                steps = self._steps[task.step]
                done = steps.commit(task, result, list(islice(of_task, len(own))), transaction, now)
                note = steps.note(task, result)
                if done.outcome is Outcome.OVERTAKEN or note is None:
                    shown.append(_work(task))
                else:
                    tried = Tried(done.outcome.value, now + FOR_EVER, detail=note)
                    transaction.ageing.remember(_work(task), self._owner, tried)
                ended.append(done)
            transaction.ageing.finish(shown, self._owner)
            transaction.ageing.add_up(*ended, now=now)
            for task, _ in proven:
                self._step(f"{task.step}: swapped")
            return ended

        ended = self._catalog.write(commit)
        for task, _ in proven:
            self._step(f"{task.step}: swap committed")
        return ended

    def _failed(self, task: Task, error: BaseException) -> Done:
        """Leave what is there, say why, and try again after a while."""
        now = self._now()
        if isinstance(error, BeingRestored):
            return self._put_off(task, error, now)
        gone = isinstance(error, InstanceNotFound | BlobNotFound)
        outcome = Outcome.OVERTAKEN if gone else Outcome.FAILED
        until = now + (_SOON if gone or isinstance(error, _TRANSIENT) else self._retry)
        if not gone:
            log.error(
                "lifecycle: %s failed; what was there stays: %s",
                task.name,
                error,
                extra={"action": str(task.step), "instance_key": task.first.instance_id},
            )
        if not isinstance(error, (LeanPACSError, MemoryError, *_TRANSIENT)):
            log.error("unexpected error in the lifecycle", exc_info=error)
        return self._remember(task, Tried(outcome.value, until, detail=f"{type(error).__name__}: {error}"), now)

    def _put_off(self, task: Task, asleep: BeingRestored, now: datetime) -> Done:
        """Ask for what is in an archive class, and come again when it is there."""
        seconds = self._archive.stores.at(Tier(asleep.tier)).restore(Digest.from_hex(asleep.digest))
        until = now + timedelta(seconds=seconds)
        return self._remember(task, Tried(Outcome.WAITING.value, until, detail=str(asleep)), now)

    def _remember(self, task: Task, tried: Tried, now: datetime) -> Done:
        done = Done(task.name, task.rule, Outcome(tried.outcome), task.raw_bytes)

        def remember(transaction: Transaction) -> None:
            transaction.ageing.remember(_work(task), self._owner, tried)
            transaction.ageing.add_up(done, now=now)

        self._catalog.write(remember)
        return done


def long_ones_sooner(tasks: Sequence[Task], width: int) -> list[Task]:
    """The tasks in their order, but for the last ones: of these the longest come first, lest one worker be left alone.

    As many are moved as take all workers about as long as the longest of them takes one.
    """
    left = list(accumulate(task.seconds for task in reversed(tasks)))
    longest = max((task.seconds for task in tasks), default=0.0)
    kept = len(tasks) - sum(seconds <= width * longest for seconds in left)
    return [*tasks[:kept], *sorted(tasks[kept:], key=lambda task: -task.seconds)]


def _work(task: Task) -> Work:
    return Work(task.first.instance_id, task.goal)
