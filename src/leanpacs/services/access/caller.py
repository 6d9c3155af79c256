"""Who sent a request, as far as that is proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from leanpacs.config import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_SCOPE: Final = "leanpacs.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes
    ----------
    name : str
        ``key:NAME`` or ``token:SUBJECT``; '' when nothing was shown.
    roles : frozenset of Role
        What they may do.
    """

    name: str = ""
    roles: frozenset[Role] = frozenset()


ANONYMOUS: Final = Caller()
"""Nobody known, who may do nothing."""


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Who sent the request of an ASGI scope; `ANONYMOUS` when no gate has looked."""
    found = scope.get(_SCOPE, ANONYMOUS)
    assert isinstance(found, Caller)
    return found


def actor_of(scope: Mapping[str, Any]) -> str:
    """The caller as the audit trail names them: ``http:key:viewer@192.0.2.9``, ``http:192.0.2.9``."""
    name, address = caller_of(scope).name, (scope.get("client") or ("",))[0]
    return f"http:{name}@{address}" if name else f"http:{address}"


def admit(scope: MutableMapping[str, Any], caller: Caller) -> None:
    """Write down in an ASGI scope who sent the request."""
    scope[_SCOPE] = caller
