"""Where the event loop calls the archive, which is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import anyio

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
        # Half of what anyio's threads take, which look after much that is not needed here.
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="archive")
        self._current = threading.local()

    def close(self) -> None:
        """Let the threads end: idle ones now, the others after what they are at; what has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``call`` in a thread and wait for what it returns; right here within :meth:`whole`.

        Who is cancelled meanwhile waits nevertheless: nothing that it uses is taken away from a thread.
        """
        if getattr(self._current, "is_ours", False):
            return call(*args, **kwargs)
        running = self._executor.submit(call, *args, **kwargs)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if not running.cancelled():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([asyncio.wrap_future(running)])
            raise

    async def whole(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine that awaits nothing but :meth:`run` from its beginning to its end in one thread.

        Each change of threads takes a tenth of a millisecond, more when others want the interpreter.
        """
        return await self.run(self._driven, begin)

    def _driven(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        coroutine, self._current.is_ours = begin(), True
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._current.is_ours = False
            coroutine.close()
        raise RuntimeError("it awaits something else")
