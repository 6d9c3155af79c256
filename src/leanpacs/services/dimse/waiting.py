"""Wait for what must first be brought back from an archive class, telling the peer that it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from leanpacs.catalog import FoundInstance, InstanceRow
from leanpacs.errors import LeanPACSError

AT_HAND: Final = "ONLINE"
LOOK_SECONDS: Final = 1.0


def wait_for(
    rows: Sequence[FoundInstance],
    bring: Callable[[InstanceRow], float],
    seconds: float,
    goes_on: Callable[[], bool],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when all can be read, when it is clear that this takes too long, or when nobody wants it any more.

    Parameters
    ----------
    rows : sequence of FoundInstance
        What is to be sent.
    bring : callable
        Asks for an instance; the seconds that it will still take, 0.0 when it can be read.
    seconds : float
        How long to wait at most.
    goes_on : callable
        Tells the peer that it is waited; False when the peer does not want it any more.
    """
    waiting = [row.held for row in rows if row.availability != AT_HAND]
    deadline = clock() + seconds
    while waiting and goes_on():
        try:
            left = {row: bring(row) for row in waiting}
        except LeanPACSError:
            return  # it is told of each instance when it is to be sent
        waiting = [row for row, takes in left.items() if takes > 0.0]
        until = deadline - clock()
        if not waiting or max(left.values()) > until:
            return
        sleep(min(LOOK_SECONDS, until))
