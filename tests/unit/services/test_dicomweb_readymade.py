from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from data import Recipe, make_instance
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.catalog import InstanceRow, Query
from leanpacs.config import Settings
from leanpacs.services.dicomweb import readymade
from leanpacs.services.dicomweb.readymade import SERVICE, compressed_metadata, expanded, make_ready
from leanpacs.services.dicomweb.warming import Warmer
from unit.services.dicomweb_fakes import FakeArchive

URL = 'http://archive.test/"dicom-web'


class Remembering:
    """A cache that keeps everything."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def fetch(self, key: str, make: Any) -> bytes:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


class Models:
    """Counts how often each instance was read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, rows: Sequence[InstanceRow]) -> Iterator[dict[str, Any]]:
        for row in rows:
            self.read.append(row.sop_uid)
            yield {"00080018": {"vr": "UI", "Value": [row.sop_uid]}, "7FE00010": {"BulkDataURI": f"{SERVICE}/x"}}


@pytest.fixture
def rows(tmp_path: Path) -> list[InstanceRow]:
    archive = FakeArchive(tmp_path)
    return [archive.hold(Recipe(instance=number, rows=1, columns=1)) for number in range(400)]


def _body(rows: list[InstanceRow], models: Models, cache: Remembering, etag: str = "one") -> list[dict[str, Any]]:
    return orjson.loads(expanded(compressed_metadata(rows, etag, models, cache, URL)))


def test_body_has_all_instances_and_the_address_that_the_client_knows(rows: list[InstanceRow]) -> None:
    found = _body(rows, Models(), Remembering())
    assert [one["00080018"]["Value"][0] for one in found] == [row.sop_uid for row in rows]
    assert {one["7FE00010"]["BulkDataURI"] for one in found} == {f"{URL}/x"}


def test_what_was_made_ready_is_not_read_again(rows: list[InstanceRow]) -> None:
    models, cache = Models(), Remembering()
    make_ready(rows, models, cache)
    assert len(models.read) == len(rows)
    _body(rows, models, cache)
    assert len(models.read) == len(rows)


@pytest.mark.parametrize("place", [0, 150, 399])
def test_an_arrival_has_only_its_neighbours_read_again(rows: list[InstanceRow], place: int) -> None:
    models, cache = Models(), Remembering()
    arrived = rows.pop(place)
    make_ready(rows, models, cache)
    models.read.clear()
    rows.insert(place, arrived)
    found = _body(rows, models, cache)
    assert [one["00080018"]["Value"][0] for one in found] == [row.sop_uid for row in rows]
    assert arrived.sop_uid in models.read
    assert len(models.read) < len(rows)


def test_series_are_not_mixed(rows: list[InstanceRow]) -> None:
    models, cache = Models(), Remembering()
    first, second = rows[:50], [replace(row, series_id=2) for row in rows[50:100]]
    make_ready(second, models, cache)
    models.read.clear()
    _body([*first, *second], models, cache)
    assert models.read == [row.sop_uid for row in first]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0})) as found:
        yield found


def _land(archive: Archive, folder: Path, *recipes: Recipe) -> None:
    for recipe in recipes:
        path = folder / "incoming"
        path.write_bytes(make_instance(recipe))
        archive.land(Incoming(path, "test", "import", stays=True))


def test_one_process_of_a_host_makes_ready_and_another_takes_its_place(archive: Archive, tmp_path: Path) -> None:
    lock, turns = tmp_path / "cache" / "warming.lock", [ExitStack(), ExitStack()]
    first, second = Warmer(archive, lock=lock), Warmer(archive, lock=lock)
    assert first.is_our_turn(turns[0])
    assert not second.is_our_turn(turns[1])
    turns[0].close()
    assert second.is_our_turn(turns[1])
    turns[1].close()
    assert Warmer(archive).is_our_turn(turns[0])


def test_series_that_has_come_to_rest_is_made_ready(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr(readymade, "make_ready", lambda rows, *_: made.append([row.sop_uid for row in rows]))
    one, two, alone = Recipe(instance=1), Recipe(instance=2), Recipe(series=5, instance=3)
    _land(archive, tmp_path, one)
    warmer = Warmer(archive, quiet_seconds=3)
    stop = threading.Event()
    _land(archive, tmp_path, two, alone)
    warmer.turn(100, stop)
    warmer.turn(102, stop)
    assert made == []
    warmer.turn(103, stop)
    assert made == [[one.sop_uid, two.sop_uid]]  # one instance is made as fast as it is found
    warmer.turn(200, stop)
    assert len(made) == 1


def test_settling_comes_first_while_much_is_waiting(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []
    monkeypatch.setattr(readymade, "make_ready", lambda rows, *_: made.append([row.sop_uid for row in rows]))
    recipes = [Recipe(instance=1), Recipe(instance=2)]
    content = [make_instance(recipe) for recipe in recipes]
    warmer = Warmer(archive, quiet_seconds=0, most_waiting_bytes=len(content[0]))
    stop = threading.Event()
    _land(archive, tmp_path, *recipes)
    warmer.turn(100, stop)
    warmer.turn(200, stop)
    assert made == []
    archive.settler().drain()
    warmer.turn(300, stop)
    assert made == [[recipe.sop_uid for recipe in recipes]]


def test_what_searches_for_all_attributes_return_is_made_ready(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmer, stop = Warmer(archive, quiet_seconds=0), threading.Event()
    recipes = [Recipe(study=1, series=number % 2, instance=number) for number in range(4)]
    recipes += [Recipe(study=2, instance=8), Recipe(study=2, instance=9), Recipe(study=3, instance=10)]
    _land(archive, tmp_path, *recipes)
    warmer.turn(100, stop)
    warmer.turn(100, stop)

    def read(*_: object) -> None:
        raise AssertionError("a header is read")

    monkeypatch.setattr(archive.retriever, "metadata", read)
    studies = archive.catalog.find_studies(Query("study"))
    for one, common in zip(studies, archive.searcher.common(studies), strict=True):
        assert common["00100020"]["Value"] == [one.patient.patient_id]
        assert ("00200013" in common) == (one.number_of_instances == 1)
    series = archive.catalog.find_series(Query("series"))
    assert len(series) == 4
    assert all(common["0020000E"]["Value"] for common in archive.searcher.common(series))
    assert [set(common) for common in archive.searcher.common(series, ["00080060"])] == [{"00080060"}] * 4
    monkeypatch.undo()
    _land(archive, tmp_path, Recipe(study=2, instance=11, modality="MR"))
    (later,) = (common for common in archive.searcher.common(studies) if common["00100020"]["Value"] == ["P2"])
    assert "00080060" not in later
