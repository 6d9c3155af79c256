"""What a calling application entity may do, by its AE title.

An AE title is what a caller claims. With certificates of peers, or on a network of known devices, that is worth
something; alone it keeps out mistakes, not attackers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import Volume
from leanpacs.config import Role
from leanpacs.services.dimse.message import Command, CommandField
from leanpacs.services.dimse.status import Reply, Status
from leanpacs.services.ledger import Direction, Ledger, Party

if TYPE_CHECKING:
    from leanpacs.services.dimse.association import Association, Service

OTHERS: Final = "*"
"""Stands for all AE titles that are not named."""

NEEDED: Final[Mapping[int, Role]] = {
    CommandField.C_STORE_RQ: Role.WRITE,
    CommandField.N_ACTION_RQ: Role.WRITE,  # storage commitment is asked for by those who store
    CommandField.C_FIND_RQ: Role.READ,
    CommandField.C_GET_RQ: Role.READ,
    CommandField.C_MOVE_RQ: Role.READ,
}
"""The role that each request needs; others need none."""

Roles = Mapping[str, Collection[Role]]


def may(roles: Roles, calling: str, needed: Role | None) -> bool:
    """Whether an AE title has a role; any has when nothing is said about any."""
    return not roles or needed is None or needed in roles.get(calling, roles.get(OTHERS, ()))


def guarded(field: int, service: Service, roles: Roles, ledger: Ledger | None = None) -> Service:
    """Let a service answer only those who may ask for it; others get 0124H, not authorized (PS3.7 annex C).

    A ledger is told of queries and their size, and of those who are turned away.
    """
    needed = NEEDED.get(field)
    is_query = field == CommandField.C_FIND_RQ
    if needed is None or (not roles and not is_query):
        return service

    def answer(association: Association, command: Command) -> Reply | None:
        party = Party("dimse", association.calling, association.peer)
        if not may(roles, association.calling, needed):
            if ledger is not None:
                ledger.tell(AuditAction.LOGIN, party, AuditOutcome.REFUSED)
            return Reply(Status.NOT_AUTHORIZED, f"{association.calling} lacks the role {needed}")
        if not is_query or ledger is None:
            return service(association, command)
        ledger.tell(AuditAction.QUERY, party)
        return _counted(service, association, command, ledger, party)

    return answer


def _counted(
    service: Service, association: Association, command: Command, ledger: Ledger, party: Party
) -> Reply | None:
    """Answer a query, and count what was asked and answered."""
    asked, answered = association.exchange.received_bytes, association.answered_bytes
    try:
        return service(association, command)
    finally:
        asked, answered = association.exchange.received_bytes - asked, association.answered_bytes - answered
        ledger.count(Direction.IN, party, Volume(sent_bytes=asked, raw_bytes=asked))
        ledger.count(Direction.OUT, party, Volume(1, 0, answered, answered))
