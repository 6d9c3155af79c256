"""How a policy's representations follow each other with a study's age, and when studies are read.

All curves are arrays over age in whole days, index 0 to ``days``. They are expected values: a share of studies, a
number of reads for each study. Reads are taken as a Poisson process whose rate depends on age alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from leanpacs.report.policies import Policy, Representation
from leanpacs.report.workload import ReadRate

Curve: TypeAlias = NDArray[np.float64]

DAYS_PER_YEAR = 365


@dataclass(frozen=True, slots=True)
class Ageing:
    """What has become of a study by some age.

    Attributes
    ----------
    present : tuple of Curve
        For each representation of the policy, the share of studies that are in it; shape (days + 1,).
    entered : tuple of Curve
        Likewise the share that has ever entered it.
    read : tuple of Curve
        Likewise the mean number of reads of a study while it was in it, up to that age.
    """

    present: tuple[Curve, ...]
    entered: tuple[Curve, ...]
    read: tuple[Curve, ...]


def ageing(policy: Policy, reads: Sequence[ReadRate], days: int) -> Ageing:
    """Follow a study for ``days`` days."""
    rate = read_rate(reads, days)
    reached = [entered_share(one, rate) for one in policy.representations]
    kept = np.ones(days + 1)
    if policy.keep_years is not None:
        kept[math.ceil(policy.keep_years * DAYS_PER_YEAR) :] = 0
    after = [*reached[1:], np.zeros(days + 1)]
    present = [(share - gone) * kept for share, gone in zip(reached, after, strict=True)]
    return Ageing(
        present=tuple(present),
        entered=tuple(np.cumsum(np.diff(share, prepend=0.0) * kept) for share in reached),
        read=tuple(_summed(rate * share[:-1]) for share in present),
    )


def read_rate(reads: Sequence[ReadRate], days: int) -> Curve:
    """Reads of a study on each day of its life; shape (days,)."""
    rate, begin = np.zeros(days), 0
    for entry in reads:
        end = days if entry.until_days is None else min(days, math.ceil(entry.until_days))
        rate[begin:end] = entry.reads_per_study_per_day
        begin = end
    return rate


def entered_share(one: Representation, rate: Curve) -> Curve:
    """Share of studies that have entered a representation by each age.

    Without ``unread_days`` all enter at ``after_days``. With them, a study enters at the first moment from
    ``after_days`` on at which its last read, or its arrival, is ``unread_days`` (U) ago; a later read does not bring it
    back. Of those that enter on day t after the first such moment, the last read was on day t - U; so the share that
    enters is that of studies which had not entered by then, times the probability of a read on that day, times that of
    none since.
    """
    days = len(rate)
    unread = math.ceil(one.unread_days)
    first = max(math.ceil(one.after_days), unread)
    share = np.zeros(days + 1)
    if first > days:
        return share
    if not unread:
        share[first:] = 1
        return share
    expected = _summed(rate)
    quiet = np.exp(-(expected[unread:] - expected[: days + 1 - unread]))  # no read in the U days before day U, U + 1...
    share[first] = quiet[first - unread]
    for day in range(first + 1, days + 1):
        last_read = day - unread - 1
        was_read = -math.expm1(-rate[last_read])
        share[day] = share[day - 1] + (1 - share[last_read]) * was_read * quiet[day - unread]
    return share


def _summed(values: Curve) -> Curve:
    return np.concatenate([[0.0], np.cumsum(values)])
