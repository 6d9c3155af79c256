"""Means of what lossy and progressive code streams do to images, by setting and modality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from leanpacs.report.lossy import LADDER, Tried
from leanpacs.report.measuring import Measured
from leanpacs.report.progressive import Appearing, Shown
from leanpacs.report.results import LossyPoint, Progressive, Stage

OVERVIEW: Final = 0.90
GOOD: Final = 0.98
"""SSIM of the windowed image from which a stage is called an overview, and good to look at. A convention."""


@dataclass(slots=True)
class Looks:
    """Everything tried, by modality; bounded, for only a few instances of each are tried."""

    lossy: list[tuple[str, Tried]] = field(default_factory=list)
    progressive: list[tuple[str, Appearing]] = field(default_factory=list)

    def add(self, measured: Measured) -> None:
        """Take note of what was tried on one instance."""
        modality = measured.drawn.stratum.modality or "(none)"
        self.lossy += [(modality, one) for one in measured.lossy]
        self.progressive += [(modality, one) for one in measured.progressive]

    def lossy_points(self) -> list[LossyPoint]:
        """Means by setting and modality, in the order of the ladder."""
        order = {(one.family, one.label): place for place, one in enumerate(LADDER)}

        def key(entry: tuple[str, Tried]) -> tuple[str, str, int]:
            return entry[1].family, entry[0], order[entry[1].family, entry[1].setting]

        groups = groupby(sorted(self.lossy, key=key), key=key)
        return [_point(modality, [one for _, one in group]) for (_, modality, _), group in groups]

    def progressives(self) -> list[Progressive]:
        """Means by form and modality; stage by stage."""

        def key(entry: tuple[str, Appearing]) -> tuple[str, str]:
            return entry[0], entry[1].label

        groups = groupby(sorted(self.progressive, key=key), key=key)
        return [_progressive(modality, [one for _, one in group]) for (modality, _), group in groups]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _mean_psnr(values: Sequence[float | None]) -> float | None:
    """Of those frames in which anything differed."""
    differing = [value for value in values if value is not None]
    return _mean(differing) if differing else None


def _point(modality: str, tried: list[Tried]) -> LossyPoint:
    raw = sum(one.raw_bytes for one in tried)
    return LossyPoint(
        family=tried[0].family,
        setting=tried[0].setting,
        modality=modality,
        frames=len(tried),
        ratio=sum(one.stream_bytes for one in tried) / raw,
        psnr=_mean_psnr([one.psnr for one in tried]),
        ssim=_mean(one.ssim for one in tried),
        windowed_psnr=_mean_psnr([one.windowed_psnr for one in tried]),
        windowed_ssim=_mean(one.windowed_ssim for one in tried),
        largest_error=max(one.largest_error for one in tried),
        encode_seconds_per_gb=sum(one.encode_seconds for one in tried) / raw * 1e9,
        decode_seconds_per_gb=sum(one.decode_seconds for one in tried) / raw * 1e9,
    )


def _progressive(modality: str, frames: list[Appearing]) -> Progressive:
    """Stages counted from the last: what has come before the first one that every frame has is left out."""
    count = min(len(one.shown) for one in frames)
    stages = [[(one, one.shown[place - count]) for one in frames] for place in range(count)] if count else []
    return Progressive(
        family=frames[0].family,
        label=frames[0].label,
        modality=modality,
        frames=len(frames),
        frame_bytes=_mean(one.raw_bytes for one in frames),
        cost=sum(one.stream_bytes for one in frames) / sum(one.plain_bytes for one in frames),
        stages=[_stage(pairs) for pairs in stages],
    )


def _stage(pairs: list[tuple[Appearing, Shown]]) -> Stage:
    similarity = _mean(shown.ssim for _, shown in pairs)
    is_exact = all(shown.exact for _, shown in pairs)
    return Stage(
        received=sum(shown.received_bytes for _, shown in pairs) / sum(one.raw_bytes for one, _ in pairs),
        complete=sum(shown.received_bytes for _, shown in pairs) / sum(one.stream_bytes for one, _ in pairs),
        psnr=_mean_psnr([shown.psnr for _, shown in pairs]),
        ssim=similarity,
        verdict="exact"
        if is_exact
        else "good"
        if similarity >= GOOD
        else "overview"
        if similarity >= OVERVIEW
        else "not yet",
    )
