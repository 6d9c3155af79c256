"""What a calling application entity may do, by its AE title.

An AE title is what a caller claims. With certificates of peers, or on a network of known devices, that is worth
something; alone it keeps out mistakes, not attackers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from leanpacs.config import Role
from leanpacs.services.dimse.message import Command, CommandField
from leanpacs.services.dimse.status import Reply, Status

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


def guarded(field: int, service: Service, roles: Roles) -> Service:
    """Let a service answer only those who may ask for it; others get 0124H, not authorized (PS3.7 annex C)."""
    needed = NEEDED.get(field)
    if not roles or needed is None:
        return service

    def answer(association: Association, command: Command) -> Reply | None:
        if may(roles, association.calling, needed):
            return service(association, command)
        return Reply(Status.NOT_AUTHORIZED, f"{association.calling} lacks the role {needed}")

    return answer
