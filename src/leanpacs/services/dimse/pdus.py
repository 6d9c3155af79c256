"""Messages as P-DATA-TF PDUs (PS3.8 section 9.3.5 and annex E), of buffers that are not copied.

Command set and data set go in one PDU where both fit into it, as they do in answers to queries: a peer that handles
one PDU at a time is done sooner. Longer data sets begin in a PDU of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from leanpacs.services.dimse.transport import PduType

Buffer: TypeAlias = bytes | memoryview
Pdu: TypeAlias = list[Buffer]
"""Its bytes, in pieces."""

LARGEST_SENT_BYTES: Final = 1 << 17
"""Of a PDU, where the peer would take a larger one or any."""

_PDU: Final = struct.Struct(">BxL")
_PDV: Final = struct.Struct(">LBB")
_PDU_OF_ONE: Final = struct.Struct(">BxLLBB")
_COMMAND, _LAST = 1, 2


def message_pdus(
    context_id: int, command: bytes, data_set: Iterable[Buffer] | None, max_pdu_bytes: int
) -> Iterator[Pdu]:
    """A message; of its data set, no more is held than what one PDU has.

    Parameters
    ----------
    context_id : int
        The presentation context.
    command : bytes
        The encoded command set.
    data_set : iterable of bytes, optional
        The data set in pieces of any length; they have to stay as they are until the PDU is sent.
    max_pdu_bytes : int
        What the peer takes, without the six bytes of PDU header; 0 means anything.
    """
    largest = min(max_pdu_bytes or LARGEST_SENT_BYTES, LARGEST_SENT_BYTES)
    room = max((largest - _PDV.size) & ~1, 1)  # fragments of even length (PS3.8 annex E.1)
    *first, rest = [command[start : start + room] for start in range(0, len(command), room)]
    for part in first:
        yield _of_one(context_id, _COMMAND, [part], len(part))
    command_end = _of_one(context_id, _COMMAND | _LAST, [rest], len(rest))
    if data_set is None:
        yield command_end
        return
    beside = room - len(rest) - _PDV.size
    is_apart = beside < 0
    if is_apart:
        yield command_end
    held: list[Buffer] = []
    length = 0
    for piece in data_set:
        view = memoryview(piece)
        if not is_apart and length + len(view) > beside:
            yield command_end
            is_apart = True
        while length + len(view) > room:
            taken = room - length
            yield _of_one(context_id, 0, [*held, view[:taken]], room)
            held, length, view = [], 0, view[taken:]
        held.append(view)
        length += len(view)
    if is_apart:
        yield _of_one(context_id, _LAST, held, length)
        return
    both = _PDV.pack(len(rest) + 2, context_id, _COMMAND | _LAST), rest, _PDV.pack(length + 2, context_id, _LAST)
    yield [_PDU.pack(PduType.P_DATA_TF, sum(map(len, both)) + length), *both, *held]


def _of_one(context_id: int, control: int, parts: list[Buffer], length: int) -> Pdu:
    """A PDU of one PDV, whose value is ``length`` bytes."""
    header = _PDU_OF_ONE.pack(PduType.P_DATA_TF, length + _PDV.size, length + 2, context_id, control)
    return [header, *parts]
