"""Bodies that threads make while the event loop sends them.

The archive is synchronous. Each chunk is made in a thread while the one before is handed to the server, so a slow
client costs no thread and at most two chunks of memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final, Self

import anyio
from starlette.background import BackgroundTask
from starlette.responses import Response

from leanpacs.services.dicomweb.multipart import close, evened

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from leanpacs.archive.giveback.given import Bytes
    from leanpacs.services.threads import Threads

_END: Final = b""
_AT_ONCE_BYTES: Final = 1 << 20
"""A body that is no longer is made in one call and sent in one piece."""


def whole(request: Request, body: bytes, headers: Mapping[str, str], media_type: str) -> Response:
    """Return an answer whose body is at hand; to HEAD without it."""
    fields = {**headers, "content-length": str(len(body))}
    return Response(b"" if request.method == "HEAD" else body, headers=fields, media_type=media_type)


def afterwards(response: Response, call: Callable[[], object]) -> Response:
    """Return the answer, after which ``call`` is to be made, when it has been sent; it must not take long."""

    async def called() -> None:
        call()

    response.background = BackgroundTask(called)
    return response


class ChunkedResponse(Response):
    """An answer whose body is made chunk by chunk in threads.

    The iterator is closed in every case: at the end, after an error, and when the client goes away. An error
    in the middle breaks the connection off, so that the client cannot take a part for the whole.

    Parameters
    ----------
    chunks : iterator of bytes
        The body; owned by the answer from here on.
    threads : Threads
        Where the chunks are made.
    length : int or None
        Bytes of the body where known; becomes Content-Length.
    """

    def __init__(
        self,
        chunks: Iterator[Bytes],
        threads: Threads,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        length: int | None = None,
    ) -> None:
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self._source = chunks
        self._chunks: Iterator[bytes] = iter(())
        self._first = _END
        self._threads = threads
        self._turn = threading.Lock()
        fields = dict(headers or {})
        if length is not None:
            fields["content-length"] = str(length)
        self.init_headers(fields)

    async def primed(self, request: Request) -> Self:
        """Make the first chunks now, so that a failure becomes an answer and not a broken connection.

        For HEAD no chunk is made at all.
        """
        if request.method != "HEAD":
            await self._threads.run(self._begin)
        return self

    def _begin(self) -> None:
        """Make chunks until the body ends, or is too long to be sent in one piece."""
        made, size = [], 0
        try:
            for chunk in self._source:
                made.append(chunk)
                size += len(chunk)
                if size > _AT_ONCE_BYTES:
                    self._chunks = evened(chain(made, self._source), first_bytes=_AT_ONCE_BYTES)
                    self._first = next(self._chunks)
                    return
            self.body = b"".join(made)
            self.headers["content-length"] = str(len(self.body))
        except BaseException:
            close(self._source)
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer (ASGI)."""
        if hasattr(self, "body"):
            await super().__call__(scope, receive, send)
            return
        await self._send_chunks(receive, send)
        if self.background is not None:
            await self.background()

    async def _send_chunks(self, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                await self._send(send)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the group has one member: what `_send` raised
            raise group.exceptions[0] from None
        finally:
            await self._finish()

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        """Stop the sending when the client has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _send(self, send: Send) -> None:
        """Send each chunk while the one after it is made.

        Only the empty chunk ends the body. Where making fails there is none, and the answer stays unfinished.
        """
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        chunk, self._first = self._first, _END  # whoever reads slowly costs what is being sent, and the next one
        while chunk != _END:
            making = self._threads.begin(self._next)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await making
        await send({"type": "http.response.body", "body": _END, "more_body": False})

    async def _finish(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._threads.run(self._close)

    def _next(self) -> bytes:
        with self._turn:
            return next(self._chunks, _END)

    def _close(self) -> None:
        # When the server stops, the last chunk may still be in the making: its thread cannot be interrupted.
        with self._turn:
            close(self._chunks)
            close(self._source)  # a generator that never ran does not reach its own cleaning up
