"""Lifecycle work on stores that are full, read-only, or answer badly: nothing lost, and all goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import data
from ageing import Clock, aged, given_back, inline, taken_in
from integration.test_store_faults import FAULTS, Disk, disk, local, proxy, s3
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle, Report
from s3_proxy import Answer, FaultProxy
from s3_server import S3Server
from soundness import is_at_rest, is_consistent, is_whole

__all__ = ["disk", "proxy"]  # fixtures

RECIPES = [data.Recipe(series=1, instance=n, seed=n, rows=96, columns=96) for n in range(4)]
WORK = {
    "recompress": {"preset": "jpegxl:7"},
    "gather": {"pack": "series"},
    "place": {"tier": "warm"},
    "all": {"preset": "jpegxl:7", "pack": "series", "tier": "warm"},
}


def policy_of(work: str) -> Policy:
    return Policy.model_validate({"name": "x", "rules": [{"name": work, "then": WORK[work]}]})


def opened(folder: Path, work: str, **tiers: Any) -> Archive:
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        settle={"preset": "zstd:1" if "preset" in WORK[work] else "fast"},
        lifecycle={"replaced_grace_seconds": 0},
        tiers={"warm": local(folder / "warm"), **tiers},
    )
    return open_archive(folder / "archive", settings)


def goes_on(archive: Archive, policy: Policy, clock: Clock, received: dict[str, bytes]) -> None:
    """Later, without any help, the work is done."""
    is_consistent(archive)
    assert given_back(archive) == received
    clock.turn_to(2)
    report = aged(archive, policy, clock)
    assert (report.failed, report.ended) == (0, "nothing is left to do")
    assert report.changed
    assert archive.catalog.ageing.problems() == []
    is_at_rest(archive, clock() + timedelta(days=1))
    is_whole(archive)
    assert given_back(archive) == received


@pytest.fixture(params=["full", "read-only"])
def trouble(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("work", WORK)
def test_disks(tmp_path: Path, disk: Disk, trouble: str, work: str) -> None:
    clock = Clock()
    troubled = "warm" if work == "place" else "hot"
    with opened(tmp_path, work, **{troubled: local(disk.path / troubled)}) as archive:
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        with troubling(disk, trouble):
            report = aged_without_sweep(archive, policy_of(work), clock)
            assert report.failed
            assert not report.changed
            problems = archive.catalog.ageing.problems()
            assert problems
            assert all(tried.detail for _, _, tried in problems)
            assert given_back(archive) == received
        goes_on(archive, policy_of(work), clock, received)


def aged_without_sweep(archive: Archive, policy: Policy, clock: Clock) -> Report:
    """Sweeping would wait for the store."""
    return Lifecycle(archive, policy, now=clock, executor=inline).run()


@contextmanager
def troubling(disk: Disk, trouble: str) -> Iterator[None]:
    if trouble == "full":
        disk.fill()
        yield
        disk.make_room()
    else:
        disk.remount("ro")
        yield
        disk.remount("rw")


@pytest.mark.parametrize(
    ("fault", "work"),
    [
        ("500", "recompress"),
        ("503", "gather"),
        ("short", "recompress"),
        ("short", "place"),
        ("denied", "gather"),
        ("500", "place"),
    ],
)
def test_s3_that_answers_badly(tmp_path: Path, s3_server: S3Server, proxy: FaultProxy, fault: str, work: str) -> None:
    clock = Clock()
    tier = "warm" if work == "place" else "hot"
    with opened(tmp_path, work, **{tier: s3(s3_server, proxy)}) as archive:
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        with proxy.doing(lambda _: FAULTS[fault]):
            report = aged_without_sweep(archive, policy_of(work), clock)
        assert report.failed
        assert not report.changed
        assert archive.catalog.ageing.problems()
        goes_on(archive, policy_of(work), clock, received)


def test_s3_that_is_slow(tmp_path: Path, s3_server: S3Server, proxy: FaultProxy) -> None:
    clock = Clock()
    with opened(tmp_path, "all", hot=s3(s3_server, proxy)) as archive:
        received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
        with proxy.doing(lambda _: Answer(pause=0.05)):
            report = aged_without_sweep(archive, policy_of("all"), clock)
        assert (report.failed, report.ended) == (0, "nothing is left to do")
        is_consistent(archive)
        assert given_back(archive) == received
