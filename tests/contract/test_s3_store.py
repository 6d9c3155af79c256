"""The store suite on a real S3 server, and what only S3 has: parts, ranges, damage, a server that is away."""

from __future__ import annotations

import itertools
import pickle
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.store_suite import DATA, StoreSuite, Way, adopt, each_way, put, write
from leanpacs.errors import BlobCorrupt, BlobNotFound, NameTaken, StoreFull, StoreUnavailable
from leanpacs.refs import Digest, Tier
from leanpacs.storage.ranged import RangedFile
from leanpacs.storage.s3 import PART_BYTES, S3Place, S3Store
from s3_proxy import Answer, FaultProxy, Request, error
from s3_server import BUCKET, S3Server

WARM = Tier("warm")
LARGE = random.Random(3).randbytes(600_000)


def place(server: S3Server, **more: Any) -> S3Place:
    """A prefix of its own."""
    options: dict[str, Any] = server.options(**{"retries": 2, "retry_seconds": 2.0, **more})
    return S3Place(BUCKET, options.pop("url").rsplit("/", 1)[-1], **options)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy before the server."""
    one = FaultProxy(s3_server.endpoint)
    yield one
    one.close()


@pytest.fixture
def store(s3_server: S3Server, proxy: FaultProxy, tmp_path: Path) -> S3Store:
    """An empty store behind the proxy."""
    return S3Store(place(s3_server, endpoint=proxy.endpoint), WARM, tmp_path / "spool")


class TestS3Store(StoreSuite):
    @pytest.fixture
    def store(self, s3_server: S3Server, tmp_path: Path) -> Any:
        return S3Store(place(s3_server), WARM, tmp_path / "spool")

    def age(self, store: Any, digest: Digest) -> None:
        """Nobody but the server says when an object was put."""

    @each_way
    def test_the_same_bytes_are_kept_once_and_become_young(self, store: Any, way: Way) -> None:
        digest = way(store, DATA).digest
        (before,) = store.list()
        time.sleep(1.1)  # the server counts in seconds
        assert way(store, DATA).digest == digest
        (after,) = store.list()
        assert after.modified > before.modified
        assert store.read(digest) == DATA


# ---------------------------------------------------------------------------------------------- as S3 does


def test_store_is_a_plain_value_without_its_secret_in_print(store: S3Store) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert (again, hash(again)) == (store, hash(store))
    assert again.read(store.put(DATA).digest) == DATA
    assert store.place.secret_access_key not in repr(store)


@pytest.mark.parametrize("way", [put, write, adopt])
def test_large_blobs_go_up_in_parts(store: S3Store, proxy: FaultProxy, way: Way) -> None:
    data = random.Random(1).randbytes(2 * PART_BYTES + 5)
    ref = way(store, data)
    parts = [request for request in proxy.seen if "partNumber" in request.path]
    assert len(parts) == 3
    store.check(ref.digest)
    with store.open(ref.digest) as file:
        file.seek(PART_BYTES - 3)
        assert file.read(6) == data[PART_BYTES - 3 : PART_BYTES + 3]


def test_every_upload_carries_a_checksum(store: S3Store, proxy: FaultProxy) -> None:
    store.put(DATA)
    (request,) = [request for request in proxy.seen if request.method == "PUT"]
    assert "x-amz-checksum-sha256" in request.headers


def test_bytes_that_change_on_the_way_up_are_refused(s3_server: S3Server, store: S3Store) -> None:
    """The server compares what it gets with the checksum, and keeps nothing."""
    meddling = FaultProxy(s3_server.endpoint)
    try:
        original = meddling._pass_on

        def change(handler: Any, request: Request, asked: Answer) -> None:
            body = bytes([request.body[0] ^ 1]) + request.body[1:] if request.method == "PUT" else request.body
            original(handler, Request(request.method, request.path, request.headers, body), asked)

        meddling._pass_on = change  # type: ignore[method-assign]
        place_ = S3Place(**{**_fields(store.place), "endpoint": meddling.endpoint})
        with pytest.raises(StoreUnavailable):
            S3Store(place_, WARM, store.spool).put(DATA)
    finally:
        meddling.close()
    assert list(store.list()) == []


def _fields(value: S3Place) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"encryption": "AES256"}, "x-amz-server-side-encryption", "AES256"),
        ({"encryption": "aws:kms", "kms_key": "k"}, "x-amz-server-side-encryption-aws-kms-key-id", "k"),
        ({"storage_class": "STANDARD_IA"}, "x-amz-storage-class", "STANDARD_IA"),
    ],
)
def test_what_the_settings_ask_for_is_asked_of_the_server(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path, options: dict[str, str], header: str, value: str
) -> None:
    one = S3Store(place(s3_server, endpoint=proxy.endpoint, **options), WARM, tmp_path)
    with proxy.doing(lambda request: Answer(200, headers={"ETag": '"1"'}) if request.method == "PUT" else None):
        one.put(DATA)
    (request,) = [request for request in proxy.seen if request.method == "PUT"]
    assert request.headers[header] == value


def test_wrong_credentials_and_no_bucket_are_told(s3_server: S3Server, tmp_path: Path) -> None:
    digest = Digest.of(DATA)
    wrong = S3Store(place(s3_server, secret_access_key="wrong"), WARM, tmp_path)
    with pytest.raises(StoreUnavailable, match=r"403.*credentials"):
        wrong.put(DATA)
    nowhere = S3Store(S3Place(**{**_fields(place(s3_server)), "bucket": "no-such-bucket"}), WARM, tmp_path)
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        nowhere.read(digest, 0, 5)


def test_keepsakes_are_never_replaced_whoever_comes_first(store: S3Store) -> None:
    store.keep("dictionaries/7.dict", b"seven")
    store.keep("dictionaries/7.dict", b"seven")
    with pytest.raises(NameTaken):
        store.keep("dictionaries/7.dict", b"eight")
    with pytest.raises(ValueError, match="own"):
        store.keep("blobs/x", b"")
    assert store.kept("dictionaries/7.dict") == b"seven"


def test_many_blobs_are_removed_with_one_request(store: S3Store, proxy: FaultProxy) -> None:
    digests = [store.put(bytes([n])).digest for n in range(20)]
    before = len(proxy.seen)
    assert store.set_aside([*digests, Digest.of(b"absent")]) == []
    assert len(proxy.seen) == before + 1
    assert list(store.list()) == []


def test_a_frame_of_a_large_blob_costs_two_requests(store: S3Store, proxy: FaultProxy) -> None:
    digest = store.put(LARGE).digest
    before = len(proxy.seen)
    with store.open(digest) as file:
        file.seek(-22, 2)
        assert file.read() == LARGE[-22:]
        file.seek(1000)
        assert file.read(5000) == LARGE[1000:6000]
        file.seek(2000)
        assert file.read(10) == LARGE[2000:2010]
    assert len(proxy.seen) == before + 2


# --------------------------------------------------------------------------------------------- on bad days


def first(number: int, answer: Answer, method: str = "") -> Any:
    """A rule for the first requests (of a method) only."""
    counted = itertools.count()
    return lambda request: answer if method in ("", request.method) and next(counted) < number else None


@pytest.mark.parametrize("answer", [error(500, "InternalError"), error(503, "SlowDown")])
def test_what_passes_by_itself_is_not_noticed(store: S3Store, proxy: FaultProxy, answer: Answer) -> None:
    with proxy.doing(first(2, answer, "PUT")):
        digest = store.put(DATA).digest
    with proxy.doing(first(2, answer, "GET")):
        assert store.read(digest, 10, 100) == DATA[10:110]
    store.check(digest)


@each_way
@pytest.mark.parametrize("answer", [error(500, "InternalError"), error(503, "SlowDown")])
def test_what_does_not_pass_is_told_and_changes_nothing(
    store: S3Store, proxy: FaultProxy, way: Way, answer: Answer
) -> None:
    held = store.put(LARGE).digest
    with proxy.doing(lambda _: answer):
        with pytest.raises(StoreUnavailable, match=str(answer.status)) as caught:
            way(store, DATA)
        for ask in (store.read, store.open, store.size, store.exists, store.check):
            with pytest.raises(StoreUnavailable):
                ask(held)
        with pytest.raises(StoreUnavailable):
            list(store.list())
        with pytest.raises(StoreUnavailable):
            store.keep("dictionaries/7.dict", b"seven")
    assert caught.value.transient
    assert [stat.digest for stat in store.list()] == [held]
    assert store.read(way(store, DATA).digest) == DATA
    assert [path for path in store.spool.iterdir() if path.name.startswith("writer")] == []


def test_a_failed_adoption_leaves_the_file(store: S3Store, proxy: FaultProxy) -> None:
    path = store.spool_folder() / "file"
    path.write_bytes(DATA)
    with proxy.doing(lambda _: error(503, "SlowDown")), pytest.raises(StoreUnavailable):
        store.adopt(path)
    assert path.read_bytes() == DATA
    store.check(store.adopt(path).digest)


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.99])
def test_bodies_that_come_short_never_pass_as_whole(store: S3Store, proxy: FaultProxy, cut: float) -> None:
    digest = store.put(LARGE).digest
    with proxy.doing(lambda request: Answer(cut=cut) if request.method == "GET" else None):
        for ask in (
            lambda: store.read(digest),
            lambda: store.read(digest, 5, 5000),
            lambda: b"".join(store.chunks(digest)),
            lambda: store.open(digest).read(),
            lambda: store.check(digest),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
    assert store.read(digest) == LARGE


def test_one_short_body_is_fetched_again(store: S3Store, proxy: FaultProxy) -> None:
    digest = store.put(LARGE).digest
    with proxy.doing(first(1, Answer(cut=0.5), "GET")):
        assert b"".join(store.chunks(digest)) == LARGE


def test_damaged_bodies_are_found_by_the_check(store: S3Store, proxy: FaultProxy) -> None:
    digest = store.put(LARGE).digest
    damage = proxy.doing(lambda request: Answer(damage=True) if request.method == "GET" else None)
    with damage, pytest.raises(BlobCorrupt):
        store.check(digest)
    store.check(digest)


def test_a_full_server_is_full(store: S3Store, proxy: FaultProxy) -> None:
    with proxy.doing(lambda _: error(507, "InsufficientStorage")), pytest.raises(StoreFull):
        store.put(DATA)
    with proxy.doing(lambda _: error(403, "QuotaExceeded")), pytest.raises(StoreFull):
        store.put(DATA)
    store.check(store.put(DATA).digest)


def test_a_server_that_stands_still_is_given_up(s3_server: S3Server, tmp_path: Path) -> None:
    patient = place(s3_server)
    one = S3Store(patient, WARM, tmp_path)
    digest = one.put(DATA).digest
    hasty = S3Store(S3Place(**{**_fields(patient), "idle_seconds": 0.5, "retries": 0}), WARM, tmp_path)
    with s3_server.standing_still(), pytest.raises(StoreUnavailable):
        hasty.read(digest, 0, 5)
    assert one.read(digest) == DATA


def test_a_server_that_is_away_comes_back(s3_server: S3Server, store: S3Store, tmp_path: Path) -> None:
    passing = FaultProxy(s3_server.endpoint)
    one = S3Store(S3Place(**{**_fields(store.place), "endpoint": passing.endpoint, "retries": 0}), WARM, tmp_path)
    digest = one.put(DATA).digest
    passing.close()
    with pytest.raises(StoreUnavailable):
        one.read(digest, 0, 5)
    assert store.read(digest) == DATA
    with pytest.raises(BlobNotFound):
        store.read(Digest.of(b"never put"), 0, 5)


# ------------------------------------------------------------------------------------- a file over ranges


def test_a_ranged_file_reads_as_any_file_does() -> None:
    asked: list[tuple[int, int]] = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return LARGE[offset : offset + length]

    chance = random.Random(5)
    with RangedFile(fetch, len(LARGE), LARGE[-1000:]) as file:
        for _ in range(200):
            at, number = chance.randrange(len(LARGE) + 10), chance.choice([0, 1, 100, 70_000, 400_000])
            assert file.seek(at) == at
            assert file.read(number) == LARGE[at : at + number]
        assert all(0 <= offset < offset + length <= len(LARGE) - 1000 for offset, length in asked)
        asked.clear()
        file.seek(0)
        assert b"".join(iter(lambda: file.read(1000), b"")) == LARGE
        assert len(asked) < 4
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        buffer = bytearray(10)
        file.seek(-5, 2)
        assert file.readinto(buffer) == 5
        assert file.readall() == b""
