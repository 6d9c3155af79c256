"""Numbers as people read them."""

from __future__ import annotations

from typing import Final

from leanpacs.report.results import Estimate

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """A number of bytes with three digits and a unit (powers of 1000)."""
    for unit in _UNITS:
        if abs(count) < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" or abs(count) >= 100 else f"{count:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time with two digits or so."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 0.95:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def percent(fraction: float) -> str:
    """A fraction in percent: three digits below one, one decimal below a hundred."""
    value = 100 * fraction
    return f"{value:.2f} %" if abs(value) < 0.95 else f"{value:.1f} %" if abs(value) < 99.95 else f"{value:.0f} %"


def speed(seconds_per_gb: float | None) -> str:
    """CPU seconds for 10**9 bytes as megabytes a second, or a dash."""
    if not seconds_per_gb:
        return "-"
    rate = 1000 / seconds_per_gb
    return f"{rate:.0f}" if rate >= 9.95 else f"{rate:.1f}" if rate >= 0.95 else f"{rate:.2f}"


def interval(estimate: Estimate) -> str:
    """The half width of a ratio's interval in points of percent; '' when all was measured, '?' when not known."""
    if estimate.low is None or estimate.high is None:
        return "?"
    half = 50 * (estimate.high - estimate.low)
    return "" if half < 1e-9 else f"± {half:.1f}" if half >= 0.05 else "± 0.0"
