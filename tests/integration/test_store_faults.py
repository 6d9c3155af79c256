"""Stores that are full, can only be read, are away or lie: told clearly, nothing lost, and all goes on by itself."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import data
from dimse_peer import CT, Peer
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.config import Settings
from leanpacs.errors import CatalogUnavailable, StorageError, StoreFull, StoreUnavailable
from leanpacs.refs import Tier
from s3_proxy import Answer, FaultProxy, error
from s3_server import S3Server
from serving import Server
from tiered import forms, given_back, settle, take_in, tiers

WARM = Tier("warm")


class Disk:
    """A small disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no room."""
        room = os.statvfs(self.path)
        (self.path / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))

    def make_room(self) -> None:
        """Give the room back."""
        (self.path / "ballast").unlink()

    def remount(self, how: str) -> None:
        """``ro``: it can only be read; ``rw``: it can be written again."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 8 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


def settings_of(**tiers: dict[str, Any]) -> Settings:
    return Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0}, tiers=tiers)


def local(path: Path) -> dict[str, Any]:
    return {"kind": "local", "url": str(path)}


def contents(number: int, **recipe: Any) -> list[bytes]:
    return [data.make_instance(data.Recipe(instance=n, **recipe)) for n in range(number)]


def land(archive: Archive, content: bytes) -> str:
    path = archive.spool_folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return archive.land(Incoming(path, "TESTER", "import")).sop_uid


def is_sound(archive: Archive, held: dict[str, bytes]) -> None:
    """All that was acknowledged is given back, and nothing else is left after a sweep."""
    assert {row.sop_uid for row in archive.catalog.all_instances()} == set(held)
    assert all(given_back(archive, uid) == content for uid, content in held.items())
    archive.deleter().sweep(datetime.now(UTC))
    archive.deleter().sweep_orphans(datetime.now(UTC))
    for store in archive.stores:
        named = {ref.digest for ref in archive.catalog.all_blob_refs() if ref.tier == store.tier}
        assert {stat.digest for stat in store.list()} == named


# ----------------------------------------------------------------------------------------------- disks


def test_a_full_disk_refuses_and_recovers(tmp_path: Path, disk: Disk) -> None:
    """Catalog and blobs on one disk: whatever fails first, what was acknowledged is there."""
    large = contents(6, rows=256, columns=256, content="noise")
    with open_archive(disk.path / "archive", settings_of()) as archive:
        held = {take_in(archive, large[0]): large[0]}
        disk.fill()
        for content in large[1:4]:
            with pytest.raises((StoreFull, CatalogUnavailable, OSError)):
                held[land(archive, content)] = content
        assert given_back(archive, next(iter(held))) == large[0]
        disk.make_room()
        for content in large[1:]:
            held[land(archive, content)] = content
        settle(archive)
        is_sound(archive, held)


def test_a_disk_that_fills_while_it_settles(tmp_path: Path, disk: Disk) -> None:
    large = contents(4, rows=256, columns=256, content="noise")
    with open_archive(tmp_path / "archive", settings_of(hot=local(disk.path / "hot"))) as archive:
        held = {land(archive, content): content for content in large}
        disk.fill()
        settle(archive, once=True)
        assert archive.catalog.backlog().count == len(large)
        assert all(given_back(archive, uid) == content for uid, content in held.items())
        disk.make_room()
        with archive.catalog.writing() as transaction:
            transaction.release_all_claims()
        settle(archive)
        is_sound(archive, held)


def test_a_full_tier_takes_nothing_and_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    with open_archive(tmp_path / "archive", settings_of(warm=local(disk.path / "warm"))) as archive:
        (content,) = contents(1, rows=256, columns=256, content="noise")
        uid = take_in(archive, content)
        disk.fill()
        with pytest.raises(StoreFull):
            archive.placer().move(forms(archive, uid), WARM)
        assert tiers(archive, uid) == ["hot"]
        disk.make_room()
        archive.placer().move(forms(archive, uid), WARM)
        assert tiers(archive, uid) == ["warm"]
        is_sound(archive, {uid: content})


