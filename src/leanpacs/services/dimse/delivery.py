"""Which form of an instance a receiver gets, and how it is sent to it (PS3.4 annex B, from the SCU's side)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from leanpacs.dicom.datadict import name_of_uid
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, transfer_syntax
from leanpacs.errors import LeanPACSError, UnsupportedTransferSyntax
from leanpacs.services.dimse.exchange import Exchange
from leanpacs.services.dimse.giving import DataSet
from leanpacs.services.dimse.message import SOME_DATA_SET, Command, CommandField, Element, encode
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.transport import AbortReason, Violation

log = logging.getLogger(__name__)

_MEDIUM: Final = 0
AHEAD: Final = 6
"""Instances that are made while one is on its way."""
AHEAD_BYTES: Final = 32 << 20
"""Of which together no more are begun once there is as much as this."""
_SOME: Final = 2
_C_STORE_RSP: Final = CommandField.C_STORE_RQ | 0x8000


@dataclass(frozen=True, slots=True)
class Parcel:
    """An instance to be sent.

    Parameters
    ----------
    sop_class, sop_uid, transfer_syntax : str
        UIDs of it, and of the syntax that it is held in.
    data_set : callable
        Gives it in a transfer syntax; raises `UnsupportedTransferSyntax` where that cannot be.
    soon : callable, optional
        Begins what `data_set` does; what it returns is called to wait for it, and gives it or raises.
    length : int
        Bytes of the data set, about.
    at_hand : callable, optional
        Tells of some transfer syntaxes the one in which the instance is held as it may go out; '' for none.
    """

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    data_set: Callable[[str], DataSet]
    soon: Callable[[str], Callable[[], DataSet]] | None = None
    length: int = 0
    at_hand: Callable[[Collection[str]], str] | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an instance: the receiver's status, or None and why it was not sent.

    ``may_help`` tells whether trying again may help one that was not sent.
    """

    status: int | None
    transfer_syntax: str = ""
    reason: str = ""
    may_help: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the receiver has it."""
        return self.status == 0

    @property
    def is_warning(self) -> bool:
        """Whether the receiver has it, with changes (PS3.7 annex C.3)."""
        return self.status is not None and (self.status >> 12 == 0xB or self.status in (0x0001, 0x0107, 0x0116))


def candidates(parcel: Parcel, contexts: Sequence[Context], prefer: Sequence[str] = ()) -> list[Context]:
    """Contexts to send an instance on, the best first.

    As received goes before all else: it costs nothing, and nothing is compressed twice. Only what is native gives way
    to what the receiver prefers, and to what cannot but be lossless and was offered before anything native. Then comes
    what it prefers, then the other syntaxes in the order it accepted them, Implicit VR and big endian last.

    Parameters
    ----------
    parcel : Parcel
        The instance.
    contexts : sequence of Context
        What the receiver accepted, in its order.
    prefer : sequence of str
        UIDs of transfer syntaxes that it prefers.
    """
    usable: dict[str, Context] = {}
    for context in contexts:
        if context.abstract_syntax == parcel.sop_class:
            usable.setdefault(context.transfer_syntax, context)
    received = parcel.transfer_syntax
    gives_way = not transfer_syntax(received).encapsulated and received not in prefer
    first = [*prefer, *_compact(usable), received] if gives_way else [received, *prefer]
    rest = sorted(usable, key=lambda uid: uid in (IMPLICIT_LE, EXPLICIT_BE))
    return [usable[uid] for uid in dict.fromkeys((*first, *rest)) if uid in usable]


def _compact(accepted: Iterable[str]) -> list[str]:
    """Of the transfer syntaxes before the first native one, those that are lossless by definition."""
    leading = takewhile(lambda one: one.encapsulated, map(transfer_syntax, accepted))
    return [one.uid for one in leading if one.lossless is True]


def proposals(parcels: Sequence[Parcel], prefer: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Abstract syntax and transfer syntax of each context that these instances may be sent on.

    One context for each, so that a receiver says of every syntax whether it takes it.
    """
    syntaxes: dict[str, dict[str, None]] = {}
    for parcel in parcels:
        syntaxes.setdefault(parcel.sop_class, {})[parcel.transfer_syntax] = None
    return [
        (sop_class, uid)
        for sop_class, received in syntaxes.items()
        for uid in dict.fromkeys((*received, *prefer, EXPLICIT_LE, IMPLICIT_LE))
    ]


