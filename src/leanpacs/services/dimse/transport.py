"""Upper layer PDUs on a TCP connection (PS3.8 section 9.3).

A P-DATA-TF PDU is never held whole. What the socket has is read into one buffer of fixed size, and the value
of a presentation data value (PDV) is handed out as views into that buffer, so that the bytes of a data set
go from the socket to the spool with a single copy, whatever lengths the peer declares.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple

BUFFER_BYTES = 1 << 18
LISTEN_BACKLOG = 128
MOST_GATHERED = 1024
"""Buffers that the kernel takes in one call (IOV_MAX of Linux, macOS and the BSDs)."""
# Of the PDUs without a data set the association request is the longest; 128 presentation contexts that offer
# forty transfer syntaxes each take about 150 kB.
LONGEST_CONTROL_PDU_BYTES = 1 << 19

_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")


class PduType(IntEnum):
    """PDU types (PS3.8 section 9.3.1)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


# A sender with Nagle's algorithm on (dcmtk's default) waits for the acknowledgement of a command before it
# sends the data set; the kernel would delay that by 40 ms. Does not last: set anew before each wait.
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_PDU_TYPES = frozenset(PduType)
_DEFER_ACCEPT: int | None = getattr(socket, "TCP_DEFER_ACCEPT", None)
_DEFERRED_SECONDS = 30