def test_a_tier_that_can_only_be_read_is_read(tmp_path: Path, disk: Disk) -> None:
    first, second = contents(2)
    settings = settings_of(warm=local(disk.path / "warm"))
    with open_archive(tmp_path / "archive", settings) as archive:
        held = {take_in(archive, first): first}
        archive.placer().move(forms(archive, next(iter(held))), WARM)
        archive.deleter().sweep(datetime.now(UTC))
    disk.remount("ro")
    try:
        with open_archive(tmp_path / "archive", settings) as archive:
            uid = take_in(archive, second)
            with pytest.raises(StoreUnavailable, match="Read-only"):
                archive.placer().move(forms(archive, uid), WARM)
            held[uid] = second
            assert all(given_back(archive, uid) == content for uid, content in held.items())
    finally:
        disk.remount("rw")
    with open_archive(tmp_path / "archive", settings) as archive:
        archive.placer().move(forms(archive, uid), WARM)
        is_sound(archive, held)


def test_a_hot_tier_that_can_only_be_read_still_gives(tmp_path: Path, disk: Disk) -> None:
    first, second = contents(2)
    with open_archive(tmp_path / "archive", settings_of(hot=local(disk.path / "hot"))) as archive:
        held = {take_in(archive, first): first}
        disk.remount("ro")
        try:
            with pytest.raises((StorageError, OSError)):
                land(archive, second)
            assert given_back(archive, next(iter(held))) == first
        finally:
            disk.remount("rw")
        held[land(archive, second)] = second
        is_sound(archive, held)


def test_a_disk_that_is_not_mounted_is_waited_for(tmp_path: Path) -> None:
    """No new folder is made in its place, into which things would vanish when it comes back."""
    settings = settings_of(warm=local(tmp_path / "mnt" / "warm"))
    first, second = contents(2)
    with open_archive(tmp_path / "archive", settings) as archive:
        held = {take_in(archive, first): first}
        archive.placer().move(forms(archive, next(iter(held))), WARM)
        archive.deleter().sweep(datetime.now(UTC))
    (tmp_path / "mnt").rename(tmp_path / "away")
    with open_archive(tmp_path / "archive", settings) as archive:
        with pytest.raises(StoreUnavailable, match="mounted"):
            given_back(archive, next(iter(held)))
        uid = take_in(archive, second)
        with pytest.raises(StoreUnavailable):
            archive.placer().move(forms(archive, uid), WARM)
        held[uid] = second
        assert not (tmp_path / "mnt").exists()
        (tmp_path / "away").rename(tmp_path / "mnt")
        archive.placer().move(forms(archive, uid), WARM)
        is_sound(archive, held)


