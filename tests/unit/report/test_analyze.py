"""An analysis of folders: what is found, what is measured, what is written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from data import EXPLICIT_BE, JPEG_BASELINE, JPEG_LS, RLE, Recipe, make_instance
from leanpacs.archive.intake.importing import Found
from leanpacs.cli.main import app
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import ReportError
from leanpacs.report.analysis import Request, analyze, sample_size
from leanpacs.report.census import Census, Drawn
from leanpacs.report.headline import headline, links, pareto, transfers
from leanpacs.report.measuring import Frames, Measured, Options, measure, measure_frames
from leanpacs.report.opening import look
from leanpacs.report.page import render
from leanpacs.report.results import FOUND, RAW, Analysis, load
from leanpacs.report.sums import Book, result

FORMATS = ("gzip-6", "zstd-3", "rle", "jpegls", "jpegxl-1", "webp", "leanpacs-fast")


class Nobody:
    """Watches and says nothing."""

    def looking(self, files: int) -> None:
        """Nothing."""

    def measuring(self, instances: int, raw_bytes: int) -> None:
        """Nothing."""

    def measured(self, one: Measured) -> None:
        """Nothing."""


def run(*paths: Path, formats: tuple[str, ...] = FORMATS, sample: str = "all", **options: bool) -> Analysis:
    """Analyze in one process."""
    return analyze(Request(paths, Options(formats, **options), sample, 1, links("5mbps,1gbps")), Nobody())


def make(folder: Path, *recipes: Recipe) -> list[Path]:
    """Write instances."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.dcm" for number in range(len(recipes))]
    for path, recipe in zip(paths, recipes, strict=True):
        path.write_bytes(make_instance(recipe))
    return paths


def several(count: int, **more: object) -> list[Recipe]:
    """Instances that differ."""
    return [Recipe(instance=number, seed=number, **{"rows": 64, "columns": 48, **more}) for number in range(count)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    """A folder of many kinds, with what cannot be measured in it, and its analysis."""
    folder = tmp_path_factory.mktemp("mixed")
    make(folder / "ct", *several(4, signed=True, study=1))
    make(folder / "mr", *several(3, modality="MR", transfer_syntax=JPEG_LS, study=2))
    make(folder / "us", *several(2, modality="US", samples=3, bits_allocated=8, bits_stored=8, study=3))
    make(
        folder / "lossy",
        Recipe(
            modality="US",
            samples=3,
            bits_allocated=8,
            bits_stored=8,
            rows=64,
            columns=64,
            transfer_syntax=JPEG_BASELINE,
            study=4,
        ),
    )
    make(folder / "be", Recipe(transfer_syntax=EXPLICIT_BE, rows=64, columns=64, study=5))
    make(folder / "sr", Recipe(modality="SR", kind="none", private_bytes=4000, study=6))
    make(folder / "frames", Recipe(modality="NM", frames=20, rows=64, columns=64, transfer_syntax=RLE, study=7))
    (folder / "readme.txt").write_text("not an image")
    whole = make_instance(Recipe(rows=64, columns=64, study=8))
    (folder / "truncated.dcm").write_bytes(whole[:-1000])
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "nothing.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    damaged = bytearray(make_instance(Recipe(modality="MR", transfer_syntax=JPEG_LS, rows=64, columns=64, study=9)))
    start = damaged.find(b"\xff\xd8\xff")
    damaged[start : start + 2] = b"\0\0"
    (folder / "damaged.dcm").write_bytes(damaged)
    with zipfile.ZipFile(folder / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"inside/{number}", make_instance(Recipe(modality="CR", instance=number, study=10)))
        archive.writestr("inside/notes.txt", "no image")
    return folder, run(folder)


def test_everything_is_found(mixed: tuple[Path, Analysis]) -> None:
    _, analysis = mixed
    # 13 whole instances, 3 in the ZIP, the truncated and the damaged one
    assert analysis.total.instances == 18
    assert analysis.total.measured == 18
    assert analysis.files == 22
    assert analysis.skipped == 2
    assert analysis.total.studies == 10
    assert {group.key: group.instances for group in analysis.by_modality} == {
        "CT": 6,
        "MR": 4,
        "US": 3,
        "CR": 3,
        "NM": 1,
        "SR": 1,
    }
    assert sum(group.raw_bytes for group in analysis.by_transfer_syntax) == analysis.total.raw_bytes


def test_problems_are_told_and_stop_nothing(mixed: tuple[Path, Analysis]) -> None:
    folder, analysis = mixed
    reasons = {Path(one.file).name: one.reason for one in analysis.problems}
    assert set(reasons) == {"truncated.dcm", "empty.dcm", "nothing.dcm", "damaged.dcm"}
    assert "damaged" in reasons["truncated.dcm"]
    assert "no decoder reads it" in reasons["damaged.dcm"]
    page = render(analysis)
    for name, reason in reasons.items():
        assert str(folder / name) in page
        assert reason.split("'")[0] in page


def test_unreadable_folders_and_absent_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, Recipe())
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)  # as root, permissions stop nobody
    analysis = run(tmp_path, tmp_path / "absent", formats=("zstd-3",))
    assert analysis.total.instances == 1
    assert [Path(one.file).name for one in analysis.problems] == ["locked", "absent"]


