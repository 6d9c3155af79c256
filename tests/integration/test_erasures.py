"""What was deleted goes from packs that others share, too, whatever has happened to these meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import data
from ageing import Clock, aged, given_back, inline, taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.seriespack import SeriesPack, is_series_pack
from leanpacs.config import Settings
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle

RECIPES = [data.Recipe(instance=number, rows=128, columns=128) for number in range(8)]
GONE = RECIPES[3].sop_uid
GRACE = timedelta(days=10)


def policy(**effects: Any) -> Policy:
    return Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": effects}]})


PACKED = policy(preset="zstd:3", pack="series")
WARM = policy(preset="zstd:3", pack="series", tier="warm")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        settle={"preset": "zstd:1"},
        delete={"grace_seconds": GRACE.total_seconds()},
        lifecycle={"replaced_grace_seconds": 0},
        tiers={"warm": {"kind": "local", "url": str(tmp_path / "warm")}},
    )
    with open_archive(tmp_path / "archive", settings) as opened:
        yield opened


def in_packs(archive: Archive) -> dict[str, int]:
    """In how many series packs of all stores each instance is."""
    found: dict[str, int] = {}
    for store in archive.stores:
        for stat in store.list():
            with store.open(stat.digest) as file:
                for member in SeriesPack(file) if is_series_pack(file) else ():
                    found[member.manifest.sop_uid] = found.get(member.manifest.sop_uid, 0) + 1
    return found


def is_gone(archive: Archive, gone: str, wanted: Policy, clock: Clock, received: dict[str, bytes]) -> None:
    """Once the grace is over, nothing is left of what was deleted, and the others are in one pack as before."""
    clock.turn_to(GRACE.days + 1)
    aged(archive, wanted, clock)
    archive.deleter().sweep(clock() + GRACE)  # what was moved stays where it was for as long
    assert in_packs(archive) == dict.fromkeys(set(received) - {gone}, 1)
    assert given_back(archive) == {uid: content for uid, content in received.items() if uid != gone}


def test_from_a_pack_that_is_moved_before_the_grace_is_over(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    aged(archive, PACKED, clock)
    assert in_packs(archive) == dict.fromkeys(received, 1)
    archive.deleter().delete(sop_uid=GONE, actor="tester", reason="trial")
    clock.turn_to(GRACE.days / 2)
    aged(archive, WARM, clock)
    forms = [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]
    assert {form.blob.tier for form in forms} == {"warm"}
    assert GONE in in_packs(archive)
    is_gone(archive, GONE, WARM, clock, received)


def test_from_a_pack_that_was_being_made(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])

    def step(name: str) -> None:
        if name == "gather: proven" and GONE in {one.sop_uid for one in archive.catalog.all_instances()}:
            archive.deleter().delete(sop_uid=GONE, actor="tester", reason="trial")

    aged(archive, PACKED, clock, step=step)
    is_gone(archive, GONE, PACKED, clock, received)


def test_from_a_pack_that_it_has_left_for_another_form(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    aged(archive, PACKED, clock)
    clock.turn_to(1)
    Lifecycle(archive, policy(preset="jpegxl:3"), now=clock, executor=inline).run(most_tasks=1)
    forms = {one.sop_uid: archive.catalog.representations(one.id) for one in archive.catalog.all_instances()}
    (gone,) = (uid for uid, [form] in forms.items() if form.size_bytes == form.blob.size_bytes)
    assert in_packs(archive)[gone] == 1
    archive.deleter().delete(sop_uid=gone, actor="tester", reason="trial")
    is_gone(archive, gone, PACKED, clock, received)
