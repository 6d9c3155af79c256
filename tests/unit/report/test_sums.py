"""Projections: exact when all is measured, and right on average when it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanpacs.archive.intake.importing import Found
from leanpacs.report.census import Count, Distinct, Drawn, allocate
from leanpacs.report.measuring import Measure, Measured
from leanpacs.report.opening import Stratum
from leanpacs.report.sums import Book, result

CT, MR, US = (Stratum(modality, "class", "maker", "syntax") for modality in ("CT", "MR", "US"))


def measured(stratum: Stratum, raw: int, total: float, reason: str = "") -> Measured:
    """One measured instance."""
    drawn = Drawn(Found(Path("file")), stratum, raw)
    return Measured(drawn, raw, raw - 100, 1, {"x": Measure(total, raw - 100, 50, 1.0, 2.0, reason)})


def test_everything_measured_is_exact() -> None:
    book = Book()
    for raw, total in ((1000, 300), (3000, 600)):
        book.add(measured(CT, raw, total))
    estimate, _ = book.estimate("x", {CT: Count(2, 0, 4000, 3800)})
    assert (estimate.value, estimate.low, estimate.high) == (900, 900, 900)


def test_a_sample_is_projected_by_its_ratio() -> None:
    book = Book()
    for raw, total in ((1000, 300), (3000, 700)):
        book.add(measured(CT, raw, total))
    estimate, _ = book.estimate("x", {CT: Count(10, 0, 20_000, 19_000)})
    assert estimate.value == 1000 + 0.25 * 16_000
    assert estimate.low is not None
    # by hand: residuals 50 and -50, s2 = 5000, variance 10 * 8 * 5000 / 2
    assert estimate.low == pytest.approx(5000 - 1.96 * (10 * 8 * 5000 / 2) ** 0.5)


def test_strata_without_measurements_borrow() -> None:
    book = Book()
    for raw, total in ((1000, 500), (1000, 500)):
        book.add(measured(CT, raw, total))
    other = Stratum("CT", "class", "another maker", "syntax")
    assert book.estimate("x", {other: Count(3, 0, 3000, 0)})[0].value == 1500
    assert book.estimate("x", {MR: Count(3, 0, 3000, 0)})[0].value == 1500
    assert Book().estimate("x", {MR: Count(3, 0, 3000, 0)})[0].low is None


def test_intervals_hold_what_they_promise() -> None:
    random = np.random.default_rng(1)
    raw = random.integers(100_000, 2_000_000, 400)
    total = raw * random.normal(0.3, 0.05, 400)
    hits = 0
    for _ in range(200):
        book = Book()
        for one in random.permutation(400)[:60]:
            book.add(measured(CT, int(raw[one]), float(total[one])))
        estimate, _ = book.estimate("x", {CT: Count(400, 0, int(raw.sum()), 0)})
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= total.sum() <= estimate.high
    assert 180 <= hits <= 199


def test_what_is_not_exact_is_not_counted_as_held() -> None:
    book = Book()
    book.add(measured(CT, 1100, 300))
    book.add(measured(CT, 1100, 1100, "what was decoded is not what was encoded"))
    found = result("x", book, {CT: Count(2, 0, 2200, 2000)})
    assert (found.instances, found.not_exact, found.held) == (1, 1, 0.5)
    assert found.total_bytes.value == 1400


def test_samples_are_shared_by_bytes_and_every_stratum_has_two() -> None:
    quotas = allocate([1000, 10, 1, 3], [10_000, 90_000, 5, 0], 50)
    assert quotas[2] == 1
    assert quotas[1] == 10
    assert quotas[3] >= 2
    assert sum(quotas) == 50
    assert allocate([5, 5], [1, 1], 100) == [5, 5]
    assert allocate([5, 5], [1, 1], 1) == [2, 2]


def test_distinct_counts() -> None:
    few, many = Distinct(64), Distinct(1024)
    for number in range(60):
        few.add(str(number))
        few.add(str(number))
    for number in range(50_000):
        many.add(str(number))
    assert few.count() == 60
    assert many.count() == pytest.approx(50_000, rel=0.12)
