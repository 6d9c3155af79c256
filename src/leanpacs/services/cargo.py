"""What an HTTP request carries, noted on the way, and counted when it is done.

Bytes are counted where they leave, after all content coding. What they were is noted by those who give them: the parts
of a body share its bytes in proportion to their lengths.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import Volume
from leanpacs.config import Role
from leanpacs.services.access.caller import caller_of
from leanpacs.services.ledger import Direction, Ledger, Party
from leanpacs.services.links import Flow, Links
from leanpacs.services.operations import OPERATION, Operation, Right

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SCOPE: Final = "leanpacs.cargo"
_WRITING: Final = frozenset({"POST", "PUT"})
_PARTIAL: Final = 206
_UNKNOWN: Final = 401
_FORBIDDEN: Final = 403


@dataclass(slots=True)
class _Share:
    weight: int = 0
    raw_bytes: int = 0
    instances: int = 0


@dataclass(slots=True)
class Cargo:
    """What one request carries.

    Attributes
    ----------
    modality : str
        Of what is asked for, where nothing is noted more exactly.
    study_uid : str
        What is given.
    stored : dict of str to int
        Instances that were taken in, by study.
    """

    modality: str = ""
    study_uid: str = ""
    stored: dict[str, int] = field(default_factory=dict)
    _shares: dict[tuple[Direction, str, str], _Share] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self, direction: Direction, modality: str, transfer_syntax: str, *, weight: int, raw_bytes: int, instances: int
    ) -> None:
        """Note an instance or a frame of ``weight`` bytes that would have ``raw_bytes`` without compression."""
        with self._lock:  # instances of one answer may be made by several threads
            share = self._shares.setdefault((direction, modality, transfer_syntax), _Share())
            share.weight += weight
            share.raw_bytes += raw_bytes
            share.instances += instances

    @property
    def given(self) -> int:
        """How many instances were given."""
        return sum(share.instances for (direction, _, _), share in self._shares.items() if direction is Direction.OUT)

    def volumes(self, direction: Direction, sent_bytes: int, *, partial: bool) -> Iterator[tuple[str, str, Volume]]:
        """Modality, transfer syntax and volume of each kind, ``sent_bytes`` in all.

        Parameters
        ----------
        partial : bool
            Whether a range of the body was sent, so that only that part of the raw bytes counts.
        """
        shares = [(key, share) for key, share in self._shares.items() if key[0] is direction]
        total, left = sum(share.weight for _, share in shares), sent_bytes
        if not total or not sent_bytes:
            yield self.modality, "", Volume(sent_bytes=sent_bytes, raw_bytes=sent_bytes)
            return
        done = min(1.0, sent_bytes / total) if partial else 1.0
        for number, ((_, modality, syntax), share) in enumerate(shares, 1):
            part = left if number == len(shares) else sent_bytes * share.weight // total
            left -= part
            yield modality, syntax, Volume(0, share.instances, part, int(share.raw_bytes * done))


def cargo_of(scope: MutableMapping[str, Any]) -> Cargo:
    """The cargo of the request of an ASGI scope."""
    found = scope.setdefault(_SCOPE, Cargo())
    assert isinstance(found, Cargo)
    return found


class Accounting:
    """ASGI middleware that counts what goes over the line, for a ledger.

    Parameters
    ----------
    app : ASGI application
        Whose bytes are counted.
    ledger : Ledger
        Where to.
    links : Links, optional
        What is told, and learns, how fast the lines to clients are.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger, links: Links | None = None) -> None:
        self._app = app
        self._ledger = ledger
        self._links = links or Links()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted, status = {Direction.IN: 0, Direction.OUT: 0}, 0
        self._links.tell(scope)
        flow = Flow()

        async def receiving() -> Message:
            message = await receive()
            counted[Direction.IN] += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            started = time.perf_counter()
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.pathsend":
                counted[Direction.OUT] += Path(message["path"]).stat().st_size
            else:
                size = len(message.get("body", b""))
                counted[Direction.OUT] += size
                flow.wrote(size, started, time.perf_counter())

        try:
            await self._app(scope, receiving, sending)
        finally:
            self._links.note(scope, flow)
            operation = scope.get(OPERATION)
            if operation is not None and operation.right is not Right.NONE:
                self._count(scope, counted, status)
                self._tell(scope, operation, status)

    def _tell(self, scope: Scope, operation: Operation, status: int) -> None:
        """Note for the audit trail what was done to which study."""
        party, cargo = _party(scope), cargo_of(scope)
        if status == _UNKNOWN or (status == _FORBIDDEN and Role(operation.right) not in caller_of(scope).roles):
            self._ledger.tell(AuditAction.LOGIN, party, AuditOutcome.REFUSED)
        for study_uid, count in cargo.stored.items():
            self._ledger.tell(AuditAction.STORE, party, study_uid=study_uid, instances=count)
        if operation.right is not Right.READ or not 200 <= status < 300:
            return
        if cargo.study_uid:
            self._ledger.tell(AuditAction.RETRIEVE, party, study_uid=cargo.study_uid, instances=cargo.given)
        elif operation.name.startswith("search"):
            self._ledger.tell(AuditAction.QUERY, party)

    def _count(self, scope: Scope, counted: dict[Direction, int], status: int) -> None:
        party = _party(scope)
        way = Direction.IN if scope["method"] in _WRITING else Direction.OUT
        self._ledger.count(way, party, Volume(requests=1), cargo_of(scope).modality)
        for direction, sent_bytes in counted.items():
            if sent_bytes:
                for modality, syntax, volume in cargo_of(scope).volumes(
                    direction, sent_bytes, partial=status == _PARTIAL
                ):
                    self._ledger.count(direction, party, volume, modality, syntax)


def _party(scope: Scope) -> Party:
    address = (scope.get("client") or ("",))[0]
    return Party("http", caller_of(scope).name or address, address)
