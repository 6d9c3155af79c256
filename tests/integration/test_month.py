"""A life in minutes: stored fast, made dense, gathered by series, moved to warm and to cold, read again, expired."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import URL

import data
from ageing import Clock, aged, given_back, inline, taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.rescue import rebuild_catalog
from leanpacs.config import Settings
from leanpacs.errors import RefusedByPolicy
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from postgres_server import schema_of_its_own
from s3_server import S3Server
from soundness import come_to_rest, holds_all, is_at_rest, is_consistent, is_whole
from tiered import RESTORE_SECONDS, time_passes

ROOT = Path(__file__).parent.parent.parent
POLICY = Policy.model_validate(
    {
        "name": "a life",
        "rules": [
            {"name": "arrival", "then": {"preset": "fast"}},
            {"name": "dense", "when": {"unread_days": 30}, "then": {"preset": "dense"}},
            {"name": "warm", "when": {"unread_days": 90}, "then": {"tier": "warm", "pack": "series"}},
            {"name": "cold", "when": {"unread_days": 700}, "then": {"tier": "cold", "copies": "warm"}},
            {"name": "read again", "when": {"read_within_days": 20}, "then": {"keep_fast": True}},
            {"name": "ten years", "then": {"delete_after_days": 3650}},
            {"name": "ultrasound twenty", "when": {"modality": "US"}, "then": {"keep_days": 7300}},
        ],
    }
)

RECIPES = [
    *(data.Recipe(modality="CT", study=1, series=1, instance=n, seed=n, signed=True) for n in range(1, 7)),
    *(data.Recipe(modality="MR", study=1, series=2, instance=n, seed=n, frames=2) for n in range(7, 10)),
    *(data.Recipe(modality="US", study=2, series=3, instance=n, transfer_syntax=data.RLE) for n in range(10, 12)),
    *(data.Recipe(modality="SR", study=3, series=4, instance=n, kind="none") for n in range(12, 15)),
    data.Recipe(modality="XA", study=3, series=5, instance=15, transfer_syntax=data.EXPLICIT_BE),
    data.Recipe(modality="CT", study=3, series=6, instance=16, transfer_syntax=data.DEFLATED_LE),
]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive with three tiers."""
    tiers = {name: {"kind": "local", "url": str(tmp_path / name)} for name in ("warm", "cold")}
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        lifecycle={"replaced_grace_seconds": 0},
        tiers=tiers,
    )
    with open_archive(tmp_path / "archive", settings) as opened:
        yield opened


def stored(archive: Archive) -> dict[str, int]:
    """Bytes on each tier."""
    return {store.tier: sum(stat.size_bytes for stat in store.list()) for store in archive.stores}


