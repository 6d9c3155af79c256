"""Wrong codecs, lost workers, damaged blobs: nothing is lost, everything is found, counted and reported."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import data
import postgres_server
from ageing import Clock, aged, given_back, inline, taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.settle import packer
from leanpacs.config import Settings, WorkerSettings
from leanpacs.errors import CatalogUnavailable
from leanpacs.lifecycle.carrying import LEASE
from leanpacs.lifecycle.executor import local_pool
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from soundness import is_at_rest

DENSE = Policy.model_validate({"name": "dense", "rules": [{"name": "dense", "then": {"preset": "jpegxl:7"}}]})
RECIPES = [data.Recipe(modality="CT", instance=n, seed=n, rows=64, columns=64, frames=2) for n in range(1, 5)]

PLAIN: dict[str, Any] = {
    "storage": {"minimum_free_bytes": 0},
    "delete": {"grace_seconds": 0},
    "settle": {"preset": "zstd:1"},
    "lifecycle": {"replaced_grace_seconds": 0},
}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive with a second tier."""
    settings = Settings(**PLAIN, tiers={"warm": {"kind": "local", "url": str(tmp_path / "warm")}})
    with open_archive(tmp_path / "archive", settings) as opened:
        yield opened


class Faulty(Executor):
    """Worker processes, some of whose tasks go wrong."""

    def __init__(self, fault: str, wrong: int) -> None:
        self._pool = local_pool(WorkerSettings(instance_seconds=10.0), 1)
        self._fault = fault
        self._left = wrong

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Run a call, or let it go wrong."""
        self._left -= 1
        fault = self._fault if self._left >= 0 else ""
        return self._pool.submit(go_wrong, fault, function, *args, time_limit_seconds=2.0 if fault == "hang" else 60.0)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


def go_wrong(fault: str, function: Callable[..., Any], *args: Any) -> Any:
    """In the worker: do it wrongly."""
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        time.sleep(600)
    encode = packer.encode_frame

    def wrong(codec: Any, frame: bytes, *more: Any, **options: Any) -> bytes:
        if fault == "garbage":
            return b"\0" * 100
        return encode(codec, bytes([frame[0] ^ 1]) + frame[1:], *more, **options)

    if fault:
        with mock.patch.object(packer, "encode_frame", wrong):
            return function(*args)
    return function(*args)


@pytest.mark.parametrize("fault", ["flip", "garbage", "crash", "hang"])
def test_a_wrong_codec_never_replaces_an_original(archive: Archive, fault: str) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    before = {stat.digest for stat in archive.store.list()}
    report = aged(archive, DENSE, clock, lambda: (Faulty(fault, 2), 1))
    assert report.outcomes == {("recompress jpegxl:7", "failed"): 2, ("recompress jpegxl:7", "done"): 2}
    assert given_back(archive) == received
    after = {stat.digest for stat in archive.store.list()}
    assert len(after & before) == 2
    assert len(after) == 4
    problems = archive.catalog.ageing.problems()
    assert len(problems) == 2
    assert all(tried.detail for _, _, tried in problems)

    assert aged(archive, DENSE, clock).outcomes == {}
    clock.turn_to(1.01)
    assert aged(archive, DENSE, clock).outcomes == {("recompress jpegxl:7", "done"): 2}
    assert archive.catalog.ageing.problems() == []
    assert given_back(archive) == received


@pytest.mark.skipif(postgres_server.programs() is None, reason="PostgreSQL is not installed (Debian: postgresql)")
def test_a_catalog_that_goes_away_ends_a_run_and_the_next_one_goes_on_at_once(tmp_path: Path) -> None:
    """What was under way is given up and begun anew: nobody waits until claims have run out."""
    clock = Clock()
    with postgres_server.PostgresServer() as server, ExitStack() as stack:
        catalog = {"url": server.url.render_as_string(hide_password=False), "connect_seconds": 2, "wait_seconds": 5}
        archive = stack.enter_context(open_archive(tmp_path, Settings(**PLAIN, catalog=catalog)))
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        proven = 0

        def step(name: str) -> None:
            nonlocal proven
            proven += name == "recompress: proven"
            if name == "recompress: proven" and proven == 2:
                server.stop(crash=True)

        lifecycle = Lifecycle(
            archive, DENSE, now=clock, executor=lambda: (local_pool(WorkerSettings(), 2), 2), step=step
        )
        with pytest.raises(CatalogUnavailable):
            lifecycle.run()
        server.start()
        report = lifecycle.run()
        assert (report.failed, report.ended) == (0, "nothing is left to do")
        assert report.outcomes["recompress jpegxl:7", "done"] >= len(RECIPES) - 1
        archive.deleter().sweep(clock() + timedelta(days=1))
        assert given_back(archive) == received
        is_at_rest(archive, clock() + timedelta(days=1))


def test_a_lifecycle_goes_on_after_an_error_that_nobody_expected(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    taken_in(archive, [data.make_instance(RECIPES[0])])
    unexpected, stop = [ZeroDivisionError("nobody thought of it")], threading.Event()

    def executor() -> tuple[Executor, int]:
        if unexpected:
            raise unexpected.pop()
        return inline()

    own = archive.settings.lifecycle.model_copy(update={"interval_seconds": 0.1})
    settings = archive.settings.model_copy(update={"lifecycle": own})
    lifecycle = Lifecycle(archive, DENSE, settings, executor=executor)
    running = threading.Thread(target=lifecycle.run_for_ever, args=(stop,))
    running.start()
    (instance,) = archive.catalog.all_instances()
    deadline = time.monotonic() + 60
    while {form.codec for form in archive.catalog.representations(instance.id)} != {"jpegxl"}:
        assert time.monotonic() < deadline, "it has not begun anew"
        time.sleep(0.05)
    stop.set()
    running.join(60)
    assert not running.is_alive()
    assert not unexpected
    assert "unexpected error in the lifecycle; it waits" in caplog.text


def test_what_a_killed_planner_had_claimed_is_let_go_after_its_term(archive: Archive) -> None:
    """Another one on the same catalog takes it up, when nobody tells it that the first one is dead."""
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])

    def killed(step: str) -> None:
        if step == "recompress: claimed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aged(archive, DENSE, clock, step=killed)
    clock.turn_to(0.9 * LEASE / timedelta(days=1))
    aged(archive, DENSE, clock)
    assert len(list(archive.store.list())) == len(RECIPES)
    clock.turn_to(1.1 * LEASE / timedelta(days=1))
    assert aged(archive, DENSE, clock).failed == 0
    is_at_rest(archive, clock() + timedelta(days=1))
    forms = [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]
    assert {form.codec for form in forms} == {"jpegxl"}
    assert given_back(archive) == received


def damage(archive: Archive, tier: str, number: int) -> None:
    """Flip a byte in the middle of some blob of a tier."""
    store = archive.stores.at(tier)
    digest = sorted(stat.digest for stat in store.list())[number]
    (path,) = Path(store.spool_folder()).parent.rglob(digest.hex)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.chmod(0o640)
    path.write_bytes(content)


def scrubbed(archive: Archive, clock: Clock) -> Any:
    """Read everything back, decode everything."""
    lifecycle = Lifecycle(archive, DENSE, now=clock, executor=inline)
    return lifecycle.scrub(older_than=timedelta(), decode_percent=100)


def test_scrubbing_repairs_from_another_tier(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    rules = [{"name": "two", "then": {"preset": "jpegls", "copies": "warm"}}]
    report = aged(archive, Policy.model_validate({"name": "x", "rules": rules}), clock)
    assert report.outcomes == {("recompress jpegls", "done"): 4, ("place hot+warm", "done"): 4}
    assert len(list(archive.stores.at("warm").list())) == 4
    clock.turn_to(1)
    found = scrubbed(archive, clock)
    assert (found.blobs, found.decoded, found.damaged, found.repaired) == (8, 8, 0, 0)
    assert found.second == 8

    damage(archive, "hot", 0)
    damage(archive, "warm", 2)
    clock.turn_to(2)
    found = scrubbed(archive, clock)
    assert (found.repaired, found.damaged) == (2, 0)
    clock.turn_to(3)
    assert scrubbed(archive, clock).repaired == 0
    assert given_back(archive) == received


def test_scrubbing_repairs_from_another_form_and_reports_what_it_cannot(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:1]])
    rules = [{"name": "both", "then": {"preset": "jpegxl:7", "keep_fast": True}}]
    assert aged(archive, Policy.model_validate({"name": "x", "rules": rules}), clock).failed == 0
    assert len(list(archive.store.list())) == 2
    damage(archive, "hot", 0)
    clock.turn_to(1)
    found = scrubbed(archive, clock)
    assert (found.repaired, found.damaged) == (1, 0)
    archive.deleter().sweep(clock() + timedelta(days=1))
    assert given_back(archive) == received

    for number in range(len(list(archive.store.list()))):
        damage(archive, "hot", number)
    clock.turn_to(2)
    found = scrubbed(archive, clock)
    assert (found.repaired, found.damaged) == (0, 2)
    assert len(archive.catalog.ageing.damaged()) == 2
    assert all(row.problem for row in archive.catalog.ageing.damaged())


def test_a_run_whose_plan_has_grown_old_adds_no_second_fast_form(archive: Archive) -> None:
    """Another run makes the fast form after this one has planned to, and before this one claims it."""
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    small = {"name": "small", "then": {"preset": "jpegxl:7"}}
    assert aged(archive, Policy.model_validate({"name": "x", "rules": [small]}), clock).failed == 0
    both = Policy.model_validate(
        {"name": "x", "rules": [{"name": "both", "then": {"preset": "jpegxl:7", "keep_fast": True}}]}
    )
    late = Lifecycle(archive, both, now=clock)
    plan = late.plan()
    assert aged(archive, both, clock).changed == len(received)
    with closing(late), mock.patch.object(late, "plan", side_effect=[plan, late.plan()]):
        report = late.run()
    assert report.outcomes == {("warm fast", "overtaken"): len(received)}
    forms = [archive.catalog.representations(one.id) for one in archive.catalog.all_instances()]
    assert [len(of_one) for of_one in forms] == [2] * len(received)
    assert given_back(archive) == received


def test_killed_between_any_two_steps_nothing_is_lost(tmp_path: Path) -> None:
    """Stop at every step in turn, by an exception that nothing catches; then start again."""
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        settle={"preset": "zstd:1"},
        lifecycle={"replaced_grace_seconds": 0},
    )
    rules = [{"name": "all", "then": {"preset": "jpegxl:7", "pack": "series"}}]
    policy = Policy.model_validate({"name": "x", "rules": rules})
    clock = Clock()
    with open_archive(tmp_path, settings) as archive:
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    chance = random.Random(int(os.environ.get("LEANPACS_TEST_SEED", "1")))
    stops = 0
    for _ in range(int(os.environ.get("LEANPACS_TEST_KILLS", "40"))):
        left = chance.randrange(1, 12)

        def step(name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt(name)

        with open_archive(tmp_path, settings) as archive:
            try:
                aged(archive, policy, clock, step=step)
            except KeyboardInterrupt:
                stops += 1
            else:
                break
        with open_archive(tmp_path, settings) as archive:
            assert given_back(archive) == received
    assert stops > 2
    with open_archive(tmp_path, settings) as archive:
        assert aged(archive, policy, clock).failed == 0
        assert given_back(archive) == received
        forms = [form for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)]
        assert len(forms) == len(RECIPES)
        archive.deleter().sweep_orphans(clock() + timedelta(days=1))
        assert {stat.digest for stat in archive.store.list()} == {form.blob.digest for form in forms}
