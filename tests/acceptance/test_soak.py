"""Clients that do not behave cost a server nothing that lasts: neither memory nor files, threads nor spool."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

import data
from rude import Rude
from serving import Server

CLIENTS = int(os.environ.get("LEANPACS_TEST_RUDE_CLIENTS", "450"))
WARM_UP = 150
IDLE = 500
PATIENCE_SECONDS = 150.0
"""A worker process that a request has started ends after a minute without work."""
REST_SECONDS = 12.0
"""After which processes that have nothing to do have given back what they keep free."""
SLICES = 24
NATIVE = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'


@dataclass(frozen=True)
class Held:
    """What the processes of a server hold."""

    memory_bytes: int
    files: int
    threads: int
    spooled: int


def held(server: Server) -> Held:
    """Count over the server and all its processes."""
    memory = files = threads = 0
    for process in [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            memory += process.memory_full_info().uss
            files += process.num_fds()
            threads += process.num_threads()
    hot = server.folder / "hot"
    spooled = sum(1 for name in ("spool", "tmp") for path in (hot / name).rglob("*") if path.is_file())
    return Held(memory, files, threads, spooled)


def stored(server: Server) -> str:
    """Fill the server with a series; the path of its study."""
    recipes = [data.Recipe(rows=256, columns=256, seed=number, instance=number) for number in range(SLICES)]
    with httpx.Client(base_url=server.http, timeout=60) as client:
        for recipe in recipes:
            content = data.make_instance(recipe)
            client.post(
                "dicom-web/studies", content=content, headers={"content-type": "application/dicom"}
            ).raise_for_status()
    return f"/dicom-web/studies/{recipes[0].study_uid}"


def wait_for(what: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def study(server: Server, path: str) -> int:
    """Bytes of a study, without the boundaries, which are new each time."""
    answer = httpx.get(f"{server.http.rstrip('/')}{path}", headers={"accept": NATIVE}, timeout=60).raise_for_status()
    return len(answer.content)


@pytest.mark.slow
def test_rude_clients_leave_nothing_behind(tmp_path: Path) -> None:
    # Peers that stand still are given up soon, so that the count can be taken soon.
    environment = {"LEANPACS_DIMSE__NETWORK_TIMEOUT_SECONDS": "5"}
    with Server(tmp_path / "archive", processes=1, workers=1, environment=environment) as server:
        path = stored(server)
        url = urlsplit(server.http)
        assert url.hostname
        assert url.port
        rude = Rude((url.hostname, url.port), (server.host, server.port), path, random.Random(8))
        whole = study(server, path)
        for kind in rude.kinds:  # once each, so that all that is made on first use is there
            with suppress(OSError, AssertionError):
                kind()
        _bother(rude, WARM_UP)
        assert wait_for(lambda: held(server).spooled == 0)
        time.sleep(REST_SECONDS)
        before = held(server)
        with ExitStack() as idle:
            for number in range(IDLE):
                address = (url.hostname, url.port) if number % 2 else (server.host, server.port)
                with suppress(OSError):
                    idle.enter_context(socket.create_connection(address, 5))
            assert study(server, path) == whole  # they are in nobody's way
        _bother(rude, CLIENTS)
        assert study(server, path) == whole
        assert wait_for(lambda: held(server).spooled == 0)
        assert wait_for(lambda: held(server).files <= before.files + 8), (before, held(server))
        assert wait_for(lambda: held(server).threads <= before.threads + 8), (before, held(server))
        # Allocators keep some; a leak of one message each would be more, and would not be given back.
        most = before.memory_bytes + (32 << 20) + CLIENTS * 1500
        assert wait_for(lambda: held(server).memory_bytes <= most), (before, held(server))
        after = held(server)
        print(f"{CLIENTS} clients: before {before}, after {after}")
        assert server.stop() == 0


def _bother(rude: Rude, count: int) -> None:
    for number in range(count):
        with suppress(OSError, AssertionError):  # being cut off is what they are there for
            rude.kinds[number % len(rude.kinds)]()
