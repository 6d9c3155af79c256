"""Files and folders: nothing stops the others, nothing is overwritten, what is there is complete."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from data import EXPLICIT_LE, JPEG_LS, RLE, Recipe, make_instance
from leanpacs.cli.main import app
from leanpacs.errors import ConfigError, NotDicom, UnsupportedTransferSyntax
from leanpacs.transcode import (
    FileTranscoder,
    OpenInstance,
    Status,
    Target,
    Transcoder,
    Verify,
    WriteOptions,
    outputs,
    syntax_named,
    transcode_file,
    transcode_files,
    transcoding,
)
from leanpacs.transcode.frames import FrameTask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them broken, a report, and a file that is no DICOM."""
    received = tmp_path / "in"
    (received / "deep").mkdir(parents=True)
    (received / "a.dcm").write_bytes(make_instance(Recipe(frames=3)))
    (received / "deep" / "b").write_bytes(make_instance(Recipe(instance=1, transfer_syntax=RLE)))
    (received / "deep" / "broken.dcm").write_bytes(make_instance(Recipe(instance=2))[:-9])
    (received / "float.dcm").write_bytes(make_instance(Recipe(instance=3, kind="float", bits_allocated=32)))
    (received / "notes.txt").write_text("no image")
    (received / "sr.dcm").write_bytes(make_instance(Recipe(instance=4, modality="SR", kind="none")))
    return received


def test_one_file_in_worker_processes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.dcm"
    outcome = transcode_file(folder / "a.dcm", out, "JPEGLSLossless")
    assert (outcome.status, outcome.source, outcome.target) == (Status.EXACT, EXPLICIT_LE, JPEG_LS)
    assert (outcome.bytes_in, outcome.bytes_out) == ((folder / "a.dcm").stat().st_size, out.stat().st_size)
    assert outcome.account is not None
    assert outcome.account.frames == 3
    assert pydicom.dcmread(out).file_meta.TransferSyntaxUID == JPEG_LS
    assert list(out.parent.iterdir()) == [out]


def test_what_is_there_is_not_overwritten_unless_asked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.dcm"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        transcode_file(folder / "a.dcm", out, RLE, isolated=False)
    assert out.read_bytes() == b"mine"
    transcode_file(folder / "a.dcm", out, RLE, isolated=False, overwrite=True)
    assert pydicom.dcmread(out).file_meta.TransferSyntaxUID == RLE


@pytest.mark.parametrize(("name", "error"), [("float.dcm", UnsupportedTransferSyntax), ("notes.txt", NotDicom)])
def test_nothing_is_written_after_an_error(folder: Path, tmp_path: Path, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        transcode_file(folder / name, tmp_path / "out.dcm", RLE, isolated=False)
    assert not (tmp_path / "out.dcm").exists()


def test_a_broken_file_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = FileTranscoder(Transcoder(), Target(RLE))
    outcomes = {one.path.name: one for one in transcode_files(outputs([folder], out), files, 2)}
    assert {name: str(one.status) for name, one in outcomes.items()} == {
        "a.dcm": "exact",
        "b": "unchanged",
        "broken.dcm": "failed",
        "float.dcm": "refused",
        "notes.txt": "skipped",
        "sr.dcm": "exact",
    }
    assert all(one.reason for one in outcomes.values() if one.account is None)
    assert (out / "deep" / "b").read_bytes() == (folder / "deep" / "b").read_bytes()
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["a.dcm", "b", "sr.dcm"]


def test_the_output_may_be_within_the_input(folder: Path) -> None:
    out = folder / "out"
    files = FileTranscoder(Transcoder(), Target(RLE))
    first = [one.status for one in transcode_files(outputs([folder], out), files, 1)]
    again = [one.status for one in transcode_files(outputs([folder], out), files, 1)]
    assert len(first) == len(again)
    assert Status.EXACT not in again


def _crash(task: FrameTask) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_of_a_codec_fails_one_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leanpacs.transcode import frames

    real = frames.convert
    with transcoding(1) as transcoder:
        files = FileTranscoder(transcoder, Target(JPEG_LS))
        monkeypatch.setattr(frames, "convert", _crash)
        crashed = files.attempt(folder / "a.dcm", tmp_path / "a.dcm")
        monkeypatch.setattr(frames, "convert", real)
        fine = files.attempt(folder / "deep" / "b", tmp_path / "b")
    assert (crashed.status, fine.status) == (Status.FAILED, Status.EXACT)
    assert "crashed" in crashed.reason
    assert not (tmp_path / "a.dcm").exists()


def test_names_of_transfer_syntaxes() -> None:
    assert syntax_named("rlelossless") == RLE == syntax_named(RLE)
    with pytest.raises(UnsupportedTransferSyntax, match="JPEGXLLossless"):
        syntax_named("JPEG")


def test_an_engine_takes_any_open_instance() -> None:
    class Elsewhere:
        """An instance that is in no file."""

        def __init__(self, instance: OpenInstance) -> None:
            self._instance = instance
            self.layout = instance.layout

        def __getattr__(self, name: str) -> object:
            return getattr(self._instance, name)

    from transcoding import opened

    with opened(make_instance(Recipe())) as source:
        made = Transcoder().file(Elsewhere(source), Target(RLE, WriteOptions(), Verify.NONE))
        assert pydicom.dcmread(io.BytesIO(b"".join(made.pieces))).file_meta.TransferSyntaxUID == RLE


class TestCommand:
    def test_a_folder(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ["transcode", str(folder), "--to", "RLELossless", "--out", str(out), "--jobs", "1", "--json"]
        run = CliRunner().invoke(app, arguments)
        assert run.exit_code == 1, run.output
        report = json.loads(run.stdout)
        assert report["files"] == {"exact": 2, "unchanged": 1, "lossy": 0, "refused": 1, "failed": 1, "skipped": 1}
        assert report["frames"] == 4
        assert len(report["not_written"]) == 3
        assert report["checked_by"]

    def test_lossy_files_as_a_table(self, folder: Path, tmp_path: Path) -> None:
        arguments = ["transcode", str(folder / "a.dcm"), "--to", "JPEGLSNearLossless", "--out", str(tmp_path / "out")]
        run = CliRunner().invoke(app, [*arguments, "--lossy", "near=2", "--jobs", "1", "--quiet"])
        assert run.exit_code == 0, run.output
        assert "lossy" in run.stdout
        assert pydicom.dcmread(tmp_path / "out" / "a.dcm").LossyImageCompression == "01"

    @pytest.mark.parametrize("text", ["near", "near=0", "near=many", "loss=3"])
    def test_what_may_be_lost_has_to_make_sense(self, folder: Path, tmp_path: Path, text: str) -> None:
        arguments = ["transcode", str(folder), "--to", "JPEGLSNearLossless", "--out", str(tmp_path / "out")]
        run = CliRunner().invoke(app, [*arguments, "--lossy", text])
        assert isinstance(run.exception, ConfigError)
        assert not (tmp_path / "out").exists()
