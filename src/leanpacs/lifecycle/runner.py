"""The lifecycle of an archive: plan, carry out, plan again; any number of runners may do so at once.

The catalog says what is to be done; nothing is remembered here that a restart would miss.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from leanpacs.archive.archive import Archive
from leanpacs.archive.status import Left
from leanpacs.catalog.ageing import Done, Outcome
from leanpacs.config import Settings
from leanpacs.errors import LeanPACSError
from leanpacs.lifecycle.carrying import Carrier, Crew
from leanpacs.lifecycle.deciding import Decider, Wanted
from leanpacs.lifecycle.executor import make_executor
from leanpacs.lifecycle.pacing import Pace
from leanpacs.lifecycle.plan import Plan, Step, Task, with_first
from leanpacs.lifecycle.planner import Planner
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.pricing import Prices
from leanpacs.lifecycle.scrub import Scrubbed, Scrubber
from leanpacs.lifecycle.tasks import steps
from leanpacs.refs import BlobRef

log = logging.getLogger(__name__)

WINDOW: Final = 2000
"""Tasks of one plan that are carried out before the next one is made."""

TRAINED_SECONDS: Final = 10.0
"""What training a dictionary takes, about."""


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
        self._owner = f"{archive.host}:{uuid.uuid4().hex}"
        self._crew: Crew | None = None
        self._carrier = Carrier(
            archive,
            steps(archive, self._decider, now, timedelta(seconds=self._own.replaced_grace_seconds)),
            self._owner,
            now,
            retry=timedelta(seconds=self._own.retry_seconds),
            grace=timedelta(seconds=self._own.replaced_grace_seconds),
            step=step,
        )
        self._left_behind = False

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
        plan = planner.plan(ageing.outlines(), ageing.read, limit, ageing.promising)
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
        """Plan and carry out until nothing is left to do, ``most_tasks`` are done, or something says stop.

        Raises
        ------
        ConfigError
            There are no workers, or not any more. What they were doing is left as it was, and done by another run.
        """
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
        self._catalog.write(lambda transaction: transaction.ageing.switch(Left.NAME, Left.to_json(left)))

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
        crew = self._start()
        try:
            pace = Pace(self._own, self._catalog, crew.width, self._now, self._load)
            return Scrubber(self._archive, crew.executor, now=self._now).run(
                older_than=timedelta(days=days) if older_than is None else older_than,
                decode_percent=self._own.scrub_decode_percent if decode_percent is None else decode_percent,
                stop=lambda: stop() or bool(pace.waits_for()),
                told=told,
            )
        finally:
            self.close()

    def _start(self) -> Crew:
        if self._crew is None:
            executor, width = self._make_executor()
            self._crew = Crew(executor, ThreadPoolExecutor(2, "lifecycle"), width)
        return self._crew

    def close(self) -> None:
        """Stop the workers; what they had not done is claimed anew later."""
        if self._crew is not None:
            self._crew.shutdown()
            self._crew = None
        self._left_behind = self._left_behind or not self._carrier.is_idle
        self._carrier.drop()

    def _take_back(self) -> None:
        """End the claims of an earlier run that was broken off, for example because the catalog went away."""
        if self._left_behind:
            self._catalog.write(lambda transaction: transaction.ageing.give_back_claims(self._owner))
            self._left_behind = False

    def _carry_out(self, plan: Plan, stop: Callable[[], bool], told: Callable[[Done], None], report: Report) -> bool:
        """Carry out a plan; False when nothing came of it or it is not the time."""
        crew = self._start()
        pace = Pace(self._own, self._catalog, crew.width, self._now, self._load)
        ended, waiting = self._carrier.carry_out(plan.tasks, crew, pace, stop, told)
        if waiting:
            report.ended = waiting
            return False
        if not ended:
            report.ended = "others work on what is left"
        return ended > 0
