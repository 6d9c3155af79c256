"""Threads in which the event loop calls the archive."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from leanpacs.services.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


class Held:
    """A call that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.is_over = False

    def __call__(self) -> int:
        self.begun.set()
        assert self.go_on.wait(60)
        self.is_over = True
        return threading.get_ident()


async def begun(call: Held) -> None:
    while not call.begun.is_set():
        await asyncio.sleep(0.001)


def test_results_and_errors_come_back(threads: Threads) -> None:
    async def asked() -> None:
        assert await threads.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)

    asyncio.run(asked())


def test_what_is_begun_is_awaited_later_or_not_at_all(threads: Threads, caplog: pytest.LogCaptureFixture) -> None:
    async def asked() -> None:
        call = Held()
        waiting, failing = threads.begin(call), threads.begin(partial(divmod, 7, 0))
        await begun(call)
        while not failing.done():
            await asyncio.sleep(0.001)
        del failing
        call.go_on.set()
        assert await waiting
        with pytest.raises(ZeroDivisionError):
            await threads.begin(partial(divmod, 7, 0))

    asyncio.run(asked())
    gc.collect()
    assert not caplog.records  # asyncio would tell of the error that nobody asked for


def test_the_thread_that_was_busy_last_is_asked_first(threads: Threads) -> None:
    async def asked() -> list[int]:
        return [await threads.run(threading.get_ident) for _ in range(20)]

    assert len(set(asyncio.run(asked()))) == 1


def test_no_more_calls_than_threads_at_a_time(threads: Threads) -> None:
    calls = [Held() for _ in range(5)]

    async def asked() -> set[int]:
        waiting = [asyncio.create_task(threads.run(call)) for call in calls]
        await asyncio.gather(begun(calls[0]), begun(calls[1]))
        assert not any(call.begun.is_set() for call in calls[2:])
        for call in calls:
            call.go_on.set()
        return set(await asyncio.gather(*waiting))

    assert len(asyncio.run(asked())) <= 2
    assert all(call.is_over for call in calls)


def test_who_is_cancelled_waits_for_what_has_begun(threads: Threads) -> None:
    call = Held()

    async def asked() -> None:
        waiting = asyncio.create_task(threads.run(call))
        await begun(call)
        waiting.cancel()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        call.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert call.is_over

    asyncio.run(asked())


def test_what_has_not_begun_is_not_made_for_who_is_cancelled(threads: Threads) -> None:
    first, second, third = Held(), Held(), Held()

    async def asked() -> None:
        busy = [asyncio.create_task(threads.run(call)) for call in (first, second)]
        await asyncio.gather(begun(first), begun(second))
        waiting = asyncio.create_task(threads.run(third))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.go_on.set()
        second.go_on.set()
        await asyncio.gather(*busy)
        assert await threads.run(divmod, 7, 2) == (3, 1)

    asyncio.run(asked())
    assert not third.begun.is_set()


def test_closing_drops_what_has_not_begun(threads: Threads) -> None:
    first, second, third = Held(), Held(), Held()

    async def asked() -> None:
        busy = [asyncio.create_task(threads.run(call)) for call in (first, second)]
        await asyncio.gather(begun(first), begun(second))
        waiting = asyncio.create_task(threads.run(third))
        await asyncio.sleep(0.01)
        threads.close()
        with suppress(asyncio.CancelledError):
            await waiting
        first.go_on.set()
        second.go_on.set()
        assert all(isinstance(made, int) for made in await asyncio.gather(*busy))
        with pytest.raises(RuntimeError):
            await threads.run(divmod, 7, 2)

    asyncio.run(asked())
    assert not third.begun.is_set()


def test_a_coroutine_runs_in_one_thread(threads: Threads) -> None:
    async def inner() -> set[int]:
        return {threading.get_ident(), await threads.run(threading.get_ident)}

    async def asked() -> set[int]:
        return await threads.whole(inner)

    found = asyncio.run(asked())
    assert len(found) == 1
    assert threading.get_ident() not in found


def test_a_coroutine_in_a_thread_may_await_nothing_else(threads: Threads) -> None:
    def sleeping() -> Coroutine[Any, Any, None]:
        return asyncio.sleep(1)

    async def asked() -> None:
        with pytest.raises(RuntimeError):
            await threads.whole(sleeping)

    asyncio.run(asked())
