"""Command sets: read as pydicom writes them, written so that pydicom reads them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dimse_peer import CT, command_set, read_command
from leanpacs.services.dimse.message import Command, decode, encode, response

uids = st.from_regex(r"[12]\.[0-9](\.[1-9][0-9]{0,9}){0,5}", fullmatch=True)


@given(sop_uid=uids, message_id=st.integers(0, 0xFFFF), data_set=st.sampled_from([0, 1, 0x0101]))
def test_reads_what_pydicom_writes(sop_uid: str, message_id: int, data_set: int) -> None:
    command = decode(
        command_set(
            AffectedSOPClassUID=CT,
            CommandField=1,
            MessageID=message_id,
            Priority=2,
            CommandDataSetType=data_set,
            AffectedSOPInstanceUID=sop_uid,
            MoveOriginatorApplicationEntityTitle="MOVER",
        ),
        context_id=5,
    )
    assert (command.context_id, command.field, command.message_id) == (5, 1, message_id)
    assert (command.sop_class, command.sop_uid) == (CT, sop_uid)
    assert command.has_data_set is (data_set != 0x0101)
    assert command.text(0x1030) == "MOVER"
    assert not command.is_response


@given(sop_uid=uids, message_id=st.integers(0, 0xFFFF), status=st.integers(0, 0xFFFF), comment=st.text(max_size=64))
def test_pydicom_reads_the_response(sop_uid: str, message_id: int, status: int, comment: str) -> None:
    asked = decode(
        command_set(AffectedSOPClassUID=CT, CommandField=1, MessageID=message_id, AffectedSOPInstanceUID=sop_uid),
        context_id=1,
    )
    encoded = response(asked, status, comment)
    ds = read_command(encoded)
    assert ds.CommandGroupLength == len(encoded) - 12
    assert ds.CommandField == 0x8001
    assert ds.MessageIDBeingRespondedTo == message_id
    assert ds.CommandDataSetType == 0x0101
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID, ds.Status) == (CT, sop_uid, status)
    assert ("ErrorComment" in ds) is bool(comment)
    assert list(ds.keys()) == sorted(ds.keys())
    assert all(len(element) % 2 == 0 for element in decode(encoded, 1).elements.values())


def test_response_to_a_command_with_requested_uids() -> None:
    asked = decode(command_set(RequestedSOPClassUID=CT, CommandField=0x0130, RequestedSOPInstanceUID="1.2"), 1)
    assert (asked.sop_class, asked.sop_uid) == (CT, "1.2")


def test_missing_elements() -> None:
    bare = decode(encode({0x0100: 0x8001}), 1)
    assert (bare.field, bare.message_id, bare.sop_class, bare.has_data_set) == (0x8001, 0, "", False)
    assert bare.is_response
    assert Command(1, {0x0110: b"\x01"}).message_id == 0


@pytest.mark.parametrize(
    "encoded",
    [
        b"\0\0\0",
        struct.pack("<HHL", 0, 0x0100, 2) + b"\0",
        struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF) + b"\0\0",
        struct.pack("<HHL", 8, 0x0016, 2) + b"1\0",
        encode({0x0110: 1}),
    ],
    ids=["cut header", "cut value", "undefined length", "another group", "no command field"],
)
def test_malformed(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="command set"):
        decode(encoded, 1)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(encoded: bytes) -> None:
    try:
        command = decode(encoded, 1)
    except ValueError:
        return
    assert sum(len(value) + 8 for value in command.elements.values()) <= len(encoded)
    response(command, 0)
