"""Where the event loop calls the archive, which is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

import anyio

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded set of threads for calls into the archive.

    An idle thread waits by itself, and the one that was busy last is asked first: nobody is woken in vain, and what a
    call needs is still in the processor's caches. Executors of the standard library wake two threads for each call.

    Parameters
    ----------
    count : int
        Calls that run at the same time; more wait for their turn.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._started = 0
        self._idle: list[_Inbox] = []
        self._waiting: deque[_Call[Any]] = deque()
        self._is_closed = False
        self._current = threading.local()

    def close(self) -> None:
        """Let the threads end: idle ones now, the others after what they are at; what has not begun is dropped."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            dropped, self._waiting = self._waiting, deque()
        for inbox in idle:
            inbox.put(None)
        for call in dropped:
            call.drop()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``call`` in a thread and wait for what it returns; right here within :meth:`whole`.

        Who is cancelled meanwhile waits nevertheless: nothing that it uses is taken away from a thread.
        """
        if getattr(self._current, "is_ours", False):
            return call(*args, **kwargs)
        given = _Call(partial(call, *args, **kwargs))
        self._give(given)
        try:
            return await given.result
        except asyncio.CancelledError:
            if not self._withdraw(given):
                with anyio.CancelScope(shield=True):
                    await given.end()
            raise

    def begin(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call in a thread, whose result is awaited later; who awaits it no more does not wait for its end."""
        given = _Call(call)
        given.result.add_done_callback(_seen)
        self._give(given)
        return given.result

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

    def _give(self, call: _Call[Any]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the threads have ended")
            if self._idle:
                inbox = self._idle.pop()
            elif self._started < self._count:
                self._started += 1
                inbox = SimpleQueue()
                threading.Thread(target=self._work, args=(inbox,), name="archive", daemon=True).start()
            else:
                self._waiting.append(call)
                return
        inbox.put(call)

    def _withdraw(self, call: _Call[Any]) -> bool:
        """Whether a call had not begun, and is not made."""
        with self._lock:
            try:
                self._waiting.remove(call)
            except ValueError:
                return False
            return True

    def _work(self, inbox: _Inbox) -> None:
        call = inbox.get()
        while call is not None:
            tell = call.run()
            following = self._next(inbox)  # before it is told of: who is told may have the next call at once
            tell()
            call = following or inbox.get()

    def _next(self, inbox: _Inbox) -> _Call[Any] | None:
        """The call that has waited longest; without one, this thread is idle from now on."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._is_closed:
                inbox.put(None)
            else:
                self._idle.append(inbox)
            return None


def _seen(result: asyncio.Future[Any]) -> None:
    """Nobody has to be told of an error that nobody waits for any more."""
    if not result.cancelled():
        result.exception()


class _Call(Generic[T]):
    """A call on its way into a thread and back to the event loop that it was made from."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] | None = None
        self._is_over = False
        self.result: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> Callable[[], None]:
        """Make the call, in a thread; what is returned tells the event loop."""
        try:
            made = self._call()
        except BaseException as error:  # noqa: BLE001 -- it is raised where the call was made from
            return partial(self._tell, self.result.set_exception, error)
        return partial(self._tell, self.result.set_result, made)

    def drop(self) -> None:
        """Tell the event loop that the call is not made."""
        self._tell(self.result.cancel)

    async def end(self) -> None:
        """Wait until the call is over, whatever has become of who wanted its result."""
        if not self._is_over:
            self._end = self._loop.create_future()
            await self._end

    def _tell(self, settle: Callable[..., object], *outcome: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, settle, *outcome)

    def _settle(self, settle: Callable[..., object], *outcome: object) -> None:
        self._is_over = True
        if not self.result.done():
            settle(*outcome)
        if self._end is not None:
            self._end.set_result(None)


_Inbox: TypeAlias = "SimpleQueue[_Call[Any] | None]"
