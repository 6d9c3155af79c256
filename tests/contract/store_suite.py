"""What every blob store must do; a test class for each implementation subclasses this."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leanpacs.errors import BlobCorrupt, BlobNotFound, NameTaken
from leanpacs.refs import Digest
from leanpacs.storage.store import BlobStore

DATA = bytes(range(256)) * 9
FUTURE = timedelta(days=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def write(store: BlobStore, data: bytes) -> Any:
    """Put by a writer."""
    with store.writer() as writer:
        writer.file.write(data)
        return writer.commit()


def adopt(store: BlobStore, data: bytes) -> Any:
    """Put by adopting a spooled file."""
    path = store.spool_folder() / f"spooled-{hashlib.sha256(data).hexdigest()}"
    path.write_bytes(data)
    ref = store.adopt(path)
    assert not path.exists()
    return ref


def put(store: BlobStore, data: bytes) -> Any:
    """Put at once."""
    return store.put(data)


each_way = pytest.mark.parametrize("way", [put, write, adopt])
Way = Callable[[BlobStore, bytes], Any]


class StoreSuite:
    """Subclasses give ``store`` and ``age``."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        """An empty store."""
        raise NotImplementedError

    def age(self, store: Any, digest: Digest) -> None:
        """Make a blob look as if it had been put long ago."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------ blobs

    @each_way
    @pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(3 << 20)], ids=["empty", "byte", "small", "large"])
    def test_what_is_put_is_given_back(self, store: BlobStore, way: Way, data: bytes) -> None:
        ref = way(store, data)
        assert (ref.tier, ref.digest, ref.size_bytes) == (store.tier, Digest.of(data), len(data))
        assert store.read(ref.digest) == data
        assert store.size(ref.digest) == len(data)
        assert store.exists(ref.digest)

    @each_way
    def test_the_same_bytes_are_kept_once_and_become_young(self, store: BlobStore, way: Way) -> None:
        digest = way(store, DATA).digest
        self.age(store, digest)
        (before,) = store.list()
        assert before.modified.year < 2020
        assert way(store, DATA).digest == digest
        (after,) = store.list()
        assert (after.digest, after.size_bytes) == (digest, len(DATA))
        assert abs(datetime.now(UTC) - after.modified) < FUTURE
        assert store.read(digest) == DATA

    @pytest.mark.parametrize("length", [None, 0, 1, 100])
    @pytest.mark.parametrize("offset", [0, 1, 1000])
    def test_ranges(self, store: BlobStore, offset: int, length: int | None) -> None:
        digest = store.put(DATA).digest
        expected = DATA[offset:] if length is None else DATA[offset : offset + length]
        assert store.read(digest, offset, length) == expected
        pieces = list(store.chunks(digest, offset, length, size=7))
        assert b"".join(pieces) == expected
        assert all(0 < len(piece) <= 7 for piece in pieces)

    def test_ranges_up_to_the_end(self, store: BlobStore) -> None:
        digest = store.put(DATA).digest
        assert store.read(digest, len(DATA)) == b""
        assert store.read(digest, len(DATA), 0) == b""
        assert store.read(digest, len(DATA) - 1, 1) == DATA[-1:]

    @pytest.mark.parametrize(("offset", "length"), [(0, len(DATA) + 1), (len(DATA), 1), (len(DATA) + 1, None)])
    def test_ranges_beyond_the_end_are_damage(self, store: BlobStore, offset: int, length: int | None) -> None:
        digest = store.put(DATA).digest
        with pytest.raises(BlobCorrupt) as caught:
            store.read(digest, offset, length)
        assert caught.value.digest == digest.hex
        with pytest.raises(BlobCorrupt):
            store.chunks(digest, offset, length)

    @pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1)])
    def test_negative_ranges_are_mistakes(self, store: BlobStore, offset: int, length: int | None) -> None:
        with pytest.raises(ValueError, match="negative"):
            store.read(store.put(DATA).digest, offset, length)

    def test_open_is_seekable(self, store: BlobStore) -> None:
        with store.open(store.put(DATA).digest) as file:
            file.seek(-5, 2)
            assert file.read() == DATA[-5:]
            file.seek(10)
            assert file.read(3) == DATA[10:13]

    def test_absent_blobs(self, store: BlobStore) -> None:
        digest = Digest.of(b"never put")
        assert not store.exists(digest)
        for ask in (store.read, store.open, store.size, store.chunks):
            with pytest.raises(BlobNotFound) as caught:
                ask(digest)
            assert caught.value.digest == digest.hex
            assert not caught.value.transient
        store.delete(digest)

    @each_way
    def test_delete_and_put_again(self, store: BlobStore, way: Way) -> None:
        digest = way(store, DATA).digest
        store.delete(digest)
        assert not store.exists(digest)
        assert list(store.list()) == []
        assert way(store, DATA).digest == digest
        assert store.read(digest) == DATA

    def test_list(self, store: BlobStore) -> None:
        assert list(store.list()) == []
        sizes = {store.put(bytes([n]) * n).digest: n for n in range(40)}
        listed = {stat.digest: stat.size_bytes for stat in store.list()}
        assert listed == sizes
        assert all(stat.modified.tzinfo for stat in store.list())

    # ---------------------------------------------------------------------------------- writers

    def test_writer_takes_seeks(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.file.write(b"____world")
            writer.file.seek(0)
            writer.file.write(b"hell")
            writer.file.seek(4)
            assert writer.file.read() == b"world"
            ref = writer.commit()
        assert store.read(ref.digest) == b"hellworld"

    def test_writer_takes_truncation(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.file.write(DATA)
            writer.file.seek(0)
            writer.file.truncate()
            writer.file.write(b"anew")
            assert store.read(writer.commit().digest) == b"anew"

    def test_nothing_is_there_before_commit(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.file.write(DATA)
            writer.file.flush()
            assert list(store.list()) == []
            writer.commit()
        assert len(list(store.list())) == 1

    def test_writer_without_commit_discards(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.file.write(DATA)
        assert list(store.list()) == []

    def test_writer_with_an_error_discards_and_passes_it_on(self, store: BlobStore) -> None:
        def fail() -> None:
            with store.writer() as writer:
                writer.file.write(DATA)
                raise KeyError("of the caller")

        with pytest.raises(KeyError):
            fail()
        assert list(store.list()) == []

    def test_writer_commits_once(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.commit()
            with pytest.raises(ValueError, match="closed"):
                writer.commit()

    def test_adopt_trusts_a_digest(self, store: BlobStore) -> None:
        path = store.spool_folder() / "file"
        path.write_bytes(DATA)
        assert store.adopt(path, Digest.of(DATA)).digest == Digest.of(DATA)
        assert store.read(Digest.of(DATA)) == DATA

    def test_adopt_several(self, store: BlobStore) -> None:
        paths = [store.spool_folder() / str(number) for number in range(4)]
        contents = [b"one", DATA, b"three", DATA]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        digests = [None, Digest.of(DATA), None, Digest.of(DATA)]
        refs = store.adopt_all(list(zip(paths, digests, strict=True)))
        assert [store.read(ref.digest) for ref in refs] == contents
        assert [ref.size_bytes for ref in refs] == [len(content) for content in contents]
        assert not any(path.exists() for path in paths)

    def test_adopt_from_elsewhere(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "elsewhere"
        path.write_bytes(DATA)
        assert store.read(store.adopt(path).digest) == DATA
        assert not path.exists()

    @each_way
    def test_many_threads_put_the_same_and_others(self, store: BlobStore, way: Way) -> None:
        contents = [bytes([n % 4]) * (10_000 + n % 4) for n in range(32)]
        if way is adopt:
            contents = contents[:4]  # one file is adopted once
        with ThreadPoolExecutor(8) as pool:
            refs = list(pool.map(lambda data: way(store, data), contents))
        assert len(list(store.list())) == 4
        for ref, data in zip(refs, contents, strict=True):
            assert store.read(ref.digest) == data

    # ------------------------------------------------------------------------------- keepsakes

    def test_keepsakes(self, store: BlobStore) -> None:
        assert list(store.kept_names()) == []
        store.keep("dictionaries/7.dict", b"seven")
        store.keep("dictionaries/7.dict", b"seven")
        store.keep("dictionaries/7.json", b"{}")
        store.keep("other/A-b_c.1", b"")
        assert list(store.kept_names()) == ["dictionaries/7.dict", "dictionaries/7.json", "other/A-b_c.1"]
        assert store.kept("dictionaries/7.dict") == b"seven"
        assert store.kept("other/A-b_c.1") == b""
        assert list(store.list()) == []

    def test_keepsakes_never_change(self, store: BlobStore) -> None:
        store.keep("dictionaries/7.dict", b"seven")
        with pytest.raises(NameTaken) as caught:
            store.keep("dictionaries/7.dict", b"eight")
        assert caught.value.name == "dictionaries/7.dict"
        assert store.kept("dictionaries/7.dict") == b"seven"

    def test_absent_keepsakes(self, store: BlobStore) -> None:
        with pytest.raises(BlobNotFound):
            store.kept("dictionaries/8.dict")

    @pytest.mark.parametrize(
        "name", ["", "plain", "a/b/c", "../x", "a/..", "a/.b", "/a/b", "a//b", "a/b\n", "a\\b/c", "ä/b", "a/b c"]
    )
    def test_names_that_are_not_safe(self, store: BlobStore, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            store.keep(name, b"")
        with pytest.raises(ValueError, match="name"):
            store.kept(name)

    def test_many_threads_keep_one_name(self, store: BlobStore) -> None:
        def keep(content: bytes) -> bool:
            try:
                store.keep("race/winner", content)
            except NameTaken:
                return False
            return True

        contents = [bytes([n % 4]) for n in range(16)]
        with ThreadPoolExecutor(8) as pool:
            kept = list(pool.map(keep, contents))
        winner = store.kept("race/winner")
        assert kept == [content == winner for content in contents]

    # --------------------------------------------------------------------------------- sweeping

    def test_sweep_removes_only_what_is_old_and_unfinished(self, store: BlobStore) -> None:
        digest = store.put(DATA).digest
        self.age(store, digest)
        store.keep("dictionaries/7.dict", b"seven")
        left = store.spool_folder() / "left"
        left.write_bytes(DATA)
        assert store.sweep_temporary(LONG_AGO) == 0
        assert left.exists()
        assert store.sweep_temporary(datetime.now(UTC) + FUTURE) == 1
        assert not left.exists()
        assert store.read(digest) == DATA
        assert list(store.kept_names()) == ["dictionaries/7.dict"]

    def test_free_bytes_is_a_number_or_unknown(self, store: BlobStore) -> None:
        free = store.free_bytes()
        assert free is None or free > 0
