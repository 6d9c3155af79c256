"""The model against an archive that really grows: studies of simulated days, landed, settled and counted on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake import ingest
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.config import Settings
from leanpacs.report import examples
from leanpacs.report.policies import Policy, Representation
from leanpacs.report.simulate import Assumptions, project
from leanpacs.report.sources import HELD, from_archive

FIRST = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday
KNOWN_DAYS = 28
MONTH_ENDS = (30, 61)  # days of the first two months of a projection

HELD_AS_IS = Policy(name="as it is", compute="own-core", representations=(Representation(preset=HELD),))

TOLERANCE = 0.05
"""How far a projection over two months may be off what is then really held: docs/explanation/simulator.md states it."""


class Inline(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


class Clock:
    """Stands for the class datetime where arrivals are dated."""

    def __init__(self) -> None:
        self.day = 0

    def now(self, _: object) -> datetime:
        return FIRST + timedelta(days=self.day)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ingest, "datetime", made)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, Settings(storage={"minimum_free_bytes": 0})) as opened:
        yield opened


def studies_of(day: int) -> Iterator[data.Recipe]:
    """Instances of a day: more on some weekdays than on others, none on Sundays; CT of two sizes, MR, US."""
    weekday, week = day % 7, day // 7
    for number in range((3, 2, 2, 3, 2, 1, 0)[weekday]):
        kind = (day + number + week) % 3
        study = day * 10 + number
        for instance in range((3, 2, 1)[kind]):
            yield (
                data.Recipe(modality="CT", rows=64 + 16 * (study % 2), columns=64, study=study, instance=instance),
                data.Recipe(modality="MR", rows=96, columns=64, bits_stored=10, study=study, instance=instance),
                data.Recipe(modality="US", rows=48, columns=80, samples=3, bits_allocated=8, bits_stored=8,
                            study=study, instance=instance),
            )[kind]  # fmt: skip


def incoming(archive: Archive, recipe: data.Recipe) -> Incoming:
    content = data.make_instance(recipe)
    path = archive.spool_folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return Incoming(path, "SCANNER", "import")


def take_in(archive: Archive, clock: Clock, days: range) -> None:
    for day in days:
        clock.day = day
        archive.land_many([incoming(archive, recipe) for recipe in studies_of(day)])
    settler = Settler(
        archive.store, archive.catalog, archive.settings.settle, limit_inflated_bytes=1 << 30, executor=Inline
    )
    settler.drain()


def test_a_projection_is_what_the_archive_then_holds(archive: Archive, clock: Clock) -> None:
    take_in(archive, clock, range(KNOWN_DAYS))
    past = archive.catalog.arrivals()
    before = archive.catalog.summary().total
    taken = from_archive(past, examples.ratios(), days=KNOWN_DAYS)
    found = project(HELD_AS_IS, Assumptions(taken.workload, taken.ratios, examples.prices(), 1))
    assert found.raw[0] == pytest.approx(before.raw_bytes)
    assert found.stored["hot"][0] == pytest.approx(before.stored_bytes)
    begin = KNOWN_DAYS
    for month, end in enumerate(MONTH_ENDS, 1):
        take_in(archive, clock, range(begin, KNOWN_DAYS + end))
        begin = KNOWN_DAYS + end
        held = archive.catalog.summary().total
        assert found.raw[month] == pytest.approx(held.raw_bytes, rel=TOLERANCE)
        assert found.stored["hot"][month] == pytest.approx(held.stored_bytes, rel=TOLERANCE)
        grown = held.stored_bytes - before.stored_bytes
        assert found.stored["hot"][month] - found.stored["hot"][0] == pytest.approx(grown, rel=2 * TOLERANCE)


def test_the_past_of_an_archive_is_told_by_day_and_modality(archive: Archive, clock: Clock) -> None:
    take_in(archive, clock, range(14))
    past = archive.catalog.arrivals()
    recipes = [(day, recipe) for day in range(14) for recipe in studies_of(day)]
    expected = {((FIRST + timedelta(days=day)).date(), recipe.modality) for day, recipe in recipes}
    assert {(one.day, one.modality) for one in past} == expected
    assert sum(one.instances for one in past) == len(recipes)
    assert sum(one.studies for one in past) == len({recipe.study for _, recipe in recipes})
    total = archive.catalog.summary().total
    assert sum(one.raw_bytes for one in past) == total.raw_bytes
    assert sum(one.stored_bytes for one in past) == total.stored_bytes
    assert [one.day for one in past] == sorted(one.day for one in past)
    ct = [one for one in past if one.modality == "CT"]
    taken = from_archive(past, examples.ratios()).workload.modality["CT"]
    assert taken.studies_per_day * 13 == pytest.approx(sum(one.studies for one in ct)), "Monday to Saturday next week"
    assert taken.instances_per_study == pytest.approx(3)
