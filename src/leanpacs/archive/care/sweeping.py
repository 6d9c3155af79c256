"""What a running archive clears away by itself: what is due, now and then; what nobody knows, once a day."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from leanpacs.archive.archive import Archive

log = logging.getLogger(__name__)

ORPHANS_EVERY: Final = timedelta(days=1)
UNDER_WAY: Final = timedelta(hours=1)
"""Younger blobs that the catalog does not know may be about to be named by somebody."""


class Sweeper:
    """Sweeps an archive whenever it is told to; looks for orphans at the first time, where that is safe, and daily.

    A crash leaves orphans, and so does a catalog that goes away between writing a blob and naming it.

    Parameters
    ----------
    archive : Archive
        What is swept.
    started : datetime
        When this process began: with nobody else at work, what is older and has no name will never get one.
    """

    def __init__(self, archive: Archive, started: datetime) -> None:
        self._archive = archive
        self._started = started
        self._looked_at: datetime | None = None if archive.was_alone else started

    def round(self, now: datetime) -> int:
        """Delete what is due, and orphans if it is time to look for them; returns how many orphans.

        Raises
        ------
        CatalogUnavailable
            It may be tried again.
        """
        orphans = 0
        if self._looked_at is None or now - self._looked_at >= ORPHANS_EVERY:
            orphans = self._look(now)
            self._looked_at = now
        self._archive.deleter().sweep(now)
        if self._archive.recent is not None:
            self._archive.recent.trim()
        return orphans

    def _look(self, now: datetime) -> int:
        """Delete what the catalog does not know; of several hosts one looks, and once a day is often enough."""
        before = self._started if self._looked_at is None else now - UNDER_WAY
        if self._archive.catalog.is_shared:
            with self._archive.catalog.writing() as transaction:
                if not transaction.take_lease("orphans", self._archive.host, until=now + ORPHANS_EVERY, now=now):
                    return 0
            before = min(before, now - UNDER_WAY)
        orphans = self._archive.deleter().sweep_orphans(before)
        if orphans:
            log.info("orphans swept", extra={"action": "sweep", "count": orphans})
        return orphans
