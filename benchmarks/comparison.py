"""The tables of the ingest benchmark: medians of the rounds, and LeanPACS beside the others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, Final

from benchmarks import senders
from benchmarks.ingest import DOORS, GZIP, Door, Run
from benchmarks.load import Load
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import ORTHANC_JPEGLS, ORTHANC_RAW, ORTHANC_ZLIB, PEERS, LeanPACS, Peer


@dataclass(frozen=True, slots=True)
class Median:
    """The medians of the rounds of one server at one door, and the range of what varies most."""

    server: str
    acknowledged: float
    settled: float
    settled_range: tuple[float, float]
    cpu_per_gb: float
    on_disk: float
    allocated: float
    peak_rss_bytes: float
    complete: bool


def medians(runs: Sequence[Run], door: Door) -> list[Median]:
    """Sum up the rounds, servers in the order in which they ran."""
    names = dict.fromkeys(run.server for run in runs if run.door == door.key)
    return [_median([run for run in runs if run.door == door.key and run.server == name]) for name in names]


def _median(runs: Sequence[Run]) -> Median:
    def middle(value: Callable[[Run], float]) -> float:
        return statistics.median(value(run) for run in runs)

    settled = [run.settled for run in runs]
    return Median(
        runs[0].server,
        middle(lambda run: run.acknowledged),
        middle(lambda run: run.settled),
        (min(settled), max(settled)),
        middle(lambda run: run.cpu_per_gb),
        middle(lambda run: run.on_disk),
        middle(lambda run: run.allocated_bytes / run.native_bytes),
        middle(lambda run: run.peak_rss_bytes),
        all(run.stored == run.instances and not run.problems for run in runs),
    )


def sheets(load: Load, runs: Sequence[Run], peers: Sequence[Peer] = PEERS) -> list[Sheet]:
    """The table of figures, and that of ratios."""
    rounds = max((run.round for run in runs), default=0)
    versions = [peer.version() for peer in peers if not peer.missing()]
    names = list(dict.fromkeys(versions))
    if senders.have_storescu():
        names.append(senders.storescu_version())
    disturbed = [run.disturbance for run in runs]
    notes = (
        of_machine(machine()),
        "; ".join(names) + ".",
        f"{len(load.instances)} instances, {load.size_bytes / 1e6:.0f} MB native ({_mixture(load)}); medians of "
        f"{rounds} rounds, the servers in turns; senders on the same cores.",
        f"Programs that were not part of it took {statistics.median(disturbed or [0]):.0%} of the machine "
        f"(median; at most {max(disturbed, default=0):.0%}).",
    )
    return [
        Sheet("Ingest", _HEADINGS, tuple(_figure_rows(runs)), notes),
        Sheet("Ingest, LeanPACS beside the others", _RATIO_HEADINGS, tuple(_ratio_rows(runs)), _RATIO_NOTES),
    ]


_HEADINGS: Final = (
    "door, server",
    "MB/s acknowledged",
    "MB/s settled",
    "least to most",
    "CPU s / GB",
    "on disk / native",
    "allocated / native",
    "peak RSS, MB",
)
_RATIO_HEADINGS: Final = (
    "door",
    "settled / JPEG-LS",
    "settled / zlib",
    "acknowledged / raw",
    "on disk / JPEG-LS",
    "on disk / zlib",
    "settled / gzip -6",
    "on disk / gzip -6",
)
_RATIO_NOTES: Final = (
    "Speeds of LeanPACS over those of Orthanc transcoding to JPEG-LS, Orthanc with zlib, Orthanc storing as received, "
    "and gzip -6 to disk; more is better. Targets: above 1, at least 2.5, at least 1.",
    "Bytes on disk likewise; less is better. Target: below 1.",
)


def _mixture(load: Load) -> str:
    counts: dict[str, int] = {}
    for instance in load.instances:
        counts[instance.modality] = counts.get(instance.modality, 0) + 1
    return ", ".join(f"{number} {modality}" for modality, number in counts.items())


def _figure_rows(runs: Sequence[Run]) -> Iterator[tuple[str, ...]]:
    for door in DOORS:
        found = medians(runs, door)
        if found:
            yield (f"**{door.name}**", *[""] * (len(_HEADINGS) - 1))
        for median in found:
            least, most = median.settled_range
            yield (
                median.server if median.complete else f"{median.server} (not all stored)",
                f"{median.acknowledged:.0f}",
                f"{median.settled:.0f}",
                f"{least:.0f} to {most:.0f}",
                f"{median.cpu_per_gb:.1f}",
                f"{median.on_disk:.3f}",
                f"{median.allocated:.3f}",
                f"{median.peak_rss_bytes / 1e6:.0f}" if median.peak_rss_bytes else "",
            )


def _ratio_rows(runs: Sequence[Run]) -> Iterator[tuple[str, ...]]:
    for door in DOORS:
        found = {median.server: median for median in medians(runs, door)}
        ours = found.get(LeanPACS().name)
        if ours is None or len(found) == 1:
            continue
        jpegls, zlib, raw = (found.get(peer.name) for peer in (ORTHANC_JPEGLS, ORTHANC_ZLIB, ORTHANC_RAW))
        gzip = found.get(GZIP)
        yield (
            door.name,
            _over(ours, jpegls, _settled),
            _over(ours, zlib, _settled),
            _over(ours, raw, _acknowledged),
            _over(ours, jpegls, _on_disk),
            _over(ours, zlib, _on_disk),
            _over(ours, gzip, _settled),
            _over(ours, gzip, _on_disk),
        )


_settled: Final = attrgetter("settled")
_acknowledged: Final = attrgetter("acknowledged")
_on_disk: Final = attrgetter("on_disk")


def _over(ours: Median, other: Median | None, value: Callable[[Median], float]) -> str:
    return f"{value(ours) / value(other):.2f}" if other else ""


def record(load: Load, runs: Sequence[Run]) -> Mapping[str, Any]:
    """Everything that was measured."""
    return {
        "machine": machine(),
        "versions": sorted({peer.version() for peer in PEERS if not peer.missing()}),
        "instances": len(load.instances),
        "native_bytes": load.size_bytes,
        "runs": [asdict(run) for run in runs],
    }
