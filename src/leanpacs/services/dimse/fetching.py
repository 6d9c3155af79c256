"""Studies from another archive: what it has is found, and what is missing here got or moved (PS3.4 annex C, as SCU)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from leanpacs.dicom.datadict import tag_of, vr_of
from leanpacs.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from leanpacs.errors import InvalidQuery
from leanpacs.services.dimse.asking import COMPACT, have_room, offers
from leanpacs.services.dimse.exchange import Exchange
from leanpacs.services.dimse.identifiers import Writer, read_identifier
from leanpacs.services.dimse.message import SOME_DATA_SET, Command, CommandField, Element, encode, response
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.requester import Offer, Peer, Unreachable, associated
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.dimse.transport import Aborted, AbortReason, Disconnected, Released, Silence, Violation

FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root."""

Keys = Mapping[str, str]
"""Values by keyword; '' asks for one."""

_PENDING: Final = frozenset({Status.PENDING, Status.PENDING_WITHOUT_SOME_KEYS})
_RESPONSE: Final = 0x8000
_ENDS: Final = (Aborted, Disconnected, Released, Silence, Violation)
_FOUND: Final = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_DOOR: Final = (
    "it has to know this AE title, with the address of a door that is open here: that of leanpacs serve, or of --listen"
)


class Refused(Exception):
    """The other archive answers, and does not do what it is asked for."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An instance of another archive; ``sop_class`` and ``modality`` are '' where it does not tell."""

    series_uid: str
    sop_uid: str
    sop_class: str
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """What stores an instance is told of its sender."""

    exchange: Exchange
    calling: str
    peer: str

    @property
    def contexts(self) -> Mapping[int, Context]:
        """Accepted presentation contexts by ID."""
        return self.exchange.contexts

    def data_set(self) -> Iterator[memoryview]:
        """Pieces of the current message's data set."""
        return self.exchange.data_set()


