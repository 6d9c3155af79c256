"""Bodies made by threads: all of it, or an answer that stays unfinished."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from starlette.requests import Request

from leanpacs.services.dicomweb.streaming import ChunkedResponse
from leanpacs.services.threads import Threads

PIECE = bytes(range(256)) * (3 << 12)  # longer than what is made in one call


class Client:
    """Takes an answer, each message in so many seconds; stays until the end."""

    def __init__(self, seconds: float) -> None:
        self.messages: list[dict[str, Any]] = []
        self._seconds = seconds

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        await anyio.sleep(self._seconds)

    async def receive(self) -> Any:
        await anyio.sleep_forever()

    def ask(self, chunks: Iterator[bytes], method: str = "GET") -> None:
        async def asked() -> None:
            request = Request({"type": "http", "method": method})
            response = await ChunkedResponse(chunks, Threads(2)).primed(request)
            await response(request.scope, self.receive, self.send)

        asyncio.run(asked())

    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    def is_finished(self) -> bool:
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)


@pytest.mark.parametrize("sending", [0.0, 0.01])
@pytest.mark.parametrize("making", [0.0, 0.02])
def test_failure_in_the_middle_leaves_the_answer_unfinished(making: float, sending: float) -> None:
    closed = []

    def chunks() -> Iterator[bytes]:
        try:
            yield PIECE
            time.sleep(making)
            raise OSError("disk gone")
        finally:
            closed.append(True)

    client = Client(sending)
    with pytest.raises(OSError, match="disk gone"):
        client.ask(chunks())
    assert client.messages[0]["status"] == 200
    assert not client.is_finished()
    assert closed


@pytest.mark.parametrize("pieces", [0, 1, 2, 5])
def test_whole_bodies_come_whole(pieces: int) -> None:
    client = Client(0.0)
    client.ask(iter([PIECE] * pieces))
    assert client.body() == PIECE * pieces
    assert client.is_finished()
    assert [message.get("more_body", False) for message in client.messages[1:]].count(False) == 1


def test_head_has_no_body() -> None:
    def chunks() -> Iterator[bytes]:
        raise AssertionError("made for nobody")
        yield b""

    client = Client(0.0)
    client.ask(chunks(), "HEAD")
    assert client.body() == b""
    assert client.is_finished()


class Leaving(Client):
    """Goes away with the first piece of the body."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self._has_gone = anyio.Event()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if len(self.messages) > 1:
            self._has_gone.set()
            await anyio.sleep_forever()

    async def receive(self) -> Any:
        await self._has_gone.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("fails", [False, True])
def test_who_goes_away_is_not_waited_for_and_what_is_in_the_making_is_closed_after_it(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    order = []

    def chunks() -> Iterator[bytes]:
        try:
            yield PIECE
            time.sleep(0.05)
            order.append("made")
            if fails:
                raise OSError("disk gone")
            yield PIECE * 2
            raise AssertionError("made for nobody")
        finally:
            order.append("closed")

    client = Leaving()
    client.ask(chunks())
    assert order == ["made", "closed"]
    assert not client.is_finished()
    gc.collect()
    assert not caplog.records
