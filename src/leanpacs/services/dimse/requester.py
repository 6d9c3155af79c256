"""Associations that this side asks for (PS3.8 section 7.1, from the requestor's side)."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from leanpacs.services.dimse.exchange import Exchange
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.proposal import APPLICATION_CONTEXT, Request, read_acceptance
from leanpacs.services.dimse.transport import Aborted, AbortReason, Disconnected, PduType, Silence, Violation, Wire

MOST_CONTEXTS: Final = 128
_SHORT = struct.Struct(">BxL4x")
_ABORT: Final = struct.pack(">BxLxxBB", PduType.ABORT, 4, 0, 0)
_ENDS = (Aborted, Disconnected, Silence, Violation)
_REJECTED: Final = {
    (1, 3): "it does not take associations from the AE title {calling}",
    (1, 7): "it does not answer to the AE title {called}",
    (3, 1): "it is busy for the moment",
    (3, 2): "it has as many associations as it takes",
}
"""Why an association was rejected, by source and reason (PS3.8 table 9-21)."""


class Unreachable(Exception):
    """No association: nobody listens, or it was rejected. ``transient`` when trying again may help."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity.

    Parameters
    ----------
    ae_title, host, port : str, str, int
        Who and where.
    prefer : tuple of str
        UIDs of the transfer syntaxes that it wants native images in.
    reports_apart : bool
        Whether it wants reports of storage commitment on an association of their own.
    tls : SSLContext, optional
        How the connection is secured, if it is.
    """

    ae_title: str
    host: str
    port: int
    prefer: tuple[str, ...] = ()
    reports_apart: bool = False
    tls: ssl.SSLContext | None = None


Offer = tuple[str, str | tuple[str, ...]]
"""Abstract syntax of a context, and its transfer syntax, or some to choose from."""


@contextmanager
def associated(
    peer: Peer,
    calling: str,
    offers: Sequence[Offer],
    *,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    max_pdu_bytes: int = 1 << 17,
    timeout_seconds: float = 60.0,
) -> Iterator[Exchange]:
    """An association with ``peer``, released at the end and aborted when the block raises.

    Parameters
    ----------
    calling : str
        AE title of this side.
    offers : sequence of Offer
        One context each, at most 128.
    roles : mapping of str to (bool, bool)
        Whether this side proposes to be SCU, and SCP, of some SOP classes.
    timeout_seconds : float
        How long the peer may take at a time.

    Raises
    ------
    Unreachable
        There is no association.
    """
    contexts = [
        (2 * number + 1, abstract, (syntax,) if isinstance(syntax, str) else syntax)
        for number, (abstract, syntax) in enumerate(offers)
    ]
    request = Request(peer.ae_title, calling, APPLICATION_CONTEXT, 1, max_pdu_bytes, contexts, roles=roles or {})
    wire = _connect(peer, timeout_seconds)
    try:
        wire.send(request.pdu())
        exchange = _accepted(wire, offers, calling, peer.ae_title)
    except _ENDS as error:
        wire.close(0.1)
        raise Unreachable(f"{peer.ae_title}: {error}") from error
    except BaseException:
        wire.close(0.1)
        raise
    try:
        yield exchange
        with suppress(*_ENDS):  # all has been answered already
            wire.send(_SHORT.pack(PduType.RELEASE_RQ, 4))
            wire.read_pdu()
    except BaseException:
        with suppress(Disconnected, Silence):
            wire.send(_ABORT)
        raise
    finally:
        wire.close(0.1)


def _connect(peer: Peer, timeout_seconds: float) -> Wire:
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=timeout_seconds)
        with _closed_on_error(connection) as plain:
            if peer.tls is None:
                return Wire(plain, timeout_seconds)
            plain.getpeername()  # fails when the peer has gone again: wrapped then, it would stay open
            secured = peer.tls.wrap_socket(plain, server_hostname=peer.host)  # closes it when the handshake fails
        with _closed_on_error(secured):
            return Wire(secured, timeout_seconds)
    except OSError as error:
        raise Unreachable(f"{peer.ae_title} at {peer.host}:{peer.port}: {error}") from error


@contextmanager
def _closed_on_error(connection: socket.socket) -> Iterator[socket.socket]:
    """Close a connection only if the block raises."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _accepted(wire: Wire, offers: Sequence[Offer], calling: str, called: str) -> Exchange:
    pdu_type, content = wire.read_pdu()
    if pdu_type == PduType.ASSOCIATE_RJ:
        result, source, reason = content[1:4].ljust(3, b"\0")
        words = _REJECTED.get((source, reason), "without a reason")
        numbers = f"result {result}, source {source}, reason {reason}"
        raise Unreachable(
            f"rejected: {words.format(calling=calling, called=called)} ({numbers})", transient=result == 2
        )
    if pdu_type == PduType.ABORT:
        raise Aborted("aborted instead of an answer")
    if pdu_type != PduType.ASSOCIATE_AC:
        raise Violation(AbortReason.UNEXPECTED_PDU, f"PDU type {pdu_type:#04x} instead of an answer")
    answer = read_acceptance(content)
    accepted = {
        context_id: Context(context_id, offers[context_id // 2][0], uid)
        for context_id, result, uid in answer.contexts
        if result == 0 and context_id // 2 < len(offers)
    }
    return Exchange(wire, accepted, answer.max_pdu_bytes)
