"""From measured instances to figures for all: sums by stratum, ratio estimates, confidence intervals.

Raw bytes of every instance are known from its headers, so what a format takes is estimated as a ratio to those
(separate ratio estimator; Cochran, Sampling Techniques, 3rd edition, 6.10 and 6.11). Only sums are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from leanpacs.report.census import Count
from leanpacs.report.formats import NOT_EXACT
from leanpacs.report.measuring import Measure, Measured
from leanpacs.report.opening import Stratum
from leanpacs.report.results import FOUND, RAW, Estimate, FormatResult

SIGMAS: Final = 1.96
"""Of a 95 % interval."""


@dataclass(slots=True)
class Sums:
    """One format in one stratum: ``x`` is raw bytes of an instance, ``y`` what it takes."""

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    pixels: int = 0
    held_pixels: int = 0
    sampled: int = 0
    streams: int = 0
    encode: float = 0.0
    decode: float = 0.0
    held: int = 0
    not_exact: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    def add(self, raw_bytes: float, raw_pixel_bytes: int, measure: Measure) -> None:
        """Count one instance."""
        x, y = float(raw_bytes), float(measure.total_bytes)
        self.n += 1
        self.x, self.y = self.x + x, self.y + y
        self.xx, self.xy, self.yy = self.xx + x * x, self.xy + x * y, self.yy + y * y
        self.pixels += raw_pixel_bytes
        if measure.reason:
            self.not_exact += measure.reason == NOT_EXACT
            self.refusals[measure.reason] += 1
            return
        self.held += 1
        self.held_pixels += raw_pixel_bytes
        self.sampled += measure.sampled_bytes
        self.streams += measure.stream_bytes
        self.encode += measure.encode_seconds
        self.decode += measure.decode_seconds

    def merge(self, other: Sums) -> None:
        """Add the sums of other instances."""
        for name in ("n", "x", "y", "xx", "xy", "yy", "pixels", "held_pixels", "sampled", "streams"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("encode", "decode", "held", "not_exact"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.refusals.update(other.refusals)

    @property
    def ratio(self) -> float:
        """What the measured instances take, to their raw bytes."""
        return self.y / self.x if self.x else 1.0

    @property
    def variance(self) -> float:
        """Of what an instance takes beyond its share by the ratio; 0 for fewer than two."""
        if self.n < 2:
            return 0.0
        ratio = self.ratio
        squares = self.yy - 2 * ratio * self.xy + ratio * ratio * self.xx
        return max(squares, 0.0) / (self.n - 1)


@dataclass(slots=True)
class Book:
    """Sums by stratum and format."""

    sums: dict[Stratum, dict[str, Sums]] = field(default_factory=dict)
    measured: Counter[Stratum] = field(default_factory=Counter)

    def add(self, measured: Measured) -> None:
        """Count one measured instance."""
        stratum = measured.drawn.stratum
        if not measured.formats:
            return
        self.measured[stratum] += 1
        ours = self.sums.setdefault(stratum, {})
        for key, one in measured.formats.items():
            ours.setdefault(key, Sums()).add(measured.raw_bytes, measured.raw_pixel_bytes, one)

    def estimate(self, key: str, counts: Mapping[Stratum, Count]) -> tuple[Estimate, Sums]:
        """What all instances of some strata take in a format, and the sums that it comes from.

        Strata of which fewer than two were measured (and more are there) borrow from others of their modality, or
        from all that were measured.
        """
        total, variance, is_known = 0.0, 0.0, True
        merged = Sums()
        for stratum, count in counts.items():
            ours = self.sums.get(stratum, {}).get(key, Sums())
            merged.merge(ours)
            rest = count.instances - ours.n
            if not rest:
                total += ours.y
                continue
            basis = ours if ours.n >= 2 else self._borrowed(key, stratum)
            if basis is None:
                total, is_known = total + count.raw_bytes, False
                continue
            # What was measured is known; only the rest is estimated.
            total += ours.y + basis.ratio * max(count.raw_bytes - ours.x, 0.0)
            variance += _variance(basis, count.instances, rest)
        spread = SIGMAS * math.sqrt(variance)
        low, high = (total - spread, total + spread) if is_known else (None, None)
        return Estimate(total, low, high), merged

    def _borrowed(self, key: str, stratum: Stratum) -> Sums | None:
        tests: tuple[Callable[[Stratum], bool], ...] = (lambda one: one.modality == stratum.modality, lambda _: True)
        for is_alike in tests:
            pool = Sums()
            for other, formats in self.sums.items():
                if is_alike(other) and key in formats:
                    pool.merge(formats[key])
            if pool.n >= 2:
                return pool
        return None


def _variance(sums: Sums, instances: int, rest: int) -> float:
    """Of the estimated total of a stratum: N (N - n) s2 / n."""
    return instances * rest * sums.variance / sums.n


def result(key: str, book: Book, counts: Mapping[Stratum, Count]) -> FormatResult:
    """What a format does for the instances of some strata."""
    raw_bytes = sum(count.raw_bytes for count in counts.values())
    total, sums = book.estimate(key, counts)
    if key in (RAW, FOUND):  # known from the headers of all of them
        exact = float(raw_bytes if key == RAW else sum(count.found_bytes for count in counts.values()))
        total = Estimate(exact, exact, exact)
    has_times = sums.sampled > 0 and sums.encode > 0
    return FormatResult(
        format=key,
        held=sums.held_pixels / sums.pixels if sums.pixels else 1.0,
        total_bytes=total,
        ratio=_scaled(total, raw_bytes),
        pixel_ratio=sums.streams / sums.sampled if sums.sampled else None,
        encode_seconds_per_gb=sums.encode / sums.sampled * 1e9 if has_times else None,
        decode_seconds_per_gb=sums.decode / sums.sampled * 1e9 if has_times else None,
        instances=sums.held,
        not_exact=sums.not_exact,
        refusals=dict(sums.refusals.most_common(8)),
    )


def _scaled(estimate: Estimate, whole: float) -> Estimate:
    if not whole:
        return Estimate(1.0, 1.0, 1.0)
    low, high = (None if bound is None else bound / whole for bound in (estimate.low, estimate.high))
    return Estimate(estimate.value / whole, low, high)


@dataclass(slots=True)
class Side:
    """Sums of a table beside the formats: heads, files on disk."""

    label: str
    raw: int = 0
    small: int = 0
    encode: float = 0.0
    decode: float = 0.0
    store: float = 0.0

    def rate(self, seconds: float) -> float:
        """Seconds for 10**9 bytes."""
        return seconds / self.raw * 1e9 if self.raw else 0.0

    @property
    def ratio(self) -> float:
        """Small to raw."""
        return self.small / self.raw if self.raw else 1.0


def add_all(sides: dict[str, Side], entries: Iterable[tuple[str, str, Side]]) -> None:
    """Add entries of (key, label, sums) to sums by key."""
    for key, label, one in entries:
        side = sides.setdefault(key, Side(label))
        side.raw, side.small = side.raw + one.raw, side.small + one.small
        side.encode, side.decode, side.store = (
            side.encode + one.encode,
            side.decode + one.decode,
            side.store + one.store,
        )
