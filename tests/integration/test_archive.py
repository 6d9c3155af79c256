"""The archive end to end on its own interfaces: what goes in comes out again, bit for bit, and is proven on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import Kind, RepresentationRow
from leanpacs.config import Settings
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.errors import InstanceNotFound
from leanpacs.storage.dictionary import load_all


class Inline(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    """An empty archive with the default settings."""
    with open_archive(tmp_path / "archive", SETTINGS) as opened:
        yield opened


SETTINGS = Settings(storage={"minimum_free_bytes": 0}, delete={"grace_seconds": 0})


def take_in(archive: Archive, content: bytes, **facts: Any) -> Receipt:
    """Land bytes as a door does."""
    path = archive.spool_folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    receipt = archive.land(Incoming(path, "TESTER", "import", **facts))
    assert not path.exists()
    return receipt


def settle(archive: Archive) -> None:
    """Settle all that has landed, in this process."""
    settler = Settler(
        archive.store, archive.catalog, archive.settings.settle, limit_inflated_bytes=1 << 30, executor=Inline
    )
    settler.drain()
    assert archive.catalog.backlog().count == 0


def given_back(archive: Archive, sop_uid: str) -> bytes:
    """The exact bytes that were received."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    part = archive.retriever.as_received(instance)
    content = b"".join(part.chunks)
    assert part.length == len(content)
    return content


def test_landed_and_settled_instances_are_given_back_as_received(archive: Archive) -> None:
    content = data.make_instance(data.Recipe())
    receipt = take_in(archive, content)
    assert receipt.outcome is Outcome.STORED
    assert given_back(archive, receipt.sop_uid) == content
    settle(archive)
    assert given_back(archive, receipt.sop_uid) == content
    (instance,) = archive.catalog.instances(sop_uid=receipt.sop_uid)
    (held,) = archive.catalog.representations(instance.id)
    assert held.kind is Kind.PACK
    assert held.evidence.data_set_digest == instance.data_set_digest
    assert held.evidence.verified_at is not None
    assert [stat.digest for stat in archive.store.list()] == [held.blob.digest]


def test_the_same_bytes_are_stored_once_and_acknowledged(archive: Archive) -> None:
    content = data.make_instance(data.Recipe())
    assert take_in(archive, content).outcome is Outcome.STORED
    assert take_in(archive, content).outcome is Outcome.DUPLICATE
    settle(archive)
    assert take_in(archive, content).outcome is Outcome.DUPLICATE
    archive.deleter().sweep(datetime.now(UTC))
    assert len(list(archive.store.list())) == 1
    assert given_back(archive, data.make_data_set(data.Recipe()).SOPInstanceUID) == content


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("refuse", Outcome.REFUSED), ("keep", Outcome.KEPT_BOTH), ("replace", Outcome.REPLACED)],
)
def test_other_bytes_under_a_held_uid_follow_the_policy(tmp_path: Path, policy: str, outcome: Outcome) -> None:
    chosen = SETTINGS.model_copy(update={"ingest": SETTINGS.ingest.model_copy(update={"duplicates": policy})})
    first = data.make_instance(data.Recipe(seed=1))
    other = data.make_instance(data.Recipe(seed=2))
    with open_archive(tmp_path, chosen) as archive:
        held = take_in(archive, first)
        settle(archive)
        receipt = take_in(archive, other)
        settle(archive)
        assert (receipt.outcome, receipt.sop_uid) == (outcome, held.sop_uid)
        assert given_back(archive, held.sop_uid) == (other if policy == "replace" else first)
        assert len(archive.catalog.quarantined()) == (policy == "keep")


def test_what_is_no_dicom_is_kept_in_quarantine(archive: Archive) -> None:
    receipt = take_in(archive, b"this is no image" * 50, name="letter.dcm")
    assert receipt.outcome is Outcome.QUARANTINED
    assert receipt.reason
    (row,) = archive.catalog.quarantined()
    assert (row.name, row.reason) == ("letter.dcm", receipt.reason)
    assert archive.store.read(row.blob.digest) == b"this is no image" * 50


