"""Why credentials are not taken."""

from __future__ import annotations


class InvalidToken(Exception):
    """The token is not taken; the text says why, for whoever showed it."""


class KeysUnavailable(Exception):
    """The provider's public keys cannot be had: no token can be checked now."""
