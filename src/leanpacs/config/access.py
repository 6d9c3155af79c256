"""Who may come in, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from leanpacs.config.section import Seconds, Section


class Role(StrEnum):
    """What a caller may do; none of them includes another."""

    READ = "read"
    """Search and retrieve."""
    WRITE = "write"
    """Store."""
    DELETE = "delete"
    """Delete what is held."""
    ADMIN = "admin"
    """Keys, destinations, quarantine, traffic."""


ALL_ROLES = tuple(Role)


class AccessSettings(Section):
    """Who may come in at the HTTP door. API keys are made with `leanpacs key create`."""

    anonymous: tuple[Role, ...] | None = Field(
        default=None,
        description="Roles of callers who show neither key nor token. By default all of them while the door listens "
        "on this machine only, and none beyond it.",
    )
    key_seconds: Seconds = Field(
        default=5.0, description="How long an API key is remembered; one that was revoked is refused after that."
    )


class OidcSettings(Section):
    """Bearer tokens (JWT) of an OpenID Connect provider. The first three are given together."""

    issuer: str = Field(default="", description="What the claim `iss` of a token has to be; '' takes no tokens.")
    audience: str = Field(default="", description="What the claim `aud` has to be or to name.")
    jwks: str = Field(
        default="", description="Where the provider's public keys are: an https URL, or the path of a JWKS file."
    )
    algorithms: tuple[str, ...] = Field(
        default=("RS256", "PS256", "ES256", "EdDSA"), min_length=1, description="Signatures that are taken."
    )
    roles_claim: str = Field(
        default="roles", min_length=1, description="Claim that lists roles; dots lead inwards (`realm_access.roles`)."
    )
    roles: Mapping[str, tuple[Role, ...]] = Field(
        default={role.value: (role,) for role in Role},
        description="What each value of that claim stands for; others stand for nothing.",
    )
    name_claim: str = Field(default="sub", min_length=1, description="Claim that names the caller.")
    leeway_seconds: Seconds = Field(default=30.0, description="How far clocks may be apart.")
    refresh_seconds: Seconds = Field(default=300.0, description="How long public keys are kept before a new look.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """A token that is not checked against issuer and audience proves nothing."""
        given = [bool(self.issuer), bool(self.audience), bool(self.jwks)]
        if any(given) and not all(given):
            raise ValueError("issuer, audience and jwks are given together or not at all")
        if any(name.upper().startswith("HS") or name.lower() == "none" for name in self.algorithms):
            raise ValueError("only signatures by public keys are taken, such as RS256 and ES256")
        return self

    @property
    def enabled(self) -> bool:
        """Whether tokens are taken."""
        return bool(self.issuer)
