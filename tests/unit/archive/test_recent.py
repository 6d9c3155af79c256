"""What has just arrived: given back from memory, the same bytes as from the store, and nothing depends on it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

import data
from executors import Inline
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.recent import Native, Recent
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import InstanceRow
from leanpacs.config import Settings
from leanpacs.dicom.uids import EXPLICIT_LE, HTJ2K_LOSSLESS, JPEG_LS_LOSSLESS
from leanpacs.errors import LeanPACSError
from leanpacs.refs import Digest
from leanpacs.storage.memoryfolder import memory_folder, memory_folder_made
from leanpacs.transcode.rendering import View

LARGE = 2 << 20
ONE, OTHER = Digest.of(b"one"), Digest.of(b"other")
HTJ2K = {"storage": {"minimum_free_bytes": 0}, "settle": {"preset": "htj2k"}}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with memory_folder_made(tmp_path / "archive") as folder:
        if folder is None:
            pytest.skip("there is no /dev/shm to keep files in memory")
        yield folder


@pytest.fixture
def archive(memory: Path, tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "archive", Settings(**HTJ2K)) as archive:
        yield archive


def told(call: Callable[[], object]) -> object:
    """What a call returns, or the error that it raises, as text."""
    try:
        return call()
    except LeanPACSError as error:
        return f"{type(error).__name__}: {error}"


def everything(archive: Archive, instance: InstanceRow) -> dict[str, object]:
    """All that can be had of an instance's pixels."""
    give = archive.retriever
    return {
        "as received": told(lambda: b"".join(give.as_received(instance).chunks)),
        "file": told(lambda: b"".join(give.part10(instance).chunks)),
        "data set": told(lambda: b"".join(give.data_set(instance).chunks)),
        "native": told(lambda: b"".join(give.data_set(instance, EXPLICIT_LE).chunks)),
        "frame": told(lambda: bytes(give.frame(instance, 1).data)),
        "frames": told(lambda: [bytes(frame.data) for frame in islice(give.frames(instance, [1, 2]), 2)]),
        "native frame": told(lambda: bytes(give.frame(instance, 1, EXPLICIT_LE).data)),
        "jpeg-ls": told(lambda: bytes(give.frame(instance, 1, JPEG_LS_LOSSLESS).data)),
        "rendered": told(lambda: give.rendered(instance, 1, View())),
        "no frame": told(lambda: give.frame(instance, 99_999)),
    }


def arrive(archive: Archive, *contents: bytes) -> list[InstanceRow]:
    """Land and settle files here, as a server does; what is held then."""
    for number, content in enumerate(contents):
        path = archive.spool_folder / str(number)
        path.write_bytes(content)
        archive.land(Incoming(path, "TESTER", "import"))
    settle = archive.settings.settle
    Settler(
        archive.store, archive.catalog, settle, limit_inflated_bytes=1 << 30, executor=Inline, recent=archive.recent
    ).drain()
    return list(archive.catalog.all_instances())


@pytest.mark.parametrize("files", [data.bundled, data.corpus])
def test_what_is_in_memory_is_what_is_in_the_store(
    files: Callable[[], list[Path]], memory: Path, tmp_path: Path
) -> None:
    """Every file there is but for large ones, which differ in nothing but size."""
    contents = [path.read_bytes() for path in files() if path.stat().st_size < LARGE]
    without_caches = {"memory_bytes": 0, "cache_bytes": 0, "verify_one_in": 0}
    with open_archive(tmp_path / "archive", Settings(**HTJ2K, delivery=without_caches)) as archive:
        instances = arrive(archive, *contents)
        assert len(instances) > 30
        assert archive.recent is not None
        assert all(archive.recent.has(instance.data_set_digest) for instance in instances)
        from_memory = [everything(archive, instance) for instance in instances]
        archive.recent.clear()
        for instance, found in zip(instances, from_memory, strict=True):
            assert everything(archive, instance) == found


def test_pixels_come_from_memory(archive: Archive) -> None:
    content = data.make_instance(data.Recipe(frames=3))
    (instance,) = arrive(archive, content)
    (held,) = archive.catalog.representations(instance.id)
    archive.store.delete(held.blob.digest)
    assert b"".join(archive.retriever.as_received(instance).chunks) == content
    frames = [bytes(archive.retriever.frame(instance, number, EXPLICIT_LE).data) for number in (1, 2, 3)]
    assert b"".join(frames) == data.native_pixels(data.Recipe(frames=3))


def test_what_is_large_is_read_while_it_is_sent(archive: Archive) -> None:
    content = data.make_instance(data.Recipe(frames=3, rows=1000, columns=1000))
    (instance,) = arrive(archive, content)
    (held,) = archive.catalog.representations(instance.id)
    archive.store.delete(held.blob.digest)
    chunks = list(archive.retriever.as_received(instance).chunks)
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= 1 << 20


