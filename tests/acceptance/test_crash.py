"""Killed at any point, the archive has every acknowledged instance, and a restart cleans up the rest."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.verify import verify
from leanpacs.config import Settings
from serving import Server

CHILD = Path(__file__).with_name("crash_child.py")
SENDER = Path(__file__).with_name("crash_sender.py")
STEPS = (
    "read",
    "adopted",
    "recorded",
    "committed",
    "claimed",
    "encoded",
    "stored",
    "proven",
    "swapped",
    "swap committed",
    "landed form set aside",
    "landed form deleted",
)
SETTINGS = Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0})
ROUNDS = int(os.environ.get("LEANPACS_TEST_CRASH_ROUNDS", "5"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten small instances of several kinds."""
    folder = tmp_path_factory.mktemp("instances")
    kinds = [("CT", data.EXPLICIT_LE), ("MR", data.IMPLICIT_LE), ("US", data.RLE), ("SR", data.EXPLICIT_LE)]
    paths = []
    for number in range(10):
        modality, syntax = kinds[number % len(kinds)]
        kind = "none" if modality == "SR" else "integer"
        recipe = data.Recipe(modality=modality, transfer_syntax=syntax, kind=kind, instance=number, seed=number)
        path = folder / f"{number}.dcm"
        path.write_bytes(data.make_instance(recipe))
        paths.append(path)
    return paths


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_killed_between_two_steps(tmp_path: Path, files: list[Path], step: str, count: int) -> None:
    folder = tmp_path / "archive"
    command = [sys.executable, str(CHILD), str(folder), step, str(count), *map(str, files)]
    child = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=120)
    assert child.returncode == -signal.SIGKILL, "the step was never reached"
    acknowledged = child.stdout.decode().split()
    with open_archive(folder, SETTINGS) as archive:
        assert_sound(archive, acknowledged)
        archive.settler().drain()
        assert_sound(archive, acknowledged)


def assert_sound(archive: Archive, acknowledged: list[str]) -> None:
    """Every acknowledged instance is held and proven; nothing is there that is not named."""
    archive.deleter().sweep_orphans(datetime.now(UTC))
    archive.deleter().sweep(datetime.now(UTC))
    held = {instance.sop_uid for instance in archive.catalog.all_instances()}
    assert set(acknowledged) <= held
    names = tuple(archive.store.kept_names())
    outcomes = [verify(archive.stores, names, check) for check in archive.verifier().checks(100)]
    assert len(outcomes) >= len(held)
    assert [outcome.problem for outcome in outcomes if outcome.problem] == []
    assert {stat.digest for stat in archive.store.list()} == {outcome.check.blob for outcome in outcomes}
    leftovers = [path for folder in ("tmp", "spool") for path in (archive.store.root / folder).iterdir()]
    assert leftovers == []


@pytest.mark.crash
@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_server_killed_at_random_under_load(tmp_path: Path) -> None:
    """SIGKILL to all processes of a server while it receives and settles, again and again on one archive."""
    chance = random.Random(20261122)
    folder = tmp_path / "archive"
    acknowledged: list[str] = []
    for number in range(ROUNDS):
        command = [sys.executable, str(SENDER), str(1000 * number)]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender,
            Server(folder, processes=1, workers=1) as server,
        ):
            print(server.host, server.port, server.ae_title, file=sender.stdin, flush=True)
            time.sleep(chance.uniform(0.2, 1.2))
            server.kill()
            with suppress(subprocess.TimeoutExpired):  # it may wait half a minute for an answer that never comes
                sender.wait(0.5)
            sender.kill()
            acknowledged += sender.communicate()[0].split()
    assert acknowledged, "nothing was acknowledged before the kills"
    with open_archive(folder, SETTINGS) as archive:
        assert_sound(archive, acknowledged)
        archive.settler().drain()
        assert_sound(archive, acknowledged)
