"""Representations by age and days unread: against hand-made cases and against drawing lots."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leanpacs.report.policies import Policy, Representation
from leanpacs.report.simulate_ageing import ageing, entered_share, read_rate
from leanpacs.report.workload import ReadRate


def rates(*entries: tuple[float | None, float]) -> tuple[ReadRate, ...]:
    return tuple(ReadRate(until_days=until, reads_per_study_per_day=rate) for until, rate in entries)


def test_read_rate_holds_until_its_age_and_the_last_for_ever() -> None:
    assert read_rate(rates((2, 1.0), (4, 0.5), (None, 0.25)), 6).tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert read_rate(rates((2, 1.0)), 4).tolist() == [1, 1, 0, 0]
    assert read_rate((), 2).tolist() == [0, 0]


def test_by_age_alone_all_enter_at_once() -> None:
    one = Representation(preset="dense", after_days=3)
    assert entered_share(one, np.zeros(5)).tolist() == [0, 0, 0, 1, 1, 1]


def test_what_is_never_read_enters_when_both_days_are_over() -> None:
    late = Representation(preset="dense", after_days=2, unread_days=4)
    assert entered_share(late, np.zeros(5)).tolist() == [0, 0, 0, 0, 1, 1]
    assert entered_share(late, np.zeros(3)).tolist() == [0, 0, 0, 0], "the simulation ends before"


def test_reads_before_the_age_delay_only_as_long_as_they_are_recent() -> None:
    # Read on day 0 for sure, never again: unread for 3 days from day 4 on (its last read may be at the end of day 0).
    one = Representation(preset="dense", after_days=0, unread_days=3)
    share = entered_share(one, np.array([50.0, 0, 0, 0, 0, 0]))
    assert share == pytest.approx([0, 0, 0, 0, 1, 1, 1])


def test_a_study_that_is_read_every_day_never_enters() -> None:
    one = Representation(preset="dense", after_days=5, unread_days=5)
    assert entered_share(one, np.full(200, 40.0)).max() < 1e-12


def test_first_chance_is_that_of_no_read_in_the_days_before() -> None:
    one = Representation(preset="dense", after_days=10, unread_days=4)
    share = entered_share(one, np.full(20, 0.1))
    assert share[9] == 0
    assert share[10] == pytest.approx(math.exp(-0.4))


@pytest.mark.parametrize(("after", "unread"), [(0, 5), (20, 7), (30, 30)])
def test_shares_are_those_of_drawn_studies(after: int, unread: int) -> None:
    days, studies = 90, 20_000
    rate = read_rate(rates((3, 0.8), (30, 0.1), (None, 0.03)), days)
    drawn = np.random.default_rng(7).random((studies, days)) < -np.expm1(-rate)
    last_read = np.zeros(studies)  # end of the day of the last read; at first, arrival
    entered = np.zeros(studies, dtype=bool)
    observed = [0.0]
    for day in range(1, days + 1):
        last_read[drawn[:, day - 1]] = day
        entered |= (day >= after) & (day - last_read >= unread)
        observed.append(entered.mean())
    expected = entered_share(Representation(preset="dense", after_days=after, unread_days=unread), rate)
    # Four standard deviations of a share of 20,000 studies.
    assert np.abs(expected - observed).max() < 4 * 0.5 / math.sqrt(studies)


def test_shares_of_all_representations_are_the_whole() -> None:
    policy = Policy(
        name="three",
        representations=(
            Representation(preset="fast"),
            Representation(preset="balanced", after_days=10, unread_days=5),
            Representation(preset="dense", after_days=40, unread_days=20),
        ),
    )
    aged = ageing(policy, rates((5, 1.0), (None, 0.05)), 300)
    assert sum(aged.present) == pytest.approx(np.ones(301))
    assert all((share >= -1e-12).all() for share in aged.present)
    assert all((np.diff(share) >= -1e-12).all() for share in aged.entered), "nobody comes back"
    assert sum(aged.read)[-1] == pytest.approx(5 * 1.0 + 295 * 0.05), "each read finds the study in one of them"


def test_what_is_deleted_is_neither_there_nor_read() -> None:
    policy = Policy(name="short", keep_years=1, representations=(Representation(preset="raw"),))
    aged = ageing(policy, rates((None, 0.5)), 730)
    assert aged.present[0][364:366].tolist() == [1, 0]
    assert aged.read[0][-1] == pytest.approx(365 * 0.5)
