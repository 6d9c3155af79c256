"""A codec that is wrong once in 500 frames, among thousands: each wrong pack is found, counted and reported."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import data
from ageing import Clock, aged, given_back, taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.manifest import Form
from leanpacs.archive.settle import packer
from leanpacs.config import Settings
from leanpacs.lifecycle.policy import Policy
from leanpacs.services.figures import gauges
from leanpacs.storage.dictionary import Compressor
from soundness import is_at_rest, is_consistent, is_whole

ONE_IN = 500
FRAMES = 50
RECIPES = [
    data.Recipe(
        modality="CT",
        series=n // 10,
        instance=n,
        seed=n,
        rows=48,
        columns=48,
        bits_allocated=8,
        bits_stored=8,
        frames=FRAMES,
    )
    for n in range(60)
]
DENSE = Policy.model_validate({"name": "dense", "rules": [{"name": "dense", "then": {"preset": "jpegxl:3"}}]})
EXTRA = {"settle": {"preset": "jpegxl:1"}, "lifecycle": {"replaced_grace_seconds": 0}, "delete": {"grace_seconds": 0}}


class Faults:
    """Flips the lowest bit of a sample in one of so many frames, at random, before a codec gets it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.frames = self.packs = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For as long as this lasts."""
        encode = packer.encode_frame
        frames = packer.Packer.frames

        def wrong(codec: Any, frame: bytes, *more: Any, **options: Any) -> bytes:
            self.frames += 1
            if self._chance.random() * ONE_IN < 1:
                self._flipped = True
                at = self._chance.randrange(len(frame) // 2) * 2
                frame = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
            return encode(codec, frame, *more, **options)

        def of_pack(*arguments: Any) -> Any:
            self._flipped = False
            made = frames(*arguments)
            self.packs += self._flipped
            return made

        with mock.patch.object(packer, "encode_frame", wrong), mock.patch.object(packer.Packer, "frames", of_pack):
            yield


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0}, **EXTRA)) as opened:
        yield opened


def counted(archive: Archive, task: str, outcome: str) -> int:
    """What the metrics say."""
    wanted = {"task": task, "outcome": outcome}
    found = [one for one in gauges(archive.status()) if one.name == "lifecycle_tasks"]
    return sum(int(one.value) for one in found if wanted.items() <= one.labels.items())


def whole(archive: Archive) -> list[str]:
    """Why instances are held whole."""
    forms = [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]
    return [form.reason for form in forms if form.form == Form.WHOLE]


def test_on_arrival(archive: Archive) -> None:
    faults = Faults(1)
    with faults.at_work():
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    assert faults.frames >= 5 * ONE_IN
    assert faults.packs > 1
    reasons = whole(archive)
    assert len(reasons) == faults.packs
    assert all("not exact when decoded back" in reason for reason in reasons)
    assert counted(archive, "settle", "failed") == faults.packs
    assert given_back(archive) == received
    is_whole(archive)


def test_while_made_dense(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:40]])
    originals = {stat.digest for stat in archive.store.list()}
    faults = Faults(2)
    with faults.at_work():
        report = aged(archive, DENSE, clock)
    assert faults.frames >= 3 * ONE_IN
    assert faults.packs > 2
    assert report.failed == faults.packs == counted(archive, "recompress jpegxl:3", "failed")
    problems = archive.catalog.ageing.problems()
    assert len({uid for uid, _, _ in problems}) == faults.packs
    assert all("VerificationError" in tried.detail for _, _, tried in problems)
    assert len({stat.digest for stat in archive.store.list()} & originals) >= faults.packs
    assert given_back(archive) == received
    is_consistent(archive)

    clock.turn_to(2)
    again = aged(archive, DENSE, clock)
    assert (again.failed, sum(again.outcomes.values())) == (0, faults.packs)
    assert archive.catalog.ageing.problems() == []
    is_at_rest(archive, clock())
    assert given_back(archive) == received


class WrongHeads:
    """Gets a byte of the File Meta Information wrong, before Zstandard does, the first time it is given a head."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For as long as this lasts."""
        compress = Compressor.compress

        def wrong(compressor: Compressor, content: bytes, *more: Any, **options: Any) -> bytes:
            start = bytes(content[:300])
            at = start.find(data.EXPLICIT_LE.encode())
            if at > 0 and start not in self.seen:
                self.seen.add(start)
                content = content[:at] + b"7" + content[at + 1 :]
            return compress(compressor, content, *more, **options)

        with mock.patch.object(Compressor, "compress", wrong):
            yield


def test_file_meta_that_is_compressed_wrongly_on_arrival(archive: Archive) -> None:
    """What stands before the data set is compared, too."""
    faults = WrongHeads()
    with faults.at_work():
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:3]])
    assert len(faults.seen) == len(whole(archive)) == 3
    assert given_back(archive) == received


@pytest.mark.parametrize(
    ("step", "then"), [("gather series", {"pack": "series"}), ("recompress jpegxl:3", {"preset": "jpegxl:3"})]
)
def test_file_meta_that_is_compressed_wrongly_later(archive: Archive, step: str, then: dict[str, str]) -> None:
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:3]])
    policy = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"preset": "jpegxl:1", **then}}]})
    clock, faults = Clock(), WrongHeads()
    with faults.at_work():
        report = aged(archive, policy, clock)
    tasks = 1 if step.startswith("gather") else 3
    assert report.outcomes == {(step, "failed"): tasks}
    assert given_back(archive) == received
    clock.turn_to(2)
    assert aged(archive, policy, clock).failed == 0
    assert given_back(archive) == received
    is_whole(archive)
