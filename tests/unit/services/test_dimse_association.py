"""The state machine of an association, with a peer that has said all it says beforehand."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from dimse_peer import (
    ABORT,
    CT,
    EXPLICIT_LE,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    ScriptedConnection,
    command_set,
    echo_command,
    pdu,
    pdv,
    read_command,
    request,
    store_command,
)
from leanpacs.services.dimse.association import Association, Timeouts, echo
from leanpacs.services.dimse.message import Command, CommandField
from leanpacs.services.dimse.negotiation import Terms
from leanpacs.services.dimse.status import Reply, Status

RELEASE = pdu(RELEASE_RQ, bytes(4))
TERMS = Terms("LEANPACS", 16384)


class Recorder:
    """A C-STORE service that reads as much of the data set as it is told to."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.data_sets: list[bytes] = []

    def __call__(self, association: Association, command: Command) -> Reply:
        data = b""
        for part in association.data_set():
            data += part
            if self.most is not None and len(data) >= self.most:
                break
        self.data_sets.append(data)
        return Reply(Status.SUCCESS)


def message(command: bytes, *data: bytes, context_id: int = 3) -> bytes:
    """A message, each part of its data set in a PDU of its own."""
    parts = [pdv(context_id, part, last=number == len(data)) for number, part in enumerate(data, 1)]
    return b"".join(pdu(P_DATA, part) for part in [pdv(context_id, command, command=True), *parts])


class Run:
    """What came of an association whose peer sent ``data`` after its request."""

    def __init__(
        self,
        *data: bytes,
        service: object = None,
        first: bytes | None = None,
        stalls: bool = False,
        is_full: bool = False,
        pieces: Iterator[int] | None = None,
        max_pdu_bytes: int = 16384,
    ) -> None:
        sent = pdu(1, request(max_pdu_bytes=max_pdu_bytes)) if first is None else first
        self.connection = ScriptedConnection(sent + b"".join(data), pieces, stalls=stalls)
        self.recorder = service or Recorder()
        services = {CommandField.C_ECHO_RQ: echo, CommandField.C_STORE_RQ: self.recorder}
        self.association = Association(
            self.connection,  # type: ignore[arg-type]
            "192.0.2.1",
            services,  # type: ignore[arg-type]
            Timeouts(linger=0.01),
        )
        self.ended = self.association.run(TERMS, lambda: not is_full)
        assert self.connection.closed

    @property
    def pdus(self) -> list[tuple[int, bytes]]:
        """What the door sent."""
        found, rest = [], self.connection.sent
        while rest:
            pdu_type, length = struct.unpack(">BxL", rest[:6])
            found.append((pdu_type, rest[6 : 6 + length]))
            rest = rest[6 + length :]
        return found

    @property
    def responses(self) -> list[tuple[int, int, int]]:
        """Command field, message and status of each response."""
        found = [read_command(content[6:]) for pdu_type, content in self.pdus if pdu_type == P_DATA]
        return [(ds.CommandField, ds.MessageIDBeingRespondedTo, ds.Status) for ds in found]


def test_echo_and_release() -> None:
    run = Run(message(echo_command(7), context_id=1), RELEASE)
    assert run.ended == "released"
    assert run.responses == [(0x8030, 7, 0)]
    assert [pdu_type for pdu_type, _ in run.pdus] == [2, P_DATA, RELEASE_RP]
    assert run.association.messages == 1
    assert run.association.calling == "PEER"


def test_several_messages() -> None:
    run = Run(
        message(store_command(message_id=1), b"abc", b"", b"def"),
        message(echo_command(2), context_id=1),
        message(store_command(message_id=3), b"ghi"),
        RELEASE,
    )
    assert run.recorder.data_sets == [b"abcdef", b"ghi"]  # type: ignore[attr-defined]
    assert run.responses == [(0x8001, 1, 0), (0x8030, 2, 0), (0x8001, 3, 0)]


def test_everything_in_one_pdu_and_byte_by_byte() -> None:
    command = store_command()
    both = pdu(
        P_DATA,
        pdv(3, command[:10], command=True, last=False)
        + pdv(3, command[10:], command=True)
        + pdv(3, b"ab", last=False)
        + pdv(3, b"", last=False)
        + pdv(3, b"cd"),
    )
    run = Run(both, RELEASE, pieces=iter([1] * 10000))
    assert run.recorder.data_sets == [b"abcd"]  # type: ignore[attr-defined]
    assert run.ended == "released"


@pytest.mark.parametrize("most", [0, 1, 5, 9])
def test_what_a_service_leaves_is_passed_over(most: int) -> None:
    data = message(store_command(message_id=1), b"abcdef", b"ghijkl", b"mn")
    run = Run(data, message(echo_command(2), context_id=1), RELEASE, service=Recorder(most))
    assert run.responses == [(0x8001, 1, 0), (0x8030, 2, 0)]


def test_unrecognized_operation_with_a_data_set() -> None:
    find = command_set(AffectedSOPClassUID=CT, CommandField=0x0020, MessageID=4, CommandDataSetType=1)
    run = Run(message(find, b"identifier"), RELEASE)
    assert run.responses == [(0x8020, 4, 0x0211)]
    assert run.ended == "released"


