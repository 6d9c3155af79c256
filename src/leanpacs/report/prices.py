"""What things cost, and where that was read."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from leanpacs.report.quantities import Checked, NotNegative, Positive, Text

TB = 1e12
GB = 1e9


class Band(Checked):
    """A price that holds up to some amount in a month; the next band is for what is above it."""

    up_to_tb: Positive | None = Field(default=None, description="End of the band; left out: no end.")
    per_gb: NotNegative = Field(description="Price of 10**9 bytes.")


class Sourced(Checked):
    """A price with its origin."""

    title: Text = Field(description="What it is, for readers.")
    place: Text = Field(description="Where it is; what leaves a place may pay egress there.")
    source: Text = Field(description="URL where the price was read.")
    date: Text = Field(description="When that page was written or looked at.")
    note: str = Field(default="", description="What to know about it.")


class Storage(Sourced):
    """Storage that is paid by the month."""

    per_gb_month: tuple[Band, ...] = Field(min_length=1, description="Price of 10**9 bytes for a month.")
    per_1000_writes: NotNegative = 0
    per_1000_reads: NotNegative = 0
    retrieval_per_gb: NotNegative = Field(default=0, description="Price of 10**9 bytes read back.")
    minimum_object_bytes: NotNegative = Field(default=0, description="Smaller objects are billed as this.")
    overhead_object_bytes: NotNegative = Field(default=0, description="Billed on top of each object.")
    minimum_days: NotNegative = Field(default=0, description="What goes earlier is billed until then.")
    restore_hours: NotNegative = Field(default=0, description="Hours until the first byte of a read.")


class Core(Sourced):
    """A processor core that is paid by the hour."""

    per_core_hour: NotNegative = Field(description="Price of one core for an hour, electricity included or apart.")
    watts: NotNegative = Field(default=0, description="Power of a busy core, where electricity is paid apart.")


class Egress(Sourced):
    """Traffic that leaves a place."""

    per_gb_month: tuple[Band, ...] = Field(min_length=1, description="Price of 10**9 bytes, by the amount in a month.")


class Electricity(Sourced):
    """Electricity, for cores that have ``watts``."""

    per_kwh: NotNegative = 0


class Prices(Checked):
    """A prices file."""

    currency: Text = Field(default="USD", description="Currency of all prices.")
    storage: dict[str, Storage] = Field(min_length=1)
    core: dict[str, Core] = Field(min_length=1)
    egress: dict[str, Egress] = Field(default_factory=dict, description="By the place that traffic leaves.")
    electricity: Electricity | None = None

    @model_validator(mode="after")
    def _bands_grow(self) -> Self:
        stores = {name: entry.per_gb_month for name, entry in self.storage.items()}
        leaving = {name: entry.per_gb_month for name, entry in self.egress.items()}
        for name, bands in (*stores.items(), *leaving.items()):
            ends = [band.up_to_tb for band in bands]
            known = [end for end in ends if end is not None]
            if ends[-1] is not None or len(known) < len(ends) - 1 or known != sorted(set(known)):
                raise ValueError(f"{name}: bands need growing up_to_tb, and none in the last")
        return self


def priced(size_bytes: float, bands: tuple[Band, ...]) -> float:
    """What so many bytes cost: each band's price for the part that falls into it."""
    cost, begin = 0.0, 0.0
    for band in bands:
        end = float("inf") if band.up_to_tb is None else band.up_to_tb * TB
        cost += max(0.0, min(size_bytes, end) - begin) / GB * band.per_gb
        begin = end
    return cost
