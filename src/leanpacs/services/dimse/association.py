"""One association, from the request to its end: the upper layer's state machine seen from the acceptor.

One thread serves an association with blocking reads: it waits in the kernel, not in a polling loop, and a
data set passes through no queue. The states of PS3.8 table 9-10 are places in the code: awaiting the request
(Sta2), established (Sta6), awaiting the close of the connection (Sta13, :meth:`Wire.close`).
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from leanpacs.services.dimse.message import (
    LONGEST_COMMAND_BYTES,
    Command,
    CommandField,
    command_pdus,
    decode,
    response,
)
from leanpacs.services.dimse.negotiation import Context, Terms, accept, read_request, refusal
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.dimse.transport import (
    Aborted,
    AbortReason,
    Disconnected,
    PduType,
    Released,
    Silence,
    Violation,
    Wire,
)

log = logging.getLogger(__name__)

_RELEASE_RESPONSE = struct.pack(">BxL4x", PduType.RELEASE_RP, 4)
_BY_USER, _BY_PROVIDER = 0, 2


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a peer may take.

    Parameters
    ----------
    request : float
        From the connection to the complete association request (ARTIM timer, PS3.8 section 9.1.5).
    idle : float
        Between two messages.
    network : float
        Between two parts of one message, or to take an answer.
    linger : float
        To close the connection once the association has ended.
    """

    request: float = 30.0
    idle: float = 600.0
    network: float = 60.0
    linger: float = 2.0


Service = Callable[["Association", Command], Reply]
"""Answers one request: reads its data set with ``association.data_set()`` if it has one, and returns the
final response. Responses before that one go out with ``association.respond()``."""


class Association:
    """Serves one peer until it is done.

    Parameters
    ----------
    connection : socket.socket
        Just accepted; closed at the end.
    peer : str
        Address of the peer, for the log.
    services : mapping of Command Field to Service
        What answers which request.
    timeouts : Timeouts
        How long the peer may take.

    Attributes
    ----------
    calling : str
        AE title of the peer.
    contexts : mapping of int to Context
        Accepted presentation contexts by ID.
    messages : int
        Number of messages received.
    why : str
        Why the association ended, unless it was released.
    """

    def __init__(
        self, connection: socket.socket, peer: str, services: Mapping[int, Service], timeouts: Timeouts
    ) -> None:
        self._wire = Wire(connection, timeouts.request)
        self._services = services
        self._timeouts = timeouts
        self._context_id = 0
        self._data_set_left = False
        self._waiting = True
        self._stopping = False
        self._lock = threading.Lock()
        self._max_pdu_bytes = 0
        self.peer = peer
        self.calling = ""
        self.contexts: Mapping[int, Context] = {}
        self.messages = 0
        self.why = ""

    def run(self, terms: Terms, *, full: bool) -> str:
        """Serve the peer; return in one word how the association ended.

        Parameters
        ----------
        terms : Terms
            What is agreed to.
        full : bool
            Whether there are too many associations, so that this one is rejected.
        """
        try:
            return self._run(terms, full=full)
        finally:
            self._wire.close(self._timeouts.linger)

    def stop(self) -> None:
        """Ask for an end, from another thread: at once between two messages, else after the current one."""
        with self._lock:
            self._stopping = True
            if self._waiting:
                self._wire.cut()

    def cut(self) -> None:
        """End at once, from another thread."""
        self._stopping = True
        self._wire.cut()

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

    def respond(self, command: Command, reply: Reply) -> None:
        """Answer a request, without a data set."""
        encoded = response(command, reply.status, reply.comment)
        for pdu in command_pdus(command.context_id, encoded, self._max_pdu_bytes):
            self._wire.send(pdu)

    def _run(self, terms: Terms, *, full: bool) -> str:
        try:
            if not self._established(terms, full=full):
                return "rejected"
            while True:
                self._serve(self._next_command())
        except Released:
            self._last_words(_RELEASE_RESPONSE)
            return "released"
        except (Aborted, Disconnected) as error:
            if self._stopping:
                self._abort(_BY_USER, AbortReason.NOT_SPECIFIED)
                return "stopped"
            self.why = str(error)
            return "aborted" if isinstance(error, Aborted) else "lost"
        except Silence as error:
            self.why = str(error)
            self._abort(_BY_PROVIDER, AbortReason.NOT_SPECIFIED)
            return "silent"
        except Violation as error:
            self.why = str(error)
            self._abort(_BY_PROVIDER, error.reason)
            return "violation"
        except Exception:
            log.exception("association failed", extra={"action": "associate", "peer": self.peer})
            self._abort(_BY_USER, AbortReason.NOT_SPECIFIED)
            return "failed"

    def _established(self, terms: Terms, *, full: bool) -> bool:
        self._wire.expect_within(self._timeouts.request)
        pdu_type, content = self._wire.read_pdu()
        self._wire.expect_within(None)
        if pdu_type != PduType.ASSOCIATE_RQ:
            raise Violation(AbortReason.UNEXPECTED_PDU, f"PDU type {pdu_type:#04x} before an association")
        request = read_request(content)
        refused = refusal(request, terms, full=full)
        if refused:
            self.why = refused.name.lower().replace("_", " ")
            self._wire.send(refused.pdu())
            return False
        pdu, self.contexts = accept(request, terms)
        self.calling, self._max_pdu_bytes = request.calling, request.max_pdu_bytes
        self._wire.send(pdu)
        return True

    def _next_command(self) -> Command:
        with self._lock:
            if self._stopping:
                raise Disconnected("stopping")
            self._waiting = True
        self._wire.timeout_seconds = self._timeouts.idle
        pdv = self._wire.next_pdv()
        with self._lock:
            self._waiting = False
        self._wire.timeout_seconds = self._timeouts.network
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
                return self._decoded(bytes(encoded))
            pdv = self._wire.next_pdv()

    def _decoded(self, encoded: bytes) -> Command:
        try:
            return decode(encoded, self._context_id)
        except ValueError as error:
            raise Violation(AbortReason.INVALID_PARAMETER, str(error)) from error

    def _serve(self, command: Command) -> None:
        self.messages += 1
        self._data_set_left = command.has_data_set
        service = self._services.get(command.field, _unrecognized)
        reply = service(self, command)
        for _ in self.data_set():
            pass  # what the service left of it
        # A response or a cancellation that comes late, when nothing waits for it any more, has no answer.
        if not command.is_response and command.field != CommandField.C_CANCEL_RQ:
            self.respond(command, reply)

    def _abort(self, source: int, reason: AbortReason) -> None:
        self._last_words(struct.pack(">BxLxxBB", PduType.ABORT, 4, source, reason))

    def _last_words(self, pdu: bytes) -> None:
        with suppress(Disconnected, Silence):
            self._wire.send(pdu)


def echo(association: Association, command: Command) -> Reply:
    """Answer a C-ECHO (PS3.7 section 9.1.5)."""
    return Reply(Status.SUCCESS)


def _unrecognized(association: Association, command: Command) -> Reply:
    return Reply(Status.UNRECOGNIZED_OPERATION, f"command field {command.field:#06x}")
