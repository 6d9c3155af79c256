"""Compare projections with an archive that grows: real images, simulated days, what was projected, what was stored.

Runs ``leanpacs import`` for each simulated day on a load made by the benchmarks (``LEANPACS_TEST_DATA`` or the bundled
images), takes the workload from the archive after the first days, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

import benchmarks.load
from benchmarks.load import Instance, Kind, be_quiet, default_sources, make_load

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake import ingest
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.report import examples
from leanpacs.report.policies import Policy, Representation
from leanpacs.report.simulate import Assumptions, project
from leanpacs.report.sources import HELD, from_archive

FIRST = datetime(2026, 3, 2, 9, tzinfo=UTC)
MONTH_ENDS = (30, 61)
SMALL = (
    Kind("CT", ("CT",), 0.40, 1, 8),
    Kind("MR", ("MR",), 0.15, 2, 6),
    Kind("CR", ("CR", "DX"), 0.15, 1, 1),
    Kind("US", ("US",), 0.05, 1, 5),
    Kind("MG", ("MG",), 0.25, 1, 1),
)
"""As the benchmarks' load, in studies of a few images."""


def main() -> None:
    """Fill, project, fill on, compare."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--known", type=int, default=28, help="days from which the workload is taken")
    arguments.add_argument("--megabytes", type=float, default=1200, help="native bytes of the whole load")
    given = arguments.parse_args()
    be_quiet()
    folder = Path(tempfile.mkdtemp(prefix="leanpacs-growth-"))
    try:
        # Small studies, so that there are many: a projection from a handful of large ones would measure chance.
        with mock.patch.object(benchmarks.load, "KINDS", SMALL):
            load = make_load(default_sources(), folder / "load", given.megabytes)
        days = _spread(list(load.studies().values()), given.known + MONTH_ENDS[-1])
        with open_archive(folder / "archive") as archive:
            _compare(archive, days, given.known)
    finally:
        shutil.rmtree(folder)


def _spread(studies: list[list[Instance]], days: int) -> list[list[Instance]]:
    """Spread the studies of each modality evenly over the weekdays, each a bit off its turn by chance."""
    chance = random.Random(20_261_122)
    weekdays = [day for day in range(days) if day % 7 < 5]
    spread: list[list[Instance]] = [[] for _ in range(days)]
    for modality in sorted({study[0].modality for study in studies}):
        alike = [study for study in studies if study[0].modality == modality]
        chance.shuffle(alike)
        for number, study in enumerate(alike):
            spread[weekdays[int((number + chance.random()) * len(weekdays) / len(alike))]] += study
    return spread


def _compare(archive: Archive, days: Sequence[Sequence[Instance]], known: int) -> None:
    _take_in(archive, days, range(known))
    taken = from_archive(archive.catalog.arrivals(), examples.ratios(), days=known)
    given = Assumptions(taken.workload, taken.ratios, examples.prices(), 1)
    projections = {preset: project(_policy(preset), given) for preset in (HELD, "fast")}
    print("| days | received, MB | projected | off | stored, MB | projected | off | with the shipped ratios | off |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    begin = known
    for month, end in enumerate(MONTH_ENDS, 1):
        _take_in(archive, days, range(begin, known + end))
        begin = known + end
        held = archive.catalog.summary().total
        cells = [f"{known + end}", f"{held.raw_bytes / 1e6:.1f}"]
        for projected, real in (
            (projections[HELD].raw[month], held.raw_bytes),
            (projections[HELD].stored["hot"][month], held.stored_bytes),
            (projections["fast"].stored["hot"][month], held.stored_bytes),
        ):
            if real is held.stored_bytes and len(cells) == 4:
                cells.append(f"{held.stored_bytes / 1e6:.1f}")
            cells += [f"{projected / 1e6:.1f}", f"{projected / real - 1:+.1%}"]
        print(f"| {' | '.join(cells)} |")


def _policy(preset: str) -> Policy:
    return Policy(name=preset, compute="own-core", representations=(Representation(preset=preset),))


def _take_in(archive: Archive, days: Sequence[Sequence[Instance]], which: range) -> None:
    for day in which:
        at = FIRST + timedelta(days=day)
        batch = [_incoming(archive, instance) for instance in days[day]]
        with mock.patch.object(ingest, "datetime", mock.Mock(now=lambda _, at=at: at)):
            archive.land_many(batch)
    archive.settler().drain()


def _incoming(archive: Archive, instance: Instance) -> Incoming:
    path = archive.spool_folder / hashlib.sha256(instance.sop_uid.encode()).hexdigest()
    shutil.copyfile(instance.path, path)
    return Incoming(path, "SCANNER", "import")


if __name__ == "__main__":
    main()
