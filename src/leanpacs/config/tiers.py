"""Tiers: further stores for what need not be on the fastest disk."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from leanpacs.config.section import Section

TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class TierSettings(Section):
    """A store of its own; the name of its table is the name of the tier.

    The tier ``hot`` is a folder of ``storage.data`` unless there is a table for it.
    """

    kind: Literal["local"] = Field(description="'local': a folder.")
    url: str = Field(min_length=1, description="Where it is: the path of a folder.")
    copies: tuple[str, ...] = Field(
        default=(), description="Other tiers that must hold a copy of all that is moved to this one."
    )

    @model_validator(mode="after")
    def _copies_are_elsewhere(self) -> Self:
        if len(set(self.copies)) != len(self.copies):
            raise ValueError("copies names a tier twice")
        return self
