"""Messages cut into PDUs, and put together again."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from leanpacs.services.dimse.pdus import LARGEST_SENT_BYTES, message_pdus

Pdv = tuple[int, bytes]
"""Control byte and value."""


def pdvs(pdu: bytes) -> list[Pdv]:
    """Read a PDU on presentation context 9."""
    pdu_type, pdu_length = struct.unpack(">BxL", pdu[:6])
    assert (pdu_type, pdu_length) == (4, len(pdu) - 6)
    found, rest = [], pdu[6:]
    while rest:
        length, context_id, control = struct.unpack(">LBB", rest[:6])
        assert context_id == 9
        assert len(rest) >= length + 4
        found.append((control, rest[6 : length + 4]))
        rest = rest[length + 4 :]
    return found


@given(
    command=st.binary(min_size=1, max_size=500),
    pieces=st.none() | st.lists(st.binary(max_size=300), max_size=8),
    most=st.sampled_from([0, 7, 8, 16, 100, 333, 16384]),
)
def test_any_message_fits_the_peer_and_is_whole(command: bytes, pieces: list[bytes] | None, most: int) -> None:
    pdus = [b"".join(pdu) for pdu in message_pdus(9, command, pieces, most)]
    assert all(not most or len(pdu) - 6 <= most for pdu in pdus)
    found = [one for pdu in pdus for one in pdvs(pdu)]
    controls = [control for control, _ in found]
    assert b"".join(value for control, value in found if control & 1) == command
    assert b"".join(value for control, value in found if not control & 1) == b"".join(pieces or ())
    assert controls.count(3) == 1
    assert controls.count(2) == (pieces is not None)
    assert controls[-1] == (3 if pieces is None else 2)
    assert all(one & 1 >= other & 1 for one, other in pairwise(controls)), "the command comes first"


def test_small_message_is_one_pdu() -> None:
    (pdu,) = message_pdus(9, b"command", [b"data", b"set"], 16384)
    assert pdvs(b"".join(pdu)) == [(3, b"command"), (2, b"dataset")]


def test_longer_data_set_begins_in_a_pdu_of_its_own_and_is_not_copied() -> None:
    data = bytes(2 * LARGEST_SENT_BYTES)
    pdus = list(message_pdus(9, b"command", [data], 0))
    assert [[control for control, _ in pdvs(b"".join(pdu))] for pdu in pdus] == [[3], [0], [0], [2]]
    parts = [part for pdu in pdus for part in pdu if isinstance(part, memoryview)]
    assert sum(map(len, parts)) == len(data)
    assert all(part.obj is data for part in parts)