def test_an_instance_lives_through_all_tiers(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    at_first = stored(archive)
    assert aged(archive, POLICY, clock).outcomes == {}

    clock.turn_to(31)
    report = aged(archive, POLICY, clock)
    assert (report.failed, report.ended) == (0, "nothing is left to do")
    dense = stored(archive)
    assert dense["hot"] <= at_first["hot"]  # small images: the time in a manifest may decide
    assert given_back(archive) == received

    clock.turn_to(95)
    report = aged(archive, POLICY, clock)
    assert (report.failed, report.ended) == (0, "nothing is left to do")
    assert report.outcomes["gather series", "done"] == 4
    warm = stored(archive)
    assert warm["hot"] == warm["cold"] == 0
    assert warm["warm"] < 0.8 * dense["hot"]
    assert len(list(archive.stores.at("warm").list())) == 6
    assert given_back(archive) == received

    clock.turn_to(720)
    assert aged(archive, POLICY, clock).failed == 0
    cold = stored(archive)
    assert (cold["hot"], cold["cold"]) == (0, warm["warm"])
    assert cold["warm"] == cold["cold"]
    assert given_back(archive) == received

    with archive.catalog.writing() as transaction:
        (first, *_) = archive.catalog.instances(study_uid=RECIPES[0].study_uid)
        transaction.ageing.note_reads({first.series_id: (1, clock())})
    assert aged(archive, POLICY, clock).failed == 0
    again = stored(archive)
    assert 0 < again["hot"] < at_first["hot"]
    assert given_back(archive) == received

    clock.turn_to(820)
    assert aged(archive, POLICY, clock).failed == 0
    assert stored(archive)["hot"] == 0
    assert given_back(archive) == received

    with archive.catalog.writing() as transaction:
        transaction.ageing.hold(RECIPES[-1].study_uid, "", actor="judge", reason="trial", now=clock())
    clock.turn_to(3651)
    assert aged(archive, POLICY, clock).failed == 0
    left = {recipe.sop_uid for recipe in RECIPES if recipe.study in (2, 3)}
    assert given_back(archive) == {uid: content for uid, content in received.items() if uid in left}
    with pytest.raises(RefusedByPolicy, match="hold"):
        archive.deleter().delete(study_uid=RECIPES[-1].study_uid, actor="tester", reason="trial")

    with archive.catalog.writing() as transaction:
        transaction.ageing.release_hold(archive.catalog.ageing.holds()[0].id)
    clock.turn_to(7301)
    assert aged(archive, POLICY, clock).failed == 0
    assert given_back(archive) == {}
    tombstone = archive.catalog.tombstone(RECIPES[0].sop_uid)
    assert tombstone is not None
    assert tombstone.actor == "policy:ten years"
    archive.deleter().sweep(clock() + timedelta(days=1))
    assert stored(archive) == {"hot": 0, "warm": 0, "cold": 0}


def real_files() -> list[bytes]:
    """Some small real files, where they are at hand, each with a SOP Instance UID of its own."""
    folder = Path(os.environ.get("LEANPACS_TEST_DATA", "/nonexistent"))
    found: dict[str, bytes] = {}
    for modality in ("CT", "MR", "US", "SR"):
        paths = sorted(path for path in (folder / modality).rglob("*.dcm") if path.stat().st_size < 300_000)
        for path in paths[:3]:
            uid = str(dcmread(path, specific_tags=["SOPInstanceUID"], force=True).get("SOPInstanceUID", ""))
            found.setdefault(uid, path.read_bytes())
    return [content for uid, content in found.items() if uid]


@pytest.mark.slow
def test_a_life_on_s3_and_in_an_archive_class(tmp_path: Path, s3_server: S3Server) -> None:
    """As above, with real files: warm is S3, cold an archive class on S3 in which reading takes asking."""
    tiers = {
        "warm": s3_server.options(kind="s3"),
        "cold": s3_server.options(kind="archive", restore_seconds=0.2),
    }
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        lifecycle={"replaced_grace_seconds": 0},
        tiers=tiers,
    )
    rules = [rule.model_dump(exclude_none=True) for rule in POLICY.rules]
    next(rule for rule in rules if rule["name"] == "cold")["then"] = {"tier": "cold"}  # no copy that could be read
    policy = Policy.model_validate({"name": "a life", "rules": rules})
    clock = Clock()
    with open_archive(tmp_path / "archive", settings) as archive:
        received = taken_in(archive, [*(data.make_instance(recipe) for recipe in RECIPES), *real_files()])
        digests = {uid: hashlib.sha256(content).digest() for uid, content in received.items()}
        for day, only in ((0, "hot"), (31, "hot"), (95, "warm"), (720, "cold")):
            clock.turn_to(day)
            assert aged(archive, policy, clock).failed == 0
            assert {tier for tier, size in stored(archive).items() if size} == {only}
            is_consistent(archive)
            holds_all(archive, digests)

        with archive.catalog.writing() as transaction:
            transaction.ageing.note_reads({one.series_id: (1, clock()) for one in archive.catalog.all_instances()})
        come_to_rest(archive, policy, days=720)
        assert stored(archive)["hot"] > 0
        holds_all(archive, digests)
        clock.turn_to(820)
        come_to_rest(archive, policy, days=820)
        archive.deleter().sweep(clock() + timedelta(days=3))
        assert stored(archive)["hot"] == 0
        is_whole(archive)

        clock.turn_to(3651)
        assert aged(archive, policy, clock).failed == 0
        left = {one.sop_uid for one in archive.catalog.all_instances()}
        assert 0 < len(left) < len(received)
        holds_all(archive, digests, mortal=set(received) - left)
        clock.turn_to(7301)
        assert aged(archive, policy, clock).failed == 0
        is_at_rest(archive, clock() + timedelta(days=1))
        assert stored(archive) == {"hot": 0, "warm": 0, "cold": 0}