class Courier:
    """Sends instances over an association, one after the other.

    Parameters
    ----------
    exchange : Exchange
        Of the association.
    contexts : sequence of Context
        On which the peer takes instances.
    prefer : sequence of str
        UIDs of transfer syntaxes that it prefers.
    meanwhile : callable, optional
        Given what the peer sends instead of the awaited response; by default nothing else may come.
    """

    def __init__(
        self,
        exchange: Exchange,
        contexts: Sequence[Context],
        prefer: Sequence[str] = (),
        meanwhile: Callable[[Command], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._contexts = contexts
        self._prefer = prefer
        self._meanwhile = meanwhile or _unexpected
        self._message_id = 0
        self._options: dict[tuple[str, str], list[Context]] = {}
        self._begun: dict[str, tuple[str, Callable[[], DataSet]]] = {}

    def send(self, parcel: Parcel, more: dict[int, int | str] | None = None, *, coming: Sequence[Parcel] = ()) -> Sent:
        """Send an instance in the best form there is, and wait for the answer.

        Parameters
        ----------
        coming : sequence of Parcel
            What is to be sent after it: the first ones are made meanwhile.
        more : dict, optional
            Further elements of the request, such as who asked for a move.

        Raises
        ------
        Violation, Silence, Disconnected, Aborted, Released
            The association is over.
        LeanPACSError
            The instance broke off in the middle; the association is of no use any more.
        """
        options = self._ordered(parcel)
        reason = f"no presentation context was accepted for {name_of_uid(parcel.sop_class) or parcel.sop_class}"
        plain: Context | None = None
        self._begin((parcel, *coming[:AHEAD]))
        for context in options:
            try:
                data_set = self._given(parcel, context.transfer_syntax)
            except UnsupportedTransferSyntax as error:
                reason = str(error)
                continue
            except LeanPACSError as error:
                log.warning("not sent: %s", error, extra={"action": "send", "sop_uid": parcel.sop_uid})
                return Sent(None, reason=str(error), may_help=error.transient)
            with closing(_closable(data_set.chunks)) as chunks:
                if data_set.transfer_syntax == context.transfer_syntax:
                    return self._transfer(parcel, context, chunks, more or {})
                plain = plain or (context if _is_encoded_alike(data_set, context) else None)
        if plain is not None:
            with closing(_closable(parcel.data_set(plain.transfer_syntax).chunks)) as chunks:
                return self._transfer(parcel, plain, chunks, more or {})
        log.warning("not sent: %s", reason, extra={"action": "send", "sop_uid": parcel.sop_uid})
        return Sent(None, reason=reason)

    def _candidates(self, parcel: Parcel) -> list[Context]:
        """As :func:`candidates`, which looks through all contexts: once for all instances that are alike."""
        kind = parcel.sop_class, parcel.transfer_syntax
        if kind not in self._options:
            self._options[kind] = candidates(parcel, self._contexts, self._prefer)
        return self._options[kind]

    def _ordered(self, parcel: Parcel) -> list[Context]:
        """As `candidates`; of the compressed ones that come first, that which is held goes before the others."""
        options = self._candidates(parcel)
        uids = (context.transfer_syntax for context in options)
        before = [*takewhile(lambda uid: uid != parcel.transfer_syntax and transfer_syntax(uid).encapsulated, uids)]
        if parcel.at_hand is None or self._prefer or len(before) < _SOME:
            return options
        try:
            held = parcel.at_hand(before)
        except LeanPACSError:
            return options  # it is told when it is this one's turn
        return sorted(options, key=lambda context: context.transfer_syntax != held)

    def _begin(self, parcels: Sequence[Parcel]) -> None:
        """Begin to make what is not begun yet, in the form in which it will most likely be sent."""
        length = 0
        for parcel in parcels:
            if length > AHEAD_BYTES:
                return
            length += parcel.length
            if parcel.soon is None or parcel.sop_uid in self._begun:
                continue
            options = self._ordered(parcel)
            if options:
                uid = options[0].transfer_syntax
                try:
                    self._begun[parcel.sop_uid] = uid, parcel.soon(uid)
                except LeanPACSError:
                    continue  # it is told when it is this one's turn

    def _given(self, parcel: Parcel, transfer_syntax_uid: str) -> DataSet:
        uid, begun = self._begun.pop(parcel.sop_uid, ("", None))
        if begun is not None and uid == transfer_syntax_uid:
            return begun()
        return parcel.data_set(transfer_syntax_uid)

    def _transfer(
        self, parcel: Parcel, context: Context, chunks: Iterator[bytes | memoryview], more: dict[int, int | str]
    ) -> Sent:
        self._message_id = self._message_id % 0xFFFF + 1
        elements: dict[int, int | str] = {
            Element.AFFECTED_SOP_CLASS_UID: parcel.sop_class,
            Element.COMMAND_FIELD: CommandField.C_STORE_RQ,
            Element.MESSAGE_ID: self._message_id,
            Element.PRIORITY: _MEDIUM,
            Element.COMMAND_DATA_SET_TYPE: SOME_DATA_SET,
            Element.AFFECTED_SOP_INSTANCE_UID: parcel.sop_uid,
            **more,
        }
        self._exchange.send(context.context_id, encode(elements), chunks)
        answer = self._answer()
        status = answer.number(Element.STATUS, 0x0110)
        return Sent(status, context.transfer_syntax, answer.text(Element.ERROR_COMMENT))

    def _answer(self) -> Command:
        while True:
            received = self._exchange.receive()
            self._exchange.skip_data_set()
            if received.field != _C_STORE_RSP:
                self._meanwhile(received)
            elif received.number(Element.MESSAGE_ID_BEING_RESPONDED_TO, -1) == self._message_id:
                return received


def _is_encoded_alike(data_set: DataSet, context: Context) -> bool:
    """Whether a data set without Pixel Data may go on an encapsulated context: the encoding is the same (PS3.5 A.4)."""
    return data_set.transfer_syntax == EXPLICIT_LE and transfer_syntax(context.transfer_syntax).encapsulated


def _unexpected(received: Command) -> None:
    raise Violation(AbortReason.UNEXPECTED_PDU, f"command field {received.field:#06x} instead of a response")


def _closable(chunks: Iterator[bytes | memoryview]) -> Generator[bytes | memoryview, None, None]:
    """The same chunks as a generator, which lets go of what they are read from when it is closed."""
    try:
        yield from chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
