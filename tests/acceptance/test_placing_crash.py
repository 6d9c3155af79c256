"""Killed at any step of a move between tiers, an archive holds everything, and the move can be done again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings
from tiered import given_back, take_in, tiers

STEPS = ("read", "copied", "recorded", "committed", "moved", "swept")
INSTANCES = 3
RANDOM_KILLS = int(os.environ.get("LEANPACS_TEST_KILLS", "4"))

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def settings_of(folder: Path, warm: dict[str, Any]) -> dict[str, Any]:
    return {
        "storage": {"minimum_free_bytes": 0},
        "delete": {"grace_seconds": 0},
        "tiers": {
            "warm": {**warm, "copies": ["second"]},
            "second": {"kind": "local", "url": str(folder / "second")},
        },
    }


@pytest.fixture(params=["local", "s3"])
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings with a warm tier that has a copy."""
    if request.param == "s3":
        return settings_of(tmp_path, request.getfixturevalue("s3_server").options(kind="s3"))
    return settings_of(tmp_path, {"kind": "local", "url": str(tmp_path / "warm")})


def filled(folder: Path, settings: dict[str, Any]) -> dict[str, bytes]:
    contents = [data.make_instance(data.Recipe(instance=number)) for number in range(INSTANCES)]
    with open_archive(folder, Settings(**settings)) as archive:
        return {take_in(archive, content): content for content in contents}


def child(folder: Path, settings: dict[str, Any], step: str, count: int) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("place_child.py")
    command = [sys.executable, str(script), str(folder), json.dumps(settings), step, str(count), "warm"]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def is_sound(archive: Archive, held: dict[str, bytes]) -> None:
    """Everything is given back, every blob that is named is whole, and nothing else is left after a sweep."""
    for uid, content in held.items():
        assert given_back(archive, uid) == content
    named = {store.tier: set() for store in archive.stores}
    for ref in archive.catalog.all_blob_refs():
        named[ref.tier].add(ref.digest)
    for store in archive.stores:
        for digest in named[store.tier]:
            if store.exists(digest):
                store.check(digest)


def is_finished(archive: Archive, held: dict[str, bytes]) -> None:
    """A last move and sweep leave each instance once on each tier that it belongs to, and no orphan."""
    for uid in held:
        (instance,) = archive.catalog.instances(sop_uid=uid)
        archive.placer().move(archive.catalog.representations(instance.id), archive.stores.others[0].tier)
        assert tiers(archive, uid) == ["second", "warm"]
        assert given_back(archive, uid) == held[uid]
    deleter = archive.deleter()
    deleter.sweep(datetime.now(UTC))
    time.sleep(1.1)  # S3 tells times in seconds
    deleter.sweep_orphans(datetime.now(UTC))
    assert list(archive.store.list()) == []
    sizes = [len(list(store.list())) for store in archive.stores.others]
    assert sizes == [len(held), len(held)]


EACH_STEP = [("local", step) for step in STEPS] + [("s3", step) for step in ("copied", "recorded", "committed")]


@pytest.mark.parametrize(("settings", "step"), EACH_STEP, indirect=["settings"])
def test_killed_at_each_step(tmp_path: Path, settings: dict[str, Any], step: str) -> None:
    folder = tmp_path / "archive"
    held = filled(folder, settings)
    killed = child(folder, settings, step, 2)
    _, told = killed.communicate(timeout=120)
    assert killed.returncode == -9, told.decode()
    with open_archive(folder, Settings(**settings)) as archive:
        is_sound(archive, held)
        is_finished(archive, held)


def test_killed_at_any_time(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder, chance = tmp_path / "archive", random.Random(7)
    held = filled(folder, settings)
    for _ in range(RANDOM_KILLS):
        moving = child(folder, settings, "never", 1)
        try:
            _, told = moving.communicate(timeout=chance.uniform(0.5, 4.0))
            assert moving.returncode == 0, told.decode()
        except subprocess.TimeoutExpired:
            moving.kill()
            moving.communicate()
        with open_archive(folder, Settings(**settings)) as archive:
            is_sound(archive, held)
            hot = archive.stores.hot.tier
            for uid in held:  # back again, so that the next one has something to do
                (instance,) = archive.catalog.instances(sop_uid=uid)
                archive.placer().move(archive.catalog.representations(instance.id), hot)
                assert tiers(archive, uid) == ["hot"]
            archive.deleter().sweep(datetime.now(UTC))
    with open_archive(folder, Settings(**settings)) as archive:
        is_finished(archive, held)
