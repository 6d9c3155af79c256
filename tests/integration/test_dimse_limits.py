"""A door that is full says so, lets others go on, and is not held up by who connects and says nothing (PS3.8 9.3.4)."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dimse_peer import FakeArchive, Peer, dcmtk, door
from serving import Server

IDLE = 500
LIMIT_EXCEEDED = (3, bytes([0, 2, 3, 2]))
"""A-ASSOCIATE-RJ: rejected-transient, by the presentation related service provider, local-limit-exceeded."""


def eventually(what: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + 60
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def is_let_in(address: tuple[str, int], calling: str = "PEER") -> bool:
    """Whether an association is accepted; it is left at once."""
    with Peer(address) as peer:
        return peer.associate(calling=calling)[0] == 2


def stays(address: tuple[str, int], held: ExitStack) -> bool:
    """Whether an association is accepted; it is kept."""
    peer = held.enter_context(Peer(address))
    return peer.associate()[0] == 2


def test_full_server_rejects_for_now_and_others_go_on(tmp_path: Path) -> None:
    limits = {"LEANPACS_DIMSE__MAX_ASSOCIATIONS": "3"}
    with Server(tmp_path / "archive", processes=2, workers=1, environment=limits) as server, ExitStack() as held:
        address = (server.host, server.port)
        # Two processes with three places each: nobody is rejected as long as one of them has room.
        peers = [held.enter_context(Peer(address)) for _ in range(6)]
        assert [peer.associate()[0] for peer in peers] == [2] * 6
        for _ in range(4):
            with Peer(address) as rejected:
                assert rejected.associate() == LIMIT_EXCEEDED
        ae = AE("LATE")
        ae.add_requested_context(Verification)
        association = ae.associate(*address, ae_title=server.ae_title)
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert answer is not None
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        told = subprocess.run(
            [dcmtk("echoscu"), "-v", "-aec", server.ae_title, server.host, str(server.port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode != 0
        assert "Rejected Transient" in told.stdout + told.stderr
        assert "Local Limit Exceeded" in told.stdout + told.stderr
        assert [peer.echo().Status for peer in peers] == [0] * 6
        peers[0].release()
        assert eventually(lambda: is_let_in(address))
        assert [peer.echo().Status for peer in peers[1:]] == [0] * 5


def test_one_application_entity_leaves_room_for_others(tmp_path: Path) -> None:
    with door(FakeArchive(tmp_path), max_associations=5, max_associations_of_one=2) as address, ExitStack() as held:
        first, second = (held.enter_context(Peer(address)) for _ in range(2))
        assert [peer.associate(calling="GREEDY")[0] for peer in (first, second)] == [2, 2]
        with Peer(address) as third:
            assert third.associate(calling="GREEDY") == LIMIT_EXCEEDED
        other = held.enter_context(Peer(address))
        assert other.associate(calling="OTHER")[0] == 2
        assert [peer.echo().Status for peer in (first, second, other)] == [0, 0, 0]
        first.release()
        assert eventually(lambda: is_let_in(address, "GREEDY"))


def test_who_has_asked_for_nothing_holds_no_place(tmp_path: Path) -> None:
    with door(FakeArchive(tmp_path), max_associations=2) as address, ExitStack() as held:
        silent = [held.enter_context(socket.create_connection(address, 60)) for _ in range(6)]
        assert is_let_in(address)
        for _ in range(2):  # that it has left again may be noticed a little later
            assert eventually(lambda: stays(address, held))
        with Peer(address) as late:
            assert late.associate() == LIMIT_EXCEEDED
        assert len(silent) == 6


def test_hundreds_of_idle_connections_are_in_nobodys_way(tmp_path: Path) -> None:
    with Server(tmp_path / "archive", processes=1, workers=1) as server, ExitStack() as idle:
        url = urlsplit(server.http)
        assert url.hostname
        assert url.port
        dimse = (server.host, server.port)
        for address in (dimse, (url.hostname, url.port)):
            for _ in range(IDLE // 2):
                idle.enter_context(socket.create_connection(address, 60))
            assert is_let_in(dimse)
            assert httpx.get(f"{server.http}health", timeout=60).status_code == 200
        assert server.stop() == 0
