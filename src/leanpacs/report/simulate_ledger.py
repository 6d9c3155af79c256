"""The ledger of a simulation: amounts by tier and part while it runs, the projection when it is closed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from leanpacs.report.policies import Policy
from leanpacs.report.prices import GB, Prices, priced
from leanpacs.report.simulate_ageing import Curve
from leanpacs.report.simulate_flows import MONTHS_PER_YEAR

CPU_PARTS = ("arrival", "recompression", "delivery", "upload")
COST_PARTS = ("storage", "requests", "retrieval", "egress", "processors", "electricity")


@dataclass(frozen=True, slots=True)
class Projection:
    """What becomes of a workload under one policy.

    Amounts in bytes, hours and the currency of the prices. ``raw``, ``stored`` and ``billed`` have one value for the
    begin of the first month and one for the end of each; all others one for each month.

    Attributes
    ----------
    policy : Policy
        Whose.
    raw : Curve
        What is held, as it was received, one copy.
    stored, billed : dict of str to Curve
        By tier, all copies; what is paid for where small objects are billed as larger ones.
    arrived : Curve
        Bytes as received that came in.
    traffic_in, traffic_out : Curve
        Bytes that crossed the archive's door, in the form in which they did.
    lines : dict of str to Curve
        Bytes over all lines of each group of sites, both directions.
    retrieved : dict of str to Curve
        Stored bytes read back from each tier, for readers and for recompression.
    restores : Curve
        Reads of a study that had to wait for an archive class to restore it.
    cpu_hours, cost : dict of str to Curve
        By part: :data:`CPU_PARTS`, :data:`COST_PARTS`.
    """

    policy: Policy
    raw: Curve
    stored: dict[str, Curve]
    billed: dict[str, Curve]
    arrived: Curve
    traffic_in: Curve
    traffic_out: Curve
    lines: dict[str, Curve]
    retrieved: dict[str, Curve]
    restores: Curve
    cpu_hours: dict[str, Curve]
    cost: dict[str, Curve]

    @property
    def months(self) -> int:
        """Number of months."""
        return len(self.arrived)

    @property
    def stored_in_all(self) -> Curve:
        """Stored bytes, all tiers and copies."""
        return _total(self.stored.values(), self.months + 1)

    @property
    def cost_in_all(self) -> Curve:
        """Cost of each month."""
        return _total(self.cost.values(), self.months)

    @property
    def cpu_hours_in_all(self) -> Curve:
        """Processor hours of each month."""
        return _total(self.cpu_hours.values(), self.months)


def by_year(monthly: Curve) -> Curve:
    """Sums of twelve months."""
    sums: Curve = monthly.reshape(-1, MONTHS_PER_YEAR).sum(axis=1)
    return sums


def _total(curves: Iterable[Curve], length: int) -> Curve:
    return sum(curves, np.zeros(length))


@dataclass
class Ledger:
    """Sums over modalities and representations, by tier and part."""

    months: int
    sums: dict[tuple[str, str], Curve] = field(default_factory=dict)

    def add(self, account: str, name: str, values: Curve) -> None:
        key = (account, name)
        self.sums[key] = self.sums[key] + values if key in self.sums else values

    def account(self, account: str) -> dict[str, Curve]:
        return {name: values for (one, name), values in self.sums.items() if one == account}

    def monthly(self, account: str, name: str = "") -> Curve:
        return self.sums.get((account, name), np.zeros(self.months))

    def closed(self, policy: Policy, prices: Prices) -> Projection:
        cpu = {part: self.monthly("cpu seconds", part) / 3600 for part in CPU_PARTS}
        return Projection(
            policy=policy,
            raw=self.sums["raw", ""],
            stored={tier: self.levels("stored", tier) for tier in policy.tiers},
            billed={tier: self.levels("billed", tier) for tier in policy.tiers},
            arrived=self.monthly("arrived"),
            traffic_in=self.monthly("in"),
            traffic_out=self.monthly("out"),
            lines=self.account("line"),
            retrieved={tier: self.monthly("retrieved", tier) for tier in policy.tiers},
            restores=self.monthly("restores"),
            cpu_hours=cpu,
            cost=_costs(self, policy, prices, _total(cpu.values(), self.months)),
        )

    def levels(self, account: str, tier: str) -> Curve:
        return self.sums.get((account, tier), np.zeros(self.months + 1))


def _costs(ledger: Ledger, policy: Policy, prices: Prices, cpu_hours: Curve) -> dict[str, Curve]:
    cost = {part: np.zeros(ledger.months) for part in COST_PARTS}
    billed: dict[str, Curve] = {}
    for tier, name in policy.tiers.items():
        storage = prices.storage[name]
        billed[name] = billed.get(name, 0) + ledger.levels("billed", tier)
        writes, reads = ledger.monthly("writes", tier), ledger.monthly("reads", tier)
        cost["requests"] += (writes * storage.per_1000_writes + reads * storage.per_1000_reads) / 1000
        cost["retrieval"] += ledger.monthly("retrieved", tier) / GB * storage.retrieval_per_gb
    for name, levels in billed.items():
        bands = prices.storage[name].per_gb_month
        cost["storage"] += [priced((a + b) / 2, bands) for a, b in itertools.pairwise(levels)]
    for place, leaving in ledger.account("leaving").items():
        if place in prices.egress:
            bands = prices.egress[place].per_gb_month
            cost["egress"] += [priced(size, bands) for size in leaving]
    core = prices.core[policy.compute]
    cost["processors"] = cpu_hours * core.per_core_hour
    if prices.electricity is not None:
        cost["electricity"] = cpu_hours * core.watts / 1000 * prices.electricity.per_kwh
    return cost
