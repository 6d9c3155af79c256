"""Who is really at the other end, where a proxy stands in front of the HTTP door; and which addresses may come in.

A header field that anybody can write counts only when a proxy that the settings name has sent it.

References
----------
RFC 7239 (Forwarded); X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host as reverse proxies send them.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.services.dicomweb.problems import problem_response
from leanpacs.services.ledger import Party

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from leanpacs.services.ledger import Ledger

_log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PAIR: Final = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')
_NODE: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+)(?::\d{1,5})?|([0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)")
_SCHEMES: Final = ("http", "https")
_LONGEST: Final = 4096
"""Characters of a header field that are looked at."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy says of the side it was asked from: '' where it says nothing."""

    address: str = ""
    scheme: str = ""
    host: str = ""


class Proxied:
    """ASGI middleware that puts the client's address, scheme and host in place of those of trusted proxies.

    Parameters
    ----------
    app : ASGI application
        What is asked.
    trusted : sequence of networks
        Addresses of proxies; of their chain, the last one that is not among them is the client.
    allowed : sequence of networks
        Clients that may come in; empty: all.
    ledger : Ledger, optional
        Told of those that may not.
    """

    def __init__(
        self,
        app: ASGIApp,
        trusted: Sequence[Network] = (),
        allowed: Sequence[Network] = (),
        ledger: Ledger | None = None,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._trusted = tuple(trusted)
        self._allowed = tuple(allowed)
        self._is_within = lru_cache(maxsize=4096)(_is_within)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http":
            peer = (scope.get("client") or ("", 0))[0]
            if self._trusted and self._is_within(peer, self._trusted):
                self._replace(scope)
            client = (scope.get("client") or ("", 0))[0]
            if self._allowed and not self._is_within(client, self._allowed):
                _log.warning("refused: the address may not come in", extra={"action": "connect", "peer": client})
                if self._ledger is not None:
                    self._ledger.tell(AuditAction.LOGIN, Party("http", client, client), AuditOutcome.REFUSED)
                await problem_response(403, "This address may not come in.")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _replace(self, scope: Scope) -> None:
        fields = _fields(scope)
        hops = hops_of(fields)
        client = next((hop for hop in reversed(hops) if not self._is_within(hop.address, self._trusted)), None)
        client = client or (hops[0] if hops else None)
        if client is None:
            return
        scope["client"] = (str(_address(client.address) or ""), 0)  # '': a proxy that keeps it to itself
        if client.scheme in _SCHEMES:
            scope["scheme"] = client.scheme
        if client.host:
            others = [field for field in scope["headers"] if field[0] != b"host"]
            scope["headers"] = [*others, (b"host", client.host.encode("latin-1", "replace"))]


def hops_of(fields: Mapping[str, str]) -> list[Hop]:
    """The chain of proxies in header fields, the one nearest to the client first.

    ``Forwarded`` goes before the older fields. Of those, scheme and host are what the nearest proxy says last.
    """
    if "forwarded" in fields:
        return [_hop(element) for element in _split(fields["forwarded"][:_LONGEST])]
    scheme = fields.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    host = fields.get("x-forwarded-host", "").rpartition(",")[2].strip()
    chain = [part.strip() for part in fields.get("x-forwarded-for", "")[-_LONGEST:].split(",") if part.strip()]
    return [Hop(_bare(part), scheme, host) for part in chain or ([""] if scheme or host else [])]


def _hop(element: str) -> Hop:
    said = {match[1].lower(): match[2] if match[2] is not None else match[3] for match in _PAIR.finditer(element)}
    return Hop(_bare(said.get("for", "")), said.get("proto", "").lower(), said.get("host", ""))


def _split(text: str) -> list[str]:
    """Elements between commas that are not within quotes."""
    return [part for part in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', text) if part.strip()]


def _bare(text: str) -> str:
    """An address without port and brackets; '' for what is none."""
    found = _NODE.fullmatch(text)
    return next((group for group in found.groups() if group), "") if found else ""


def _fields(scope: Scope) -> dict[str, str]:
    """Header fields by name; those that come several times are joined."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(text: str, networks: tuple[Network, ...]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)