def test_a_deleted_instance_is_gone_and_its_bytes_are_swept(archive: Archive) -> None:
    receipt = take_in(archive, data.make_instance(data.Recipe()))
    settle(archive)
    deleted = archive.deleter().delete(sop_uid=receipt.sop_uid, actor="me", reason="test")
    assert deleted.instances == 1
    assert archive.catalog.instances(sop_uid=receipt.sop_uid) == []
    assert archive.deleter().sweep(datetime.now(UTC)) == 1
    assert list(archive.store.list()) == []
    with pytest.raises(InstanceNotFound):
        archive.deleter().delete(sop_uid=receipt.sop_uid, actor="me", reason="again")


def test_orphans_are_swept_and_nothing_else(archive: Archive) -> None:
    receipt = take_in(archive, data.make_instance(data.Recipe()))
    archive.store.put(b"left by a crash")
    assert archive.deleter().sweep_orphans(datetime.now(UTC)) == 1
    settle(archive)
    assert given_back(archive, receipt.sop_uid)


@given(recipe=st.deferred(lambda: RECIPES))
@settings(max_examples=int(os.environ.get("LEANPACS_TEST_EXAMPLES", "60")), suppress_health_check=list(HealthCheck))
def test_generated_instances_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, recipe: data.Recipe) -> None:
    folder = tmp_path_factory.mktemp("generated")
    content = data.make_instance(recipe)
    try:
        with open_archive(folder, SETTINGS) as archive:
            receipt = take_in(archive, content)
            assert receipt.outcome is Outcome.STORED
            settle(archive)
            assert given_back(archive, receipt.sop_uid) == content
            _native_pixels_agree(archive, receipt.sop_uid, content)
    finally:
        shutil.rmtree(folder)