# -------------------------------------------------------------------------------------------------- S3


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy before a real server."""
    one = FaultProxy(s3_server.endpoint)
    yield one
    one.close()


def s3(server: S3Server, proxy: FaultProxy, **more: Any) -> dict[str, Any]:
    return server.options(kind="s3", endpoint=proxy.endpoint, retries=1, retry_seconds=1.0, **more)


FAULTS = {
    "500": error(500, "InternalError"),
    "503": error(503, "SlowDown"),
    "short": Answer(cut=0.5),
    "denied": error(403, "AccessDenied"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_move_to_a_bad_server_changes_nothing(
    tmp_path: Path, s3_server: S3Server, proxy: FaultProxy, fault: str
) -> None:
    with open_archive(tmp_path / "archive", settings_of(warm=s3(s3_server, proxy))) as archive:
        (content,) = contents(1)
        uid = take_in(archive, content)
        with proxy.doing(lambda _: FAULTS[fault]), pytest.raises(StoreUnavailable):
            archive.placer().move(forms(archive, uid), WARM)
        assert tiers(archive, uid) == ["hot"]
        assert given_back(archive, uid) == content
        archive.placer().move(forms(archive, uid), WARM)
        assert tiers(archive, uid) == ["warm"]
        archive.deleter().sweep(datetime.now(UTC))
        with proxy.doing(lambda _: FAULTS[fault]), pytest.raises(StoreUnavailable) as caught:
            given_back(archive, uid)
        assert caught.value.transient
        assert given_back(archive, uid) == content


def test_bytes_that_came_back_otherwise_replace_nothing(tmp_path: Path, s3_server: S3Server, proxy: FaultProxy) -> None:
    with open_archive(tmp_path / "archive", settings_of(warm=s3(s3_server, proxy))) as archive:
        (content,) = contents(1)
        uid = take_in(archive, content)
        damage = proxy.doing(lambda request: Answer(damage=True) if request.method == "GET" else None)
        with damage, pytest.raises(StorageError):
            archive.placer().move(forms(archive, uid), WARM)
        assert tiers(archive, uid) == ["hot"]
        archive.placer().move(forms(archive, uid), WARM)
        assert given_back(archive, uid) == content


@pytest.mark.parametrize("fault", [*FAULTS, "damaged"])
def test_the_copy_is_given_when_a_store_fails(
    tmp_path: Path, s3_server: S3Server, proxy: FaultProxy, fault: str
) -> None:
    tiers_ = {"warm": s3(s3_server, proxy, copies=["second"]), "second": local(tmp_path / "second")}
    with open_archive(tmp_path / "archive", settings_of(**tiers_)) as archive:
        (content,) = contents(1)
        uid = take_in(archive, content)
        archive.placer().move(forms(archive, uid), WARM)
        archive.deleter().sweep(datetime.now(UTC))
        with proxy.doing(lambda _: FAULTS.get(fault, Answer(damage=True))):
            assert given_back(archive, uid) == content


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hot_tier_on_a_bad_server_acknowledges_nothing(
    tmp_path: Path, s3_server: S3Server, proxy: FaultProxy, fault: str
) -> None:
    first, second = contents(2)
    with open_archive(tmp_path / "archive", settings_of(hot=s3(s3_server, proxy))) as archive:
        held = {take_in(archive, first): first}
        with proxy.doing(lambda request: FAULTS[fault] if request.method in ("PUT", "HEAD", "POST") else None):
            if fault == "short":  # an answer without a body cannot come short
                held[land(archive, second)] = second
            else:
                with pytest.raises(StoreUnavailable):
                    land(archive, second)
        held[land(archive, second)] = second
        settle(archive)
        is_sound(archive, held)


def test_a_tier_that_is_away_does_not_keep_the_others_from_starting(
    tmp_path: Path, s3_server: S3Server, proxy: FaultProxy
) -> None:
    settings = settings_of(warm=s3(s3_server, proxy))
    proxy.rule = lambda _: error(503, "SlowDown")
    with open_archive(tmp_path / "archive", settings) as archive:
        (content,) = contents(1)
        uid = take_in(archive, content)
        archive.deleter().sweep(datetime.now(UTC))
        archive.deleter().sweep_orphans(datetime.now(UTC))
        assert given_back(archive, uid) == content


def test_doors_stay_open_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    """They refuse what comes, and give what is there; nothing that a process writes for itself ends it."""
    (disk.path / "archive").mkdir()
    (tmp_path / "archive").symlink_to(disk.path / "archive")
    recipes = [data.Recipe(instance=n, rows=256, columns=256, content="noise") for n in range(4)]
    uids = [recipe.sop_uid for recipe in recipes]
    sets = [data.make_data_set_bytes(recipe) for recipe in recipes]
    with Server(tmp_path / "archive", processes=1) as server, httpx.Client(base_url=server.http) as client:

        def sent(number: int) -> int:
            with Peer((server.host, server.port)) as peer:
                peer.associate([(3, CT, [data.EXPLICIT_LE])])
                status: int = peer.store(sets[number], uids[number]).Status
                peer.release()
                return status

        url = f"dicom-web/studies/{recipes[0].study_uid}/series/{recipes[0].series_uid}/instances/{uids[0]}"
        assert sent(0) == 0
        with suppress(OSError):  # the server may take some of the room meanwhile
            disk.fill()
        assert 0 not in [sent(number) for number in (1, 2)]
        assert client.get(f"{url}/nothing").status_code == 404
        assert sets[0][-1000:] in client.get(url).raise_for_status().content
        assert b"leanpacs_dimse_seconds" in client.get("metrics").raise_for_status().content
        disk.make_room()
        assert [sent(number) for number in (1, 2, 3)] == [0, 0, 0]
        assert len(client.get("dicom-web/instances").raise_for_status().json()) == len(uids)
    assert "a door has ended" not in (tmp_path / "archive.log").read_text()