def test_reads_count_and_what_is_in_an_archive_class_is_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 0},
        settle={"preset": "zstd:1"},
        lifecycle={"replaced_grace_seconds": 0},
        tiers={"cold": {"kind": "archive", "url": str(tmp_path / "cold"), "restore_seconds": RESTORE_SECONDS}},
    )
    policy = Policy.model_validate(
        {
            "name": "x",
            "rules": [
                {"name": "cold", "when": {"older_than_days": 0}, "then": {"tier": "cold", "pack": "series"}},
                {"name": "dense", "then": {"preset": "jpegxl:7"}},
                {"name": "wanted", "when": {"read_at_least": 2}, "then": {"keep_fast": True}},
            ],
        }
    )
    with open_archive(tmp_path / "archive", settings) as archive:
        larger = [dataclasses.replace(recipe, rows=160, columns=160) for recipe in RECIPES[:3]]
        received = taken_in(archive, [data.make_instance(recipe) for recipe in larger])
        assert given_back(archive) == received
        archive.reads.flush()
        (series,) = [archive.catalog.ageing.series_of(1)]
        assert [one.reads for one in series] == [1, 1, 1]
        assert series[0].last_read_at > 0
        report = aged(archive, policy, clock)
        assert (report.failed, stored(archive)["hot"]) == (0, 0)
        scrub = Lifecycle(archive, policy, now=clock, executor=inline).scrub(older_than=timedelta(), decode_percent=100)
        assert (scrub.blobs, scrub.damaged) == (1, 0)

        with archive.catalog.writing() as transaction:
            transaction.ageing.note_reads({series[0].series_id: (1, clock())})
        report = aged(archive, policy, clock)
        assert set(report.outcomes) == {("warm fast", "waiting")}
        time_passes(tmp_path / "archive")
        clock.turn_to(0.05)
        report = aged(archive, policy, clock)
        assert report.outcomes == {("warm fast", "done"): 3}
        assert stored(archive)["hot"] > 0
        assert given_back(archive) == received


def test_on_postgresql_as_on_sqlite(tmp_path: Path, postgres_database: URL) -> None:
    with schema_of_its_own(postgres_database) as url:
        settings = Settings(
            storage={"minimum_free_bytes": 0},
            delete={"grace_seconds": 0},
            lifecycle={"replaced_grace_seconds": 0},
            catalog={"url": url},
            tiers={name: {"kind": "local", "url": str(tmp_path / name)} for name in ("warm", "cold")},
        )
        clock = Clock()
        with open_archive(tmp_path / "archive", settings) as archive:
            received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
            with archive.catalog.writing() as transaction:
                transaction.ageing.hold(RECIPES[-1].study_uid, "", actor="judge", reason="trial", now=clock())
                transaction.ageing.note_reads({1: (1, clock())})
            for day in (31, 130, 720):
                clock.turn_to(day)
                assert aged(archive, POLICY, clock).failed == 0
                assert given_back(archive) == received
            archive.reads.flush()
            assert (stored(archive)["hot"], archive.status().damaged) == (0, 0)
            scrub = Lifecycle(archive, POLICY, now=clock, executor=inline).scrub(
                older_than=timedelta(), decode_percent=100
            )
            assert scrub.damaged == 0
            clock.turn_to(3651)
            assert aged(archive, POLICY, clock).failed == 0
            assert {one.study_uid for one in archive.catalog.all_instances()} == {
                RECIPES[-1].study_uid,
                next(recipe.study_uid for recipe in RECIPES if recipe.modality == "US"),
            }


def test_series_packs_are_verified_taken_apart_and_found_by_a_new_catalog(archive: Archive, tmp_path: Path) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:9]])
    together = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"pack": "series"}}]})
    assert aged(archive, together, clock).outcomes == {("gather series", "done"): 2}
    assert len(list(archive.store.list())) == 2
    verifier = archive.verifier()
    checked = list(verifier.run(verifier.checks(100), 1))
    assert [one.problem for one in checked] == [""] * 9
    shares = [
        form.size_bytes for one in archive.catalog.all_instances() for form in archive.catalog.representations(one.id)
    ]
    assert sum(shares) == stored(archive)["hot"]

    out = tmp_path / "restored"
    restorer = ROOT / "restore" / "leanpacs_restore.py"
    command = [sys.executable, str(restorer), str(tmp_path / "archive" / "hot"), str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert sorted(path.read_bytes() for path in out.rglob("*.dcm")) == sorted(received.values())

    archive.catalog.close()
    (tmp_path / "archive" / "catalog.sqlite").unlink()
    with open_archive(tmp_path / "archive", archive.settings) as anew:
        findings: list[object] = []
        rebuild_catalog(anew, findings.append)
        assert len(findings) == 2
        assert given_back(anew) == received
        apart = Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": {"pack": "instance"}}]})
        assert aged(anew, apart, clock).outcomes == {("separate", "done"): 9}
        assert len(list(anew.store.list())) == 9
        assert given_back(anew) == received
