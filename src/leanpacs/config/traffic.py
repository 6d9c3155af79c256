"""The traffic ledger."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, IPvAnyNetwork

from leanpacs.config.section import AETitle, Seconds, Section


class SiteSettings(Section):
    """A place that traffic comes from and goes to; the name of its table is its name."""

    addresses: tuple[IPvAnyNetwork, ...] = Field(default=(), description="Its networks, such as 192.0.2.0/24.")
    ae_titles: tuple[AETitle, ...] = Field(default=(), description="Its AE titles; these go before addresses.")
    megabits_per_second: float = Field(
        default=0.0,
        ge=0,
        description="Speed of its line, where that is known; 0: it is measured as answers go out. What is sent, and "
        "how hard it is compressed, goes by it.",
    )


class TrafficSettings(Section):
    """The traffic ledger: what goes over the lines, by hour."""

    flush_seconds: Seconds = Field(
        default=5.0, gt=0, description="How often sums are written to the catalog; a crash loses those of this time."
    )
    sites: Mapping[str, SiteSettings] = Field(
        default={}, description="Places, by name; see the table below. The first that fits counts."
    )
