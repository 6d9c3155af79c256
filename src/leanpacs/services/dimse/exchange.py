"""Messages on an established association, in both directions and from either side (PS3.7 6.3, PS3.8 annex E)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from leanpacs.services.dimse.message import LONGEST_COMMAND_BYTES, Command, command_pdus, decode
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.transport import AbortReason, Pdv, Violation, Wire

_PDV = struct.Struct(">BxLLBB")
_PDV_HEADER_BYTES = 6
_LARGEST_SENT_BYTES = 1 << 17
"""Of a PDU, where the peer would take a larger one or any."""


class Exchange:
    """Sends and receives messages, one at a time.

    Parameters
    ----------
    wire : Wire
        The connection, established.
    contexts : mapping of int to Context
        Accepted presentation contexts by ID.
    max_pdu_bytes : int
        Largest PDU that the peer takes, without its six bytes of header; 0 is any.
    """

    def __init__(self, wire: Wire, contexts: Mapping[int, Context], max_pdu_bytes: int) -> None:
        self._wire = wire
        self._max_pdu_bytes = max_pdu_bytes
        self._context_id = 0
        self._data_set_left = False
        self.contexts = contexts

    def receive(self, first: Pdv | None = None) -> Command:
        """Read the command set of the next message, ``first`` being the header of its first PDV if that was read.

        Raises
        ------
        Violation
            It is not a command on an agreed context, or malformed.
        Silence, Disconnected, Aborted, Released
            The peer did something else; let them pass, they end the association.
        """
        pdv = first or self._wire.next_pdv()
        if pdv.context_id not in self.contexts:
            raise Violation(AbortReason.INVALID_PARAMETER, f"context {pdv.context_id} is not agreed")
        self._context_id = pdv.context_id
        encoded = bytearray()
        while True:
            if not pdv.is_command or pdv.context_id != self._context_id:
                raise Violation(AbortReason.INVALID_PARAMETER, "a message does not start with its command")
            for part in self._wire.value():
                encoded += part
                if len(encoded) > LONGEST_COMMAND_BYTES:
                    raise Violation(AbortReason.INVALID_PARAMETER, "a command set is too long")
            if pdv.is_last:
                break
            pdv = self._wire.next_pdv()
        try:
            command = decode(bytes(encoded), self._context_id)
        except ValueError as error:
            raise Violation(AbortReason.INVALID_PARAMETER, str(error)) from error
        self._data_set_left = command.has_data_set
        return command

    def data_set(self) -> Iterator[memoryview]:
        """Pieces of the current message's data set, as encoded; each is valid until the next is asked for.

        Raises
        ------
        Violation, Silence, Disconnected, Aborted, Released
            It ends before its last fragment; let them pass, they end the association.
        """
        yield from self._wire.value()
        while self._data_set_left:
            pdv = self._wire.next_pdv()
            if pdv.is_command or pdv.context_id != self._context_id:
                raise Violation(AbortReason.INVALID_PARAMETER, "a data set is interrupted by another message")
            self._data_set_left = not pdv.is_last
            yield from self._wire.value()

    def skip_data_set(self) -> None:
        """Read what is left of the current message's data set, and forget it."""
        for _ in self.data_set():
            pass

    def send(self, context_id: int, command: bytes, data_set: Iterable[bytes] | None = None) -> None:
        """Send a message: an encoded command set, and a data set in pieces of any length.

        Raises
        ------
        Silence, Disconnected
            The peer does not take it.
        Exception
            Whatever ``data_set`` raises; the message is then cut short, and nothing else can be sent.
        """
        pdus = b"".join(command_pdus(context_id, command, self._max_pdu_bytes))
        if data_set is None:
            self._wire.send(pdus)
            return
        for pdu in data_set_pdus(context_id, data_set, self._max_pdu_bytes):
            self._wire.send(pdus + pdu if pdus else pdu)
            pdus = b""

    def is_answered(self) -> bool:
        """Whether the peer has sent something that is not read yet."""
        return self._wire.has_input()


def data_set_pdus(context_id: int, pieces: Iterable[bytes], max_pdu_bytes: int) -> Iterator[bytes]:
    """P-DATA-TF PDUs of one PDV each that carry a data set, all but the last one of full length.

    Parameters
    ----------
    pieces : iterable of bytes
        The data set; no more than one piece and one PDU are held.
    max_pdu_bytes : int
        What the peer takes, without the six bytes of PDU header; 0 means anything.
    """
    largest = min(max_pdu_bytes or _LARGEST_SENT_BYTES, _LARGEST_SENT_BYTES)
    room = max(largest - _PDV_HEADER_BYTES, 2) & ~1  # fragments of even length (PS3.8 annex E.1)
    held = b""
    for piece in pieces:
        view = memoryview(piece)
        while len(held) + len(view) > room:
            taken = room - len(held)
            yield _header(context_id, room, last=False) + held + view[:taken]
            held, view = b"", view[taken:]
        held += view
    yield _header(context_id, len(held), last=True) + held


def _header(context_id: int, length: int, *, last: bool) -> bytes:
    return _PDV.pack(4, length + _PDV_HEADER_BYTES, length + 2, context_id, 2 if last else 0)
