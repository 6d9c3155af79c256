"""When work may be begun: time windows, shares of CPU and I/O, and the services before everything else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from leanpacs.catalog import Catalog
from leanpacs.config import LifecycleSettings

LOOK_SECONDS: Final = 0.5
"""The catalog is not asked more often than this: between two short tasks, that would take as long as what they change.
"""

MUCH_HAS_LANDED: Final = "much has landed that is to be settled first"


class Pace:
    """Says whether work may be begun now, and why not.

    Parameters
    ----------
    settings : LifecycleSettings
        Windows and budgets.
    catalog : Catalog
        Its backlog tells whether the services are busy.
    workers : int
        Tasks that run at once.
    now : callable
        The time.
    load : callable, optional
        Load of the machine for each core; None where nobody asks for it.
    """

    def __init__(
        self,
        settings: LifecycleSettings,
        catalog: Catalog,
        workers: int,
        now: Callable[[], datetime],
        load: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._workers = workers
        self._now = now
        self._load = load
        self._began = time.monotonic()
        self._seconds = 0.0
        self._bytes = 0
        self._looked_at = float("-inf")
        self._told = ""

    def spent(self, seconds: float, size_bytes: int) -> None:
        """Count what a task has used."""
        self._seconds += seconds
        self._bytes += size_bytes

    def waits_for(self) -> str:
        """Why nothing may be begun now; '' when it may."""
        settings = self._settings
        if not self._is_in_window():
            return f"the time is outside its windows ({', '.join(settings.windows)})"
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._told = self._told_by_catalog()
            self._looked_at = time.monotonic()
        if self._told:
            return self._told
        if self._load is not None and self._load() > settings.busy_load:
            return "the machine is busy"
        return ""

    def _told_by_catalog(self) -> str:
        if self._catalog.ageing.state("paused"):
            return "it is paused"
        if self._catalog.backlog().size_bytes > self._settings.busy_backlog_bytes:
            return MUCH_HAS_LANDED
        return ""

    def rest_seconds(self) -> float:
        """How long to rest now, so that the shares of CPU and I/O are kept."""
        elapsed = time.monotonic() - self._began
        rests = [0.0]
        if self._settings.cpu_share < 1:
            rests.append(self._seconds / (self._workers * self._settings.cpu_share) - elapsed)
        if self._settings.io_bytes_per_second:
            rests.append(self._bytes / self._settings.io_bytes_per_second - elapsed)
        return max(rests)

    def _is_in_window(self) -> bool:
        spans = self._settings.spans
        moment = self._now().astimezone().time()
        return not spans or any(
            begin <= moment < end if begin <= end else moment >= begin or moment < end for begin, end in spans
        )


def load_of_each_core() -> float:
    """Load of the last minute for each core, without what is done at the lowest priority as far as that is known."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
