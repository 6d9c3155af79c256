"""What a reader wants to know first: what you have, what you would have, how much faster over your line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from leanpacs.errors import ReportError
from leanpacs.report.results import FOUND, RAW, Analysis, FormatResult, Group, Link

GIVES_UP_SECONDS: Final = 10.0
"""After that long people turn to something else (Nielsen, Usability Engineering, 1993, 5.5)."""

NEARLY_ALL: Final = 0.95
"""A format that holds less of the pixels than this is no rival for all of them."""

DEFAULT_LINKS: Final = "5mbps,50mbps,1gbps"
SHOWN: Final = (RAW, FOUND, "gzip-6", "zstd-3", "jpegls", "jpeg2000", "htj2k", "jpegxl-7")
"""Formats of the headline table and of the transfer chart, besides the archive's presets."""

_LINK: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg])(?:bps|bit/s)", re.IGNORECASE)
_PREFIXES: Final = {"k": (1e3, "kbit/s"), "m": (1e6, "Mbit/s"), "g": (1e9, "Gbit/s")}


def links(text: str) -> tuple[Link, ...]:
    """Parse ``--link``: speeds such as ``5mbps`` joined by commas.

    Raises
    ------
    ReportError
        If one is not understood.
    """
    return tuple(_link(word.strip()) for word in text.split(",") if word.strip())


def _link(word: str) -> Link:
    match = _LINK.fullmatch(word)
    if match is None or not float(match[1]):
        raise ReportError(f"{word!r} is no speed of a link; write 5mbps, 512kbps or 1gbps")
    factor, unit = _PREFIXES[match[2].lower()]
    return Link(f"{float(match[1]):g} {unit}", float(match[1]) * factor)


@dataclass(frozen=True, slots=True)
class Transfer:
    """An average study over a link in one format; seconds of sending, and of decoding on one core."""

    format: str
    label: str
    link: str
    bytes: float
    seconds: float
    decode_seconds: float

    @property
    def total_seconds(self) -> float:
        """Until the last image can be shown, when decoding does not overlap with sending."""
        return self.seconds + self.decode_seconds


@dataclass(frozen=True, slots=True)
class Headline:
    """The few figures that matter most.

    Parameters
    ----------
    best : FormatResult or None
        The archive's densest preset if one was measured, else the smallest format that DICOM has.
    study : Group or None
        The modality that has most bytes.
    study_bytes : float
        Raw bytes of an average study of it.
    """

    best: FormatResult | None
    best_label: str
    study: Group | None
    study_bytes: float
    saved_bytes: float
    saved_low: float | None
    saved_high: float | None


def headline(analysis: Analysis) -> Headline:
    """Take the headline from an analysis."""
    total = analysis.total
    best = _best(analysis)
    study = max(analysis.by_modality, key=lambda group: group.raw_bytes, default=None)
    saved = low = high = None
    if best is not None:
        estimate = best.total_bytes
        saved = total.found_bytes - estimate.value
        low = None if estimate.high is None else total.found_bytes - estimate.high
        high = None if estimate.low is None else total.found_bytes - estimate.low
    return Headline(
        best=best,
        best_label=analysis.format(best.format).label if best else "",
        study=study,
        study_bytes=_study_bytes(study) if study else 0.0,
        saved_bytes=saved or 0.0,
        saved_low=low,
        saved_high=high,
    )


def _study_bytes(group: Group) -> float:
    return group.raw_bytes / max(group.studies, 1)


def _best(analysis: Analysis) -> FormatResult | None:
    family = {one.key: one.family for one in analysis.formats}
    for wanted in ("leanpacs", "image", "general"):
        candidates = [one for one in analysis.total.formats if family[one.format] == wanted and one.instances]
        if candidates:
            return min(candidates, key=lambda one: one.total_bytes.value)
    return None


def shown(analysis: Analysis, group: Group | None = None) -> list[FormatResult]:
    """The formats that are compared first, smallest last."""
    family = {one.key: one.family for one in analysis.formats}
    wanted = [
        one for one in (group or analysis.total).formats if one.format in SHOWN or family[one.format] == "leanpacs"
    ]
    return sorted(wanted, key=lambda one: -one.total_bytes.value)


def transfers(analysis: Analysis) -> Iterator[Transfer]:
    """An average study of the modality that has most bytes, in each shown format over each link."""
    study = headline(analysis).study
    if study is None:
        return
    pixels = study.raw_pixel_bytes / max(study.studies, 1)
    for link in analysis.links:
        for one in shown(analysis, study):
            if one.format == FOUND:
                continue
            size = one.total_bytes.value / max(study.studies, 1)
            decode = (one.decode_seconds_per_gb or 0.0) * pixels * one.held / 1e9
            yield Transfer(
                one.format, analysis.format(one.format).label, link.name, size, size * 8 / link.bits_per_second, decode
            )


def pareto(results: Iterable[FormatResult], seconds: str = "encode_seconds_per_gb") -> set[str]:
    """Formats that no other beats in both size and speed; only those that hold nearly everything."""
    usable = [one for one in results if one.held >= NEARLY_ALL and getattr(one, seconds)]
    return {
        one.format
        for one in usable
        if not any(
            other.total_bytes.value <= one.total_bytes.value
            and getattr(other, seconds) <= getattr(one, seconds)
            and (other.total_bytes.value, getattr(other, seconds)) != (one.total_bytes.value, getattr(one, seconds))
            for other in usable
        )
    }
