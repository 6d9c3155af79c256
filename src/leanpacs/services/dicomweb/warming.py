"""Metadata of what has just arrived, made ready before a viewer asks for it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs.catalog import AnyOf, Query
from leanpacs.errors import LeanPACSError
from leanpacs.services.dicomweb import readymade, wado
from leanpacs.services.dicomweb.urls import Urls

if TYPE_CHECKING:
    from leanpacs.archive.archive import Archive
    from leanpacs.catalog import InstanceRow

_log = logging.getLogger(__name__)

_PAGE: Final = 1000
_MOST_SERIES: Final = 10_000
_NICENESS: Final = 10
_REST: Final = 3
"""How much longer it rests than it works: the process answers requests, too, and computes one thing at a time."""
_TRY_SECONDS: Final = 5.0
"""How often one who waits looks whether the one who works has gone."""


class Warmer:
    """Follows the change feed, and makes the metadata of a series ready when nothing more comes for it.

    Parameters
    ----------
    archive : Archive
        Open; not closed here.
    quiet_seconds : float
        How long nothing may come for a series before it is taken up.
    lock : Path, optional
        A file; of all processes that name it, one at a time works. What one makes, the others find.
    most_waiting_bytes : int, optional
        While more than this waits to be settled, that comes first, and nothing is made.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        quiet_seconds: float = 3.0,
        lock: Path | None = None,
        most_waiting_bytes: int | None = None,
    ) -> None:
        self._lock = lock
        self._most_waiting_bytes = most_waiting_bytes
        self._archive = archive
        self._quiet_seconds = quiet_seconds
        self._waiting: dict[str, float] = {}
        self._seen = archive.catalog.last_change()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work in a thread of its own as long as the block lasts."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="metadata", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        with suppress(OSError, AttributeError):  # receiving and giving back go before this
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        with ExitStack() as stack:
            while not (stop.is_set() or self.is_our_turn(stack)):
                stop.wait(_TRY_SECONDS)
            while not stop.wait(1.0):
                self._try(stop)

    def is_our_turn(self, stack: ExitStack) -> bool:
        """Whether nobody else works; from then on nobody else does, until ``stack`` is closed."""
        if self._lock is None:
            return True
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(self._lock.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stack.close()
            return False
        return True

    def _try(self, stop: threading.Event) -> None:
        try:
            self.turn(time.monotonic(), stop)
        except LeanPACSError as error:
            _log.warning("no metadata are made ready: %s", error, extra={"action": "warm"})
        except Exception:  # noqa: BLE001 -- a fault here must not end what only saves time
            _log.exception("no metadata are made ready", extra={"action": "warm"})

    def turn(self, now: float, stop: threading.Event) -> None:
        """Look for what has come, and make ready what has come to rest."""
        most = self._most_waiting_bytes
        if most is not None and self._archive.catalog.backlog().size_bytes > most:
            return
        self._look(now)
        for series_uid in [uid for uid, at in self._waiting.items() if now - at >= self._quiet_seconds]:
            if stop.is_set():
                return
            del self._waiting[series_uid]
            rows = self._archive.catalog.instances(series_uid=series_uid)
            if 0 < len(rows) <= readymade.MOST_INSTANCES:
                began = time.monotonic()
                self._make_ready(rows)
                stop.wait(_REST * (time.monotonic() - began))

    def _look(self, now: float) -> None:
        while page := self._archive.catalog.changes(self._seen, _PAGE):
            for change in page:
                self._waiting[change.series_uid] = now
            self._seen = page[-1].sequence
        for series_uid in list(self._waiting)[:-_MOST_SERIES]:
            del self._waiting[series_uid]  # whoever asks for it first makes it

    def _make_ready(self, rows: Sequence[InstanceRow]) -> None:
        if len(rows) > 1:  # those of one instance are read as quickly as what was made ready
            urls, retriever = Urls(readymade.SERVICE), self._archive.retriever
            readymade.make_ready(rows, lambda some: wado.models(some, retriever, urls), self._archive.cache)
        study, series = AnyOf((rows[0].study_uid,)), AnyOf((rows[0].series_uid,))
        for query in (
            Query("study", {"StudyInstanceUID": study}),
            Query("series", {"StudyInstanceUID": study, "SeriesInstanceUID": series}),
        ):
            self._archive.searcher.make_ready(query)  # for searches that ask for all attributes
