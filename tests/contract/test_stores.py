"""Every blob store against the suite, and two of them against one another."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule

from contract.store_suite import DATA, LONG_AGO, StoreSuite, adopt, each_way, put, write
from leanpacs.errors import BlobCorrupt, BlobNotFound, NameTaken, StoreFull, StoreUnavailable
from leanpacs.refs import HOT, Digest, Tier
from leanpacs.storage.local import LocalStore
from leanpacs.storage.memory import MemoryStore
from leanpacs.storage.store import BlobStore

Way = Callable[[BlobStore, bytes], Any]


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return MemoryStore()

    def age(self, store: Any, digest: Digest) -> None:
        store.age(digest, datetime(2001, 1, 1, tzinfo=UTC))


class TestLocalStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return LocalStore(tmp_path / "store", fsync=False)

    def age(self, store: Any, digest: Digest) -> None:
        os.utime(blob_path(store, digest), (10**9, 10**9))


def blob_path(store: LocalStore, digest: Digest) -> Path:
    """Where the documented layout has a blob."""
    return store.root / "blobs" / digest.hex[:2] / digest.hex


def everything(store: LocalStore) -> list[Path]:
    """All files of a store."""
    return sorted(path.relative_to(store.root) for path in store.root.rglob("*") if path.is_file())


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    """A store that syncs."""
    return LocalStore(tmp_path / "store")


# ------------------------------------------------------------------------------------------ local layout


@each_way
def test_layout_is_as_documented(local: LocalStore, way: Way) -> None:
    ref = way(local, DATA)
    local.keep("dictionaries/7.dict", b"seven")
    assert everything(local) == sorted(
        [Path("dictionaries/7.dict"), blob_path(local, ref.digest).relative_to(local.root)]
    )


def test_files_are_not_for_everybody(local: LocalStore) -> None:
    path = blob_path(local, local.put(DATA).digest)
    assert path.stat().st_mode & 0o007 == 0
    assert local.root.joinpath("blobs").stat().st_mode & 0o007 == 0


def test_store_is_a_plain_value(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a" / "b", Tier("warm"), fsync=False, minimum_free_bytes=5)
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert (again.tier, again.fsync, again.minimum_free_bytes) == ("warm", False, 5)
    assert again.read(store.put(DATA).digest) == DATA


def test_relative_root_survives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("store"))
    monkeypatch.chdir("/")
    assert store.read(store.put(DATA).digest) == DATA
    assert store.tier == HOT


def test_foreign_files_are_not_listed(local: LocalStore) -> None:
    digest = local.put(DATA).digest
    blob_path(local, digest).with_name("readme.txt").write_text("?")
    assert [stat.digest for stat in local.list()] == [digest]


def test_truncated_blob_is_replaced_by_good_bytes(local: LocalStore) -> None:
    digest = local.put(DATA).digest
    blob_path(local, digest).write_bytes(DATA[:100])
    with pytest.raises(BlobCorrupt):
        local.read(digest, 50, 100)
    local.put(DATA)
    assert local.read(digest) == DATA


@pytest.mark.parametrize("name", ["blobs/x", "tmp/x", "spool/x"])
def test_own_folders_hold_no_keepsakes(local: LocalStore, name: str) -> None:
    with pytest.raises(ValueError, match="own"):
        local.keep(name, b"")


def test_sweep_takes_what_a_killed_writer_left(local: LocalStore) -> None:
    with local.writer() as writer:
        writer.file.write(DATA)
        assert local.sweep_temporary(datetime.now(UTC) - timedelta(hours=1)) == 0
        assert local.sweep_temporary(datetime.now(UTC) + timedelta(hours=1)) == 1
        with pytest.raises(StoreUnavailable):
            writer.commit()
    assert everything(local) == []


def test_processes_share_a_store(local: LocalStore) -> None:
    contents = [bytes(n % 40) for n in range(80)]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        refs = list(pool.map(local.put, contents, chunksize=5))
    assert [ref.size_bytes for ref in refs] == [n % 40 for n in range(80)]
    assert sorted(stat.size_bytes for stat in local.list()) == list(range(40))


# ----------------------------------------------------------------------------------------- full and broken


def failing(code: int, after: int = 0) -> Callable[..., Any]:
    """Something that fails with an error of the operating system from the call after ``after`` on."""
    calls = 0

    def fail(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))

    return fail


@each_way
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(local: LocalStore, way: Way, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    local.spool_folder()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(code))
        with pytest.raises(StoreFull) as caught:
            way(local, DATA)
    assert caught.value.transient
    assert list(local.list()) == []
    assert [path for path in everything(local) if path.parts[0] != "spool"] == []
    assert local.read(way(local, DATA).digest) == DATA


def test_full_disk_while_the_caller_writes(local: LocalStore) -> None:
    with pytest.raises(StoreFull), local.writer():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert everything(local) == []


def test_other_errors_of_the_caller_pass(local: LocalStore) -> None:
    with pytest.raises(PermissionError), local.writer():
        raise PermissionError(errno.EACCES, "of a source file")
    assert everything(local) == []


@each_way
def test_room_is_kept_free(tmp_path: Path, way: Way) -> None:
    store = LocalStore(tmp_path / "store", minimum_free_bytes=1 << 60)
    with pytest.raises(StoreFull, match="would stay free"):
        way(store, DATA)
    with pytest.raises(StoreFull):
        store.keep("dictionaries/7.dict", b"")
    assert [path for path in everything(store) if path.parts[0] != "spool"] == []


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    digest = LocalStore(tmp_path / "store").put(DATA).digest
    assert LocalStore(tmp_path / "store", minimum_free_bytes=1 << 60).put(DATA).digest == digest


# Calls of fsync: the file, the folder of the new folder, the folder of the blob.
CRASHES = [
    *[(way, "fsync", calls) for way in (put, write, adopt) for calls in range(3)],
    *[(way, "rename", 0) for way in (put, write, adopt)],
]


@pytest.mark.parametrize(("way", "call", "after"), CRASHES)
def test_failure_at_each_step(
    local: LocalStore, way: Way, call: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the rename nothing is visible; after it all bytes are; trying again works."""
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(errno.EIO, after))
        with pytest.raises(StoreUnavailable):
            way(local, DATA)
    renamed = call == "fsync" and after == 2
    assert [stat.size_bytes for stat in local.list()] == ([len(DATA)] if renamed else [])
    left = [path for path in everything(local) if path.parts[0] == "tmp"]
    assert left == []
    assert local.read(way(local, DATA).digest) == DATA


