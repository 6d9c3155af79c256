"""Back-pressure: senders wait while too much has landed that is not settled yet."""

from __future__ import annotations

import threading
import time
from typing import Final

from leanpacs.catalog import Catalog
from leanpacs.config import IngestSettings
from leanpacs.errors import StoreFull

LOOK_SECONDS: Final = 0.25


class BacklogGate:
    """Makes senders wait while too much has landed that is not settled yet."""

    def __init__(self, catalog: Catalog, settings: IngestSettings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._waiting_bytes = 0

    def wait(self) -> None:
        """Return as soon as the backlog is below its limit.

        Raises
        ------
        StoreFull
            If it is not after ``backlog_wait_seconds``; nothing was taken, the sender may come again.
        """
        deadline = time.monotonic() + self._settings.backlog_wait_seconds
        while self._backlog_bytes() > self._settings.backlog_bytes:
            if time.monotonic() > deadline:
                raise StoreFull("too much is waiting to be settled; send it again later")
            time.sleep(LOOK_SECONDS)

    def _backlog_bytes(self) -> int:
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._waiting_bytes = self._catalog.backlog().size_bytes
                self._looked_at = time.monotonic()
            return self._waiting_bytes
