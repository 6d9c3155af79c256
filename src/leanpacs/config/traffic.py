"""The traffic ledger."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, IPvAnyNetwork

from leanpacs.config.section import AETitle, Seconds, Section


class SiteSettings(Section):
    """A place that traffic comes from and goes to; the name of its table is its name."""

    addresses: tuple[IPvAnyNetwork, ...] = Field(default=(), description="Its networks, such as 192.0.2.0/24.")
    ae_titles: tuple[AETitle, ...] = Field(default=(), description="Its AE titles; these go before addresses.")


class TrafficSettings(Section):
    """The traffic ledger: what goes over the lines, by hour."""

    flush_seconds: Seconds = Field(
        default=5.0, gt=0, description="How often sums are written to the catalog; a crash loses those of this time."
    )
    sites: Mapping[str, SiteSettings] = Field(
        default={}, description="Places, by name; see the table below. The first that fits counts."
    )