@pytest.mark.parametrize("way", [put, write, adopt])
def test_killed_at_each_step(local: LocalStore, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends at any system call leaves at most files in tmp and spool, which a sweep removes."""
    for step in range(1, 12):
        child = os.fork()
        if child == 0:
            try:
                end_at(step)
                way(local, DATA + bytes([step]))
                os._exit(0)
            finally:
                os._exit(2)  # whatever goes wrong, do not go on as a second test run
        _, status = os.waitpid(child, 0)
        for stat in local.list():
            assert Digest.of(local.read(stat.digest)) == stat.digest
        local.sweep_temporary(datetime.now(UTC) + timedelta(hours=1))
        assert {path.parts[0] for path in everything(local)} <= {"blobs"}
        assert os.waitstatus_to_exitcode(status) < 2
        if os.waitstatus_to_exitcode(status) == 0:
            assert local.exists(Digest.of(DATA + bytes([step])))
            return
    pytest.fail("the steps do not end")


def end_at(step: int) -> None:
    """End this process at the given call of fsync, rename or unlink."""
    calls = 0

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                os._exit(1)
            return original(*args, **options)

        return count

    for name in ("fsync", "rename", "unlink"):
        setattr(os, name, counting(getattr(os, name)))


def test_renames_come_after_the_file_is_synced(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def note(*args: Any, **options: Any) -> Any:
            target = args[0] if name == "rename" else Path(f"/proc/self/fd/{args[0]}").readlink()
            done.append(f"{name} {Path(target).parent.name if name == 'rename' else Path(target).name}")
            return original(*args, **options)

        return note

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    digest = local.put(DATA).digest
    temporary, *rest = done
    assert temporary.startswith("fsync ")
    assert rest == ["fsync blobs", "rename tmp", f"fsync {digest.hex[:2]}"]
    done.clear()
    second = Digest.of(DATA)
    local.delete(second)
    local.put(DATA)
    assert done[1:] == ["rename tmp", f"fsync {second.hex[:2]}"]  # the folder is known by now


def test_without_fsync_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    store = LocalStore(tmp_path / "store", fsync=False)
    for way in (put, write, adopt):
        assert store.read(way(store, DATA).digest) == DATA


def test_adopt_across_file_systems(local: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "elsewhere"
    path.write_bytes(DATA)
    rename = os.rename

    def refuse(source: Any, target: Any) -> None:
        if Path(source) == path:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    assert local.read(local.adopt(path).digest) == DATA
    assert not path.exists()
    assert everything(local) == [blob_path(local, Digest.of(DATA)).relative_to(local.root)]


def test_adopt_that_fails_leaves_the_file(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = local.spool_folder() / "file"
    path.write_bytes(DATA)
    monkeypatch.setattr(os, "rename", failing(errno.ENOSPC))
    with pytest.raises(StoreFull):
        local.adopt(path)
    assert path.read_bytes() == DATA


def test_good_bytes_take_the_place_of_damaged_ones(local: LocalStore) -> None:
    ref = local.put(DATA)
    local._path(ref.digest).write_bytes(bytes(len(DATA)))
    path = local.spool_folder() / "again"
    path.write_bytes(DATA)
    assert local.adopt(path) == ref
    assert local.read(ref.digest) == DATA


def test_set_aside(local: LocalStore) -> None:
    ref = local.put(DATA)
    with local.open(ref.digest) as reader:
        (aside,) = local.set_aside([ref.digest])
        assert not local.exists(ref.digest)
        assert list(local.list()) == []
        assert reader.read() == DATA
    assert local.set_aside([ref.digest]) == []
    assert local.sweep_temporary(datetime.now(UTC) + timedelta(minutes=1)) == 1
    assert not aside.exists()


def test_adopt_of_nothing(local: LocalStore) -> None:
    with pytest.raises(StoreUnavailable):
        local.adopt(local.spool_folder() / "nothing")


def test_store_that_went_away(local: LocalStore) -> None:
    digest = local.put(DATA).digest
    local.root.rename(local.root.with_name("gone"))
    for ask in (local.read, local.open, local.size, local.exists, local.chunks):
        with pytest.raises(StoreUnavailable, match="mounted"):
            ask(digest)
    with pytest.raises(StoreUnavailable) as caught:
        local.put(b"new")
    assert caught.value.transient
    with pytest.raises(StoreUnavailable):
        list(local.list())


def test_a_store_that_is_not_to_be_made_waits_until_it_is_there(local: LocalStore) -> None:
    digest = local.put(DATA).digest
    gone = local.root.with_name("gone")
    local.root.rename(gone)
    waiting = LocalStore(local.root, make=False)
    assert not local.root.exists()
    with pytest.raises(StoreUnavailable):
        waiting.sweep_temporary(LONG_AGO)
    gone.rename(local.root)
    assert waiting.read(digest) == DATA
    assert waiting.read(waiting.put(b"new").digest) == b"new"
    assert pickle.loads(pickle.dumps(waiting)).make is False


# ------------------------------------------------------------------------------------------ side by side


class BothStores(RuleBasedStateMachine):
    """Whatever is done to them, the memory store and the local store say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores: tuple[BlobStore, BlobStore] = (
            MemoryStore(),
            LocalStore(Path(self.folder.name), fsync=False),
        )

    digests = Bundle("digests")

    def both(self, ask: Callable[[BlobStore], Any]) -> Any:
        """Ask both; answers and errors must be equal."""
        answers: list[Any] = []
        for store in self.stores:
            try:
                answers.append(ask(store))
            except (BlobNotFound, BlobCorrupt, NameTaken) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(target=digests, data=st.binary(max_size=40), way=st.sampled_from([put, write, adopt]))
    def put_blob(self, data: bytes, way: Way) -> Digest:
        digest: Digest = self.both(lambda store: way(store, data)).digest
        return digest

    @rule(data=st.binary(max_size=40))
    def begin_and_discard(self, data: bytes) -> None:
        for store in self.stores:
            with store.writer() as writer:
                writer.file.write(data)

    @rule(digest=digests)
    def delete(self, digest: Digest) -> None:
        self.both(lambda store: store.delete(digest))

    @rule(digest=digests, offset=st.integers(0, 50), length=st.none() | st.integers(0, 50))
    def read(self, digest: Digest, offset: int, length: int | None) -> None:
        self.both(lambda store: store.read(digest, offset, length))
        self.both(lambda store: b"".join(store.chunks(digest, offset, length, size=3)))

    @rule(digest=digests)
    def ask(self, digest: Digest) -> None:
        self.both(lambda store: store.exists(digest))
        self.both(lambda store: store.size(digest))

    @rule(name=st.sampled_from(["a/b", "a/c", "b/b"]), data=st.binary(max_size=2))
    def keep(self, name: str, data: bytes) -> None:
        self.both(lambda store: store.keep(name, data))
        self.both(lambda store: store.kept(name))

    @rule()
    def sweep(self) -> None:
        self.both(lambda store: store.sweep_temporary(datetime.now(UTC) + timedelta(hours=1)))

    @rule()
    def compare_lists(self) -> None:
        self.both(lambda store: sorted((stat.digest, stat.size_bytes) for stat in store.list()))
        self.both(lambda store: list(store.kept_names()))

    def teardown(self) -> None:
        self.compare_lists()
        self.folder.cleanup()


TestBothStores = BothStores.TestCase
TestBothStores.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
