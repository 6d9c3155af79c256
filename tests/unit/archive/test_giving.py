"""Giving: what is held goes out as it is, what is made is made ahead, kept, and checked by samples."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest

from data import Recipe, make_instance
from integration.test_dicomweb import Inline
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.ahead import Lookahead
from leanpacs.archive.giveback.checks import FIRST_ONES, SpotChecks
from leanpacs.archive.giveback.given import Part10
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import InstanceRow
from leanpacs.codecs.registry import decode_received
from leanpacs.config import Settings
from leanpacs.dicom.encapsulation import encapsulate, encapsulated_length
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import EXPLICIT_LE, HTJ2K_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_XL_LOSSLESS
from leanpacs.errors import DicomError
from streams import frame_of

SLICES = [Recipe(instance=number, seed=number, frames=2, rows=200, columns=160) for number in range(3)]


class Forbidden(Inline):
    """Stands for workers where nothing may be converted."""

    def submit(self, *_: object, **__: object) -> None:  # type: ignore[override]
        raise AssertionError("a frame was converted")


def settled(folder: Path, **delivery: object) -> Archive:
    """An archive that holds `SLICES` in HTJ2K."""
    sections = {"storage": {"minimum_free_bytes": 0}, "settle": {"preset": "htj2k"}, "delivery": delivery}
    archive = open_archive(folder / "archive", Settings(**sections))
    for recipe in SLICES:
        path = archive.spool_folder / f"{recipe.instance}.dcm"
        path.write_bytes(make_instance(recipe))
        archive.land(Incoming(path, "TEST", "import"))
    settle = archive.settings.settle
    Settler(archive.store, archive.catalog, settle, limit_inflated_bytes=1 << 30, executor=Inline).drain()
    return archive


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with settled(tmp_path) as archive:
        yield archive


def row(archive: Archive, recipe: Recipe) -> InstanceRow:
    """The row of a slice."""
    (found,) = archive.catalog.instances(sop_uid=recipe.sop_uid)
    return found


def samples(content: bytes, archive: Archive, recipe: Recipe) -> list[np.ndarray]:
    """Frames of a file in HTJ2K as they decode, and nothing left over in it."""
    file = pydicom.dcmread(io.BytesIO(content))
    assert file.file_meta.TransferSyntaxUID == HTJ2K_LOSSLESS
    assert file.SOPInstanceUID == recipe.sop_uid
    streams = list(pydicom.encaps.generate_frames(file.PixelData, number_of_frames=2))
    spec = spec_of(archive, recipe)
    return [decode_received(stream, HTJ2K_LOSSLESS, spec).samples for stream in streams]


def spec_of(archive: Archive, recipe: Recipe) -> FrameSpec:
    """What the frames of a slice are."""
    with archive.retriever.opened(row(archive, recipe)) as opened:
        spec: FrameSpec = opened.known.contents.manifest.pixel.spec  # type: ignore[attr-defined]
        return spec


def test_held_code_streams_go_out_around_nothing_new(archive: Archive) -> None:
    archive.retriever._transcoding._workers = Forbidden()
    for recipe in SLICES:
        for _ in range(2):  # opened, and remembered
            part = archive.retriever.part10(row(archive, recipe), HTJ2K_LOSSLESS)
            content = b"".join(part.chunks)
            assert part.length == len(content)
        expected = pydicom.dcmread(io.BytesIO(make_instance(recipe))).pixel_array
        assert all(map(np.array_equal, samples(content, archive, recipe), expected))


def test_who_takes_any_syntax_gets_what_is_held(archive: Archive) -> None:
    archive.retriever.expect([row(archive, recipe) for recipe in SLICES])
    assert {archive.retriever.syntax_at_hand(row(archive, recipe)) for recipe in SLICES} == {HTJ2K_LOSSLESS}


def test_unless_the_settings_say_as_received(tmp_path: Path) -> None:
    with settled(tmp_path, any_syntax=["jpegls"]) as archive:
        assert archive.retriever.syntax_at_hand(row(archive, SLICES[0])) == EXPLICIT_LE


def test_what_was_transcoded_is_kept_as_a_whole(archive: Archive) -> None:
    first = b"".join(archive.retriever.part10(row(archive, SLICES[0]), JPEG_LS_LOSSLESS).chunks)
    archive.retriever._transcoding._workers = Forbidden()
    part = archive.retriever.part10(row(archive, SLICES[0]), JPEG_LS_LOSSLESS)
    assert (part.length, b"".join(part.chunks)) == (len(first), first)
    data_set = b"".join(archive.retriever.data_set(row(archive, SLICES[0]), JPEG_LS_LOSSLESS).chunks)
    assert first.endswith(data_set)


def test_a_single_frame_is_written_without_a_worker_and_several_are_not(archive: Archive) -> None:
    archive.retriever._transcoding._workers = Forbidden()
    expected = pydicom.dcmread(io.BytesIO(make_instance(SLICES[0]))).pixel_array
    for number in (1, 2):
        frame = archive.retriever.frame(row(archive, SLICES[0]), number, JPEG_LS_LOSSLESS)
        found = decode_received(frame.data, JPEG_LS_LOSSLESS, spec_of(archive, SLICES[0])).samples
        np.testing.assert_array_equal(found, expected[number - 1])
    with pytest.raises(AssertionError, match="a frame was converted"):
        list(archive.retriever.frames(row(archive, SLICES[1]), [1, 2], JPEG_LS_LOSSLESS))
    with pytest.raises(AssertionError, match="a frame was converted"):
        archive.retriever.frame(row(archive, SLICES[0]), 1, JPEG_XL_LOSSLESS)


@contextmanager
def stretched(folder: Path, preset: str) -> Iterator[tuple[Archive, InstanceRow, FrameSpec, np.ndarray]]:
    """An archive that holds one image of 256 out of 65,536 values, under a preset."""
    ds = pydicom.dcmread(io.BytesIO(make_instance(Recipe(rows=400, columns=300, bits_stored=12))))
    values = ds.pixel_array // 16 * 273
    ds.BitsStored, ds.HighBit, ds.PixelData = 16, 15, values.astype("<u2").tobytes()
    sections = {"storage": {"minimum_free_bytes": 0}, "settle": {"preset": preset}}
    with open_archive(folder, Settings(**sections)) as archive:
        path = archive.spool_folder / "stretched.dcm"
        ds.save_as(path)
        archive.land(Incoming(path, "TEST", "import"))
        settle = archive.settings.settle
        Settler(archive.store, archive.catalog, settle, limit_inflated_bytes=1 << 30, executor=Inline).drain()
        (found,) = archive.catalog.instances(sop_uid=ds.SOPInstanceUID)
        yield archive, found, frame_of(ds), values


def test_stretched_values_are_made_smaller_for_a_slow_line(tmp_path: Path) -> None:
    with stretched(tmp_path / "archive", "jpegls") as (archive, found, spec, values):
        sizes = {}
        for link in (None, 5e6 / 8, 1e9 / 8):
            (told,) = archive.retriever.estimates(found, [JPEG_XL_LOSSLESS], takes_zstd=False, bytes_a_second=link)
            for _ in range(2):  # made, and from the cache
                (frame,) = archive.retriever.frames(found, [1], JPEG_XL_LOSSLESS, told.effort)
                decoded = decode_received(frame.data, JPEG_XL_LOSSLESS, spec)
                np.testing.assert_array_equal(decoded.samples, values)
            sizes[told.effort] = len(frame.data)
        assert set(sizes) == {0, 1, 2}
        assert max(sizes[0], sizes[2]) < sizes[1]


def test_stretched_values_are_held_so_that_they_can_be_sent(tmp_path: Path) -> None:
    with stretched(tmp_path / "archive", "jpegxl:2") as (archive, found, spec, values):
        (told,) = archive.retriever.estimates(found, [JPEG_XL_LOSSLESS], takes_zstd=False, bytes_a_second=5e6 / 8)
        archive.retriever._transcoding._workers = Forbidden()
        frame = archive.retriever.frame(found, 1, JPEG_XL_LOSSLESS)
        with archive.retriever.opened(found) as opened:
            assert isinstance(opened, SettledInstance)
            assert frame.data == opened.stream(1)
        assert len(frame.data) <= told.size_bytes < len(frame.data) + 2000
        decoded = decode_received(frame.data, JPEG_XL_LOSSLESS, spec)
        np.testing.assert_array_equal(decoded.samples, values)


def test_a_frame_is_made_without_reading_its_data_set(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: PackedInstance) -> bytes:
        raise AssertionError("the head was unpacked")

    monkeypatch.setattr(PackedInstance, "start", read)
    expected = pydicom.dcmread(io.BytesIO(make_instance(SLICES[1]))).pixel_array[1]
    frame = archive.retriever.frame(row(archive, SLICES[1]), 2, JPEG_LS_LOSSLESS)
    pixels = FrameSpec(200, 160, 1, 16, 12, 11, 0, 0, "MONOCHROME2", 1)
    np.testing.assert_array_equal(decode_received(frame.data, JPEG_LS_LOSSLESS, pixels).samples, expected)


def test_what_was_received_comes_back_from_the_cache_too(archive: Archive) -> None:
    for _ in range(3):
        part = archive.retriever.as_received(row(archive, SLICES[1]))
        assert b"".join(part.chunks) == make_instance(SLICES[1])


def test_what_is_large_and_not_kept_is_made_while_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(*_: object) -> tuple[bytes, ...]:
        raise AssertionError("made as a whole, for one who may read slowly")

    monkeypatch.setattr(PackedInstance, "received", whole)
    with settled(tmp_path, memory_bytes=1000, cache_bytes=0) as archive:
        part = archive.retriever.as_received(row(archive, SLICES[1]))
        assert b"".join(part.chunks) == make_instance(SLICES[1])


def test_file_meta_without_a_transfer_syntax_is_given_anew(archive: Archive) -> None:
    content = make_instance(Recipe(instance=77))
    start = content.index(b"\x02\x00\x10\x00UI")
    end = start + 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    group_length = int.from_bytes(content[140:144], "little") - (end - start)
    received = content[:140] + group_length.to_bytes(4, "little") + content[144:start] + content[end:]
    path = archive.spool_folder / "without.dcm"
    path.write_bytes(received)
    archive.land(Incoming(path, "TEST", "import"))
    found = row(archive, Recipe(instance=77))
    assert b"".join(archive.retriever.as_received(found).chunks) == received
    part = archive.retriever.part10(found)
    given = b"".join(part.chunks)
    assert len(given) == part.length
    file = pydicom.dcmread(io.BytesIO(given))
    assert file.file_meta.TransferSyntaxUID == part.transfer_syntax == EXPLICIT_LE
    assert given.endswith(content[-found.data_set_length :])


def test_deleted_instances_are_not_given_from_memory(archive: Archive) -> None:
    found = row(archive, SLICES[2])
    list(archive.retriever.part10(found, HTJ2K_LOSSLESS).chunks)
    archive.deleter().delete(sop_uid=SLICES[2].sop_uid, actor="TEST", reason="test")
    assert archive.catalog.instances(sop_uid=SLICES[2].sop_uid) == []


def test_made_ahead_in_order_and_errors_in_their_turn() -> None:
    lookahead, threads = Lookahead(), set()

    def making(number: int) -> Callable[[], Part10]:
        def make() -> Part10:
            threads.add(threading.current_thread().name)
            if number == 3:
                raise DicomError("the third one")
            return Part10(str(number), 1, iter([b"x"]))

        return lookahead.begin(1, make)

    given = lookahead.in_turn(making(number) for number in range(6))
    assert [next(given).transfer_syntax for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(DicomError, match="third"):
        next(given)
    assert threading.current_thread().name not in threads
    lookahead.close()


def test_the_first_ones_are_checked_and_then_one_in_some(archive: Archive) -> None:
    found = row(archive, SLICES[0])
    due = [SpotChecks(1).are_due(found, "a") for _ in range(3)]
    assert due == [True] * 3
    checks = SpotChecks(10)
    due = [checks.are_due(found, "a") for _ in range(40)]
    assert due[:FIRST_ONES] == [True] * FIRST_ONES
    assert sum(due[FIRST_ONES:]) == 3
    assert checks.are_due(found, "b")
    assert not SpotChecks(0).are_due(found, "a")


@pytest.mark.parametrize("lengths", [[0], [1], [2, 3, 5], [7] * 20])
@pytest.mark.parametrize("with_table", [True, False])
def test_lengths_are_known_beforehand(lengths: list[int], with_table: bool) -> None:
    frames = [bytes(length) for length in lengths]
    made = b"".join(encapsulate(frames, lengths=lengths, with_table=with_table))
    assert encapsulated_length(lengths, with_table=with_table) == len(made)


def test_packs_that_nobody_opens_are_forgotten(archive: Archive) -> None:
    retriever, rows = archive.retriever, list(archive.catalog.all_instances())
    expected = [b"".join(retriever.part10(row).chunks) for row in rows]
    shelf = retriever._holdings._shelf
    assert len(shelf) == len(rows)
    retriever.forget_unused(3600.0)
    assert len(shelf) == len(rows)
    retriever.forget_unused(-1.0)
    assert len(shelf) == 0
    archive.cache.forget_unused(-1.0)
    assert [b"".join(retriever.part10(row).chunks) for row in rows] == expected
    assert len(shelf) == len(rows)
