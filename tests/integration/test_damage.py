"""What is damaged is read from another copy, found, repaired, also from an archive class; what is deleted is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import data
from ageing import Clock, aged, given_back, inline, taken_in
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care import repair
from leanpacs.archive.care.repair import Repair
from leanpacs.archive.care.secondlook import look_again
from leanpacs.archive.giveback import making
from leanpacs.archive.settle.again import Again, Remade, remake
from leanpacs.catalog import RepresentationRow
from leanpacs.codecs import registry
from leanpacs.codecs.codec import DecodedFrame
from leanpacs.codecs.second import second_decoders
from leanpacs.config import Settings
from leanpacs.dicom import uids
from leanpacs.errors import DecodeError, StorageError, VerificationError
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from leanpacs.services.figures import gauges
from soundness import is_whole
from tiered import RESTORE_SECONDS, time_passes

RECIPES = [data.Recipe(modality="CT", instance=n, seed=n, frames=3, rows=64, columns=64, signed=True) for n in range(6)]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive with a second disk and an archive class."""
    settings = Settings(
        storage={"minimum_free_bytes": 0},
        delete={"grace_seconds": 86_400},
        delivery={"cache_bytes": 0, "memory_bytes": 0},  # what was kept before would not be read
        lifecycle={"replaced_grace_seconds": 0},
        tiers={
            "warm": {"kind": "local", "url": str(tmp_path / "warm")},
            "cold": {"kind": "archive", "url": str(tmp_path / "cold"), "restore_seconds": RESTORE_SECONDS},
        },
    )
    with open_archive(tmp_path / "archive", settings) as opened:
        yield opened


def policy(**then: object) -> Policy:
    """All of it in one rule."""
    return Policy.model_validate({"name": "x", "rules": [{"name": "all", "then": then}]})


def spoil(archive: Archive, form: RepresentationRow) -> None:
    """Overwrite the end of the second frame of a pack on the hot tier."""
    (path,) = archive.store.spool_folder().parent.rglob(form.blob.digest.hex)
    span = list(form.frames)[1]
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(span.offset + 8)
        file.write(bytes(span.length - 8))


def hot_forms(archive: Archive) -> list[RepresentationRow]:
    """The form on the hot tier of each instance."""
    rows = [row for one in archive.catalog.all_instances() for row in archive.catalog.representations(one.id)]
    return [row for row in rows if row.blob.tier == "hot"]


def test_a_frame_that_is_damaged_comes_from_another_copy_and_is_repaired(archive: Archive, tmp_path: Path) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES[:2]])
    assert aged(archive, policy(tier="hot", copies="warm"), clock).outcomes == {("place hot+warm", "done"): 2}
    forms = [one for one in gauges(archive.status()) if one.name == "forms"]
    assert {one.labels["tier"]: one.value for one in forms} == {"hot": 2, "warm": 2}
    first, second = archive.catalog.all_instances()
    frames = [frame.data for frame in archive.retriever.frames(first, [1, 2, 3])]
    for form in hot_forms(archive):
        spoil(archive, form)
    with open_archive(tmp_path / "archive", archive.settings) as fresh:
        assert [frame.data for frame in fresh.retriever.frames(first, [1, 2, 3])] == frames
        assert b"".join(fresh.retriever.as_received(second).chunks) == received[second.sop_uid]
        noted = fresh.catalog.ageing.damaged()
        assert {row.blob for row in noted} == {form.blob for form in hot_forms(fresh)}
    lifecycle = Lifecycle(archive, policy(tier="hot", copies="warm"), now=clock, executor=inline)
    scrubbed = lifecycle.scrub(older_than=timedelta(days=1))
    assert (scrubbed.repaired, scrubbed.damaged) == (2, 0)
    assert archive.catalog.ageing.damaged() == []
    for form in hot_forms(archive):
        archive.store.check(form.blob.digest)


@pytest.mark.parametrize("at_once_bytes", [0, 1 << 20], ids=["while it is sent", "before"])
@pytest.mark.parametrize("syntax", [uids.JPEG_LS_LOSSLESS, uids.IMPLICIT_LE], ids=["passed on", "decoded"])
def test_an_instance_that_is_damaged_goes_on_from_another_copy_or_breaks_off(
    archive: Archive, tmp_path: Path, syntax: str, at_once_bytes: int
) -> None:
    taken_in(archive, [data.make_instance(replace(RECIPES[0], signed=False))])
    aged(archive, policy(tier="hot", copies="warm"), Clock())
    (instance,) = archive.catalog.all_instances()
    (form,) = hot_forms(archive)
    assert form.codec == "jpegls"
    whole = b"".join(archive.retriever.part10(instance, syntax).chunks)
    spoil(archive, form)
    with mock.patch.object(making, "AT_ONCE_BYTES", at_once_bytes):
        with open_archive(tmp_path / "archive", archive.settings) as fresh:
            assert b"".join(fresh.retriever.part10(instance, syntax).chunks) == whole
            assert [row.blob for row in fresh.catalog.ageing.damaged()] == [form.blob]
        with archive.catalog.writing() as transaction:
            (copy,) = [row for row in archive.catalog.representations(instance.id) if row.blob.tier == "warm"]
            transaction.ageing.drop_form(instance.id, copy.id, 0, now=Clock()(), due_at=Clock()())
        with open_archive(tmp_path / "archive", archive.settings) as fresh:
            given = []
            with pytest.raises((StorageError, DecodeError)):
                given.extend(fresh.retriever.part10(instance, syntax).chunks)
            assert len(b"".join(given)) < len(whole)


