"""A life from ``fast`` to its end, killed once at every step of every kind of work: nothing is lost, and it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import data
from ageing import taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.restoring import ask_for_study
from leanpacs.archive.settle.representing import dictionary_row
from leanpacs.config import Settings
from leanpacs.storage.dictionary import save, train
from soundness import holds_all, is_at_rest, is_consistent, is_whole

pytestmark = [pytest.mark.crash, pytest.mark.slow]

RECIPES = [
    *(data.Recipe(modality="CT", series=1, instance=n, seed=n, rows=96, columns=96) for n in range(1, 4)),
    *(data.Recipe(modality="MR", study=2, instance=n, seed=n, rows=96, columns=96, frames=2) for n in range(4, 6)),
    *(data.Recipe(modality="SR", study=n, instance=n, kind="none") for n in range(6, 9)),
]
POLICY: dict[str, Any] = {
    "name": "a life",
    "rules": [
        {"name": "dense", "when": {"unread_days": 30}, "then": {"preset": "jpegxl:7"}},
        {"name": "heads", "when": {"unread_days": 40}, "then": {"newest_dictionary": True}},
        {"name": "series", "when": {"unread_days": 60}, "then": {"pack": "series"}},
        {"name": "warm", "when": {"unread_days": 90}, "then": {"tier": "warm"}},
        {"name": "copy", "when": {"unread_days": 120}, "then": {"copies": "second"}},
        {"name": "cold", "when": {"unread_days": 365}, "then": {"tier": "cold", "copies": []}},
        {
            "name": "read again",
            "when": {"read_within_days": 7},
            "then": {"preset": "jpegxl:7", "keep_fast": True, "tier": "cold", "pack": "series"},
        },
        {"name": "apart", "when": {"unread_days": 1200}, "then": {"pack": "instance"}},
        {"name": "end", "then": {"delete_after_days": 3650}},
    ],
}

ENCODED = ("claimed", "encoded", "compared", "durable", "proven", "swapped", "swap committed")
COPIED = ("read", "copied", "recorded", "committed")
COMMITTED = ("claimed", "proven", "swapped", "swap committed")
STEPS = {
    *(f"{task}: {step}" for task in ("recompress", "rehead", "gather", "warm", "separate") for step in ENCODED),
    *(f"place: {step}" for step in (*COMMITTED, *COPIED)),
    *(f"restore: {step}" for step in COPIED),
    *(f"drop: {step}" for step in COMMITTED),
    *(f"expire: {step}" for step in (*COMMITTED, "deleted")),
    *(f"scrub: {step}" for step in ("damaged bytes deleted", "repaired bytes durable")),
    *(f"scrub: {step}" for step in ("encoded", "compared", "durable", "swapped", "swap committed")),
    *(f"{sweep}: {step}" for sweep in ("sweep", "orphans") for step in ("set aside", "forgotten")),
}


@dataclass(frozen=True)
class Stage:
    """A day, and what happens to the archive before."""

    day: float
    before: Callable[[Archive, datetime], None] = lambda archive, now: None
    damages: bool = False


def new_dictionary(archive: Archive, now: datetime) -> None:
    """A dictionary that knows these heads better than any other does."""
    heads = [data.make_instance(recipe)[:1500] for recipe in RECIPES[:3]] * 10
    dictionary = train(heads, scope=RECIPES[0].sop_class, version=99)
    save(archive.store, dictionary)
    with archive.catalog.writing() as transaction:
        transaction.add_dictionary(dictionary_row(dictionary))


def damaged_copy(archive: Archive, now: datetime) -> None:
    """A byte of a blob on the second tier is another one."""
    store = archive.stores.at("second")
    digest = min(stat.digest for stat in store.list())
    (path,) = store.spool_folder().parent.rglob(digest.hex)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.chmod(0o640)
    path.write_bytes(content)


def lost_fast_form(archive: Archive, now: datetime) -> None:
    """A blob on the hot tier has gone; the small form is on another one."""
    archive.store.delete(min(stat.digest for stat in archive.store.list()))


def asked_back(archive: Archive, now: datetime) -> None:
    """Somebody wants a study that sleeps."""
    assert ask_for_study(archive.stores, archive.catalog, RECIPES[0].study_uid, now) > 0


def read_again(archive: Archive, now: datetime) -> None:
    """Everything has been read."""
    with archive.catalog.writing() as transaction:
        transaction.ageing.note_reads({one.series_id: (1, now) for one in archive.catalog.all_instances()})


LIFE = (
    Stage(31),
    Stage(41, new_dictionary),
    Stage(61),
    Stage(91),
    Stage(121),
    Stage(122, damaged_copy, damages=True),
    Stage(366),
    Stage(367, asked_back),
    Stage(380),
    Stage(381, read_again),
    Stage(382, lost_fast_form, damages=True),
    Stage(800),
    Stage(1600),
    Stage(3651),
)


class LifeServer:
    """Processes in which an archive lives; see life_server.py."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("life_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def live(self, asked: dict[str, Any]) -> tuple[int, str]:
        """Exit code of the process that did what was asked, and the step at which it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        died = ""
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "end":
                return int(rest), died
            died = rest
        raise AssertionError("the server has ended")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def lives() -> Iterator[LifeServer]:
    server = LifeServer()
    yield server
    server.close()


def settings_of(folder: Path, **more: Any) -> dict[str, Any]:
    local = {name: {"kind": "local", "url": str(folder / name)} for name in ("warm", "second")}
    cold = {"kind": "archive", "url": str(folder / "cold"), "restore_days": 7}
    return {
        "storage": {"minimum_free_bytes": 0},
        "delete": {"grace_seconds": 0},
        "settle": {"preset": "zstd:1"},
        "lifecycle": {"replaced_grace_seconds": 0},
        **more,
        "tiers": {**local, "cold": cold, **more.get("tiers", {})},
    }


def test_on_sqlite_and_local_disks(tmp_path: Path, lives: LifeServer) -> None:
    lived(tmp_path, settings_of(tmp_path), lives)


@pytest.mark.skipif(
    not os.environ.get("LEANPACS_TEST_EVERY_STEP"), reason="LEANPACS_TEST_EVERY_STEP is not set: this takes a minute"
)
def test_on_postgresql_and_s3(tmp_path: Path, lives: LifeServer, postgres_url: str, s3_server: Any) -> None:
    tiers = {
        "hot": s3_server.options(kind="s3"),
        "warm": s3_server.options(kind="s3"),
        "cold": s3_server.options(kind="archive", restore_days=7),
    }
    lived(tmp_path, settings_of(tmp_path, catalog={"url": postgres_url}, tiers=tiers), lives)


def lived(folder: Path, settings: dict[str, Any], lives: LifeServer) -> None:
    """Live through all stages, dying once at every step on the way."""
    folder /= "archive"
    with open_archive(folder, Settings(**settings)) as archive:
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    digests = {uid: hashlib.sha256(content).digest() for uid, content in received.items()}
    survived: list[str] = []
    for stage in LIFE:
        now = datetime.now(UTC) + timedelta(days=stage.day)
        is_last = stage is LIFE[-1]
        mortal = set(digests) if is_last else set()
        with open_archive(folder, Settings(**settings)) as archive:
            stage.before(archive, now)
        asked = {"data": str(folder), "settings": settings, "policy": POLICY, "day": stage.day}
        while (end := lives.live({**asked, "survived": survived}))[0] == -9:
            assert end[1] not in survived
            survived.append(end[1])
            with open_archive(folder, Settings(**settings)) as archive:
                holds_all(archive, digests, mortal)
                if not stage.damages:
                    is_consistent(archive)
        assert end == (0, ""), f"day {stage.day}"
        with open_archive(folder, Settings(**settings)) as archive:
            is_consistent(archive)
            is_whole(archive)
            holds_all(archive, digests, mortal)
            is_at_rest(archive, now + timedelta(days=2), most_forms=2)
            assert bool(list(archive.catalog.all_instances())) != is_last
    print(f"killed at {len(survived)} steps: {', '.join(survived)}")
    assert set(survived) >= STEPS, STEPS - set(survived)
