"""Which series were read, and when: kept in memory, written to the catalog every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from leanpacs.catalog import Catalog
from leanpacs.errors import LeanPACSError

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 10.0
SAME_READ_SECONDS: Final = 600.0
"""A series that is read again within this time counts as read once: viewers fetch one image after the other."""

_MOST_REMEMBERED: Final = 50_000


class Reads:
    """Counts reads of series. Thread-safe; what a crash loses is the reads of the last seconds.

    Parameters
    ----------
    catalog : Catalog
        Where they are written.
    now : callable, optional
        The time (aware, UTC).
    """

    def __init__(self, catalog: Catalog, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._catalog = catalog
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[int, datetime]] = {}
        self._counted: dict[int, float] = {}
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None

    def note(self, series_id: int) -> None:
        """Note that something of a series is given to somebody."""
        moment = time.monotonic()
        with self._lock:
            before = self._counted.get(series_id, float("-inf"))
            is_new = moment - before > SAME_READ_SECONDS
            if is_new:
                self._counted[series_id] = moment
                if len(self._counted) > _MOST_REMEMBERED:
                    self._counted.pop(next(iter(self._counted)))
            elif series_id not in self._waiting and moment - before < FLUSH_SECONDS:
                return
            count, _ = self._waiting.get(series_id, (0, None))
            self._waiting[series_id] = count + is_new, self._now()
            if self._writer is None and not self._stop.is_set():
                self._writer = threading.Thread(target=self._write_now_and_then, name="reads", daemon=True)
                self._writer.start()

    def flush(self) -> None:
        """Write what was noted; when the catalog does not take it, it is written the next time."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            self._catalog.write(lambda transaction: transaction.ageing.note_reads(waiting))
        except LeanPACSError as error:
            log.warning("reads are noted later: %s", error, extra={"action": "reads"})
            with self._lock:
                for key, (count, last) in waiting.items():
                    more, latest = self._waiting.get(key, (0, last))
                    self._waiting[key] = count + more, max(last, latest)

    def close(self) -> None:
        """Write what was noted, and stop writing."""
        self._stop.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self.flush()

    def _write_now_and_then(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
