"""A codec that ends its process harms the instance it was given, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import data
import hazards
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.retrieve import Retriever
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle import settler as settling
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import Kind
from leanpacs.config import Settings
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.workers import WorkerPool

SETTINGS = Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0}, workers={"decoders": 1})


class Sabotaged(Executor):
    """A pool in which what ``spoils`` chooses does harm."""

    def __init__(self, spoils: Any, harm: Any, *arguments: Any, **limits: Any) -> None:
        self.pool = WorkerPool(2, memory_limit_bytes=1 << 30, time_limit_seconds=60)
        self.spoils, self.harm, self.arguments, self.limits = spoils, harm, arguments, limits

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if args and self.spoils(args[0]):
            return self.pool.submit(self.harm, *self.arguments, **self.limits)
        return self.pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", SETTINGS) as opened:
        yield opened


def take_in(archive: Archive, content: bytes) -> str:
    path = archive.spool_folder / "incoming"
    path.write_bytes(content)
    return archive.land(Incoming(path, "TESTER", "import")).sop_uid


@pytest.mark.parametrize(
    ("count", "harm", "arguments", "limits"),
    [
        (6, hazards.segmentation_fault, (), {}),
        (24, hazards.segmentation_fault, (), {}),
        (6, hazards.hang, (), {"time_limit_seconds": 0.3}),
        (6, hazards.grow, (1 << 31,), {}),
    ],
    ids=["crash", "crash among others", "hang", "growth"],
)
def test_an_instance_that_no_worker_survives_is_packed_whole(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, count: int, harm: Any, arguments: Any, limits: Any
) -> None:
    monkeypatch.setattr(settling, "RETRY", timedelta(milliseconds=20))
    contents = {
        take_in(archive, content): content
        for content in (data.make_instance(data.Recipe(instance=number)) for number in range(count))
    }
    bad = list(contents)[2]
    harmed: list[str] = []

    def spoils(tasks: Any) -> bool:
        is_bad = any(task.facts.sop_uid == bad and not task.whole_because for task in tasks)
        harmed.extend([bad] * (is_bad and len(tasks) == 1))
        return is_bad

    settler = Settler(
        archive.store,
        archive.catalog,
        archive.settings.settle.model_copy(update={"workers": 2}),
        limit_inflated_bytes=1 << 30,
        executor=lambda: Sabotaged(spoils, harm, *arguments, **limits),
    )
    while archive.catalog.backlog().count:
        settler.drain()
    assert len(harmed) == settling.ATTEMPTS
    for uid, content in contents.items():
        (instance,) = archive.catalog.instances(sop_uid=uid)
        (held,) = archive.catalog.representations(instance.id)
        assert held.kind is Kind.PACK
        assert b"".join(archive.retriever.as_received(instance).chunks) == content


def test_a_frame_that_no_worker_survives_is_an_error_of_its_own(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe(transfer_syntax=data.JPEG_2000, frames=3)))
    (instance,) = archive.catalog.instances(sop_uid=uid)
    with Sabotaged(lambda task: task.number == 2, hazards.hang, time_limit_seconds=0.3) as sabotaged:
        retriever = Retriever(archive.stores, archive.catalog, limit_inflated_bytes=1 << 30, workers=sabotaged)
        first = retriever.frame(instance, 1, EXPLICIT_LE)
        with pytest.raises(UnsupportedTransferSyntax, match="frame 2") as raised:
            retriever.frame(instance, 2, EXPLICIT_LE)
        assert "not done within" in str(raised.value)
        assert retriever.frame(instance, 3, EXPLICIT_LE).data != first.data
        with pytest.raises(UnsupportedTransferSyntax, match="frame 2"):
            b"".join(retriever.part10(instance, EXPLICIT_LE).chunks)


def test_frames_are_the_same_in_workers_and_here(archive: Archive) -> None:
    for number, syntax in enumerate((data.JPEG_2000, data.JPEG_LS, data.HTJ2K, data.JPEG_XL, data.RLE)):
        recipe = data.Recipe(transfer_syntax=syntax, frames=2, instance=number)
        uid = take_in(archive, data.make_instance(recipe))
        (instance,) = archive.catalog.instances(sop_uid=uid)
        here = Retriever(archive.stores, archive.catalog, limit_inflated_bytes=1 << 30)
        there = archive.retriever
        assert there.frame(instance, 2, EXPLICIT_LE) == here.frame(instance, 2, EXPLICIT_LE)
        assert b"".join(there.part10(instance, EXPLICIT_LE).chunks) == b"".join(
            here.part10(instance, EXPLICIT_LE).chunks
        )
