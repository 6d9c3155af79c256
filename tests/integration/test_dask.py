"""Lifecycle work on a real Dask cluster: a scheduler and workers in processes of their own, one of which is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import data
from ageing import Clock, given_back, taken_in
from leanpacs.archive.archive import open_archive
from leanpacs.config import Settings
from leanpacs.errors import ConfigError
from leanpacs.lifecycle.executor import make_executor
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'leanpacs[dask]'")

RECIPES = [data.Recipe(modality="CT", instance=n, seed=n, rows=96, columns=96, signed=True) for n in range(1, 25)]
POLICY = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"preset": "jpegxl:7"}}]})

SCHEDULER = """
import asyncio, json, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(json.dumps(scheduler.address), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture
def scheduler() -> Iterator[str]:
    """Address of a scheduler that lives for one test."""
    command = [sys.executable, "-c", SCHEDULER]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


@pytest.fixture
def workers(scheduler: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Two workers, started by the installed command."""
    command = [sys.executable, "-m", "leanpacs", "worker", scheduler]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    try:
        for worker in started:
            assert worker.stdout is not None
            assert worker.stdout.readline().startswith("ready: worker=tcp://")
        yield started
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait(30)
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


def test_a_lost_worker_loses_no_work(tmp_path: Path, scheduler: str, workers: list[subprocess.Popen[str]]) -> None:
    settings = settings_for(scheduler)
    done = threading.Semaphore(0)
    with open_archive(tmp_path, settings) as archive:
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
        forms = [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]
        assert {form.codec for form in forms} == {"jpegxl"}
        assert len(forms) == len(RECIPES)


def test_a_scheduler_that_does_not_answer_is_said_so() -> None:
    with pytest.raises(ConfigError, match="does not answer"):
        make_executor(Settings(executor={"kind": "dask", "address": "tcp://127.0.0.1:1"}))
