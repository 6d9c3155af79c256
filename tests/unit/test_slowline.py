"""The slow line that measurements are taken over."""

from __future__ import annotations

import gc
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

SIZE = 200_000


@pytest.fixture
def server() -> int:
    """A server that answers each line with its length in bytes, then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines, suppress(OSError):
                for line in lines:
                    client.sendall(b"x" * int(line))

    thread = threading.Thread(target=answer)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def _taken(port: int, size: int) -> tuple[int, float]:
    started, count = time.monotonic(), 0
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"%d\n" % size)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            assert data == b"x" * len(data)
            count += len(data)
    return count, time.monotonic() - started


def test_all_comes_and_no_sooner_than_the_line_allows(monkeypatch: pytest.MonkeyPatch, server: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.slowline import SlowLine

    with SlowLine(server, bits_per_second=8e6, delay_seconds=0.05) as line:
        count, seconds = _taken(line.port, SIZE)
        assert count == SIZE
        # 0.2 s for the bytes; handshake, request and answer four times 50 ms. A busy machine takes longer, never less.
        assert seconds >= 0.4


def test_connections_share_it(monkeypatch: pytest.MonkeyPatch, server: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.slowline import SlowLine

    found: list[tuple[int, float]] = []
    with SlowLine(server, bits_per_second=8e6, delay_seconds=0.0) as line:
        threads = [threading.Thread(target=lambda: found.append(_taken(line.port, SIZE))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [count for count, _ in found] == [SIZE, SIZE]
    assert max(seconds for _, seconds in found) >= 2 * SIZE * 8 / 8e6


def test_it_ends_with_nothing_open_although_much_is_under_way(monkeypatch: pytest.MonkeyPatch, server: int) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.slowline import SlowLine

    with SlowLine(server, bits_per_second=8e9, delay_seconds=0.0) as line:
        client = socket.create_connection(("127.0.0.1", line.port))
        client.sendall(b"%d\n" % (100 * SIZE))
        assert client.recv(1) == b"x"
        time.sleep(0.3)  # until buffers are full: nothing more is read
    client.close()
    del line
    gc.collect()  # what is still open makes a warning, and that an error
