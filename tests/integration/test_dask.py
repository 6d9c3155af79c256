"""Lifecycle work on a real Dask cluster: a scheduler and workers in processes of their own, one of which is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import data
import hazards
from ageing import Clock, given_back, taken_in
from deployment import SCHEDULER
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.catalog import RepresentationRow
from leanpacs.config import Settings, WorkerSettings
from leanpacs.errors import ConfigError
from leanpacs.lifecycle.executor import DaskExecutor
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from ports import free_port

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'leanpacs[dask]'")

RECIPES = [data.Recipe(modality="CT", instance=n, seed=n, rows=96, columns=96, signed=True) for n in range(1, 25)]
POLICY = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"preset": "jpegxl:7"}}]})


def knowing_hazards() -> dict[str, str]:
    """An environment in which tasks of tests are found."""
    known = [str(Path(hazards.__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))}


@contextmanager
def running_scheduler(port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler and its address."""
    command = [sys.executable, "-c", SCHEDULER, str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=knowing_hazards()
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


@contextmanager
def running_workers(scheduler: str, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers, started by the installed command."""
    command = [sys.executable, "-m", "leanpacs", "worker", scheduler]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, env=knowing_hazards(), **options) for _ in range(number)]
    try:
        for worker in started:
            assert worker.stdout is not None
            assert worker.stdout.readline().startswith("ready: worker=tcp://")
        yield started
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait(120)
            assert worker.stdout is not None
            worker.stdout.close()


def settings_for(scheduler: str) -> Settings:
    """Settings with the executor on Dask."""
    return Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        settle={"preset": "zstd:1"},
        lifecycle={"replaced_grace_seconds": 0},
        executor={"kind": "dask", "address": scheduler},
    )


def forms(archive: Archive) -> list[RepresentationRow]:
    """All stored forms."""
    return [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]


def test_a_lost_worker_loses_no_work(tmp_path: Path) -> None:
    done = threading.Semaphore(0)
    with (
        running_scheduler() as (_, address),
        running_workers(address, 2) as workers,
        open_archive(tmp_path, settings_for(address)) as archive,
    ):
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        lifecycle = Lifecycle(archive, POLICY, now=Clock())
        outcome: list[Any] = []
        running = threading.Thread(target=lambda: outcome.append(lifecycle.run(told=lambda _: done.release())))
        running.start()
        for _ in range(3):
            assert done.acquire(timeout=120)
        workers[0].kill()
        running.join(240)
        assert not running.is_alive()
        (report,) = outcome
        assert report.outcomes == {("recompress jpegxl:7", "done"): len(RECIPES)}
        assert given_back(archive) == received
        archive.deleter().sweep_orphans(Clock()())
        assert [form.codec for form in forms(archive)] == ["jpegxl"] * len(RECIPES)


def test_a_lost_scheduler_ends_a_run_and_work_goes_on_with_the_next_one(tmp_path: Path) -> None:
    clock, port = Clock(), free_port()
    with ExitStack() as stack:
        scheduler, address = stack.enter_context(running_scheduler(port))
        stack.enter_context(running_workers(address, 1))
        archive = stack.enter_context(open_archive(tmp_path, settings_for(address)))
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        lifecycle = Lifecycle(archive, POLICY, now=clock)
        ended: list[str] = []

        def run() -> None:
            try:
                lifecycle.run(told=lambda _: scheduler.kill())  # when the first is done
            except ConfigError as error:
                ended.append(str(error))

        running = threading.Thread(target=run)
        running.start()
        running.join(240)
        assert not running.is_alive()
        assert "does not answer any more" in ended[0]
        assert given_back(archive) == received
        assert sum(form.codec == "jpegxl" for form in forms(archive)) < len(received)

        clock.turn_to(1)
        with pytest.raises(ConfigError, match="does not answer:"):
            lifecycle.run()

        stack.enter_context(running_scheduler(port))
        stack.enter_context(running_workers(address, 1))
        assert lifecycle.run().failed == 0
        assert {form.codec for form in forms(archive)} == {"jpegxl"}
        assert given_back(archive) == received


class Harmed(DaskExecutor):
    """A cluster on which tasks are run by what does harm to one of them; the first, begun alone, may have less time."""

    def __init__(self, settings: Settings, harm: Callable[..., Any], folder: Path, first_seconds: float) -> None:
        super().__init__(settings.executor, settings.workers, 1)
        self._harm, self._folder, self._others = harm, folder, self._limits
        self._limits = self._limits.model_copy(update={"instance_seconds": first_seconds})

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call, and do harm."""
        given = super().submit(self._harm, self._folder, fn, *args, **kwargs)
        self._limits = self._others
        return given


@pytest.mark.parametrize(
    ("harm", "seconds", "told"),
    [(hazards.flipping, 300.0, "VerificationError"), (hazards.hanging, 3.0, "WorkerTimeout")],
    ids=["flip", "hang"],
)
def test_a_codec_that_is_wrong_once_is_told_of(
    tmp_path: Path, harm: Callable[..., Any], seconds: float, told: str
) -> None:
    """Dask begins failed tasks anew; nobody would know what a codec got wrong, and who hangs would hang again."""
    folder = tmp_path / "harm"
    folder.mkdir()
    with running_scheduler() as (_, address), running_workers(address, 1):
        settings = settings_for(address).model_copy(update={"workers": WorkerSettings(instance_seconds=300.0)})
        with open_archive(tmp_path / "archive", settings) as archive:
            received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:4]])
            executor = Harmed(settings, harm, folder, seconds)
            report = Lifecycle(archive, POLICY, now=Clock(), executor=lambda: (executor, 1)).run()
            assert report.outcomes == {("recompress jpegxl:7", "failed"): 1, ("recompress jpegxl:7", "done"): 3}
            ((_, _, tried),) = archive.catalog.ageing.problems()
            assert told in tried.detail
            assert given_back(archive) == received
            assert sorted({form.codec for form in forms(archive)}) == ["jpegxl", "zstd"]
