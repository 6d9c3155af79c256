"""The HTTP door on a real socket: how it starts, streams, breaks off and stops."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from data import Recipe, make_instance
from leanpacs.archive.giveback.retrieve import Part10
from leanpacs.catalog import InstanceRow
from leanpacs.services.dicomweb.app import DicomWebOptions
from leanpacs.services.http import HttpOptions, create_app
from leanpacs.services.server import ServerOptions, serve
from unit.services.dicomweb_fakes import FakeArchive, multipart, parts_of

STORE = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'}
AS_IT_IS = {"accept-encoding": "identity"}


class Running:
    """A server that runs in a thread."""

    def __init__(self, archive: FakeArchive, options: HttpOptions) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.stop = threading.Event()
        arguments = (self.listener, create_app(archive, options), self.stop, options.server)
        self.thread = threading.Thread(target=serve, args=arguments)
        self.thread.start()

    def close(self) -> None:
        self.stop.set()
        self.thread.join(60)
        self.listener.close()
        assert not self.thread.is_alive()


@contextmanager
def _running(archive: FakeArchive, options: HttpOptions | None = None) -> Iterator[Running]:
    running = Running(archive, options or HttpOptions(reading_threads=4))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


def _until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def _slow_part10(archive: FakeArchive, row: InstanceRow, gate: threading.Event, error: Exception | None = None):
    """Replace an instance by an endless one; `gate` ends it."""
    closed = threading.Event()

    def chunks() -> Iterator[bytes]:
        try:
            while not gate.wait(0.01):
                yield bytes(300_000)
            if error:
                raise error
        finally:
            closed.set()

    archive.retriever.part10 = lambda *_: Part10(row.transfer_syntax, None, chunks())
    return closed


def _url(row: InstanceRow) -> str:
    return f"/dicom-web/studies/{row.study_uid}/series/{row.series_uid}/instances/{row.sop_uid}"


def test_store_and_retrieve(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    parts = [make_instance(Recipe(instance=n)) for n in range(3)]
    with _running(archive) as server, httpx.Client(base_url=server.url) as client:
        stored = client.post("/dicom-web/studies", content=multipart(parts), headers=STORE)
        assert stored.status_code == 200
        assert archive.landed == parts
        assert stored.json()["00081190"]["Value"][0].startswith(server.url + "/dicom-web/studies/")
        (part,) = parts_of(client.get(_url(row)))
        assert part.content == archive.retriever.files[row.sop_uid]
        assert client.get("/health").json()["status"] == "ok"


def test_chunked_request_bodies(archive: FakeArchive) -> None:
    body = multipart([make_instance(Recipe(rows=600, columns=700))])
    pieces = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    with _running(archive) as server:
        response = httpx.post(f"{server.url}/dicom-web/studies", content=pieces, headers=STORE)
        assert response.status_code == 200
        assert len(archive.landed) == 1


def test_early_answer_reaches_a_client_that_is_still_sending(archive: FakeArchive) -> None:
    with _running(archive) as server:
        response = httpx.post(
            f"{server.url}/dicom-web/studies", content=bytes(20 << 20), headers={"content-type": "text/plain"}
        )
        assert response.status_code == 415


def test_failure_in_the_middle_breaks_the_connection_off(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    gate = threading.Event()
    closed = _slow_part10(archive, row, gate, OSError("disk gone"))
    with _running(archive) as server, httpx.stream("GET", server.url + _url(row), headers=AS_IT_IS) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        next(pieces)
        gate.set()
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
        assert closed.wait(60)


def test_client_that_goes_away_lets_go_of_the_instance(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    closed = _slow_part10(archive, row, threading.Event())
    with _running(archive) as server:
        with httpx.stream("GET", server.url + _url(row), headers=AS_IT_IS) as response:
            next(response.iter_raw())
        assert closed.wait(60)


def test_slow_clients_hold_no_threads(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    gate = threading.Event()
    _slow_part10(archive, row, gate)
    with _running(archive) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
        for connection in slow:
            connection.sendall(f"GET {_url(row)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # There are four threads for reading; all twelve clients have stopped reading.
        assert httpx.get(server.url + "/health", timeout=60).status_code == 200
        for connection in slow:
            connection.close()
        gate.set()


def test_broken_off_store_leaves_nothing(archive: FakeArchive) -> None:
    body = multipart([make_instance(Recipe(rows=1000, columns=1000))])
    with _running(archive) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.putrequest("POST", "/dicom-web/studies")
        connection.putheader("Content-Type", STORE["content-type"])
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: len(body) * 3 // 4])
        _until(lambda: list(archive.spool_folder.iterdir()))
        connection.close()
        _until(lambda: not list(archive.spool_folder.iterdir()))
        assert archive.landed == []


def test_store_that_stalls_is_given_up(archive: FakeArchive) -> None:
    body = multipart([make_instance(Recipe(rows=1000, columns=1000))])
    options = HttpOptions(dicomweb=DicomWebOptions(idle_seconds=0.3))
    with _running(archive, options) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.putrequest("POST", "/dicom-web/studies")
        connection.putheader("Content-Type", STORE["content-type"])
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: len(body) // 2])
        assert connection.getresponse().status == 408
        assert list(archive.spool_folder.iterdir()) == []
        connection.close()


def test_stop_lets_answers_finish(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    gate = threading.Event()
    _slow_part10(archive, row, gate)
    with _running(archive) as server, httpx.stream("GET", server.url + _url(row), headers=AS_IT_IS) as response:
        pieces = response.iter_raw()
        next(pieces)
        server.stop.set()
        threading.Timer(0.3, gate.set).start()
        for _ in pieces:
            pass  # it comes to its end
        server.thread.join(60)
        assert not server.thread.is_alive()


def test_stop_does_not_wait_for_ever(archive: FakeArchive) -> None:
    row = archive.hold(Recipe())
    closed = _slow_part10(archive, row, threading.Event())
    with (
        _running(archive, HttpOptions(server=ServerOptions(stop_seconds=0.2))) as server,
        httpx.stream("GET", server.url + _url(row), headers=AS_IT_IS) as response,
    ):
        next(response.iter_raw())
        server.stop.set()
        server.thread.join(60)
        assert not server.thread.is_alive()
    assert closed.wait(60)


def test_stop_with_idle_connections(archive: FakeArchive) -> None:
    with _running(archive) as server, httpx.Client() as client:
        client.get(server.url + "/health")
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        server.stop.set()
        server.thread.join(60)
        assert not server.thread.is_alive()
        for connection in idle:
            connection.close()


def test_listener_stays_with_its_owner(archive: FakeArchive) -> None:
    with _running(archive) as server:
        httpx.get(server.url + "/health")
        server.stop.set()
        server.thread.join(60)
        again = Running.__new__(Running)
        again.listener, again.stop = server.listener, threading.Event()
        app = create_app(archive)
        again.thread = threading.Thread(target=serve, args=(server.listener, app, again.stop))
        again.thread.start()
        assert httpx.get(server.url + "/health", timeout=60).status_code == 200
        again.stop.set()
        again.thread.join(60)
        assert not again.thread.is_alive()


@pytest.mark.parametrize(
    "request_text",
    [
        "GET / HTTP/1.1\r\nHost: [\r\n\r\n",
        "GET /dicom-web/studies HTTP/1.1\r\nHost: a\r\nAccept: " + "a/b," * 5000 + "\r\n\r\n",
        "GET /dicom-web/studies?" + "x" * 20_000 + " HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /dicom-web/studies HTTP/1.1\r\nHost: a\r\nContent-Type: \xff\r\nContent-Length: 0\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ],
)
def test_hostile_requests_do_not_hurt(archive: FakeArchive, request_text: str) -> None:
    with _running(archive) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(request_text.encode("latin-1"))
            answer = connection.recv(65536)
        assert not answer.startswith(b"HTTP/1.1 5")
        assert httpx.get(server.url + "/health").status_code == 200
