"""The gate in front of the HTTP door: finds out who calls, and lets through what they may do.

References
----------
RFC 6750 (bearer tokens), RFC 7617 (basic authentication), RFC 9110 11 (HTTP authentication).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Final

from leanpacs.config import Role
from leanpacs.services.access.caller import Caller, admit
from leanpacs.services.access.keys import Keys, bearer_of, looks_like_key
from leanpacs.services.access.refusal import InvalidToken, KeysUnavailable
from leanpacs.services.dicomweb.problems import RETRY_AFTER_SECONDS, Problem
from leanpacs.services.operations import Operation, Right
from leanpacs.services.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from leanpacs.services.access.tokens import Tokens

_log = logging.getLogger(__name__)

_REALM: Final = "leanpacs"
_CHALLENGE: Final = f'Bearer realm="{_REALM}", Basic realm="{_REALM}", charset="UTF-8"'
_MOST_REMEMBERED: Final = 4096


class Gate:
    """Guards the operations of the HTTP door; see `leanpacs.services.operations.Guard`.

    Parameters
    ----------
    keys : Keys
        Where API keys are looked up.
    tokens : Tokens or None
        Checks bearer tokens; None takes none.
    anonymous : collection of Role
        What callers without credentials may do.
    key_seconds : float
        How long it is remembered that a key is good.
    """

    def __init__(self, *, keys: Keys, tokens: Tokens | None, anonymous: Collection[Role], key_seconds: float) -> None:
        self._keys = keys
        self._tokens = tokens
        self._anonymous = Caller("", frozenset(anonymous))
        self._key_seconds = key_seconds
        self._threads = Threads(4)  # of their own: who comes in does not wait for those who retrieve
        self._remembered: dict[bytes, tuple[Caller, float]] = {}

    def close(self) -> None:
        """Let its threads end."""
        self._threads.close()

    async def __call__(self, request: Request, operation: Operation) -> None:
        """Write down who calls, or refuse.

        Raises
        ------
        Problem
            401: credentials are missing or not taken; 403: they do not suffice; 503: they cannot be checked now.
        """
        if operation.right is Right.NONE:
            return
        try:
            caller = await self._caller(request)
        except InvalidToken as error:
            text = f"These credentials are not taken: {error}."
            raise _refused(request, 401, text, 'error="invalid_token"') from error
        except KeysUnavailable as error:
            _log.error("tokens cannot be checked: %s", error, extra={"action": "authenticate"})
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            raise Problem(503, "Tokens cannot be checked now; the provider does not answer.", headers) from error
        admit(request.scope, caller)
        needed = Role(operation.right)
        if needed in caller.roles:
            return
        if not caller.name:
            text = f"This needs an API key or a token with the role {needed}: Authorization: Bearer ..."
            raise _refused(request, 401, text)
        raise _refused(request, 403, f"{caller.name} lacks the role {needed}.", 'error="insufficient_scope"')

    async def _caller(self, request: Request) -> Caller:
        credential = _credential(request.headers.get("authorization", ""))
        if not credential:
            return self._anonymous
        name = hashlib.sha256(credential.encode()).digest()
        known = self._remembered.get(name)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        caller, seconds = await self._threads.run(self._proven, credential)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = caller, time.monotonic() + seconds
        return caller

    def _proven(self, credential: str) -> tuple[Caller, float]:
        """Who shows a credential, and for how many seconds that may be remembered."""
        if looks_like_key(credential):
            bearer = bearer_of(credential, self._keys)
            if bearer is None:
                raise InvalidToken("the key is unknown, revoked or expired")
            return bearer, self._key_seconds
        if self._tokens is None:
            raise InvalidToken("only API keys are taken here")
        caller, until = self._tokens.caller(credential)
        return caller, min(until - time.time(), 60.0)


def _refused(request: Request, status: int, detail: str, reason: str = "") -> Problem:
    peer = request.client.host if request.client else ""
    extra = {"action": "authenticate", "peer": peer, "path": request.url.path}
    _log.warning("refused (%d): %s", status, detail, extra=extra)
    return Problem(status, detail, {"www-authenticate": f'Bearer realm="{_REALM}", {reason}' if reason else _CHALLENGE})


def _credential(field: str) -> str:
    """The key or token in an Authorization field; '' when there is none.

    A key may also come as the password of basic authentication, for clients that know no other. A password that is no
    key is somebody else's business, such as that of a proxy in front.
    """
    scheme, _, text = field.partition(" ")
    text = text.strip()
    if scheme.lower() == "bearer":
        return text or "-"
    if scheme.lower() != "basic":
        return ""
    try:
        password = base64.b64decode(text, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password if looks_like_key(password) else ""
