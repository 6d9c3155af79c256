"""The catalog is lost and made anew from the stores: what cannot be read then waits, and nothing is swept meanwhile."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import data
from ageing import Clock, aged
from commands import run
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care import holds
from leanpacs.archive.care.rescue import Finding, Rescued, rebuild_catalog
from leanpacs.archive.intake import quarantine
from leanpacs.archive.intake.incoming import Incoming, Outcome
from leanpacs.catalog import DERIVED
from leanpacs.config import Settings
from leanpacs.errors import RefusedByPolicy
from leanpacs.lifecycle.policy import Policy
from leanpacs.refs import Tier
from leanpacs.storage.dictionary import save, train
from soundness import is_consistent, is_whole
from tiered import RESTORE_SECONDS, forms, given_back, settle, take_in, tiers, time_passes

COLD = Tier("cold")
HOW = "JPEG2000 ratio=12"
COPIES = Policy.model_validate(
    {"name": "x", "rules": [{"name": "small", "then": {"lossy_copy": {"to": "JPEG2000", "ratio": 12}}}]}
)
LATER = timedelta(days=400)


def settings_of(folder: Path, kind: str = "archive", **changes: object) -> Settings:
    tier = {"kind": kind, "url": str(folder / "cold")}
    if kind == "archive":
        tier |= {"restore_seconds": RESTORE_SECONDS, "restore_days": 3}
    return Settings(storage={"minimum_free_bytes": 0}, tiers={"cold": tier}, **changes)


def lose_catalog(folder: Path) -> None:
    for file in folder.glob("catalog.sqlite*"):
        file.unlink()


def found(archive: Archive) -> dict[Rescued, int]:
    """Take in what the catalog does not name; then nothing that it does not name is swept, unless it is not needed."""
    findings: list[Finding] = []
    rebuild_catalog(archive, findings.append)
    kinds = [finding.kind for finding in findings]
    assert archive.deleter().sweep_orphans(datetime.now(UTC) + LATER) == kinds.count(Rescued.SUPERSEDED)
    return {kind: kinds.count(kind) for kind in Rescued if kind in kinds}


def with_copy(archive: Archive, received_at: Clock) -> tuple[str, bytes, str]:
    """An original that has settled, and a lossy copy of it that has only landed; their UIDs."""
    content = data.make_instance(data.Recipe(modality="CT", rows=128, columns=128, signed=True))
    uid = take_in(archive, content)
    assert aged(archive, COPIES, received_at).outcomes == {(f"derive {HOW}", "done"): 1}
    (copy,) = (row.sop_uid for row in archive.catalog.all_instances() if row.door == DERIVED)
    return uid, content, copy


def is_tied(archive: Archive, original: str, copy: str) -> None:
    """What is noted of the original is what was noted before the catalog was lost; the copy goes with it."""
    (row,) = archive.catalog.instances(sop_uid=original)
    assert archive.catalog.ageing.tried(row.id)[f"derive {HOW}"].detail == copy
    assert archive.deleter().delete(sop_uid=original, actor="me", reason="test").instances == 2
    assert archive.catalog.instances(sop_uid=copy) == []


@pytest.mark.parametrize("is_settled", [False, True])
def test_a_copy_is_tied_to_an_original_that_sleeps(tmp_path: Path, is_settled: bool) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    with open_archive(folder, settings) as archive:
        uid, content, copy = with_copy(archive, Clock())
        if is_settled:
            settle(archive)
        archive.placer().move(forms(archive, uid), COLD)
        archive.deleter().sweep(datetime.now(UTC) + LATER)
    lose_catalog(folder)
    with open_archive(folder, settings) as archive:
        first = {Rescued.ASLEEP: 1, Rescued.PACK if is_settled else Rescued.PUT_OFF: 1}
        assert found(archive) == first
        settle(archive)
        waiting = archive.catalog.quarantined()
        assert len(waiting) == (1 if is_settled else 2)
        assert {quarantine.retry(archive, row).outcome for row in waiting} == {Outcome.QUARANTINED}
        time_passes(folder)
        assert found(archive) == ({Rescued.PACK: 1} if is_settled else {Rescued.PACK: 1, Rescued.LANDED: 1})
        assert archive.catalog.quarantined() == []
        settle(archive)
        assert given_back(archive, uid) == content
        is_tied(archive, uid, copy)


def test_a_copy_waits_for_an_original_that_is_damaged_until_that_is_given_up(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    with open_archive(folder, settings) as archive:
        uid, content, copy = with_copy(archive, Clock())
        (pack,) = forms(archive, uid)
    (path,) = folder.rglob(pack.blob.digest.hex)
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[: len(whole) // 2])
    lose_catalog(folder)
    with open_archive(folder, settings) as archive:
        assert found(archive) == found(archive) == {Rescued.DAMAGED: 1, Rescued.PUT_OFF: 1}
        lose = shutil.copytree(folder, tmp_path / "given up", ignore=shutil.ignore_patterns("*.lock"))
        path.write_bytes(whole)
        assert found(archive) == {Rescued.PACK: 1, Rescued.LANDED: 1}
        assert archive.catalog.quarantined() == []
        assert given_back(archive, uid) == content
        is_tied(archive, uid, copy)
    with open_archive(lose, settings) as archive:
        (damaged,) = (row for row in archive.catalog.quarantined() if row.blob.digest == pack.blob.digest)
        quarantine.drop(archive, damaged)
        archive.deleter().sweep(datetime.now(UTC) + LATER)
        assert found(archive) == {Rescued.LANDED: 1}
        assert [row.sop_uid for row in archive.catalog.all_instances()] == [copy]


def test_a_run_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    contents = [data.make_instance(data.Recipe(instance=number)) for number in range(3)]
    with open_archive(folder, settings) as archive:
        held = {take_in(archive, content): content for content in contents}
    lose_catalog(folder)

    def stop(_: Finding) -> None:
        raise KeyboardInterrupt

    with open_archive(folder, settings) as archive:
        with pytest.raises(KeyboardInterrupt):
            rebuild_catalog(archive, stop)
        assert len(list(archive.catalog.all_instances())) == 1
    with open_archive(folder, settings) as archive:
        assert archive.deleter().sweep_orphans(datetime.now(UTC) + LATER) == 0
        assert found(archive) == {Rescued.PACK: 2}
        assert {uid: given_back(archive, uid) for uid in held} == held
        is_whole(archive)


def test_nothing_is_swept_when_the_catalog_is_lost_and_nobody_has_noticed(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    with open_archive(folder, settings) as archive:
        uid = take_in(archive, data.make_instance(data.Recipe()))
    lose_catalog(folder)
    with open_archive(folder, settings) as archive:
        other = take_in(archive, data.make_instance(data.Recipe(instance=2)))
        archive.deleter().sweep(datetime.now(UTC) + LATER)
        assert archive.deleter().sweep_orphans(datetime.now(UTC) + LATER) == 0
        assert run("status", "--data", folder, "--json")["catalog"] == "was empty when there were blobs"
        assert found(archive) == {Rescued.PACK: 1}
        assert run("status", "--data", folder, "--json")["catalog"] == "whole"
        assert {row.sop_uid for row in archive.catalog.all_instances()} == {uid, other}
        archive.store.put(b"left by a crash")
        assert archive.deleter().sweep_orphans(datetime.now(UTC) + LATER) == 1


@pytest.mark.parametrize("policy", ["refuse", "replace"])
@pytest.mark.parametrize("is_settled", [False, True])
def test_of_two_contents_of_one_uid_neither_is_lost(tmp_path: Path, policy: str, is_settled: bool) -> None:
    """An instance was replaced, and what it replaced is in its time of grace."""
    folder, settings = tmp_path / "archive", settings_of(tmp_path, ingest={"duplicates": "replace"})
    old, new = (data.make_instance(data.Recipe(seed=seed)) for seed in (1, 2))
    with open_archive(folder, settings) as archive:
        take_in(archive, old)
        path = archive.spool_folder / "new"
        path.write_bytes(new)
        uid = archive.land(Incoming(path, "TESTER", "import")).sop_uid
        if is_settled:
            settle(archive)
            archive.deleter().sweep(datetime.now(UTC))
    lose_catalog(folder)
    with open_archive(folder, settings_of(tmp_path, ingest={"duplicates": policy})) as archive:
        assert found(archive) == {Rescued.PACK: 1, Rescued.OTHER if is_settled else Rescued.QUARANTINED: 1}
        first = given_back(archive, uid)
        if is_settled:  # in favour of the other one
            archive.deleter().delete(sop_uid=uid, actor="me", reason="the other one")
            assert found(archive) == {Rescued.PACK: 1}
        else:
            assert archive.store.read(archive.catalog.quarantined()[0].blob.digest) == new
            return
        assert {first, given_back(archive, uid)} == {old, new}


def test_holds_that_were_not_released_are_placed_again(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    recipes = [data.Recipe(study=number) for number in range(3)]
    with open_archive(folder, settings) as archive:
        uids = [take_in(archive, data.make_instance(recipe)) for recipe in recipes]
        numbers = [
            holds.place(archive, recipe.study_uid, "", actor="cli:judge", reason="trial é") for recipe in recipes[:2]
        ]
        assert holds.release(archive, numbers[1], actor="cli:judge")
        assert not holds.release(archive, numbers[1], actor="cli:judge")
        (before,) = archive.catalog.ageing.holds()
    lose_catalog(folder)
    with open_archive(folder, settings) as archive:
        for _ in range(2):
            found(archive)
            (after,) = archive.catalog.ageing.holds()
            assert (after.study_uid, after.reason, after.placed_at) == (
                before.study_uid,
                before.reason,
                before.placed_at,
            )
        with pytest.raises(RefusedByPolicy):
            archive.deleter().delete(sop_uid=uids[0], actor="me", reason="test")
        for uid in uids[1:]:
            archive.deleter().delete(sop_uid=uid, actor="me", reason="test")


def test_dictionaries_come_back_from_another_tier(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path, "local")
    content = data.make_instance(data.Recipe(file_meta=False))
    heads = [data.make_instance(data.Recipe(instance=number, rows=1, columns=1)) for number in range(64)]
    with open_archive(folder, settings) as archive:
        trained = train(heads, scope=data.Recipe().sop_class, version=99, trials=1)
        save(archive.store, trained)
        uid = take_in(archive, content)
        (form,) = forms(archive, uid)
        assert form.dictionary_id == trained.id
        archive.placer().move([form], COLD)
    shutil.rmtree(folder)
    with open_archive(folder, settings) as archive:
        assert found(archive) == {Rescued.PACK: 1}
        assert given_back(archive, uid) == content
        assert tiers(archive, uid) == [COLD]
        assert is_consistent(archive) == 1
        assert trained.id in {row.id for row in archive.catalog.dictionaries()}


def test_a_landed_file_that_has_changed_is_not_taken_for_what_came(tmp_path: Path) -> None:
    folder, settings = tmp_path / "archive", settings_of(tmp_path)
    with open_archive(folder, settings) as archive:
        path = archive.spool_folder / "one"
        path.write_bytes(data.make_instance(data.Recipe()))
        archive.land(Incoming(path, "TESTER", "import"))
        (blob,) = archive.store.list()
    (path,) = folder.rglob(blob.digest.hex)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    lose_catalog(folder)
    with open_archive(folder, settings) as archive:
        assert found(archive) == {Rescued.DAMAGED: 1}
        assert list(archive.catalog.all_instances()) == []
