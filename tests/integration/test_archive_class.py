"""Archive classes: what must be asked for before it can be read is asked for, told of, brought back and let go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

import data
from dimse_peer import door
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.catalog import Query
from leanpacs.config import Settings
from leanpacs.errors import BeingRestored, BlobNotFound, StoreUnavailable
from leanpacs.refs import HOT, Digest, Tier
from leanpacs.storage.archiveclass import ArchiveStore, DelayedRestoring
from leanpacs.storage.glacier import S3Restoring, request, signed
from leanpacs.storage.memory import MemoryStore
from leanpacs.storage.s3 import S3Place, S3Store, blob_key
from leanpacs.storage.store import Availability
from s3_proxy import Answer, FaultProxy, Request
from s3_server import BUCKET, S3Server
from serving import Server
from tiered import RESTORE_SECONDS, forms, given_back, take_in, tiers, time_passes

COLD = Tier("cold")


def settings_of(folder: Path, **cold: Any) -> Settings:
    tier = {
        "kind": "archive",
        "url": str(folder / "cold"),
        "restore_seconds": RESTORE_SECONDS,
        "restore_days": 3,
        **cold,
    }
    return Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0}, tiers={"cold": tier})


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive with a tier from which nothing comes within an hour."""
    with open_archive(tmp_path / "archive", settings_of(tmp_path)) as opened:
        yield opened


def study(archive: Archive, number: int = 3) -> dict[str, bytes]:
    """Instances of one study, settled and moved to the archive class; contents by SOP Instance UID."""
    contents = [data.make_instance(data.Recipe(instance=n)) for n in range(number)]
    held = {take_in(archive, content): content for content in contents}
    for uid in held:
        archive.placer().move(forms(archive, uid), COLD)
    archive.deleter().sweep(datetime.now(UTC))
    assert list(archive.store.list()) == []
    return held


def availability(archive: Archive, level: str) -> set[str]:
    found: list[Any] = getattr(
        archive.catalog, {"study": "find_studies", "series": "find_series", "instance": "find_instances"}[level]
    )(Query(level))
    return {row.availability for row in found}


def test_reading_one_instance_asks_for_its_whole_study(archive: Archive, tmp_path: Path) -> None:
    held = study(archive)
    first, *others = held
    with pytest.raises(BeingRestored) as caught:
        given_back(archive, first)
    assert (caught.value.tier, caught.value.seconds, caught.value.transient) == (COLD, RESTORE_SECONDS, True)
    assert len(archive.catalog.restores()) == 3
    restorer = archive.restorer()
    assert (restorer.round().brought, restorer.round().waiting) == (0, 3)
    time_passes(tmp_path / "archive")
    assert restorer.round().brought == 3
    assert restorer.round() == type(restorer.round())()
    for uid in (first, *others):
        assert tiers(archive, uid) == ["cold", "hot"]
        assert given_back(archive, uid) == held[uid]


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_searches_tell_how_available_it_is(archive: Archive, tmp_path: Path, level: str) -> None:
    held = study(archive, 2)
    assert availability(archive, level) == {"NEARLINE"}
    take_in(archive, data.make_instance(data.Recipe(instance=7)))
    expected = {"NEARLINE", "ONLINE"} if level == "instance" else {"NEARLINE"}  # the least available one counts
    assert availability(archive, level) == expected
    for uid in held:
        archive.stores.at(COLD).restore(forms(archive, uid)[0].blob.digest)
        time_passes(tmp_path / "archive")
        archive.placer().copy(forms(archive, uid), HOT)
    assert availability(archive, level) == {"ONLINE"}


