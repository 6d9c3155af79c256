"""An archive that ages as fast as a test wants: a clock that is set, and lifecycle work done in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

from executors import Inline
from leanpacs.archive.archive import Archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle, Report


class Clock:
    """The time, and a hand to turn it by."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def turn_to(self, days: float) -> None:
        """So many days after the beginning."""
        self.ahead = timedelta(days=days)


def taken_in(archive: Archive, contents: list[bytes]) -> dict[str, bytes]:
    """Land and settle files; what was received, by SOP Instance UID."""
    received = {}
    for content in contents:
        path = archive.spool_folder / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        receipt = archive.land(Incoming(path, "TESTER", "import"))
        received[receipt.sop_uid] = content
    Settler(
        archive.store, archive.catalog, archive.settings.settle, limit_inflated_bytes=1 << 30, executor=Inline
    ).drain()
    assert archive.catalog.backlog().count == 0
    return received


def inline() -> tuple[Executor, int]:
    """An executor that runs everything at once, here."""
    return Inline(), 1


def aged(
    archive: Archive,
    policy: Policy,
    clock: Callable[[], datetime],
    executor: Callable[[], tuple[Executor, int]] = inline,
    **options: Any,
) -> Report:
    """Do what the policy wants now, and sweep what that leaves."""
    report = Lifecycle(archive, policy, now=clock, executor=executor, **options).run()
    archive.deleter().sweep(clock() + timedelta(days=2))
    return report


def given_back(archive: Archive) -> dict[str, bytes]:
    """Everything that is held, as it was received, by SOP Instance UID."""
    return {
        instance.sop_uid: b"".join(archive.retriever.as_received(instance).chunks)
        for instance in archive.catalog.all_instances()
    }
