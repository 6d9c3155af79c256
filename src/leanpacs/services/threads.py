"""Where the event loop calls the archive, which is synchronous."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded set of threads for calls into the archive.

    Parameters
    ----------
    count : int
        Calls that run at the same time; more wait for their turn.
    """

    def __init__(self, count: int) -> None:
        self._limiter = anyio.CapacityLimiter(count)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``call`` in a thread and wait for what it returns."""
        return await anyio.to_thread.run_sync(lambda: call(*args, **kwargs), limiter=self._limiter)
