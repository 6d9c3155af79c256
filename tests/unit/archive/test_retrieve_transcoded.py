"""Instances and frames in transfer syntaxes that they were not received in, out of a real archive."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pydicom.encaps
import pytest

from data import EXPLICIT_LE, HTJ2K, JPEG_BASELINE, JPEG_LS, Recipe, make_instance, native_pixels
from integration.test_dicomweb import Inline
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.manifest import Form
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import InstanceRow
from leanpacs.codecs.registry import decode_received
from leanpacs.config import Settings
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import HTJ2K_LOSSLESS, JPEG_XL_LOSSLESS
from leanpacs.errors import FrameNotFound, UnsupportedTransferSyntax

DEEP = Recipe(instance=1, bits_stored=16, frames=3, rows=200, columns=160)
SIGNED = Recipe(instance=2, signed=True, rows=200, columns=160, series=1)
STREAMS = Recipe(instance=3, frames=3, transfer_syntax=JPEG_LS)
REPORT = Recipe(instance=4, kind="none", modality="SR", series=2)
LOSSY = Recipe(
    instance=5, samples=3, bits_allocated=8, bits_stored=8, rows=200, columns=160, transfer_syntax=JPEG_BASELINE
)
RECODED = Recipe(instance=6, bits_stored=12, frames=2, rows=200, columns=160, transfer_syntax=uids.RLE)
ALL = (DEEP, SIGNED, STREAMS, REPORT, LOSSY, RECODED)
LOSSLESS = (
    uids.RLE,
    uids.DEFLATED_FRAME,
    uids.ENCAPSULATED_UNCOMPRESSED,
    uids.JPEG_LOSSLESS_SV1,
    uids.JPEG_LS_LOSSLESS,
    uids.JPEG_2000_LOSSLESS,
    uids.HTJ2K_LOSSLESS,
    uids.HTJ2K_LOSSLESS_RPCL,
    uids.JPEG_XL_LOSSLESS,
)


def _settled(folder: Path, preset: str) -> Archive:
    archive = open_archive(folder / "archive", Settings(storage={"minimum_free_bytes": 0}, settle={"preset": preset}))
    for recipe in ALL:
        path = archive.spool_folder / f"{recipe.instance}.dcm"
        path.write_bytes(make_instance(recipe))
        archive.land(Incoming(path, "TEST", "import"))
    settle = archive.settings.settle
    Settler(archive.store, archive.catalog, settle, limit_inflated_bytes=1 << 30, executor=Inline).drain()
    return archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with _settled(tmp_path_factory.mktemp("fast"), "jpegxl:1") as archive:
        yield archive


def _row(archive: Archive, recipe: Recipe) -> InstanceRow:
    (row,) = archive.catalog.instances(sop_uid=recipe.sop_uid)
    return row


def _spec(recipe: Recipe) -> FrameSpec:
    return FrameSpec(
        rows=recipe.rows,
        columns=recipe.columns,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=recipe.bits_stored,
        high_bit=recipe.bits_stored - 1,
        pixel_representation=int(recipe.signed),
        planar_configuration=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


def _frames(recipe: Recipe) -> list[bytes]:
    native = native_pixels(replace(recipe, transfer_syntax=EXPLICIT_LE))
    size = len(native) // recipe.frames
    return [native[at : at + size] for at in range(0, len(native), size)]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("recipe", [DEEP, SIGNED, STREAMS], ids=lambda recipe: str(recipe.instance))
def test_every_lossless_syntax_holds_the_same_samples(archive: Archive, recipe: Recipe, syntax: str) -> None:
    row = _row(archive, recipe)
    numbers = [*range(recipe.frames, 0, -1)]
    found = list(archive.retriever.frames(row, numbers, syntax))
    assert {frame.transfer_syntax for frame in found} == {syntax}
    expected = _frames(recipe)
    for number, frame in zip(numbers, found, strict=True):
        samples = decode_received(frame.data, syntax, _spec(recipe)).samples
        assert samples.tobytes() == expected[number - 1]
    part = archive.retriever.part10(row, syntax)
    assert part.transfer_syntax == syntax
    ds = pydicom.dcmread(io.BytesIO(b"".join(part.chunks)))
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert ds.SOPInstanceUID == recipe.sop_uid
    data_set = archive.retriever.data_set(row, syntax)
    assert data_set.transfer_syntax == syntax
    assert b"".join(data_set.chunks)[:4] == b"\x08\0\x08\0"  # no preamble in front


@pytest.mark.parametrize("syntax", [uids.IMPLICIT_LE, uids.EXPLICIT_BE, uids.DEFLATED_LE])
def test_native_syntaxes(archive: Archive, syntax: str) -> None:
    part = archive.retriever.part10(_row(archive, STREAMS), syntax)
    ds = pydicom.dcmread(io.BytesIO(b"".join(part.chunks)))
    assert ds.file_meta.TransferSyntaxUID == syntax
    order = ">" if syntax == uids.EXPLICIT_BE else "<"
    assert np.frombuffer(ds.PixelData, f"{order}u2").astype("<u2").tobytes() == b"".join(_frames(STREAMS))


def test_without_pixels_there_is_nothing_to_compress(archive: Archive) -> None:
    part = archive.retriever.part10(_row(archive, REPORT), JPEG_XL_LOSSLESS)
    assert part.transfer_syntax == EXPLICIT_LE
    assert pydicom.dcmread(io.BytesIO(b"".join(part.chunks))).SOPInstanceUID == REPORT.sop_uid


@pytest.mark.parametrize(
    "syntax", [uids.JPEG_BASELINE, uids.JPEG_XL_RECOMPRESSION, "1.2.840.10008.1.2.4.102", "1.2.3.4"]
)
def test_refused_with_the_reason(archive: Archive, syntax: str) -> None:
    row = _row(archive, DEEP)
    with pytest.raises(UnsupportedTransferSyntax):
        archive.retriever.part10(row, syntax)
    with pytest.raises(UnsupportedTransferSyntax):
        archive.retriever.frame(row, 1, syntax)


def test_frames_that_are_not_there(archive: Archive) -> None:
    with pytest.raises(FrameNotFound):
        list(archive.retriever.frames(_row(archive, DEEP), [1, 4], JPEG_XL_LOSSLESS))


def test_jpeg_is_rewrapped_and_comes_back(archive: Archive) -> None:
    row = _row(archive, LOSSY)
    wrapped = archive.retriever.frame(row, 1, uids.JPEG_XL_RECOMPRESSION)
    received = archive.retriever.frame(row, 1)
    assert received.transfer_syntax == JPEG_BASELINE
    assert len(wrapped.data) < len(received.data)
    assert imagecodecs.jpegxl_decode_jpeg(wrapped.data).rstrip(b"\0") == received.data.rstrip(b"\0")


class _Forbidden(Inline):
    def submit(self, *_: object, **__: object) -> None:  # type: ignore[override]
        raise AssertionError("a frame was converted")


def test_frames_that_are_held_as_demanded_are_passed_on(tmp_path: Path) -> None:
    with _settled(tmp_path, "jpegxl:1") as archive:
        archive.retriever._transcoding._workers = _Forbidden()
        row = _row(archive, DEEP)
        with archive.retriever.opened(row) as opened:
            held = opened._packed.stream(2)
        assert archive.retriever.frame(row, 2, JPEG_XL_LOSSLESS).data == held
        with pytest.raises(AssertionError, match="converted"):
            list(archive.retriever.frames(row, [1, 2], HTJ2K_LOSSLESS))  # a single one is written here
        with pytest.raises(AssertionError, match="converted"):  # held as offset binary, which DICOM does not know
            archive.retriever.frame(_row(archive, SIGNED), 1, JPEG_XL_LOSSLESS)


def test_recoded_frames_are_passed_on_as_what_they_are_held_in(tmp_path: Path) -> None:
    with _settled(tmp_path, "jpegxl:1") as archive:
        archive.retriever._transcoding._workers = _Forbidden()
        row = _row(archive, RECODED)
        with archive.retriever.opened(row) as opened:
            held = opened._packed.stream(2)
            assert opened._packed.manifest.form is Form.RECODED
        assert archive.retriever.frame(row, 2, JPEG_XL_LOSSLESS).data == held
        data = b"".join(archive.retriever.part10(row, JPEG_XL_LOSSLESS).chunks)
        ds = pydicom.dcmread(io.BytesIO(data))
        assert ds.file_meta.TransferSyntaxUID == JPEG_XL_LOSSLESS
        streams = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=2)
        native = b"".join(imagecodecs.jpegxl_decode(stream).astype("<u2").tobytes() for stream in streams)
        assert native == native_pixels(replace(RECODED, transfer_syntax=EXPLICIT_LE))
        assert archive.retriever.frame(row, 2).transfer_syntax == uids.RLE  # as it came, made again


def test_signed_and_narrow_frames_of_wavelets_pass_with_their_bits(tmp_path: Path) -> None:
    with _settled(tmp_path, "htj2k") as archive:
        archive.retriever._transcoding._workers = _Forbidden()
        assert archive.retriever.frame(_row(archive, DEEP), 1, HTJ2K).transfer_syntax == HTJ2K
        stream = archive.retriever.frame(_row(archive, SIGNED), 1, HTJ2K).data
        decoded = decode_received(stream, HTJ2K, _spec(SIGNED)).samples
        assert decoded.astype("<i2").tobytes() == native_pixels(SIGNED)


def test_frames_come_from_the_cache_the_second_time(tmp_path: Path) -> None:
    with _settled(tmp_path, "jpegxl:1") as archive:
        row = _row(archive, DEEP)
        first = list(archive.retriever.frames(row, [1, 2, 3], uids.JPEG_2000_LOSSLESS))
        one = archive.retriever.frame(row, 2, uids.JPEG_LS_LOSSLESS)
        archive.retriever._transcoding._workers = _Forbidden()
        assert list(archive.retriever.frames(row, [3, 1, 2], uids.JPEG_2000_LOSSLESS)) == [first[2], *first[:2]]
        assert archive.retriever.frame(row, 1, uids.JPEG_2000_LOSSLESS) == first[0]
        assert archive.retriever.frame(row, 2, uids.JPEG_LS_LOSSLESS) == one
        archive.retriever._frames._cache = None
        with pytest.raises(AssertionError, match="converted"):
            archive.retriever.frame(row, 1, uids.JPEG_2000_LOSSLESS)