def test_figures_equal_those_computed_otherwise(tmp_path: Path) -> None:
    paths = make(tmp_path, *several(3, bits_stored=16), *several(2, modality="MR", bits_stored=16))
    analysis = run(tmp_path, formats=("gzip-6", "jpegls", "png"))
    expected = {"gzip-6": 0, "jpegls": 0, "png": 0}
    for path in paths:
        ds = pydicom.dcmread(path)
        file, pixels = path.read_bytes(), ds.PixelData
        head = file.replace(pixels, b"")
        assert len(head) + len(pixels) == len(file)
        expected["gzip-6"] += len(gzip.compress(head, 6)) + len(gzip.compress(pixels, 6))
        samples = ds.pixel_array
        expected["jpegls"] += len(head) + len(imagecodecs.jpegls_encode(samples)) + 12
        expected["png"] += len(head) + len(imagecodecs.png_encode(samples, level=6)) + 12
    for key, size in expected.items():
        found = analysis.total.format(key).total_bytes
        assert (found.value, found.low, found.high) == (size, size, size), key
    assert analysis.total.format(RAW).total_bytes.value == sum(path.stat().st_size for path in paths)


def test_packs_are_those_that_the_archive_stores(tmp_path: Path) -> None:
    folder, data = tmp_path / "in", tmp_path / "archive"
    make(folder, *(replace(recipe, series=recipe.instance) for recipe in several(4, rows=128, columns=128)))
    analysis = run(folder, formats=("leanpacs-fast",))
    runner = CliRunner()
    imported = runner.invoke(app, ["import", str(folder), "--data", str(data), "--json"], catch_exceptions=False)
    stored = json.loads(imported.stdout)["archive"]["stored_bytes"]
    # The manifest has the sender's path and a time in it.
    assert analysis.total.format("leanpacs-fast").total_bytes.value == pytest.approx(stored, rel=0.05)


class Broken:
    """A format that loses the last byte of what it is given."""

    key = "broken"

    def encode(self, frame: bytes, spec: FrameSpec, precision: int) -> bytes:
        """All but the last byte."""
        return frame[:-1]

    def decode(self, stream: bytes, spec: FrameSpec, precision: int) -> bytes:
        """A zero for it."""
        return stream + b"\0"


def test_a_codec_that_is_not_exact_is_caught(mixed: tuple[Path, Analysis]) -> None:
    spec = FrameSpec(2, 2, 1, 8, 8, 7, 0, 0, "MONOCHROME2", 1)
    bad = measure_frames(Broken(), Frames(spec, (b"\1\2\3\4",)), 10, 4)  # type: ignore[arg-type]
    good = measure_frames(Broken(), Frames(spec, (b"\1\2\3\0",)), 10, 4)  # type: ignore[arg-type]
    assert (bad.reason, bad.total_bytes) == ("what was decoded is not what was encoded", 14)
    assert (good.reason, good.stream_bytes) == ("", 3)
    book = Book()
    folder, analysis = mixed
    with Census() as census:
        census.add(look(Found(folder / "ct" / "000.dcm")))
        (drawn,) = census.draw(1)
        book.add(Measured(drawn, 14, 4, 1, {"broken": bad}))
        shown = result("broken", book, census.strata)
    assert (shown.not_exact, shown.instances, shown.held) == (1, 0, 0)
    total = replace(analysis.total, formats=[*analysis.total.formats, replace(shown, format="png")])
    described = [*analysis.formats, replace(analysis.formats[0], key="png", label="A broken one")]
    assert "1 NOT EXACT" in render(replace(analysis, total=total, formats=described))