class Source:
    """Another archive.

    Parameters
    ----------
    peer : Peer
        Where it is.
    calling : str
        AE title of this side.
    timeout_seconds : float
        How long it may take for each message.
    prefer : sequence of str
        UIDs of the transfer syntaxes that are offered first, for archives that choose by the order.
    """

    def __init__(self, peer: Peer, calling: str, *, timeout_seconds: float, prefer: Sequence[str] = COMPACT) -> None:
        self._peer = peer
        self._calling = calling
        self._timeout_seconds = timeout_seconds
        self._prefer = prefer

    def studies(self, keys: Keys) -> list[str]:
        """UIDs of the studies that match.

        Raises
        ------
        InvalidQuery
            A keyword does not exist.
        Unreachable, Refused
            It does not answer, or not to this.
        """
        with self._finding() as exchange:
            return [found["StudyInstanceUID"] for found in _find(exchange, "STUDY", {**keys, "StudyInstanceUID": ""})]

    def instances(self, study_uid: str) -> list[Remote]:
        """What it has of a study; raises as `studies` does."""
        with self._finding() as exchange:
            above = {"StudyInstanceUID": study_uid}
            series = _find(exchange, "SERIES", {**above, "SeriesInstanceUID": "", "Modality": ""})
            return [
                Remote(one["SeriesInstanceUID"], image["SOPInstanceUID"], image.get("SOPClassUID", ""), one["Modality"])
                for one in list(series)
                for image in _find(
                    exchange,
                    "IMAGE",
                    {**above, "SeriesInstanceUID": one["SeriesInstanceUID"], "SOPInstanceUID": "", "SOPClassUID": ""},
                )
            ]

    def get(
        self,
        study_uid: str,
        held: Sequence[Remote],
        missing: Collection[str],
        store: Callable[[Sending, Command], Reply],
    ) -> Iterator[tuple[str, Reply]]:
        """Have the missing instances sent on the association that asks for them (C-GET).

        Parameters
        ----------
        held : sequence of Remote
            All that it has of the study.
        missing : collection of str
            SOP Instance UIDs of those that are wanted.
        store : callable
            Stores an instance that comes.

        Raises
        ------
        Unreachable, Refused
            At the end also where it could not send some of them.

        Yields
        ------
        (str, Reply)
            SOP Instance UID of what came, and what its sender was told.
        """
        not_sent = 0
        for batch in _batches(held, missing):
            left = set(batch)
            try:
                failed = yield from self._got(study_uid, held, left, store, self._prefer)
            except Refused:
                if not self._prefer:
                    raise
                failed = len(left)
            if failed and left and self._prefer:  # not everybody can write what it has accepted
                failed = yield from self._got(study_uid, held, left, store, ())
            not_sent += failed
        if not_sent:
            raise Refused(
                f"{not_sent} instances could not be sent: perhaps it keeps them in a transfer syntax, or as a SOP "
                "class, that this association had no room for; they may come with --via move"
            )

    def move(self, study_uid: str, held: Sequence[Remote], missing: Collection[str], destination: str) -> Iterator[int]:
        """Have the missing instances sent to a destination that it knows (C-MOVE); yields how many it has sent.

        Raises
        ------
        Unreachable, Refused
            It cannot reach the destination, or does not know it; at the end also where some did not get there.
        """
        not_sent = 0
        with self._associated([(MOVE, EXPLICIT_LE), (MOVE, IMPLICIT_LE)]) as exchange:
            context = _context(exchange, MOVE)
            for keys in requests(study_uid, held, missing):
                _ask(exchange, context, CommandField.C_MOVE_RQ, keys, {Element.MOVE_DESTINATION: destination})
                try:
                    for answer in _answers(exchange, CommandField.C_MOVE_RQ):
                        yield answer.number(Element.NUMBER_OF_COMPLETED_SUBOPERATIONS, 0)
                except Refused as error:
                    raise Refused(f"it could not move to {destination} ({error}): {_DOOR}") from error
                not_sent += _not_sent(answer)
        if not_sent:
            raise Refused(f"{not_sent} instances did not get to {destination}: {_DOOR}")

    def _got(
        self,
        study_uid: str,
        held: Sequence[Remote],
        left: set[str],
        store: Callable[[Sending, Command], Reply],
        prefer: Sequence[str],
    ) -> Generator[tuple[str, Reply], None, int]:
        """As `get`, once; takes what comes out of ``left``, and returns how many could not be sent."""
        wanted = [one for one in held if one.sop_uid in left]
        storage = offers({one.sop_class for one in wanted}, prefer, {one.modality for one in wanted})
        services: list[Offer] = [(GET, EXPLICIT_LE), (GET, IMPLICIT_LE)]
        roles = {sop_class: (False, True) for sop_class, _ in storage}
        failed = 0
        with self._associated([*services, *storage], roles) as exchange:
            context = _context(exchange, GET)
            for keys in requests(study_uid, held, frozenset(left)):
                _ask(exchange, context, CommandField.C_GET_RQ, keys)
                failed += yield from self._received(exchange, store, left)
        return failed

    def _received(
        self, exchange: Exchange, store: Callable[[Sending, Command], Reply], left: set[str]
    ) -> Generator[tuple[str, Reply], None, int]:
        """What comes for one request, taken out of ``left``; returns how many instances could not be sent."""
        sender = Sending(exchange, self._peer.ae_title, self._peer.host)
        while True:
            received = exchange.receive()
            if received.field == CommandField.C_STORE_RQ:
                reply = store(sender, received)
                exchange.skip_data_set()
                exchange.send(received.context_id, response(received, reply.status, reply.comment))
                left.discard(received.sop_uid)
                yield received.sop_uid, reply
                continue
            exchange.skip_data_set()
            if not _goes_on(received, CommandField.C_GET_RQ):
                return _not_sent(received)

    @contextmanager
    def _finding(self) -> Iterator[Exchange]:
        with self._associated([(FIND, EXPLICIT_LE), (FIND, IMPLICIT_LE)]) as exchange:
            yield exchange

    @contextmanager
    def _associated(
        self, offers: Sequence[Offer], roles: Mapping[str, tuple[bool, bool]] | None = None
    ) -> Iterator[Exchange]:
        try:
            with associated(
                self._peer, self._calling, offers, roles=roles, timeout_seconds=self._timeout_seconds
            ) as exchange:
                yield exchange
        except _ENDS as error:
            raise Unreachable(f"{self._peer.ae_title}: the association broke: {error}") from error


