"""Cohorts: studies that come in day by day, and what becomes of them month by month."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leanpacs.report.simulate_ageing import DAYS_PER_YEAR, Ageing, Curve
from leanpacs.report.workload import Modality, Workload

MONTHS_PER_YEAR = 12


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days and months of a simulation. Days count from the arrival of the first study that is held.

    Attributes
    ----------
    held_days : int
        Days before the first simulated one.
    ends : tuple of int
        Days gone by at the begin of the first month and at the end of each.
    """

    held_days: int
    ends: tuple[int, ...]

    @classmethod
    def of(cls, workload: Workload, years: int) -> Calendar:
        """Calendar for so many years; months have 365/12 days, rounded."""
        held = any(one.held_studies for one in workload.modality.values())
        before = round(workload.held_over_years * DAYS_PER_YEAR) if held else 0
        months = range(years * MONTHS_PER_YEAR + 1)
        return cls(before, tuple(before + round(month * DAYS_PER_YEAR / MONTHS_PER_YEAR) for month in months))

    @property
    def days(self) -> int:
        """All days, those before the first month included."""
        return self.ends[-1]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What comes in on each day; shape (days,)."""

    studies: Curve
    size_bytes: Curve
    instances: Curve
    series: Curve


@dataclass(frozen=True, slots=True)
class Flow:
    """What one modality does with one representation.

    ``held`` has one value for the begin and one for the end of each month, the others one for each month.
    """

    held: Curve
    entered: Curve
    read: Curve


def month_lengths(months: int) -> Curve:
    """Days of each month."""
    return np.diff([round(month * DAYS_PER_YEAR / MONTHS_PER_YEAR) for month in range(months + 1)]).astype(float)


def arrivals(modality: Modality, workload: Workload, calendar: Calendar) -> Arrivals:
    """Studies, bytes, instances and series for each day: what is held evenly, then with the growth of each year."""
    growth = modality.growth_percent_per_year
    growth = workload.growth_percent_per_year if growth is None else growth
    age = (np.arange(calendar.days - calendar.held_days) + 0.5) / DAYS_PER_YEAR
    a_day = modality.studies_per_day * workload.working_days_per_year / DAYS_PER_YEAR
    before = np.full(calendar.held_days, modality.held_studies / max(1, calendar.held_days))
    studies = np.concatenate([before, a_day * (1 + growth / 100) ** age])
    larger = (1 + modality.study_growth_percent_per_year / 100) ** age
    size = np.concatenate([np.ones(calendar.held_days), larger])
    return Arrivals(
        studies=studies,
        size_bytes=studies * size * modality.bytes_per_study,
        instances=studies * size * modality.instances_per_study,
        series=studies * modality.series_per_study,
    )


def came_in(amounts: Curve, calendar: Calendar) -> Curve:
    """What came in during each month."""
    total = np.concatenate([[0.0], np.cumsum(amounts)])
    return np.diff(total[list(calendar.ends)])


def flow(amounts: Curve, ageing: Ageing, number: int, calendar: Calendar) -> Flow:
    """Follow amounts (bytes, objects) that came in through one representation of the policy."""
    read = ageing.read[number]
    return Flow(
        held=accrued(amounts, ageing.present[number], calendar),
        entered=np.diff(accrued(amounts, ageing.entered[number], calendar)),
        # A day's arrivals come in all day long: on average they are half a day older than the youngest.
        read=np.diff(accrued(amounts, (read[:-1] + read[1:]) / 2, calendar)),
    )


def accrued(amounts: Curve, curve: Curve, calendar: Calendar) -> Curve:
    """Sum over all cohorts of their amount times a curve at their age, at each end of a month."""
    return np.array([amounts[:end] @ curve[:end][::-1] for end in calendar.ends])