def test_what_a_format_cannot_hold_is_counted_raw(mixed: tuple[Path, Analysis]) -> None:
    _, analysis = mixed
    webp = analysis.total.format("webp")
    assert 0 < webp.held < 0.5
    assert webp.refusals["more than 8 bits"] > 0
    ct = next(group for group in analysis.by_modality if group.key == "CT")
    assert ct.format("webp").total_bytes.value == ct.raw_bytes


def test_json_and_page_have_the_same_figures(mixed: tuple[Path, Analysis], tmp_path: Path) -> None:
    _, analysis = mixed
    file = tmp_path / "result.json"
    file.write_text(analysis.to_json())
    assert load(file) == analysis
    page = render(analysis)
    embedded = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    for one in embedded["formats"]:
        found = analysis.total.format(one["key"])
        assert one["bytes"] == found.total_bytes.value
        assert one["ratio"] == found.ratio.value
    assert embedded["raw"] == analysis.total.raw_bytes
    top = headline(analysis)
    assert top.best is not None
    from leanpacs.report import wording

    assert wording.size(top.best.total_bytes.value) in page
    assert wording.percent(top.best.ratio.value) in page


def test_the_page_needs_no_network(mixed: tuple[Path, Analysis]) -> None:
    _, analysis = mixed
    page = render(analysis)
    assert "default-src 'none'" in page
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|https?://""", outside)
    assert page.count("</script>") == 3


def test_names_from_files_cannot_become_markup(mixed: tuple[Path, Analysis]) -> None:
    _, analysis = mixed
    evil = "</script><script>alert(1)</script><img src=x>"
    group = replace(analysis.by_modality[0], name=evil, key=evil)
    page = render(replace(analysis, by_modality=[group], by_manufacturer=[group]))
    assert evil not in page
    assert "<img" not in page


def test_json_that_is_none_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text in ("{", "[]", '{"version": 99}', '{"version": 1}'):
        file.write_text(text)
        with pytest.raises(ReportError):
            load(file)


def test_samples(tmp_path: Path) -> None:
    assert [sample_size(text, 400) for text in ("20", "5%", "all", "100%")] == [20, 20, 400, 400]
    for text in ("0", "0%", "200%", "some"):
        with pytest.raises(ValueError, match=r"."):
            sample_size(text, 10)
    make(tmp_path, *several(30), *several(2, modality="MR"))
    analysis = run(tmp_path, formats=("zstd-3",), sample="10")
    assert analysis.total.instances == 32
    assert analysis.total.measured == 10
    assert next(one for one in analysis.by_modality if one.key == "MR").measured == 2
    estimate = analysis.total.format("zstd-3").total_bytes
    exact = run(tmp_path, formats=("zstd-3",)).total.format("zstd-3").total_bytes
    assert exact.low == exact.high == exact.value
    assert estimate.low is not None
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == pytest.approx(exact.value, rel=0.05)


def test_stopping_keeps_what_was_measured(tmp_path: Path) -> None:
    make(tmp_path, *several(20))

    class Impatient(Nobody):
        seen = 0

        def measured(self, one: Measured) -> None:
            self.seen += 1
            if self.seen == 5:
                raise KeyboardInterrupt

    request = Request((tmp_path,), Options(("zstd-3",)), "all", 1, links("5mbps"))
    analysis = analyze(request, Impatient())
    assert not analysis.run.finished
    assert analysis.total.measured == 5
    assert analysis.total.format("zstd-3").total_bytes.low is not None
    assert "Stopped early" in render(analysis)


