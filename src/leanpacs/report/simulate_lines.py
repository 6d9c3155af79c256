"""The lines to remote sites: how long a study takes, and how full they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from leanpacs.report.policies import Policy
from leanpacs.report.simulate import Assumptions
from leanpacs.report.simulate_ageing import DAYS_PER_YEAR
from leanpacs.report.simulate_flows import MONTHS_PER_YEAR
from leanpacs.report.simulate_ledger import Projection


@dataclass(frozen=True, slots=True)
class Wait:
    """How long somebody at a remote site waits for a study.

    Attributes
    ----------
    sent_bytes : float
        Mean size of a new study as it is sent.
    seconds : float
        Over the line, nobody else on it.
    mean_seconds : float
        With those counted as 0 that the cache at the site answers.
    """

    site: str
    modality: str
    raw_bytes: float
    sent_bytes: float
    seconds: float
    mean_seconds: float


def waits(policy: Policy, given: Assumptions) -> Iterator[Wait]:
    """Yield the waiting times for each group of sites and each modality."""
    for name, site in given.workload.sites.items():
        for modality, studies in given.workload.modality.items():
            preset = policy.delivery.preset
            sent = given.ratios.of(modality, policy.representations[0].preset if preset == "stored" else preset).ratio
            seconds = studies.bytes_per_study * sent * 8 / site.link
            yield Wait(
                site=name,
                modality=modality,
                raw_bytes=studies.bytes_per_study,
                sent_bytes=studies.bytes_per_study * sent,
                seconds=seconds,
                mean_seconds=seconds * (1 - policy.edge.hit_rate),
            )


def line_use(projection: Projection, given: Assumptions) -> Mapping[str, float]:
    """Part of the lines' capacity that all traffic of the last month takes, day and night, by group of sites."""
    seconds = DAYS_PER_YEAR / MONTHS_PER_YEAR * 86_400
    return {
        name: float(projection.lines[name][-1]) * 8 / (site.link * site.number * seconds)
        for name, site in given.workload.sites.items()
    }