@st.composite
def _recipes(draw: st.DrawFn) -> data.Recipe:
    allocated = draw(st.sampled_from([1, 8, 16, 32]))
    stored = allocated if allocated in (1, 32) else draw(st.integers(1, allocated))
    samples = draw(st.sampled_from([1, 3])) if allocated in (8, 16) else 1
    return data.Recipe(
        modality=draw(st.sampled_from(["CT", "MR", "US", "SEG"])),
        rows=draw(st.integers(1, 40)),
        columns=draw(st.integers(1, 40)),
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=draw(st.booleans()) if allocated > 1 and samples == 1 else False,
        planar=draw(st.integers(0, 1)) if samples == 3 else 0,
        frames=draw(st.integers(1, 4)),
        content=draw(st.sampled_from(["smooth", "noise", "constant", "ramp"])),
        dirty_bits=draw(st.booleans()),
        transfer_syntax=draw(st.sampled_from(data.NATIVE)),
        undefined_lengths=draw(st.booleans()),
        trailing_padding=draw(st.sampled_from([0, 6])),
        preamble=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


RECIPES = _recipes()


def _native_pixels_agree(archive: Archive, sop_uid: str, content: bytes) -> None:
    """The native conversion, read by pydicom, has the samples that pydicom reads from what was received."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    native = b"".join(archive.retriever.part10(instance, EXPLICIT_LE).chunks)
    received, converted = (pydicom.dcmread(pydicom.filebase.DicomBytesIO(raw), force=True) for raw in (content, native))
    if "PixelData" in received:
        assert (converted.pixel_array == received.pixel_array).all()


def test_bundled_files_come_back_exactly(archive: Archive) -> None:
    assert [_problem(archive, path) for path in data.bundled()] == [""] * len(data.bundled())


@pytest.mark.corpus
def test_real_files_come_back_exactly(archive: Archive) -> None:
    problems = {path.name: _problem(archive, path) for path in data.corpus()}
    assert {name: problem for name, problem in problems.items() if problem} == {}


def _problem(archive: Archive, path: Path) -> str:
    """Take a file in and out again, landed and settled, and delete it; what was wrong, or ''."""
    content = path.read_bytes()
    receipt = take_in(archive, content, name=path.name)
    if receipt.outcome is Outcome.QUARANTINED and "SOPClassUID" not in pydicom.dcmread(path, force=True):
        return ""  # nothing in it reads as a data set
    if receipt.outcome is not Outcome.STORED:
        return f"{path.name}: {receipt.outcome}: {receipt.reason}"
    landed_is_exact = given_back(archive, receipt.sop_uid) == content
    settle(archive)
    settled_is_exact = given_back(archive, receipt.sop_uid) == content
    archive.deleter().delete(sop_uid=receipt.sop_uid, actor="test", reason="next")
    return "" if landed_is_exact and settled_is_exact else f"{path.name}: {landed_is_exact=} {settled_is_exact=}"


ENCAPSULATED = {
    "rle": data.Recipe(modality="XA", transfer_syntax=data.RLE, frames=3, rows=160, columns=150, fragments=2),
    "jpegls": data.Recipe(
        modality="CT", transfer_syntax=data.JPEG_LS, content="noise", rows=200, columns=190, frames=2
    ),
    "ljpeg": data.Recipe(modality="CT", transfer_syntax=data.JPEG_LOSSLESS, rows=200, columns=190, frames=2),
    "jpeg": data.Recipe(
        modality="US",
        transfer_syntax=data.JPEG_BASELINE,
        samples=3,
        bits_allocated=8,
        bits_stored=8,
        photometric="YBR_FULL_422",
        rows=300,
        columns=290,
        frames=2,
    ),
}


@pytest.mark.parametrize("kind", ENCAPSULATED)
def test_received_streams_are_recoded_and_served_as_received(archive: Archive, kind: str) -> None:
    recipe = ENCAPSULATED[kind]
    content = data.make_instance(recipe)
    landed = take_in(archive, content)
    before = frames_of(archive, landed.sop_uid, recipe.frames)
    settle(archive)
    held = held_of(archive, landed.sop_uid)
    assert (held.form, held.codec) == ("recoded", "recoded (jpegxl)")
    assert held.stored_frame_bytes < sum(map(len, before))
    assert given_back(archive, landed.sop_uid) == content
    assert frames_of(archive, landed.sop_uid, recipe.frames) == before
    with archive.store.open(held.blob.digest) as file:
        manifest = PackedInstance(file, load_all(archive.store)).manifest
    assert {one["kind"] for one in manifest.recipes.distinct} == {kind}
    _native_pixels_agree(archive, landed.sop_uid, content)


def test_received_streams_stay_as_they_are_when_that_is_wanted(tmp_path: Path) -> None:
    chosen = SETTINGS.model_copy(update={"settle": SETTINGS.settle.model_copy(update={"recode": False})})
    with open_archive(tmp_path, chosen) as archive:
        content = data.make_instance(ENCAPSULATED["ljpeg"])
        landed = take_in(archive, content)
        settle(archive)
        held = held_of(archive, landed.sop_uid)
        assert (held.form, held.codec, held.reason) == ("streams", "as received (jpg)", "")
        assert given_back(archive, landed.sop_uid) == content


def test_a_stream_that_cannot_be_made_again_stays_and_says_why(archive: Archive) -> None:
    recipe = ENCAPSULATED["jpegls"]
    content = data.make_instance(recipe)
    samples = content.index(b"\xff\xda", len(content) // 2) + 2000  # within the scan of the second frame
    damaged = content[:samples] + bytes(4) + content[samples + 4 :]
    landed = take_in(archive, damaged)
    settle(archive)
    held = held_of(archive, landed.sop_uid)
    with archive.store.open(held.blob.digest) as file:
        manifest = PackedInstance(file, load_all(archive.store)).manifest
    assert [manifest.recipes[number]["kind"] for number in (1, 2)] == ["jpegls", "received"]
    assert manifest.frame_name(2).endswith(".jls")
    assert held.reason
    assert given_back(archive, landed.sop_uid) == damaged


def held_of(archive: Archive, sop_uid: str) -> RepresentationRow:
    """The only form that is kept."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    (held,) = archive.catalog.representations(instance.id)
    return held


def frames_of(archive: Archive, sop_uid: str, count: int) -> list[bytes]:
    """Every frame as received."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    with archive.retriever.opened(instance) as opened:
        return [opened.frame(number) for number in range(1, count + 1)]
