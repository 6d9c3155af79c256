"""A slow line: a proxy on 127.0.0.1 that passes bytes on no faster, and no sooner, than a line would.

Each direction has a rate, which all connections share, and a delay. Bytes are charged as the packets that would carry
them, with what Ethernet, IP and TCP put around: of 5 Mbit/s, 4.78 are left for what is sent. A new connection waits for
one way there and back before its first byte, as for TCP's handshake. What TCP does to find the rate is not imitated: at
5 Mbit/s and 40 ms a window of 25 kB fills the line, which connections have after one or two round trips.

A network namespace with ``tc netem`` would do the same to real packets, where the kernel has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
PAYLOAD_BYTES: Final = 1448
"""Of a packet of 1500 bytes, after the headers of IPv4 and TCP with time stamps."""

AROUND_BYTES: Final = 66
"""Headers of Ethernet, IPv4 and TCP with time stamps."""

QUEUE_SECONDS: Final = 0.1
"""What a router keeps waiting before senders notice."""


@dataclass(slots=True)
class _Direction:
    """When the line will have sent all that was given to it."""

    bits_per_second: float
    free_at: float = 0.0

    def sent_at(self, size_bytes: int, now: float) -> float:
        """Take bytes; the time when the last of them has been sent."""
        packets = -(-size_bytes // PAYLOAD_BYTES)
        self.free_at = max(self.free_at, now) + (size_bytes + packets * AROUND_BYTES) * 8 / self.bits_per_second
        return self.free_at


class SlowLine:
    """A proxy to a port of 127.0.0.1, on a thread of its own while it is entered.

    Parameters
    ----------
    port : int
        Of the server.
    bits_per_second : float
        Of each direction.
    delay_seconds : float
        From one end to the other, each way.

    Attributes
    ----------
    port : int
        Where clients connect.
    """

    def __init__(self, port: int, bits_per_second: float = 5e6, delay_seconds: float = 0.04) -> None:
        self._server = port
        self._delay = delay_seconds
        self._up, self._down = _Direction(bits_per_second), _Direction(bits_per_second)
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="slow-line")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener, limit=PAYLOAD_BYTES)
        await self._stop.wait()
        server.close()
        open_ones = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed by what has been called soon

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._writers.add(to_client)
        try:
            await asyncio.sleep(2 * self._delay)
            server, to_server = await asyncio.open_connection(HOST, self._server, limit=PAYLOAD_BYTES)
            self._writers.add(to_server)
            try:
                await asyncio.gather(
                    self._carry(client, to_server, self._up), self._carry(server, to_client, self._down)
                )
            finally:
                to_server.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            to_client.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Direction) -> None:
        """Take one packet after the other from one side; hand each over when it arrives."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(under_way, writer))
        try:
            while data := await reader.read(PAYLOAD_BYTES):
                now = self._loop.time()
                sent_at = line.sent_at(len(data), now)
                under_way.put_nowait((sent_at + self._delay, data))
                if sent_at - now > QUEUE_SECONDS:
                    await asyncio.sleep(sent_at - now - QUEUE_SECONDS)
            under_way.put_nowait((0.0, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            arrives_at, data = await under_way.get()
            await asyncio.sleep(max(0.0, arrives_at - self._loop.time()))
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
