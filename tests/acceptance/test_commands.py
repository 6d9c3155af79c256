"""The installed command on files: import, status, export, verify, quarantine, delete, rebuild-catalog, dictionary."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import data
from commands import run, run_installed
from leanpacs.audit import AuditAction, AuditTrail

RECIPES = [
    data.Recipe(modality="CT", instance=1, series=1, seed=1, rows=64, columns=64, signed=True),
    data.Recipe(modality="MR", instance=2, series=2, seed=2, transfer_syntax=data.IMPLICIT_LE, frames=3),
    data.Recipe(modality="US", instance=3, series=3, seed=3, samples=3, bits_allocated=8, bits_stored=8),
    data.Recipe(modality="US", instance=4, series=4, seed=4, transfer_syntax=data.RLE),
    data.Recipe(modality="SR", instance=5, series=5, kind="none", transfer_syntax=data.DEFLATED_LE),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents by SOP Instance UID."""
    contents = [data.make_instance(recipe) for recipe in RECIPES]
    return {str(data.make_data_set(recipe).SOPInstanceUID): raw for recipe, raw in zip(RECIPES, contents, strict=True)}


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A folder with images, one of them in a ZIP, a damaged file and a file that is no image."""
    source = tmp_path / "source" / "deep"
    source.mkdir(parents=True)
    (uid, zipped), *others = files.items()
    with zipfile.ZipFile(source / "more.zip", "w") as archive:
        archive.writestr(f"inner/{uid}.dcm", zipped)
    for number, (_, content) in enumerate(others):
        (source / f"{number}.dcm").write_bytes(content)
    (source / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 400)
    (source / "notes.txt").write_text("nothing to see here")
    return tmp_path / "source"


def test_from_import_to_rebuilt_catalog(tmp_path: Path, folder: Path, files: dict[str, bytes]) -> None:
    archive = tmp_path / "archive"
    imported = run_installed("import", folder, "--data", archive, "--json")
    assert imported["files"] == {"stored": 5, "quarantined": 1, "skipped": 1}
    assert run_installed("import", folder, "--data", archive, "--json")["files"] == {
        "duplicate": 5,
        "quarantined": 1,
        "skipped": 1,
    }
    status = run_installed("status", "--data", archive, "--json")
    assert (status["total"]["instances"], status["backlog"]["instances"]) == (5, 0)
    assert {share["name"] for share in status["by_modality"]} == {"CT", "MR", "US", "SR"}

    assert exported(tmp_path / "out", archive) == files
    verified = run_installed("verify", "--data", archive, "--json")
    assert (verified["problems"], verified["checked"]) == ([], 6)

    (row,) = run_installed("quarantine", "list", "--data", archive, "--json")
    assert row["name"].endswith("damaged.dcm")
    run_installed("quarantine", "retry", "--data", archive, "--json", expect=1)
    run_installed("quarantine", "drop", row["number"], "--data", archive)
    assert run_installed("quarantine", "list", "--data", archive, "--json") == []

    gone = next(iter(files))
    run_installed("delete", "--instance", gone, "--yes", "--data", archive)
    run_installed("delete", "--instance", gone, "--yes", "--data", archive, expect=9)

    run_installed("rebuild-catalog", "--data", archive, expect=3)
    for path in archive.glob("catalog.sqlite*"):
        path.rename(tmp_path / path.name)
    run_installed("rebuild-catalog", "--data", archive, "--json")
    after = exported(tmp_path / "rebuilt", archive)
    written = [event for event in AuditTrail(archive / "audit").events() if event.action is AuditAction.EXPORT]
    assert sum(event.instances for event in written) == len(files) + len(after)
    assert {uid: after[uid] for uid in files if uid in after} == {uid: files[uid] for uid in after if uid in files}
    assert set(files) - {gone} <= set(after)


def exported(out: Path, archive: Path) -> dict[str, bytes]:
    """Export everything as received; contents by SOP Instance UID."""
    run("export", "--data", archive, "--out", out, "--as-received", "-q")
    return {path.stem: path.read_bytes() for path in out.rglob("*.dcm")}


def test_one_flipped_byte_in_any_blob_is_named(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "archive"
    run("import", folder, "--data", archive, "--json")
    for blob in (archive / "hot" / "blobs").glob("*/*"):
        content = blob.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            blob.chmod(0o600)
            blob.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        problems = run("verify", "--data", archive, "--json", expect=1)["problems"]
        assert [problem["blob"] for problem in problems] == [blob.name]
        assert problems[0]["instance"]
        blob.write_bytes(content)
    run("verify", "--data", archive, "--json")


def test_dictionaries_are_trained_listed_and_needed(tmp_path: Path) -> None:
    source, archive = tmp_path / "source", tmp_path / "archive"
    source.mkdir()
    for number in range(60):
        recipe = data.Recipe(modality="MR", instance=number, seed=number, rows=16, columns=16, private_bytes=600)
        (source / f"{number}.dcm").write_bytes(data.make_instance(recipe))
    run("import", source, "--data", archive, "--json")
    (trained,) = run("dictionary", "train", "--data", archive, "--json")
    assert trained["samples"] == 60
    listed = run("dictionary", "list", "--data", archive, "--json")
    assert len(listed) == 1 + trained["kept"]


def test_wrong_use_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HOST:PORT" in run_installed("serve", "--data", tmp_path, "--http", "nonsense", expect=3)
    assert "no such" in run_installed("import", tmp_path / "absent", "--data", tmp_path / "a", expect=1)
    assert "not in this archive" in run_installed(
        "export", "--data", tmp_path / "a", "--out", tmp_path, "--study", "1.2", expect=9
    )
    (tmp_path / "no.pem").write_text("no certificate")
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"LEANPACS_DIMSE__TLS_{name}", str(tmp_path / "no.pem"))
    assert "dimse.tls_certificate" in run_installed("serve", "--data", tmp_path, expect=3)


def test_a_door_that_does_not_come_up_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "leanpacs", "serve", "--data", str(tmp_path / "archive")]
    command += ["--http", "127.0.0.1:0", "--dimse", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        doors: list[psutil.Process] = []
        while not doors:
            assert server.poll() is None
            time.sleep(0.05)
            with suppress(psutil.NoSuchProcess):  # the server itself, or what has ended meanwhile
                children = psutil.Process(server.pid).children()
                doors = [one for one in children if any("spawn_main" in word for word in one.cmdline())]
        doors[0].kill()
        told, said = server.communicate(timeout=120)
    assert (server.returncode, told) == (3, "")
    assert "door = 'exit code -9': it did not start" in said