class AbortReason(IntEnum):
    """Reasons of an abort by the service provider (PS3.8 section 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class Disconnected(Exception):
    """The peer closed the connection, or it broke."""


class Silence(Exception):
    """The peer sent nothing, or took nothing, for longer than is allowed."""


class Aborted(Exception):
    """The peer sent an A-ABORT."""


class Released(Exception):
    """The peer asked to release the association."""


class Violation(Exception):
    """The peer sent what the protocol does not allow here; the association has to be aborted."""

    def __init__(self, reason: AbortReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Pdv(NamedTuple):
    """Header of a presentation data value (PS3.8 section 9.3.5.1 and annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool


def bind(host: str, port: int) -> socket.socket:
    """Listen on ``host:port``; any number of processes may :func:`serve` the socket.

    Raises
    ------
    OSError
        The address does not exist here, or is taken.
    """
    family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    return socket.create_server(address[:2], family=family, backlog=LISTEN_BACKLOG)


def defer_accept(listener: socket.socket) -> None:
    """Let the kernel hold back connections on which nothing is said, where it can (tcp(7), TCP_DEFER_ACCEPT).

    The side that connects speaks first (PS3.8 9.1.2): until it does, it needs neither a thread nor memory here.
    """
    if _DEFER_ACCEPT is not None:
        listener.setsockopt(socket.IPPROTO_TCP, _DEFER_ACCEPT, _DEFERRED_SECONDS)


class Wire:
    """The two directions of one connection. Not to be shared by threads, but for :meth:`cut`.

    Parameters
    ----------
    connection : socket.socket
        Connected; closed by :meth:`close`.
    timeout_seconds : float
        How long a read or a write may wait; see :attr:`timeout_seconds`.
    """

    def __init__(self, connection: socket.socket, timeout_seconds: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(timeout_seconds)
        self._connection = connection
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._pdu_left = 0
        self._pdv_left = 0
        self._deadline: float | None = None

    @property
    def timeout_seconds(self) -> float | None:
        """How long a read or a write may wait for the peer."""
        return self._connection.gettimeout()

    @timeout_seconds.setter
    def timeout_seconds(self, value: float) -> None:
        self._connection.settimeout(value)

    def expect_within(self, seconds: float | None) -> None:
        """Limit the time for all that is read from now on; None lifts the limit."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def read_pdu(self) -> tuple[int, bytes]:
        """Type and content of a PDU that is not P-DATA-TF; the content is without the six bytes of header."""
        pdu_type, length = self._pdu_header()
        return pdu_type, self._control_content(length)

    def next_pdv(self) -> Pdv:
        """Read on to the next PDV; its value is what :meth:`value` yields. The one before must be consumed.

        Raises
        ------
        Released, Aborted
            The peer ended the association instead.
        Violation
            Neither a PDV nor an end.
        """
        while not self._pdu_left:
            self._pdu_left = self._next_data_pdu()
        if self._pdu_left < _PDV_HEADER.size:
            raise Violation(AbortReason.INVALID_PARAMETER, "a PDU ends inside the header of a PDV")
        length, context_id, control = _PDV_HEADER.unpack(self._read(_PDV_HEADER.size))
        if length < 2 or length + 4 > self._pdu_left:
            raise Violation(AbortReason.INVALID_PARAMETER, f"a PDV of {length} bytes does not fit its PDU")
        self._pdu_left -= length + 4
        self._pdv_left = length - 2
        return Pdv(context_id, bool(control & 1), bool(control & 2))

    def value(self) -> Iterator[memoryview]:
        """What is left of the current PDV's value; each view is valid until the next one is asked for."""
        while self._pdv_left:
            part = self._some(self._pdv_left)
            self._pdv_left -= len(part)
            yield part

    def send(self, *parts: bytes | memoryview) -> None:
        """Send all of these, one after the other; as few calls of the kernel as there can be, and no copy."""
        try:
            if isinstance(self._connection, ssl.SSLSocket):
                self._connection.sendall(b"".join(parts))
            else:
                self._send_gathered(parts)
        except TimeoutError as error:
            raise Silence("the peer does not take what is sent") from error
        except OSError as error:
            raise Disconnected(str(error)) from error

    def _send_gathered(self, parts: Sequence[bytes | memoryview]) -> None:
        left = list(parts)
        start = 0
        while start < len(left):
            sent = self._connection.sendmsg(left[start : start + MOST_GATHERED])
            while start < len(left) and sent >= len(left[start]):
                sent -= len(left[start])
                start += 1
            if sent:
                left[start] = memoryview(left[start])[sent:]

    def has_input(self) -> bool:
        """Whether something can be read at once: bytes from the peer, or the end of the connection."""
        if self._start < self._end:
            return True
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))

    def cut(self) -> None:
        """End reading at once, from any thread: the thread that reads finds the connection closed."""
        with suppress(OSError):  # closed already
            if isinstance(self._connection, ssl.SSLSocket):
                # Its own method would take the TLS state away from the thread that reads.
                socket.socket.shutdown(self._connection, socket.SHUT_RD)
            else:
                self._connection.shutdown(socket.SHUT_RD)

    def close(self, linger_seconds: float) -> None:
        """Close; the peer has ``linger_seconds`` to take what was sent and to close first (PS3.8 Sta13)."""
        self.expect_within(linger_seconds)
        self._connection.settimeout(linger_seconds)
        if isinstance(self._connection, ssl.SSLSocket):
            with suppress(OSError, ValueError):  # ValueError: the handshake was never done
                self._connection.unwrap()
        # Bytes left unread would make the kernel reset the connection and drop what was sent last.
        with self._connection, suppress(OSError, Disconnected, Silence):
            self._connection.shutdown(socket.SHUT_WR)
            while True:
                self._receive()

    def _next_data_pdu(self) -> int:
        pdu_type, length = self._pdu_header()
        if pdu_type == PduType.P_DATA_TF:
            return length
        if pdu_type not in _PDU_TYPES:
            raise Violation(AbortReason.UNRECOGNIZED_PDU, f"PDU type {pdu_type:#04x} does not exist")
        content = self._control_content(length)
        if pdu_type == PduType.ABORT:
            raise Aborted(f"source {content[2:3].hex()}, reason {content[3:4].hex()}")
        if pdu_type == PduType.RELEASE_RQ:
            raise Released
        raise Violation(AbortReason.UNEXPECTED_PDU, f"PDU type {pdu_type:#04x} does not belong here")

    def _pdu_header(self) -> tuple[int, int]:
        pdu_type, length = _PDU_HEADER.unpack(self._read(_PDU_HEADER.size))
        return pdu_type, length

    def _control_content(self, length: int) -> bytes:
        if length > LONGEST_CONTROL_PDU_BYTES:
            raise Violation(AbortReason.INVALID_PARAMETER, f"a PDU of {length} bytes is too long")
        return self._read(length)

    def _read(self, length: int) -> bytes:
        """Exactly ``length`` bytes, as a copy: for headers and small parts."""
        start = self._start
        if self._end - start >= length:
            self._start = start + length
            return bytes(self._buffer[start : self._start])
        parts = []
        while length:
            parts.append(bytes(self._some(length)))
            length -= len(parts[-1])
        return b"".join(parts)

    def _some(self, most: int) -> memoryview:
        """Between 1 and ``most`` of the bytes that come next, as a view into the buffer."""
        if self._start == self._end:
            self._start, self._end = 0, self._receive()
        start, self._start = self._start, min(self._end, self._start + most)
        return self._buffer[start : self._start]

    def _receive(self) -> int:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise Silence("the peer takes too long")
        try:
            if _QUICK_ACK is not None:
                self._connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            count = self._connection.recv_into(self._buffer)
        except TimeoutError as error:
            raise Silence("the peer is silent") from error
        except OSError as error:
            raise Disconnected(str(error)) from error
        if not count:
            raise Disconnected("the peer closed the connection")
        return count
