"""PDUs and PDVs, however the network cuts them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse_peer import ABORT, P_DATA, RELEASE_RQ, ScriptedConnection, pdu, pdv
from leanpacs.services.dimse import transport
from leanpacs.services.dimse.transport import (
    BUFFER_BYTES,
    Aborted,
    AbortReason,
    Disconnected,
    Pdv,
    Released,
    Silence,
    Violation,
    Wire,
    bind,
)


def wire(data: bytes, pieces: Iterator[int] | None = None, *, stalls: bool = False) -> Wire:
    return Wire(ScriptedConnection(data, pieces, stalls=stalls), 1.0)  # type: ignore[arg-type]


def read_on(wired: Wire) -> None:
    while True:
        wired.next_pdv()
        for _ in wired.value():
            pass


def test_value_comes_as_views_without_a_copy() -> None:
    wired = wire(pdu(P_DATA, pdv(1, b"x" * 1000)))
    wired.next_pdv()
    parts = list(wired.value())
    assert [bytes(part) for part in parts] == [b"x" * 1000]
    assert all(part.obj is wired._buffer.obj for part in parts)


fragments = st.lists(
    st.tuples(st.integers(0, 255), st.binary(max_size=40), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@given(groups=st.lists(fragments, min_size=1, max_size=4), sizes=st.lists(st.integers(1, 30), min_size=1))
def test_any_fragmentation_gives_the_same_values(
    groups: list[list[tuple[int, bytes, bool, bool]]], sizes: list[int]
) -> None:
    sent = b"".join(
        pdu(P_DATA, b"".join(pdv(cx, data, command=command, last=last) for cx, data, command, last in group))
        for group in groups
    )
    wired = wire(sent + pdu(RELEASE_RQ, bytes(4)), iter(sizes * 1000))
    for group in groups:
        for context_id, data, is_command, is_last in group:
            assert wired.next_pdv() == Pdv(context_id, is_command, is_last)
            assert b"".join(bytes(part) for part in wired.value()) == data
    with pytest.raises(Released):
        wired.next_pdv()


def test_pdu_longer_than_the_buffer() -> None:
    data = bytes(range(256)) * (3 * BUFFER_BYTES // 256)
    wired = wire(pdu(P_DATA, pdv(1, data)) + pdu(ABORT, bytes(4)))
    wired.next_pdv()
    parts = [bytes(part) for part in wired.value()]
    assert max(map(len, parts)) <= BUFFER_BYTES
    assert b"".join(parts) == data
    with pytest.raises(Aborted):
        wired.next_pdv()


def test_empty_pdu_is_passed_over() -> None:
    wired = wire(pdu(P_DATA, b"") + pdu(P_DATA, pdv(7, b"")))
    assert wired.next_pdv() == Pdv(7, is_command=False, is_last=True)
    assert list(wired.value()) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdu(P_DATA, b"\0\0\0\2\1"), AbortReason.INVALID_PARAMETER),
        (pdu(P_DATA, struct.pack(">LBB", 1, 1, 0)), AbortReason.INVALID_PARAMETER),
        (pdu(P_DATA, struct.pack(">LBB", 0, 1, 0)), AbortReason.INVALID_PARAMETER),
        (pdu(P_DATA, struct.pack(">LBB", 3, 1, 0)), AbortReason.INVALID_PARAMETER),
        (pdu(P_DATA, struct.pack(">LBB", 0xFFFFFFFF, 1, 0)), AbortReason.INVALID_PARAMETER),
        (pdu(9, bytes(4)), AbortReason.UNRECOGNIZED_PDU),
        (b"GET / HTTP/1.1\r\n\r\n", AbortReason.UNRECOGNIZED_PDU),
        (pdu(1, bytes(68)), AbortReason.UNEXPECTED_PDU),
        (pdu(2, bytes(68)), AbortReason.UNEXPECTED_PDU),
        (pdu(6, bytes(4)), AbortReason.UNEXPECTED_PDU),
        (struct.pack(">BxL", 5, 0xFFFFFFFF), AbortReason.INVALID_PARAMETER),
    ],
)
def test_violations(data: bytes, reason: AbortReason) -> None:
    with pytest.raises(Violation) as caught:
        wire(data).next_pdv()
    assert caught.value.reason is reason


@given(st.binary(max_size=100))
def test_arbitrary_bytes_end_the_association(data: bytes) -> None:
    with pytest.raises((Violation, Disconnected, Released, Aborted)):
        read_on(wire(data))


def test_connection_ends_inside_a_value() -> None:
    wired = wire(pdu(P_DATA, pdv(1, b"abcd"))[:-2])
    wired.next_pdv()
    with pytest.raises(Disconnected):
        list(wired.value())


def test_silence() -> None:
    with pytest.raises(Silence):
        wire(b"\4", stalls=True).next_pdv()


def test_whole_request_has_to_come_in_time() -> None:
    wired = wire(pdu(1, bytes(100)), iter([1] * 200))
    wired.expect_within(-1)
    with pytest.raises(Silence):
        wired.read_pdu()
    wired.expect_within(None)
    assert wired.read_pdu() == (1, bytes(100))


def test_broken_connection() -> None:
    connection = ScriptedConnection(b"")
    wired = Wire(connection, 1.0)  # type: ignore[arg-type]
    wired.send(b"abc")
    assert connection.sent == b"abc"
    wired.close(0.1)
    assert connection.closed
    with pytest.raises(Disconnected):
        wired.send(b"abc")
    wired.cut()
    wired.close(0.1)


def test_close_takes_what_still_comes() -> None:
    connection = ScriptedConnection(b"x" * 3 * BUFFER_BYTES)
    Wire(connection, 1.0).close(5.0)  # type: ignore[arg-type]
    assert not connection.unread
    assert connection.closed


def test_bind_listens_on_a_free_port() -> None:
    with bind("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass
        with pytest.raises(OSError, match="use"):
            bind(*listener.getsockname())


def test_reasons_are_those_of_the_standard() -> None:
    assert [int(reason) for reason in transport.AbortReason] == [0, 1, 2, 6]