def test_a_repair_waits_for_a_copy_in_an_archive_class(archive: Archive, tmp_path: Path) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(RECIPES[0])])
    rules = policy(tier="hot", copies="cold")
    assert aged(archive, rules, clock).failed == 0
    (form,) = hot_forms(archive)
    spoil(archive, form)
    lifecycle = Lifecycle(archive, rules, now=clock, executor=inline)
    found = lifecycle.scrub(older_than=timedelta(), decode_percent=0)
    assert (found.waiting, found.repaired, found.damaged) == (1, 0, 0)
    time_passes(tmp_path / "archive")
    found = lifecycle.scrub(older_than=timedelta(days=1), decode_percent=0)
    assert (found.waiting, found.repaired) == (0, 1)
    archive.store.check(form.blob.digest)
    assert given_back(archive) == received


def test_a_repair_names_nothing_that_was_swept_meanwhile(tmp_path: Path) -> None:
    settings = Settings(storage={"minimum_free_bytes": 0}, settle={"preset": "zstd:1"})
    with open_archive(tmp_path / "archive", settings) as archive:
        received = taken_in(archive, [data.make_instance(replace(RECIPES[0], rows=128, columns=128))])
        assert aged(archive, policy(preset="jpegxl:3", keep_fast=True), Clock()).changed == 1
        damaged, _ = before = hot_forms(archive)
        spoil(archive, damaged)

        def swept(task: Again, step: Callable[[str], None]) -> Remade:
            made = remake(task, step)
            assert made.new is not None
            archive.store.delete(made.new.blob.digest)
            return made

        with mock.patch.object(repair, "remake", swept):
            assert repair.repair(archive, damaged.blob, Clock()()) is Repair.FAILED
        assert [form.id for form in hot_forms(archive)] == [form.id for form in before]
        assert repair.repair(archive, damaged.blob, Clock()()) is Repair.DONE
        is_whole(archive)
        assert given_back(archive) == received


def test_what_is_deleted_out_of_a_series_pack_is_gone_after_its_grace(archive: Archive) -> None:
    clock = Clock()
    received = taken_in(archive, [data.make_instance(recipe) for recipe in RECIPES])
    rules = policy(pack="series", tier="hot", copies="warm", minimum_copies=2)
    assert aged(archive, rules, clock).failed == 0
    (pack,) = {form.blob.digest for form in hot_forms(archive)}
    gone = RECIPES[1].sop_uid
    archive.deleter().delete(sop_uid=gone, actor="tester", reason="a court said so")
    assert aged(archive, rules, clock).outcomes == {}
    clock.turn_to(1.1)
    assert aged(archive, rules, clock).failed == 0
    archive.deleter().sweep(clock() + timedelta(days=2))
    stores = [archive.stores.at(tier) for tier in ("hot", "warm")]
    assert [store.exists(pack) for store in stores] == [False, False]
    (new,) = {form.blob.digest for form in hot_forms(archive)}
    assert [store.exists(new) for store in stores] == [True, True]
    assert given_back(archive) == {uid: content for uid, content in received.items() if uid != gone}
    assert aged(archive, rules, clock).outcomes == {}


SYNTAXES = {
    "jpegxl": uids.JPEG_XL_LOSSLESS,
    "jpegls": uids.JPEG_LS_LOSSLESS,
    "jpeg2000": uids.JPEG_2000_LOSSLESS,
    "htj2k": uids.HTJ2K_LOSSLESS,
}
"""By which transfer syntax others know the code streams of each codec."""
SIGNED = data.Recipe(modality="CT", signed=True, rows=64, columns=64)
COLOUR = data.Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, rows=64, columns=64)
FEW_VALUES = data.Recipe(modality="MG", content="stretched", rows=96, columns=64)
RECEIVED_AS_RLE = data.Recipe(
    modality="US", rows=256, columns=256, bits_allocated=8, bits_stored=8, transfer_syntax=data.RLE
)
RECEIVED_AS_JPEG_LS = data.Recipe(modality="US", rows=64, columns=64, content="stretched", transfer_syntax=data.JPEG_LS)


@pytest.mark.parametrize(
    ("codec", "recipe"),
    [
        *((codec, recipe) for codec in SYNTAXES for recipe in (SIGNED, COLOUR)),
        *(("jpegxl", recipe) for recipe in (FEW_VALUES, RECEIVED_AS_RLE, RECEIVED_AS_JPEG_LS)),
    ],
)
def test_a_second_decoder_finds_a_sample_that_the_first_one_gets_wrong(
    tmp_path: Path, codec: str, recipe: data.Recipe
) -> None:
    if not second_decoders(SYNTAXES[codec]):
        pytest.skip(f"no second decoder of {codec} is installed")
    settings = Settings(storage={"minimum_free_bytes": 0}, settle={"preset": codec})
    with open_archive(tmp_path, settings) as archive:
        taken_in(archive, [data.make_instance(recipe)])
        (instance,) = archive.catalog.all_instances()
        (form,) = hot_forms(archive)
        names = tuple(archive.store.kept_names())
        work = (archive.store, names, form.blob.digest, instance.sop_uid, instance.data_set_digest)
        _finds_a_wrong_sample(work, codec)


def _finds_a_wrong_sample(work: tuple[Any, ...], codec: str) -> None:
    look = look_again(*work)
    assert look.codec == codec
    assert look.decoder
    right = registry.decode_received

    def wrong(*arguments: Any) -> DecodedFrame:
        decoded = right(*arguments)
        samples = decoded.samples.copy()
        samples.flat[samples.size // 3] ^= 1
        return replace(decoded, samples=samples)

    with mock.patch.object(registry, "decode_received", wrong), pytest.raises(VerificationError, match="other samples"):
        look_again(*work)