@pytest.mark.parametrize(
    "late",
    [
        command_set(CommandField=0x0FFF, MessageIDBeingRespondedTo=1, CommandDataSetType=0x0101),
        command_set(CommandField=0x8001, MessageIDBeingRespondedTo=1, CommandDataSetType=0x0101, Status=0),
    ],
    ids=["cancellation", "response"],
)
def test_late_messages_have_no_answer(late: bytes) -> None:
    run = Run(message(late), message(echo_command(9), context_id=1), RELEASE)
    assert run.responses == [(0x8030, 9, 0)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(store_command(), b"x", context_id=9), 6),
        (pdu(P_DATA, pdv(3, b"data set first")), 6),
        (
            pdu(P_DATA, pdv(3, store_command(), command=True) + pdv(1, b"another context")),
            6,
        ),
        (
            pdu(P_DATA, pdv(3, store_command(), command=True) + pdv(3, b"x", last=False))
            + message(echo_command(), context_id=1),
            6,
        ),
        (
            pdu(P_DATA, pdv(3, store_command()[:8], command=True, last=False) + pdv(3, b"x")),
            6,
        ),
        (message(b"\1\2\3"), 6),
        (message(store_command()[12:20]), 6),
        (pdu(P_DATA, pdv(3, bytes(1 << 17), command=True, last=False)), 6),
        (pdu(1, request()), 2),
        (b"\xff" * 6, 1),
    ],
    ids=[
        "context not agreed",
        "no command",
        "data set on another context",
        "data set interrupted",
        "command interrupted",
        "no command set",
        "cut command set",
        "endless command",
        "second request",
        "no PDU",
    ],
)
def test_violations_abort(data: bytes, reason: int) -> None:
    run = Run(data, RELEASE)
    assert run.ended == "violation"
    assert run.pdus[-1] == (ABORT, bytes([0, 0, 2, reason]))
    assert run.responses == []
    assert run.association.why


def test_first_pdu_has_to_be_a_request() -> None:
    run = Run(first=RELEASE)
    assert (run.ended, run.pdus) == ("violation", [(ABORT, bytes([0, 0, 2, 2]))])


def test_malformed_request() -> None:
    run = Run(first=pdu(1, b"?"))
    assert (run.ended, run.pdus) == ("violation", [(ABORT, bytes([0, 0, 2, 6]))])


def test_too_many_associations() -> None:
    run = Run(message(echo_command(), context_id=1), is_full=True)
    assert (run.ended, run.pdus) == ("rejected", [(3, bytes([0, 2, 3, 2]))])
    assert run.association.why == "local limit exceeded"


def test_peer_aborts_inside_a_data_set() -> None:
    begun = pdu(P_DATA, pdv(3, store_command(), command=True) + pdv(3, b"x", last=False))
    run = Run(begun, pdu(ABORT, bytes(4)))
    assert run.ended == "aborted"
    assert [pdu_type for pdu_type, _ in run.pdus] == [2]


@pytest.mark.parametrize("stalls", [False, True])
def test_peer_dies_or_stalls_inside_a_data_set(stalls: bool) -> None:
    run = Run(pdu(P_DATA, pdv(3, store_command(), command=True) + pdv(3, b"x", last=False)), stalls=stalls)
    assert run.ended == ("silent" if stalls else "lost")
    assert (run.pdus[-1] == (ABORT, bytes([0, 0, 2, 0]))) is stalls
    assert run.recorder.data_sets == []  # type: ignore[attr-defined]


def test_service_with_a_bug_aborts() -> None:
    def broken(association: Association, command: Command) -> Reply:
        raise RuntimeError("bug")

    run = Run(message(store_command(), b"x"), RELEASE, service=broken)
    assert run.ended == "failed"
    assert run.pdus[-1] == (ABORT, bytes([0, 0, 0, 0]))


def test_stop_ends_after_the_current_message() -> None:
    class Stopping(Recorder):
        def __call__(self, association: Association, command: Command) -> Reply:
            association.stop()
            return super().__call__(association, command)

    run = Run(message(store_command(), b"abc"), message(store_command(), b"def"), service=Stopping())
    assert run.ended == "stopped"
    assert run.recorder.data_sets == [b"abc"]  # type: ignore[attr-defined]
    assert run.responses == [(0x8001, 1, 0)]
    assert run.pdus[-1] == (ABORT, bytes([0, 0, 0, 0]))


def test_response_is_cut_to_what_the_peer_takes() -> None:
    run = Run(message(echo_command(), context_id=1), RELEASE, max_pdu_bytes=20)
    data = [content for pdu_type, content in run.pdus if pdu_type == P_DATA]
    assert len(data) > 1
    assert max(map(len, data)) == 20
    assert read_command(b"".join(content[6:] for content in data)).Status == 0


def test_services_see_the_context() -> None:
    seen = []

    def look(association: Association, command: Command) -> Reply:
        seen.append(association.contexts[command.context_id])
        return Reply(Status.SUCCESS)

    Run(message(store_command(), b"x"), RELEASE, service=look)
    assert [(context.abstract_syntax, context.transfer_syntax) for context in seen] == [(CT, EXPLICIT_LE)]
    assert seen[0].abstract_syntax != VERIFICATION