def test_code_streams_that_are_held_go_out_as_they_are(archive: Archive) -> None:
    (instance,) = arrive(archive, data.make_instance(data.Recipe(rows=64, columns=64)))
    (held,) = archive.catalog.representations(instance.id)
    assert held.codec == "htj2k"
    assert archive.retriever.syntax_at_hand(instance) == HTJ2K_LOSSLESS
    stream = archive.retriever.frame(instance, 1, HTJ2K_LOSSLESS).data
    assert bytes(stream) in archive.store.read(held.blob.digest)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "something else"])
def test_a_copy_that_is_damaged_is_none(archive: Archive, damage: str) -> None:
    content = data.make_instance(data.Recipe(frames=2))
    (instance,) = arrive(archive, content)
    assert archive.recent is not None
    copy = archive.recent.folder / instance.data_set_digest.hex
    written = copy.read_bytes()
    copy.write_bytes({"truncated": written[:-1], "emptied": b"", "something else": b"x" * len(written)}[damage])
    assert b"".join(archive.retriever.as_received(instance).chunks) == content
    assert len(archive.retriever.frame(instance, 2, EXPLICIT_LE).data) * 2 == len(
        data.native_pixels(data.Recipe(frames=2))
    )


def test_nothing_stays_when_something_is_deleted(archive: Archive) -> None:
    one, other = (data.make_instance(data.Recipe(instance=number)) for number in (1, 2))
    instances = arrive(archive, one, other)
    archive.deleter().delete(sop_uid=instances[0].sop_uid, actor="TESTER", reason="a test")
    assert archive.recent is not None
    assert not any(archive.recent.folder.iterdir())


def test_without_a_server_or_room_nothing_is_kept(tmp_path: Path, memory: Path) -> None:
    with open_archive(tmp_path / "another", Settings(**HTJ2K)) as archive:
        assert archive.recent is None
        arrive(archive, data.make_instance(data.Recipe()))
    with open_archive(tmp_path / "archive", Settings(**HTJ2K, delivery={"recent_bytes": 0})) as archive:
        assert archive.recent is None


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    shared = tmp_path / "memory"
    shared.mkdir()
    with memory_folder_made(tmp_path / "archive", shared) as left:
        assert left is not None
        (left / "copy").write_bytes(b"one")
        with memory_folder_made(tmp_path / "archive", shared) as folder:
            assert folder == left
            assert not list(folder.iterdir())


def test_the_oldest_goes_when_it_is_too_much(tmp_path: Path) -> None:
    recent = Recent(tmp_path, room_bytes=10_000, keep_seconds=900)
    digests = [Digest.of(b"%d" % number) for number in range(12)]
    for age, digest in enumerate(reversed(digests)):
        recent.put(digest, bytes(1000))
        aged(recent, digest, 100.0 + age)
    assert recent.trim() < 10_000
    assert [recent.has(digest) for digest in digests] == [False] * 3 + [True] * 9
    aged(recent, digests[5], 901.0)
    recent.trim()
    assert not recent.has(digests[5])
    recent.clear()
    assert recent.trim() == 0


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    recent = Recent(tmp_path, room_bytes=8000, keep_seconds=900)
    recent.put(ONE, bytes(1001))
    recent.put(OTHER, bytes(1000))
    assert (recent.has(ONE), recent.has(OTHER)) == (False, True)


def test_parts_are_read_as_they_are_wanted(tmp_path: Path) -> None:
    recent = Recent(tmp_path, room_bytes=8000, keep_seconds=900)
    recent.put(ONE, b"head" + b"first." + b"second" + b"tail", Native(4, 6, 2))
    with recent.opened(ONE) as file:
        assert file is not None
        assert (file.read(), file.frame(1), file.frame(2)) == (b"headfirst.secondtail", b"first.", b"second")
    with recent.opened(OTHER) as file:
        assert file is None


def test_nobody_is_kept_waiting_by_memory_that_is_full_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent(tmp_path / "absent", room_bytes=8000, keep_seconds=900)
    recent.put(ONE, b"one")
    assert (recent.has(ONE), recent.trim()) == (False, 0)
    recent = Recent(tmp_path, room_bytes=8000, keep_seconds=900)
    monkeypatch.setattr(os, "writev", lambda *_: 5)
    recent.put(ONE, b"one")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_somebody_else_is_none(tmp_path: Path) -> None:
    data_folder, shared = tmp_path / "archive", tmp_path / "memory"
    shared.mkdir()
    assert memory_folder(data_folder, shared) is None
    with memory_folder_made(data_folder, shared) as folder:
        assert folder is not None
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert memory_folder(data_folder, shared) == folder
        folder.chmod(0o755)
        assert memory_folder(data_folder, shared) is None
    assert not folder.exists()
    folder.symlink_to(tmp_path)
    assert memory_folder(data_folder, shared) is None
    with memory_folder_made(data_folder, tmp_path / "absent") as none:
        assert none is None


def aged(recent: Recent, digest: Digest, seconds: float) -> None:
    """Make a copy as old as that."""
    then = time.time() - seconds
    os.utime(recent.folder / digest.hex, (then, then))
