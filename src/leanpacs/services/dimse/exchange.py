"""Messages on an established association, in both directions and from either side (PS3.7 6.3, PS3.8 annex E)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from leanpacs.services.dimse.message import LONGEST_COMMAND_BYTES, Command, decode
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.pdus import Buffer, Pdu, message_pdus
from leanpacs.services.dimse.transport import AbortReason, Pdv, Violation, Wire

_SENT_TOGETHER_BYTES: Final = 1 << 19
_SENT_TOGETHER: Final = 512
"""Buffers; the kernel takes 1024 of them in one call (IOV_MAX)."""


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

    Attributes
    ----------
    received_bytes : int
        Bytes of all data sets received.
    """

    def __init__(self, wire: Wire, contexts: Mapping[int, Context], max_pdu_bytes: int) -> None:
        self._wire = wire
        self._max_pdu_bytes = max_pdu_bytes
        self._context_id = 0
        self._data_set_left = False
        self._held: Pdu = []
        self._held_bytes = 0
        self.contexts = contexts
        self.received_bytes = 0

    def receive(self, first: Pdv | None = None) -> Command:
        """Read the command set of the next message, ``first`` being the header of its first PDV if that was read.

        Raises
        ------
        Violation
            It is not a command on an agreed context, or malformed.
        Silence, Disconnected, Aborted, Released
            The peer did something else; let them pass, they end the association.
        """
        self._flush()
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
        yield from self._value()
        while self._data_set_left:
            pdv = self._wire.next_pdv()
            if pdv.is_command or pdv.context_id != self._context_id:
                raise Violation(AbortReason.INVALID_PARAMETER, "a data set is interrupted by another message")
            self._data_set_left = not pdv.is_last
            yield from self._value()

    def _value(self) -> Iterator[memoryview]:
        for part in self._wire.value():
            self.received_bytes += len(part)
            yield part

    def skip_data_set(self) -> None:
        """Read what is left of the current message's data set, and forget it."""
        for _ in self.data_set():
            pass

    def send(
        self, context_id: int, command: bytes, data_set: Iterable[Buffer] | None = None, *, hold: bool = False
    ) -> None:
        """Send a message: an encoded command set, and a data set in pieces of any length.

        Parameters
        ----------
        hold : bool
            Whether it may wait for the next message, to go with it: for small ones that others follow at once.
            Nothing waits any more once there is more of it than is sent at a time, or an answer is awaited.

        Raises
        ------
        Silence, Disconnected
            The peer does not take it.
        Exception
            Whatever ``data_set`` raises; the message is then cut short, and nothing else can be sent.
        """
        for pdu in message_pdus(context_id, command, data_set, self._max_pdu_bytes):
            self._held += pdu
            self._held_bytes += sum(map(len, pdu))
            if self._held_bytes >= _SENT_TOGETHER_BYTES or len(self._held) >= _SENT_TOGETHER:
                self._flush()
        if not hold:
            self._flush()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._wire.send(*held)

    def is_answered(self) -> bool:
        """Whether the peer has sent something that is not read yet."""
        return self._wire.has_input()
