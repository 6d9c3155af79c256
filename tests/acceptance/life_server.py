"""Run by test_every_step.py: lets an archive live in processes of its own, each of which dies at a step of its work.

A line of JSON on standard input asks for one stage: ``data`` and ``settings`` of an archive, ``policy``, ``day``, and
``survived``: names of steps at which nobody is to die any more. A process forked from this one does what is due on that
day; at the first step that is not among these it says ``died STEP`` and kills itself with SIGKILL. ``end`` and its exit
code follow. Forking takes no time, so that there may be one process for each step that there is.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import traceback
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle


class Fuse:
    """Kills this process at the first step that it has not survived before; steps are named after what is going on."""

    def __init__(self, survived: list[str]) -> None:
        self._survived = frozenset(survived)
        self.doing = "start"

    def __call__(self, step: str) -> None:
        if ": " in step:
            self.doing = step.partition(": ")[0]
        else:
            step = f"{self.doing}: {step}"
        if step not in self._survived:
            os.write(1, f"died {step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


class Here(Executor):
    """Runs tasks at once, in this process, telling the fuse of each step."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if "step" in inspect.signature(function).parameters:
            options["step"] = self._fuse
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def live(asked: dict[str, Any]) -> None:
    """Do all that is due on a day."""
    fuse = Fuse(asked["survived"])
    days = timedelta(days=asked["day"])

    def now() -> datetime:
        return datetime.now(UTC) + days

    with open_archive(Path(asked["data"]), Settings(**asked["settings"]), step=fuse) as archive:
        fuse.doing = "restore"
        archive.restorer(now).round()
        policy = Policy.model_validate(asked["policy"])
        age(Lifecycle(archive, policy, now=now, executor=lambda: (Here(fuse), 1), step=fuse), fuse)
        sweep(archive, now() + timedelta(days=1), fuse)


def age(lifecycle: Lifecycle, fuse: Fuse) -> None:
    """One task after the other, so that each step is of a task that is known; then read everything back."""
    while (report := lifecycle.run(most_tasks=1)).outcomes:
        assert not report.failed, report
    fuse.doing = "scrub"
    found = lifecycle.scrub(older_than=timedelta(), decode_percent=0)
    assert not found.damaged, found


def sweep(archive: Archive, now: datetime, fuse: Fuse) -> None:
    """Let go what has been replaced, and what dead processes have left."""
    fuse.doing = "sweep"
    archive.deleter().sweep(now)
    fuse.doing = "orphans"
    archive.deleter().sweep_orphans(now)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                live(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"end {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
