"""Several tiers: what is copied, moved and swept between them stays retrievable, bit for bit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.config import Settings
from leanpacs.errors import BlobCorrupt, StoreUnavailable
from leanpacs.refs import HOT, Tier
from leanpacs.storage.dictionary import load_all
from tiered import forms, given_back, take_in, tiers

WARM, SECOND = Tier("warm"), Tier("second")


def settings_of(folder: Path, warm: dict[str, Any] | None = None, **more: Any) -> Settings:
    tiers = {
        "warm": {**(warm or {"kind": "local", "url": str(folder / "warm")}), "copies": ["second"]},
        "second": {"kind": "local", "url": str(folder / "second")},
    }
    return Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0}, tiers=tiers, **more)


@pytest.fixture(params=["local", "s3"])
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """An archive with a warm tier whose blobs have a copy on a second store, a folder."""
    warm = request.getfixturevalue("s3_server").options(kind="s3") if request.param == "s3" else None
    with open_archive(tmp_path / "archive", settings_of(tmp_path, warm)) as opened:
        yield opened


def test_what_is_moved_stands_on_all_its_tiers_and_no_longer_where_it_was(archive: Archive) -> None:
    content = data.make_instance(data.Recipe())
    uid = take_in(archive, content)
    (before,) = forms(archive, uid)
    placed = archive.placer().move([before], WARM)
    assert (placed.forms, placed.blobs, placed.size_bytes) == (1, 2, 2 * before.blob.size_bytes)
    assert tiers(archive, uid) == ["second", "warm"]
    assert archive.deleter().sweep(datetime.now(UTC)) == 1
    assert list(archive.store.list()) == []
    assert given_back(archive, uid) == content
    assert [form.evidence for form in forms(archive, uid)] == [before.evidence] * 2
    # A second time there is nothing left to do.
    again = archive.placer().move(forms(archive, uid), WARM)
    assert (again.blobs, tiers(archive, uid)) == (0, ["second", "warm"])


def test_a_copy_leaves_the_form_where_it_is(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe()))
    archive.placer().copy(forms(archive, uid), SECOND)
    assert tiers(archive, uid) == ["hot", "second"]
    archive.placer().copy(forms(archive, uid), SECOND)
    assert tiers(archive, uid) == ["hot", "second"]
    assert archive.deleter().sweep(datetime.now(UTC)) == 0


def test_dictionaries_stand_on_every_tier_that_needs_them(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe()))
    needed = {form.dictionary_id for form in forms(archive, uid)}
    archive.placer().move(forms(archive, uid), WARM)
    for tier in (WARM, SECOND):
        assert needed <= {dictionary.id for dictionary in load_all(archive.stores.at(tier))}


def test_a_damaged_blob_is_not_moved(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe()))
    (form,) = forms(archive, uid)
    name = form.blob.digest.hex
    path = Path(archive.settings.tiers["second"].url).parent / "archive" / "hot" / "blobs" / name[:2] / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BlobCorrupt):
        archive.placer().move([form], WARM)
    assert tiers(archive, uid) == ["hot"]
    assert list(archive.stores.at(WARM).list()) == []


def test_the_last_blob_of_a_form_cannot_be_dropped(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe()))
    (form,) = forms(archive, uid)
    with archive.catalog.writing() as transaction:
        now = datetime.now(UTC)
        assert not transaction.drop_copy(form.id, now=now, due_at=now)
    assert tiers(archive, uid) == ["hot"]


def test_a_deleted_instance_is_not_moved_and_leaves_nothing(archive: Archive) -> None:
    uid = take_in(archive, data.make_instance(data.Recipe()))
    held = forms(archive, uid)
    archive.deleter().delete(sop_uid=uid, actor="me", reason="test")
    assert archive.placer().move(held, WARM).forms == 0
    archive.deleter().sweep(datetime.now(UTC))
    assert [list(store.list()) for store in archive.stores] == [[], [], []]


def test_a_tier_that_the_settings_no_longer_name_is_told_of(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive", settings_of(tmp_path)) as archive:
        content = data.make_instance(data.Recipe())
        uid = take_in(archive, content)
        archive.placer().move(forms(archive, uid), WARM)
    with open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0})) as archive:
        with pytest.raises(StoreUnavailable, match=r"add \[tiers\.(warm|second)\]"):
            given_back(archive, uid)
        assert archive.stores.tiers == (HOT,)
    with open_archive(tmp_path / "archive", settings_of(tmp_path)) as archive:
        assert given_back(archive, uid) == content
