"""One association, from the request to its end: the upper layer's state machine seen from the acceptor.

One thread serves an association with blocking reads: it waits in the kernel, not in a polling loop, and a
data set passes through no queue. The states of PS3.8 table 9-10 are places in the code: awaiting the request
(Sta2), established (Sta6), awaiting the close of the connection (Sta13, :meth:`Wire.close`).
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from leanpacs.services.dimse.exchange import Exchange
from leanpacs.services.dimse.message import Command, CommandField, Element, encode, response
from leanpacs.services.dimse.negotiation import Context, Refusal, Terms, accept, refusal
from leanpacs.services.dimse.proposal import read_request
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


Service = Callable[["Association", Command], Reply | None]
"""Answers one request: reads its data set with ``association.data_set()`` if it has one, and returns the
final response. Responses before that one go out with ``association.respond()``; None when that one has, too."""


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
    has_asked : bool
        Whether the request for the association has come.
    exchange : Exchange
        Sends and receives messages.
    messages : int
        Number of messages received.
    answered_bytes : int
        Bytes of the data sets of all responses.
    why : str
        Why the association ended, unless it was released.
    is_stranger : bool
        Whether the peer was turned away for who it is, or did not prove: by its AE title, or in TLS.
    """

    def __init__(
        self, connection: socket.socket, peer: str, services: Mapping[int, Service], timeouts: Timeouts
    ) -> None:
        self._wire = Wire(connection, timeouts.request)
        self._services = services
        self._timeouts = timeouts
        self._waiting = True
        self._stopping = False
        self._lock = threading.Lock()
        self._expected: dict[int, Callable[[bool], None]] = {}
        self._message_id = 0
        self.exchange = Exchange(self._wire, {}, 0)
        self.peer = peer
        self.calling = ""
        self.has_asked = False
        self.messages = 0
        self.answered_bytes = 0
        self.why = ""
        self.is_stranger = False

    def run(self, terms: Terms, admit: Callable[[], bool] = lambda: True) -> str:
        """Serve the peer; return in one word how the association ended.

        Parameters
        ----------
        terms : Terms
            What is agreed to.
        admit : callable
            Asked once it is known who calls: whether there is room for this association, else it is rejected.
        """
        try:
            return self._run(terms, admit)
        finally:
            self._wire.close(self._timeouts.linger)
            for answered in self._expected.values():
                answered(False)

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

    @property
    def contexts(self) -> Mapping[int, Context]:
        """Accepted presentation contexts by ID."""
        return self.exchange.contexts

    def data_set(self) -> Iterator[memoryview]:
        """Pieces of the current message's data set (:meth:`Exchange.data_set`)."""
        return self.exchange.data_set()

    def respond(
        self,
        command: Command,
        reply: Reply,
        data_set: bytes | None = None,
        more: Mapping[int, int | str] | None = None,
        *,
        hold: bool = False,
    ) -> None:
        """Answer a request, with a data set if there is one, and with ``more`` elements of the command set.

        With ``hold`` the answer may wait for the next message, to go with it.
        """
        self.answered_bytes += len(data_set or b"")
        encoded = response(
            command,
            reply.status,
            reply.comment,
            with_data_set=data_set is not None,
            more={**reply.more, **(more or {})},
        )
        self.exchange.send(command.context_id, encoded, None if data_set is None else (data_set,), hold=hold)

    def report(
        self, context_id: int, elements: Mapping[int, int | str], data_set: bytes, answered: Callable[[bool], None]
    ) -> None:
        """Send an N-EVENT-REPORT, and go on: the peer may ask for other things before it answers (PS3.7 10.1.1).

        Parameters
        ----------
        context_id : int
            Presentation context.
        elements : mapping of int to int or str
            Of the command set, beside Message ID.
        data_set : bytes
            Encoded.
        answered : callable
            Told once that the peer has answered; or, with False, that the association ended before it did.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        self._expected[self._message_id] = answered
        self.exchange.send(context_id, encode({**elements, Element.MESSAGE_ID: self._message_id}), (data_set,))

    def is_cancelled(self, command: Command) -> bool:
        """Whether the peer has asked to stop working on a request (PS3.7 section 9.3.2.3); does not wait for it.

        Raises
        ------
        Violation
            The peer sent another request although none is awaited.
        """
        while self.exchange.is_answered():
            received = self.exchange.receive()
            self.exchange.skip_data_set()
            if self.is_cancellation(received, command):
                return True
        return False

    def is_cancellation(self, received: Command, command: Command) -> bool:
        """Whether what came while a request is worked on asks to stop that; an answer is given to who awaits it.

        Raises
        ------
        Violation
            It is another request: only one at a time was agreed.
        """
        if received.is_response:
            self._answered(received)
            return False
        if received.field == CommandField.C_CANCEL_RQ:
            return received.number(Element.MESSAGE_ID_BEING_RESPONDED_TO, -1) == command.message_id
        told = f"command field {received.field:#06x} while another request is served"
        raise Violation(AbortReason.UNEXPECTED_PDU, told)

    def _answered(self, received: Command) -> None:
        if received.field == CommandField.N_EVENT_REPORT_RQ | 0x8000:
            answered = self._expected.pop(received.number(Element.MESSAGE_ID_BEING_RESPONDED_TO, -1), None)
            if answered is not None:
                answered(True)

    def _run(self, terms: Terms, admit: Callable[[], bool]) -> str:
        try:
            if not self._established(terms, admit):
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
            self.is_stranger = not self.has_asked and _is_fault_of_tls(error)
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

    def _established(self, terms: Terms, admit: Callable[[], bool]) -> bool:
        self._wire.expect_within(self._timeouts.request)
        pdu_type, content = self._wire.read_pdu()
        self._wire.expect_within(None)
        if pdu_type != PduType.ASSOCIATE_RQ:
            raise Violation(AbortReason.UNEXPECTED_PDU, f"PDU type {pdu_type:#04x} before an association")
        self.has_asked = True
        request = read_request(content)
        self.calling = request.calling
        refused = refusal(request, terms)
        if refused is None and not admit():
            refused = Refusal.LOCAL_LIMIT_EXCEEDED
        if refused:
            self.why = refused.name.lower().replace("_", " ")
            self.is_stranger = refused is Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED
            self._wire.send(refused.pdu())
            return False
        pdu, contexts = accept(request, terms)
        self.exchange = Exchange(self._wire, contexts, request.max_pdu_bytes)
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
        return self.exchange.receive(pdv)

    def _serve(self, command: Command) -> None:
        self.messages += 1
        if command.is_response or command.field == CommandField.C_CANCEL_RQ:  # too late a cancellation has no answer
            self.exchange.skip_data_set()
            self._answered(command)
            return
        service = self._services.get(command.field, _unrecognized)
        reply = service(self, command)
        self.exchange.skip_data_set()  # what the service left of it
        if reply is not None:
            self.respond(command, reply, reply.data_set)

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


def _is_fault_of_tls(error: BaseException) -> bool:
    """Whether the two did not agree; who connects and leaves again has shown nothing."""
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
