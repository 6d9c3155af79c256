"""Two servers on one PostgreSQL and one S3 behind nginx: any of them takes, any of them gives, one may die."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE

import data
import nginx
import postgres_server
from leanpacs.catalog import open_catalog
from ports import free_ports
from postgres_server import PostgresServer
from s3_server import S3Server
from serving import Server
from unit.services.dicomweb_fakes import multipart

STORE = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'}
AS_STORED = {"accept": "application/dicom; transfer-syntax=*"}
SECONDS = float(os.environ.get("LEANPACS_TEST_HOSTS_SECONDS", "4"))
"""How long the servers are under load while one is killed."""

UPSTREAM = """
upstream leanpacs {{
    server 127.0.0.1:{first} max_fails=1 fail_timeout=2s;
    server 127.0.0.1:{second} max_fails=1 fail_timeout=2s;
    keepalive 16;
}}
"""
LOCATION = """
proxy_pass http://leanpacs;
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $http_host;
proxy_next_upstream error timeout http_502 http_503 non_idempotent;
proxy_read_timeout 300s;
"""

pytestmark = [
    pytest.mark.external,
    pytest.mark.crash,
    pytest.mark.slow,
    nginx.NEEDED,
    pytest.mark.skipif(postgres_server.programs() is None, reason="PostgreSQL is not installed (Debian: postgresql)"),
]


class Hosts:
    """Two servers, what they share, and nginx before them."""

    def __init__(self, folder: Path, postgres: PostgresServer, s3: S3Server) -> None:
        self.folder = folder
        self.postgres = postgres
        self._ports = free_ports(3)
        self.url = f"http://127.0.0.1:{self._ports[2]}/dicom-web"
        hot = {"kind": "s3", **s3.options(retry_seconds=5)}
        self._environment = {
            "LEANPACS_CATALOG__URL": postgres.url.render_as_string(hide_password=False),
            "LEANPACS_CATALOG__CONNECT_SECONDS": "2",
            "LEANPACS_TIERS": json.dumps({"hot": hot}),
            "LEANPACS_HTTP__PUBLIC_URL": f"http://127.0.0.1:{self._ports[2]}/",
        }

    def server(self, number: int) -> Server:
        """One of the servers, with a folder of its own for spool, cache and audit trail."""
        return Server(
            self.folder / f"host{number}",
            processes=1,
            workers=1,
            environment=self._environment,
            http_port=self._ports[number],
        )

    @contextmanager
    def balanced(self) -> Iterator[None]:
        """Run nginx before both."""
        first, second, port = self._ports
        upstream = UPSTREAM.format(first=first, second=second)
        with nginx.running(self.folder / "nginx", port, LOCATION, upstream):
            yield

    def wait_until_settled(self, seconds: float = 180.0) -> None:
        """Wait until nothing is left that has only landed."""
        with closing(open_catalog(self._environment["LEANPACS_CATALOG__URL"])) as catalog:
            wait_until(lambda: catalog.backlog().count == 0, seconds)


@pytest.fixture
def hosts(tmp_path: Path, s3_server: S3Server) -> Iterator[Hosts]:
    with PostgresServer() as postgres:
        yield Hosts(tmp_path, postgres, s3_server)


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)


def instance(number: int) -> tuple[str, bytes]:
    """SOP Instance UID and file of one small CT image."""
    made = data.make_instance(data.Recipe(rows=64, columns=64, series=number // 10, instance=number, seed=number))
    return str(dcmread(DicomBytesIO(made), stop_before_pixels=True).SOPInstanceUID), made


def path_of(made: bytes) -> str:
    ds = dcmread(DicomBytesIO(made), stop_before_pixels=True)
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def given_back(client: httpx.Client, url: str, made: bytes) -> bool:
    """Whether a server gives back the data set that was stored, byte for byte."""
    answer = client.get(url + path_of(made), headers=AS_STORED)
    return answer.status_code == 200 and data_set(answer.content) == data_set(made)


def data_set(file: bytes) -> bytes:
    """What follows preamble and file meta information (PS3.10 7.1)."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


def stored(client: httpx.Client, url: str, made: bytes) -> bool:
    """Whether a server acknowledges an instance; whatever else it says, or that it says nothing, is no promise."""
    try:
        return client.post(url + "/studies", content=multipart([made]), headers=STORE).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_one_takes_the_other_gives(hosts: Hosts) -> None:
    with hosts.server(0) as one, hosts.server(1) as two, hosts.balanced(), httpx.Client(timeout=60) as client:
        files = [instance(n) for n in range(6)]
        for number, (_, made) in enumerate(files):
            to = (one.http + "dicom-web", two.http + "dicom-web", hosts.url)[number % 3]
            assert stored(client, to, made)
        for server in (one, two):
            for _, made in files:
                assert given_back(client, server.http + "dicom-web", made)
        assert len(client.get(hosts.url + "/instances", params={"limit": 100}).json()) == 6
        ae = AE("PEER")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")
        association = ae.associate(two.host, two.port, ae_title=two.ae_title)
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", ""
        found = [ds for _, ds in association.send_c_find(wanted, "1.2.840.10008.5.1.4.1.2.2.1") if ds is not None]
        association.release()
        assert found
        hosts.wait_until_settled()
        for _, made in files:
            assert given_back(client, hosts.url, made)
    for folder in ("host0", "host1"):
        assert not list((hosts.folder / folder / "spool").rglob("*.*"))
        assert not (hosts.folder / folder / "catalog.sqlite").exists()


def test_one_is_killed_under_load_and_nothing_acknowledged_is_lost(hosts: Hosts) -> None:
    acknowledged: dict[str, bytes] = {}
    stop = threading.Event()

    def send(first: int) -> None:
        number = first
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                uid, made = instance(number)
                if stored(client, hosts.url, made):
                    acknowledged[uid] = made
                number += 1

    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        stack.callback(stop.set)
        one = stack.enter_context(hosts.server(0))
        stack.enter_context(hosts.server(1))
        stack.enter_context(hosts.balanced())
        senders = [pool.submit(send, 10_000 * n) for n in range(3)]
        wait_until(lambda: bool(acknowledged))
        time.sleep(SECONDS / 3)
        one.kill()
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 3)  # the other one goes on; three may have been under way
        time.sleep(SECONDS / 3)
        again = stack.enter_context(hosts.server(0))
        time.sleep(SECONDS / 3)
        stop.set()
        for sender in senders:
            sender.result(120)
        with httpx.Client(timeout=60) as client:
            for uid, made in acknowledged.items():
                assert given_back(client, again.http + "dicom-web", made), uid
            # What the killed one had claimed is taken up at once by its successor, and all of it settles.
            hosts.wait_until_settled()
            for uid, made in acknowledged.items():
                assert given_back(client, hosts.url, made), uid


def test_postgresql_goes_away_and_comes_back(hosts: Hosts) -> None:
    with hosts.server(0) as one, httpx.Client(timeout=60) as client:
        url = one.http + "dicom-web"
        _, first = instance(1)
        _, second = instance(2)
        assert stored(client, url, first)
        hosts.postgres.stop(crash=True)
        refused = client.post(url + "/studies", content=multipart([second]), headers=STORE)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert client.get(url + "/studies").status_code == 503
        assert one.process.poll() is None
        hosts.postgres.start()
        assert stored(client, url, second)
        for made in (first, second):
            assert given_back(client, url, made)
        hosts.wait_until_settled()
        assert one.stop() == 0