@pytest.mark.slow
def test_a_file_of_four_gigabytes(tmp_path: Path) -> None:
    frame = 2048 * 2048 * 2
    small = make_instance(Recipe(rows=2, columns=2, frames=2))
    ds = pydicom.dcmread(io.BytesIO(small))
    ds.Rows = ds.Columns = 2048
    ds.NumberOfFrames = 500
    ds.PixelData = b""
    file = io.BytesIO()
    ds.save_as(file)
    head = bytearray(file.getvalue())
    head[-4:] = (500 * frame).to_bytes(4, "little")
    path = tmp_path / "large.dcm"
    with path.open("wb") as large:
        large.write(head)
        large.write(np.arange(frame // 2, dtype="<u2").tobytes())
        large.truncate(len(head) + 500 * frame)
    analysis = run(tmp_path, formats=("zstd-3", "htj2k", "leanpacs-fast"))
    assert not analysis.problems
    assert analysis.total.raw_pixel_bytes == 500 * frame
    assert analysis.total.format("htj2k").held == 1
    assert analysis.total.format("leanpacs-fast").total_bytes.value < 0.01 * 500 * frame


def test_headline_transfers_and_front(mixed: tuple[Path, Analysis]) -> None:
    _, analysis = mixed
    study = headline(analysis).study
    assert study is not None
    raw = next(one for one in transfers(analysis) if one.format == RAW and one.link == "5 Mbit/s")
    assert raw.seconds == pytest.approx(study.raw_bytes / study.studies * 8 / 5e6)
    front = pareto(analysis.total.formats)
    smallest = min(
        (one for one in analysis.total.formats if one.encode_seconds_per_gb and one.held >= 0.95),
        key=lambda one: one.total_bytes.value,
    )
    assert smallest.format in front
    assert {RAW, FOUND, "webp"}.isdisjoint(front)
    with pytest.raises(ReportError, match="no speed"):
        links("fast")
    assert [one.bits_per_second for one in links("512kbps, 5Mbps,1.5gbit/s")] == [512e3, 5e6, 1.5e9]


@pytest.mark.slow
def test_lossy_and_progressive(tmp_path: Path) -> None:
    make(tmp_path, Recipe(rows=256, columns=256), Recipe(rows=160, columns=160, modality="MR"))
    analysis = run(tmp_path, formats=("zstd-3",), lossy=True, progressive=True)
    families = {one.family for one in analysis.lossy}
    assert families >= {"JPEG", "JPEG 2000", "HTJ2K", "JPEG XL", "JPEG-LS"}
    near = {one.setting: one for one in analysis.lossy if one.family == "JPEG-LS" and one.modality == "CT"}
    assert [near[f"near {bound}"].largest_error for bound in (1, 2, 4)] == [1, 2, 4]
    assert all(0 < one.windowed_ssim <= 1 for one in analysis.lossy)
    assert {one.family for one in analysis.progressive} >= {"HTJ2K"}
    for one in analysis.progressive:
        assert one.stages[-1].verdict == "exact"
        assert [stage.received for stage in one.stages] == sorted(stage.received for stage in one.stages)
    page = render(analysis)
    assert "LOSSY" in page
    assert "yes, and exact" in page


def test_the_command(mixed: tuple[Path, Analysis], tmp_path: Path) -> None:
    folder, _ = mixed
    out, record, rows = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "r.csv"
    arguments = ["analyze", str(folder), "--codecs", "zstd-3,jpegls", "--out", str(out), "--json", str(record)]
    done = CliRunner().invoke(app, [*arguments, "--csv", str(rows), "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0
    analysis = load(record)
    assert "JPEG-LS" in done.stdout
    assert "truncated.dcm" in done.stdout
    assert out.read_text(encoding="utf-8") == render(analysis)
    with rows.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    total = sum(int(line["total_bytes"]) for line in lines if line["format"] == "jpegls")
    assert total == pytest.approx(analysis.total.format("jpegls").total_bytes.value, abs=len(lines))
    assert {line["exact"] for line in lines} == {"yes", "no"}


def test_wrong_usage(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["analyze"]).exit_code == 2
    assert runner.invoke(app, ["analyze", str(tmp_path), "--sample", "none"]).exit_code == 2
    assert isinstance(runner.invoke(app, ["analyze", str(tmp_path), "--codecs", "jpg"]).exception, ReportError)
    assert isinstance(runner.invoke(app, ["analyze", "--example", "cats"]).exception, ReportError)


def test_a_file_that_is_gone_is_a_problem_of_that_file(tmp_path: Path) -> None:
    (path,) = make(tmp_path, Recipe())
    looked = look(Found(path))
    assert looked.stratum is not None
    path.unlink()
    measured = measure(Drawn(Found(path), looked.stratum, 1), Options(("zstd-3",)))
    assert "cannot be measured" in measured.problem
