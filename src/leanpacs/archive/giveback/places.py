"""Where instances were found lately, so that the catalog is not asked again for each frame."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Final

from leanpacs.catalog import InstanceRow, RepresentationRow

PLACES_SECONDS: Final = 30.0
"""How long a better form that was made meanwhile may stay unnoticed."""
MOST_PLACES: Final = 20_000


class Places:
    """Where instances were found, for a short while. Thread-safe.

    What has gone since is looked up again by who does not find it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, bytes], tuple[float, list[RepresentationRow]]] = OrderedDict()

    def get(self, instance: InstanceRow) -> list[RepresentationRow] | None:
        """The stored forms of an instance; None where that is not known, or not any more."""
        with self._lock:
            until, held = self._known.get((instance.id, instance.data_set_digest.raw), (0.0, None))
        return held if time.monotonic() < until else None

    def put(self, instance: InstanceRow, held: list[RepresentationRow]) -> None:
        """Remember the stored forms of an instance."""
        key = instance.id, instance.data_set_digest.raw
        with self._lock:
            self._known[key] = time.monotonic() + PLACES_SECONDS, held
            self._known.move_to_end(key)
            if len(self._known) > MOST_PLACES:
                self._known.popitem(last=False)

    def forget_old(self) -> None:
        """Forget what would be looked up again anyway."""
        with self._lock:
            while self._known and next(iter(self._known.values()))[0] < time.monotonic():
                self._known.popitem(last=False)
