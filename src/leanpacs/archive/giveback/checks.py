"""Which frames that are written for a receiver are read back and compared before they go out.

What is stored was proven when it was settled. What is made of it for one receiver is kept nowhere as an original, and
comes from encoders that are tested on all kinds of frames: a sample of it is enough to notice one that has a fault.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from leanpacs.catalog import InstanceRow

FIRST_ONES: Final = 4
"""Instances of each kind that are checked in any case."""


class SpotChecks:
    """Decides for each instance whether what is written of it is read back. Thread-safe.

    Parameters
    ----------
    one_in : int
        Of each kind (SOP class, transfer syntax received and wanted) the first ones are checked, then one in so many;
        1 checks all, 0 none.
    """

    def __init__(self, one_in: int) -> None:
        self._one_in = one_in
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def are_due(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether the frames of this instance are to be read back."""
        if not self._one_in:
            return False
        kind = instance.sop_class, instance.transfer_syntax, wanted
        with self._lock:
            before = self._seen[kind]
            self._seen[kind] += 1
        return before < FIRST_ONES or before % self._one_in == 0
