"""Workloads and ratios from what is there: an archive in use, or an analysis of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from leanpacs.catalog import DayOfArrivals
from leanpacs.errors import ConfigError
from leanpacs.report.ratios import OTHER, Encoding, Ratios
from leanpacs.report.results import Analysis, FormatResult, Group
from leanpacs.report.workload import Modality, Workload

HELD: Final = "held"
"""Preset with the ratios of an archive as it stands."""

UNKNOWN: Final = "unknown"
"""Name of studies without a modality."""

_FORMATS: Final = {
    "zlib": ("gzip-6", "deflate"),
    "jpegls": ("jpegls",),
    "jpeg2000": ("jpeg2000",),
    "fast": ("leanpacs-fast",),
    "balanced": ("leanpacs-balanced",),
    "dense": ("leanpacs-dense",),
}
"""Formats of an analysis that a preset's ratios are taken from; the first that was measured."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A workload, and ratios where some were found."""

    workload: Workload
    ratios: Ratios


def from_archive(past: Sequence[DayOfArrivals], known: Ratios, *, days: int | None = None) -> Taken:
    """Take the workload of an archive: what came in each day, and what is held.

    Parameters
    ----------
    past : sequence of DayOfArrivals
        As `leanpacs.catalog.Catalog.arrivals` gives them.
    known : Ratios
        The archive's own ratio of stored to received bytes joins them as preset ``held``.
    days : int, optional
        Days over which it came in; from the first to the last when not given.

    Raises
    ------
    ConfigError
        Nothing is held.
    """
    if not past:
        raise ConfigError("--from-archive", "", "the archive holds nothing yet")
    span = days or (past[-1].day - past[0].day).days + 1
    by_modality: dict[str, list[DayOfArrivals]] = {}
    for day in past:
        by_modality.setdefault(day.modality or UNKNOWN, []).append(day)
    workload = Workload(
        name="As the archive grew",
        note=f"What came in over {span} days from {past[0].day}. Reads and sites are not recorded.",
        held_over_years=span / 365,
        modality={name: _of_days(days_of, span) for name, days_of in by_modality.items()},
    )
    return Taken(workload, _with_held(known, {**by_modality, OTHER: list(past)}))


def _of_days(days: Sequence[DayOfArrivals], span: int) -> Modality:
    studies = sum(day.studies for day in days)
    return Modality(
        studies_per_day=studies / span,
        bytes_per_study=sum(day.raw_bytes for day in days) / studies,
        instances_per_study=sum(day.instances for day in days) / studies,
        series_per_study=sum(day.series for day in days) / studies,
        held_studies=studies,
    )


def _with_held(known: Ratios, past: dict[str, list[DayOfArrivals]]) -> Ratios:
    table = dict(known.modality)
    for name, days in past.items():
        raw = sum(day.raw_bytes for day in days)
        stored = sum(day.stored_bytes for day in days)
        like = known.of(name, "fast")
        seconds = like.encode_seconds_per_gb, like.decode_seconds_per_gb
        held = Encoding(
            ratio=stored / raw if raw else 1, encode_seconds_per_gb=seconds[0], decode_seconds_per_gb=seconds[1]
        )
        table[name] = {**table.get(name, {}), HELD: held}
    return known.model_copy(update={"modality": table})


def from_analysis(analysis: Analysis, known: Ratios, *, days: int) -> Taken:
    """Take the workload and the ratios of an analysis.

    Parameters
    ----------
    analysis : Analysis
        What ``leanpacs analyze --json`` wrote.
    known : Ratios
        For presets that were not measured.
    days : int
        Days over which what was analysed came in; an analysis does not know.
    """
    groups = [group for group in analysis.by_modality if group.instances and group.raw_bytes]
    if not groups:
        raise ConfigError("--from-analysis", "", "the analysis has no modality with instances")
    workload = Workload(
        name="As analysed",
        note=f"{analysis.files} files in {', '.join(analysis.run.paths)}, taken as what comes in over {days} days.",
        modality={_key(group): _of_group(group, days) for group in groups},
    )
    table = {_key(group): {**known.modality.get(_key(group), {}), **encodings(group)} for group in groups}
    total = {**known.modality[OTHER], **encodings(analysis.total)}
    ratios = Ratios(
        title="The analysed files",
        source=", ".join(analysis.run.paths),
        date=analysis.run.made_at[:10],
        note=f"{analysis.total.measured} of {analysis.total.instances} instances; {analysis.machine.processor}",
        modality={**table, OTHER: total},
    )
    return Taken(workload, ratios)


def with_habits(taken: Taken, habits: Workload) -> Taken:
    """The studies of one workload with the reads, sites and growth of another."""
    update = {
        "name": f"{taken.workload.name}, read as in: {habits.name}",
        "reads": habits.reads,
        "sites": habits.sites,
        "growth_percent_per_year": habits.growth_percent_per_year,
    }
    return Taken(taken.workload.model_copy(update=update), taken.ratios)


def _key(group: Group) -> str:
    return group.key or UNKNOWN


def _of_group(group: Group, days: int) -> Modality:
    studies = max(1, group.studies)
    return Modality(
        studies_per_day=studies / days,
        bytes_per_study=group.raw_bytes / studies,
        instances_per_study=group.instances / studies,
    )


def encodings(group: Group) -> dict[str, Encoding]:
    """Presets by the ratios and times of the formats that stand for them, where they were measured."""
    found = {preset: _first(group, keys) for preset, keys in _FORMATS.items()}
    return {preset: _encoding(one) for preset, one in found.items() if one is not None}


def _first(group: Group, keys: Sequence[str]) -> FormatResult | None:
    """The first format among the keys that was measured."""
    measured = {result.format: result for result in group.formats if result.instances}
    return next((measured[key] for key in keys if key in measured), None)


def _encoding(result: FormatResult) -> Encoding:
    """What a format cannot hold stays as it is, and takes no time."""
    return Encoding(
        ratio=result.ratio.value,
        encode_seconds_per_gb=result.held * (result.encode_seconds_per_gb or 0),
        decode_seconds_per_gb=result.held * (result.decode_seconds_per_gb or 0),
    )