def test_offline_and_unknown_tiers_are_told_apart(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive", settings_of(tmp_path, offline=True)) as archive:
        study(archive, 1)
        assert availability(archive, "study") == {"OFFLINE"}
    other = {"other": {"kind": "archive", "url": str(tmp_path / "other")}}
    with open_archive(tmp_path / "archive", Settings(storage={"minimum_free_bytes": 0}, tiers=other)) as archive:
        assert availability(archive, "study") == {"UNAVAILABLE"}


def test_what_was_brought_back_is_let_go_again(archive: Archive, tmp_path: Path) -> None:
    ((uid, content),) = study(archive, 1).items()
    with pytest.raises(BeingRestored):
        given_back(archive, uid)
    time_passes(tmp_path / "archive")
    assert archive.restorer().round().brought == 1
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (2, 4))
    assert archive.restorer(lambda: soon).round().let_go == 0
    assert archive.restorer(lambda: later).round().let_go == 1
    assert tiers(archive, uid) == ["cold"]
    assert archive.catalog.restores() == []
    archive.stores.at(COLD).restore(forms(archive, uid)[0].blob.digest)
    assert given_back(archive, uid) == content  # the copy in the class itself can still be read


def test_what_is_there_at_once_is_given_at_once(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive", settings_of(tmp_path, restore_seconds=0)) as archive:
        ((uid, content),) = study(archive, 1).items()
        assert given_back(archive, uid) == content


def test_a_deleted_study_is_no_longer_waited_for(archive: Archive) -> None:
    uid = next(iter(study(archive)))
    with pytest.raises(BeingRestored):
        given_back(archive, uid)
    archive.deleter().delete(study_uid=data.uid("study", 0), actor="me", reason="test")
    assert archive.catalog.restores() == []
    assert archive.restorer().round().waiting == 0


def test_checks_make_nobody_wait(archive: Archive) -> None:
    study(archive, 2)
    verifier = archive.verifier()
    outcomes = list(verifier.run(verifier.checks(100), 1))
    assert [outcome.problem for outcome in outcomes] == ["", ""]
    assert archive.catalog.restores() == []


def test_a_store_of_its_own_kind() -> None:
    store = ArchiveStore(MemoryStore(COLD), DelayedRestoring(Path("/nonexistent"), 5.0, 5.0), Availability.OFFLINE)
    digest = store.put(b"cold").digest
    assert (store.tier, store.availability, store.exists(digest), store.size(digest)) == (COLD, "OFFLINE", True, 4)
    for ask in (store.read, store.open, store.chunks):
        with pytest.raises(BeingRestored) as caught:
            ask(digest)
        assert caught.value.seconds is None
        with pytest.raises(BlobNotFound):
            ask(Digest.of(b"never put"))
    with pytest.raises(BlobNotFound):
        store.restore(Digest.of(b"never put"))
    store.keep("dictionaries/7.dict", b"seven")
    assert store.kept("dictionaries/7.dict") == b"seven"
    store.check(digest)


# ------------------------------------------------------------------------- the archive classes of S3


class Glacier:
    """A rule for the proxy: objects put with an archive class cannot be read until they were restored."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.archived: set[str] = set()
        self.asked: list[Request] = []
        self.done = False

    def __call__(self, asked: Request) -> Answer | None:
        path = asked.path.split("?")[0]
        if asked.method == "PUT" and asked.headers.get("x-amz-storage-class") == "GLACIER":
            self.archived.add(path)
        if path not in self.archived:
            return None
        if asked.method == "POST" and asked.path.endswith("?restore="):
            self.asked.append(asked)
            return Answer(202 if len(self.asked) == 1 else 409)
        if asked.method == "HEAD":
            ongoing = {"x-amz-restore": f'ongoing-request="{str(not self.done).lower()}"'} if self.asked else {}
            return Answer(headers={"x-amz-storage-class": "GLACIER", **ongoing})
        if asked.method == "GET" and not (self.asked and self.done):
            return Answer(403, b"<Error><Code>InvalidObjectState</Code></Error>")
        return None


@pytest.fixture
def glacier(s3_server: S3Server) -> Iterator[tuple[FaultProxy, Glacier]]:
    """A real server that keeps what it is given, behind a proxy that plays the archive class."""
    proxy = FaultProxy(s3_server.endpoint)
    rule = Glacier(proxy.endpoint)
    with proxy.doing(rule):
        yield proxy, rule
    proxy.close()


def test_objects_of_an_archive_class_are_restored(
    s3_server: S3Server, glacier: tuple[FaultProxy, Glacier], tmp_path: Path
) -> None:
    proxy, rule = glacier
    cold = s3_server.options(endpoint=proxy.endpoint, storage_class="GLACIER", restore_speed="Bulk", restore_seconds=0)
    with open_archive(tmp_path / "archive", settings_of(tmp_path, **cold)) as archive:
        ((uid, content),) = study(archive, 1).items()
        assert len(rule.archived) == 1  # and no dictionary: these must be readable without asking
        with pytest.raises(BeingRestored) as caught:
            given_back(archive, uid)
        assert caught.value.seconds == 12 * 3600
        assert b"<Days>3</Days>" in rule.asked[0].body
        assert b"<Tier>Bulk</Tier>" in rule.asked[0].body
        assert archive.restorer().round().waiting == 1
        assert len(rule.asked) == 1
        rule.done = True
        assert archive.restorer().round().brought == 1
        assert given_back(archive, uid) == content


def place(server: S3Server, **more: Any) -> S3Place:
    options: dict[str, Any] = server.options(storage_class="STANDARD", **more)
    return S3Place(BUCKET, options.pop("url").rsplit("/", 1)[-1], **options)


def test_signatures_are_those_the_server_makes(s3_server: S3Server, tmp_path: Path) -> None:
    """The server refuses a request that is signed otherwise."""
    here = place(s3_server)
    digest = S3Store(here, COLD, tmp_path).put(b"cold").digest
    status, headers, _ = request(here, "HEAD", blob_key(digest), more={"x-amz-checksum-mode": "ENABLED"})
    assert (status, headers["content-length"]) == (200, "4")
    status, _, text = request(here, "GET", blob_key(digest))
    assert (status, text) == (200, "cold")
    wrong = S3Place(**{name: getattr(here, name) for name in here.__slots__} | {"secret_access_key": "wrong"})
    assert request(wrong, "HEAD", blob_key(digest))[0] == 403
    assert request(here, "POST", blob_key(digest), query="uploads=", body=b"")[0] == 200
    assert request(wrong, "POST", blob_key(digest), query="uploads=", body=b"")[0] == 403


def test_the_example_of_the_documentation() -> None:
    """Amazon S3 API reference, Signature calculations: example GET object."""
    here = S3Place(
        "examplebucket",
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    host = "examplebucket.s3.amazonaws.com"
    headers = signed(here, "GET", host, "/test.txt", "", b"", {"range": "bytes=0-9"}, moment)
    assert headers["authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_the_server_tells_of_an_object_with_other_bytes(s3_server: S3Server, tmp_path: Path) -> None:
    here = place(s3_server)
    store = S3Store(here, COLD, tmp_path)
    restoring = S3Restoring(S3Place(**_fields(here) | {"storage_class": "GLACIER"}), 3, "Standard")
    digest = store.put(b"cold").digest
    restoring.check(store, digest)
    assert restoring.seconds_left(digest) == 0.0  # the server has it in no archive class
    with pytest.raises(BlobNotFound):
        restoring.check(store, Digest.of(b"never put"))


def _fields(value: S3Place) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def test_a_server_that_is_away_is_told(s3_server: S3Server, tmp_path: Path) -> None:
    away = S3Place(**_fields(place(s3_server)) | {"endpoint": "http://127.0.0.1:9", "storage_class": "GLACIER"})
    restoring = S3Restoring(away, 3, "Standard")
    with pytest.raises(StoreUnavailable):
        restoring.seconds_left(Digest.of(b"cold"))


# ------------------------------------------------------------------------------------- through the doors


def leanpacs(*arguments: str, environment: dict[str, str]) -> Any:
    """What the installed command prints as JSON."""
    command = [sys.executable, "-m", "leanpacs", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_server_brings_back_what_viewers_ask_for(tmp_path: Path) -> None:
    cold = {"kind": "archive", "url": str(tmp_path / "cold"), "restore_seconds": RESTORE_SECONDS}
    environment = os.environ | {
        "LEANPACS_TIERS__COLD": json.dumps(cold),
        "LEANPACS_DELIVERY__RESTORE_POLL_SECONDS": "0.2",
        "LEANPACS_DELETE__GRACE_SECONDS": "0",
        "LEANPACS_DIMSE__RESTORE_WAIT_SECONDS": "1",
        "LEANPACS_STORAGE__MINIMUM_FREE_BYTES": "0",
    }
    folder, files = tmp_path / "archive", tmp_path / "files"
    files.mkdir()
    for number in range(2):
        (files / f"{number}.dcm").write_bytes(data.make_instance(data.Recipe(instance=number)))
    leanpacs("import", str(files), "--data", str(folder), environment=environment)
    study_uid = data.uid("study", 0)
    moved = leanpacs("tier", "move", study_uid, "cold", "--data", str(folder), environment=environment)
    assert (moved["forms"], moved["blobs"], moved["problems"]) == (2, 2, [])
    listed = leanpacs("tier", "list", "--data", str(folder), environment=environment)
    assert {line["tier"]: line["blobs"] for line in listed["tiers"]} == {"hot": 0, "cold": 2}
    with Server(folder, environment=environment) as server:
        base = f"{server.http}dicom-web"
        with httpx.Client(headers={"accept": "*/*"}) as client:
            assert _availability(client, base) == {"NEARLINE"}
            assert _found(server, study_uid) == ["NEARLINE"]
            assert _got((server.host, server.port), study_uid) == (0xA702, 2)  # it would take longer than it may
            answer = client.get(f"{base}/studies/{study_uid}")
            assert answer.status_code == 503
            assert 1 <= int(answer.headers["retry-after"]) <= RESTORE_SECONDS
            assert "brought back" in answer.json()["detail"]
            time_passes(folder)
            deadline = time.monotonic() + 60
            while (answer := client.get(f"{base}/studies/{study_uid}")).status_code == 503:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert answer.status_code == 200
            while _availability(client, base) != {"ONLINE"}:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert _found(server, study_uid) == ["ONLINE"]
            assert _got((server.host, server.port), study_uid) == (0x0000, 0)


def test_a_retrieval_waits_for_what_comes_soon(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive", settings_of(tmp_path, restore_seconds=2.0)) as archive:
        study(archive, 2)
        with door(archive, holdings=archive, restore_wait_seconds=60.0) as address:
            assert _got(address, data.uid("study", 0)) == (0x0000, 0)


def test_nobody_waits_for_what_takes_long(archive: Archive) -> None:
    study(archive, 2)
    with door(archive, holdings=archive, restore_wait_seconds=60.0) as address:
        assert _got(address, data.uid("study", 0)) == (0xA702, 2)
    assert len(archive.catalog.restores()) == 2


def _availability(client: httpx.Client, base: str) -> set[str]:
    found = client.get(f"{base}/instances", headers={"accept": "application/dicom+json"}).json()
    return {row["00080056"]["Value"][0] for row in found}


def _query(study_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_uid
    return query


def _found(server: Server, study_uid: str) -> list[str]:
    query = _query(study_uid)
    query.InstanceAvailability = ""
    ae = AE("FINDER")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = ae.associate(server.host, server.port, ae_title=server.ae_title)
    answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
    association.release()
    return [ds.InstanceAvailability for _, ds in answers if ds is not None]


def _got(address: tuple[str, int], study_uid: str) -> tuple[int, int]:
    """Final status of a C-GET, and the number of instances that failed."""
    ae = AE("GETTER")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage, [data.EXPLICIT_LE])
    roles = [build_role(CTImageStorage, scp_role=True)]
    handlers = [(evt.EVT_C_STORE, lambda _: 0)]
    association = ae.associate(*address, ext_neg=roles, evt_handlers=handlers)
    answers = list(association.send_c_get(_query(study_uid), StudyRootQueryRetrieveInformationModelGet))
    association.release()
    status, _ = answers[-1]
    return status.Status, status.NumberOfFailedSuboperations
