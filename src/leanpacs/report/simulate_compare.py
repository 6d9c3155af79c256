"""Several policies side by side, and what a reader of the comparison must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from leanpacs.report.policies import Policy
from leanpacs.report.simulate import Assumptions, project
from leanpacs.report.simulate_ledger import Projection
from leanpacs.report.simulate_lines import Wait, line_use, waits

LARGE_BILL = 1.2
"""Billed over stored bytes from which on small objects are worth a remark."""

FULL_LINE = 0.5
"""Use of a line, day and night, from which on it is too full in reading hours."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One policy of a comparison.

    Attributes
    ----------
    line_use : dict of str to float
        Part of the lines' capacity in the last month, by group of sites.
    notes : tuple of str
        What its figures do not tell by themselves.
    """

    projection: Projection
    waits: tuple[Wait, ...]
    line_use: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All policies over the same workload, the baselines among them."""

    given: Assumptions
    compared: tuple[Compared, ...]

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield notes with the name of their policy; '' for those that hold for several policies."""
        times = Counter(note for one in self.compared for note in one.notes)
        yield from (("", note) for note, number in times.items() if number > 1)
        for one in self.compared:
            yield from ((one.projection.policy.name, note) for note in one.notes if times[note] == 1)


def compare(policies: Sequence[Policy], given: Assumptions) -> Comparison:
    """Project every policy; raises as :func:`~leanpacs.report.simulate.project` does."""
    return Comparison(given, tuple(_compared(policy, given) for policy in policies))


def _compared(policy: Policy, given: Assumptions) -> Compared:
    projection = project(policy, given)
    use = dict(line_use(projection, given))
    return Compared(projection, tuple(waits(policy, given)), use, tuple(_notes(projection, use, given)))


def _notes(projection: Projection, use: dict[str, float], given: Assumptions) -> Iterator[str]:
    policy = projection.policy
    for tier, stored in projection.stored.items():
        if stored[-1] and projection.billed[tier][-1] > LARGE_BILL * stored[-1]:
            times = projection.billed[tier][-1] / stored[-1]
            yield f"Tier {tier} bills {times:.1f} times what is stored there: its objects are small. Pack series."
    yield from _early(policy, given)
    for name, part in use.items():
        if part > FULL_LINE:
            yield f"The lines of {name} are {part:.0%} full in the last month, day and night taken together."
    if projection.restores.any():
        a_month = projection.restores[-12:].mean()
        yield f"In the last year {a_month:,.0f} reads a month wait for hours until an archive class restored a study."
    guessed = sorted(
        name
        for name in given.workload.modality
        if any(not given.ratios.is_measured(name, preset) for preset in policy.presets)
    )
    if guessed:
        yield f"Nobody measured {', '.join(guessed)} with all its presets: the mean of all modalities stands for them."


def _early(policy: Policy, given: Assumptions) -> Iterator[str]:
    """What leaves a tier before the days that are billed at least; that is not in the costs."""
    for one, after in pairwise(policy.representations):
        stays = max(after.after_days, after.unread_days) - max(one.after_days, one.unread_days)
        for tier in {one.tier, *one.also_on} - {after.tier, *after.also_on}:
            least = given.prices.storage[policy.tiers[tier]].minimum_days
            if stays < least:
                yield f"Tier {tier} bills at least {least:g} days; studies may leave after {stays:g}. Not in the costs."
