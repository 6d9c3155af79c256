"""Policies: which representation of an instance stands on which tier, and for how long.

The words are those of the lifecycle: representations, tiers, age, days unread.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from leanpacs.report.quantities import Checked, NotNegative, Positive, Share, Text


class Representation(Checked):
    """The form that instances are in from some moment on, until the next one's."""

    preset: Text = Field(description="raw, zlib, jpegls, jpeg2000, fast, balanced, dense, or another of the ratios.")
    tier: Text = Field(default="hot", description="Tier that reads are served from.")
    copies: int = Field(default=1, ge=1, le=9, description="Copies on that tier.")
    also_on: tuple[Text, ...] = Field(default=(), description="Further tiers with one copy each.")
    after_days: NotNegative = Field(default=0, description="Age of a study at which this begins.")
    unread_days: NotNegative = Field(default=0, description="...and days for which nobody has read it then.")
    pack: Literal["instance", "series"] = Field(default="instance", description="What one stored object holds.")


class Edge(Checked):
    """Caches at the remote sites."""

    hit_rate: Share = Field(default=0, description="Part of the reads at a site that its cache answers at once.")
    prefetched: Share = Field(
        default=0, description="Part of those hits whose bytes crossed the line beforehand, outside reading hours."
    )
    upload: Text = Field(default="raw", description="Preset in which a site sends its new studies to the centre.")


class Delivery(Checked):
    """What is sent to who reads."""

    preset: Text = Field(
        default="stored", description="'stored' sends the stored form; else the preset to transcode to."
    )
    cached: Share = Field(default=0, description="Part of the reads whose transcoding is found in a cache.")


class Policy(Checked):
    """A policy file."""

    name: Text = Field(description="What it is called in tables and charts.")
    note: str = Field(default="", description="What it does, for readers.")
    verify: bool = Field(default=True, description="Whatever is encoded is decoded again and compared.")
    keep_years: Positive | None = Field(default=None, description="Age at which studies are deleted; none: never.")
    representations: tuple[Representation, ...] = Field(min_length=1, description="In the order of age.")
    tiers: dict[str, Text] = Field(
        default={"hot": "on-premises-disk"}, description="Storage of each tier, as the prices name it."
    )
    compute: Text = Field(default="cloud-core", description="Where codecs run, as the prices name it.")
    delivery: Delivery = Field(default_factory=Delivery)
    edge: Edge = Field(default_factory=Edge)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        first, *later = self.representations
        if first.after_days or first.unread_days:
            raise ValueError("representations: the first one begins at once: no after_days, no unread_days")
        for before, after in zip(self.representations, later, strict=False):
            if after.after_days < before.after_days or after.unread_days < before.unread_days:
                raise ValueError(
                    "representations: after_days and unread_days may not shrink from one to the next; "
                    "who says unread_days once says it in all that follow"
                )
            if not after.after_days and not after.unread_days:
                raise ValueError("representations: each but the first needs after_days or unread_days")
        for one in self.representations:
            for tier in (one.tier, *one.also_on):
                if tier not in self.tiers:
                    raise ValueError(f"representations: tier {tier!r} is not among the tiers {', '.join(self.tiers)}")
        return self

    @property
    def presets(self) -> frozenset[str]:
        """Every preset that it names."""
        named = {one.preset for one in self.representations} | {self.delivery.preset, self.edge.upload}
        return frozenset(named - {"stored"})
