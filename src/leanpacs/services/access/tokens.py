"""Bearer tokens of an OpenID Connect provider.

References
----------
RFC 7519 (JWT), RFC 7517 (JWKS), RFC 8725 (JWT best current practices), RFC 9068 (access tokens).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
from jwt import PyJWKClient, PyJWKSet

from leanpacs.config import OidcSettings, Role
from leanpacs.errors import ConfigError
from leanpacs.services.access.caller import Caller
from leanpacs.services.access.refusal import InvalidToken, KeysUnavailable

_FETCH_SECONDS: Final = 10.0

Find = Callable[[str], jwt.PyJWK]
"""Finds the public key of a token."""


class Tokens:
    """Checks bearer tokens. Thread-safe.

    Parameters
    ----------
    settings : OidcSettings
        Whose tokens are taken, and what they stand for.

    Raises
    ------
    ConfigError
        The file with the public keys cannot be used.
    """

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._find = _finder(settings)

    def caller(self, token: str) -> tuple[Caller, float]:
        """Who shows a token, and until when it holds (seconds since 1970).

        Raises
        ------
        InvalidToken
            It is no token of this provider for this server, or its time is over.
        KeysUnavailable
            The provider does not tell its public keys.
        """
        settings = self._settings
        try:
            key = self._find(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise KeysUnavailable(str(error)) from error
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from error
        subject = claims.get(settings.name_claim, "")
        return Caller(f"token:{subject}", self._roles(claims)), float(claims["exp"]) + settings.leeway_seconds

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        found: Any = claims
        for name in self._settings.roles_claim.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        named = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        known = self._settings.roles
        return frozenset(role for name in named if isinstance(name, str) for role in known.get(name, ()))


def _finder(settings: OidcSettings) -> Find:
    if settings.jwks.lower().startswith(("http://", "https://")):
        client = PyJWKClient(settings.jwks, lifespan=max(settings.refresh_seconds, 1.0), timeout=_FETCH_SECONDS)
        return client.get_signing_key_from_jwt
    return _KeyFile(Path(settings.jwks)).find


class _KeyFile:
    """Public keys in a file, read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._keys: PyJWKSet | None = None
        try:
            self._current()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise ConfigError("oidc.jwks", str(path), f"cannot be used: {error}") from error

    def find(self, token: str) -> jwt.PyJWK:
        """The key that a token names."""
        name = jwt.get_unverified_header(token).get("kid", "")
        try:
            keys = self._current()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise KeysUnavailable(f"{self._path}: {error}") from error
        try:
            return keys[name]
        except KeyError:
            raise InvalidToken(f"no public key is called {name!r}") from None

    def _current(self) -> PyJWKSet:
        with self._lock:
            stat = self._path.stat()
            if self._keys is None or self._seen != (stat.st_mtime_ns, stat.st_size):
                self._keys = PyJWKSet.from_json(self._path.read_text(encoding="utf-8"))
                self._seen = stat.st_mtime_ns, stat.st_size
            return self._keys