def requests(study_uid: str, held: Sequence[Remote], missing: Collection[str]) -> list[Keys]:
    """Identifiers of the fewest retrievals that bring what is missing and nothing else.

    The study if all of it is missing, else series of which that is true, else single instances.
    """
    if all(one.sop_uid in missing for one in held):
        return [{"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}] if held else []
    by_series: dict[str, list[str]] = {}
    for one in held:
        by_series.setdefault(one.series_uid, []).append(one.sop_uid)
    found: list[Keys] = []
    for series_uid, sop_uids in by_series.items():
        above = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        wanted = [sop_uid for sop_uid in sop_uids if sop_uid in missing]
        if len(wanted) == len(sop_uids):
            found.append({"QueryRetrieveLevel": "SERIES", **above})
        else:
            found += [{"QueryRetrieveLevel": "IMAGE", **above, "SOPInstanceUID": sop_uid} for sop_uid in wanted]
    return found


def _batches(held: Sequence[Remote], missing: Collection[str]) -> list[set[str]]:
    """What is missing: at once where one association can offer every transfer syntax, else series by series."""
    wanted = [one for one in held if one.sop_uid in missing]
    classes = {one.sop_class for one in wanted}
    if "" in classes or have_room(classes):
        return [{one.sop_uid for one in wanted}]
    by_series: dict[str, set[str]] = {}
    for one in wanted:
        by_series.setdefault(one.series_uid, set()).add(one.sop_uid)
    return list(by_series.values())


def _find(exchange: Exchange, level: str, keys: Keys) -> Iterator[dict[str, str]]:
    """Values by keyword of each match that has the unique key of the level."""
    context = _context(exchange, FIND)
    _ask(exchange, context, CommandField.C_FIND_RQ, {"QueryRetrieveLevel": level, **keys})
    while True:
        answer = exchange.receive()
        data_set = b"".join(bytes(part) for part in exchange.data_set())
        if not _goes_on(answer, CommandField.C_FIND_RQ):
            return
        identifier = read_identifier((data_set,), context.transfer_syntax)
        found = {key.keyword: (key.text or "").strip() for key in identifier.keys.values()}
        if found.get(_FOUND[level]):
            yield {**keys, **found}


def _answers(exchange: Exchange, request: CommandField) -> Iterator[Command]:
    while True:
        answer = exchange.receive()
        exchange.skip_data_set()
        yield answer
        if not _goes_on(answer, request):
            return


def _goes_on(answer: Command, request: CommandField) -> bool:
    """Whether more comes after a response; that sub-operations failed is left to who asked.

    Raises
    ------
    Violation
        It is something else.
    Refused
        The request failed.
    """
    if answer.field != request | _RESPONSE:
        raise Violation(AbortReason.UNEXPECTED_PDU, f"command field {answer.field:#06x} instead of a response")
    status = answer.number(Element.STATUS, Status.PROCESSING_FAILURE)
    if status in _PENDING:
        return True
    if status not in (Status.SUCCESS, Status.SUB_OPERATIONS_FAILED) and not _not_sent(answer):
        comment = answer.text(Element.ERROR_COMMENT)
        raise Refused(f"status {status:04X} {comment}".rstrip())
    return False


def _not_sent(answer: Command) -> int:
    return answer.number(Element.NUMBER_OF_FAILED_SUBOPERATIONS, 0)


def _ask(
    exchange: Exchange, context: Context, request: CommandField, keys: Keys, more: Mapping[int, int | str] | None = None
) -> None:
    elements: dict[int, int | str] = {
        Element.AFFECTED_SOP_CLASS_UID: context.abstract_syntax,
        Element.COMMAND_FIELD: request,
        Element.MESSAGE_ID: 1,
        Element.PRIORITY: 0,
        Element.COMMAND_DATA_SET_TYPE: SOME_DATA_SET,
        **(more or {}),
    }
    tagged = sorted((_tag(keyword), text) for keyword, text in keys.items())
    identifier = Writer(context.transfer_syntax).write((tag, vr_of(tag), text) for tag, text in tagged)
    exchange.send(context.context_id, encode(elements), (identifier,))


def _tag(keyword: str) -> int:
    tag = tag_of(keyword)
    if tag is None:
        raise InvalidQuery(keyword, "is no keyword of the data dictionary (PS3.6)")
    return tag


def _context(exchange: Exchange, abstract_syntax: str) -> Context:
    for context in exchange.contexts.values():
        if context.abstract_syntax == abstract_syntax:
            return context
    raise Refused("it does not offer this service (Study Root)")
