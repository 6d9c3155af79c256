"""The stand-alone restorer on what the archive really writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

import data
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming, Outcome
from leanpacs.archive.settle.settler import Settler
from leanpacs.config import Settings

SCRIPT = Path(__file__).parents[3] / "restore" / "leanpacs_restore.py"
SETTINGS = Settings(storage={"minimum_free_bytes": 0})

RECIPES = [
    data.Recipe(modality="CT", signed=True, rows=64, columns=64),
    data.Recipe(modality="MR", frames=5, transfer_syntax=data.IMPLICIT_LE, private_bytes=5000),
    data.Recipe(modality="MR", bits_stored=16, signed=True, content="noise", transfer_syntax=data.EXPLICIT_BE),
    data.Recipe(modality="CR", rows=200, columns=180, bits_stored=10, dirty_bits=True),
    data.Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, planar=1, rows=90, columns=70),
    data.Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, photometric="YBR_FULL_422"),
    data.Recipe(
        modality="US", transfer_syntax=data.RLE, frames=3, rows=150, columns=150, fragments=2, offset_table="empty"
    ),
    data.Recipe(
        modality="XA", transfer_syntax=data.JPEG_LS, frames=2, rows=200, columns=200, offset_table="extended", icon=True
    ),
    data.Recipe(modality="SEG", bits_allocated=1, bits_stored=1, frames=3, rows=9, columns=7),
    data.Recipe(modality="SEG", bits_allocated=1, bits_stored=1, frames=3, rows=16, columns=8),
    data.Recipe(modality="OT", kind="float", bits_allocated=32, bits_stored=32),
    data.Recipe(modality="OT", bits_allocated=32, bits_stored=32, transfer_syntax=data.EXPLICIT_BE),
    data.Recipe(modality="SR", kind="none", undefined_lengths=True),
    data.Recipe(modality="CT", transfer_syntax=data.DEFLATED_LE, trailing_padding=6, rows=50),
    data.Recipe(modality="NM", rows=1, columns=1, trailing_padding=6),
]


class Inline(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


def settle(archive: Archive) -> None:
    """Settle all that has landed, in this process."""
    limit = archive.settings.settle
    Settler(archive.store, archive.catalog, limit, limit_inflated_bytes=1 << 30, executor=Inline).drain()


def restore(folder: Path, out: Path) -> str:
    """Run the script as a user would; return what it prints."""
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def take_in(archive: Archive, contents: list[bytes]) -> None:
    """Land files as a door does."""
    for content in contents:
        path = archive.spool_folder / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        assert archive.land(Incoming(path, "TESTER", "import")).outcome is Outcome.STORED


def test_every_form_comes_back(tmp_path: Path) -> None:
    contents = [data.make_instance(_numbered(recipe, number)) for number, recipe in enumerate(RECIPES)]
    with open_archive(tmp_path / "data", SETTINGS) as archive:
        take_in(archive, contents)
        settle(archive)
        forms = _forms(tmp_path / "data")
    assert forms == {"whole", "frames", "recoded"}
    printed = restore(tmp_path / "data", tmp_path / "out")
    assert f"{len(contents)} restored and compared, 0 landed files copied, 0 failed" in printed
    restored = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    assert sorted(restored.values()) == sorted(contents)


def test_what_has_landed_only_comes_back(tmp_path: Path) -> None:
    content = data.make_instance(data.Recipe())
    with open_archive(tmp_path / "data", SETTINGS) as archive:
        take_in(archive, [content])
    assert "1 landed files copied" in restore(tmp_path / "data", tmp_path / "out")
    assert [path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")] == [content]


@pytest.mark.corpus
@pytest.mark.slow
def test_every_file_of_the_corpus_comes_back(tmp_path: Path) -> None:
    files = [path.read_bytes() for path in data.corpus()]
    landed = 0
    with open_archive(tmp_path / "data", SETTINGS) as archive:
        for content in files:
            path = archive.spool_folder / hashlib.sha256(content).hexdigest()
            path.write_bytes(content)
            landed += archive.land(Incoming(path, "TESTER", "import")).outcome is Outcome.STORED
        settle(archive)
    assert f"{landed} restored and compared" in restore(tmp_path / "data", tmp_path / "out")


def _numbered(recipe: data.Recipe, number: int) -> data.Recipe:
    return dataclasses.replace(recipe, series=number, instance=number, seed=number)


def _forms(folder: Path) -> set[str]:
    """The forms that occur among the packs of an archive."""
    packs = [path for path in (folder / "hot" / "blobs").rglob("*") if path.is_file()]
    forms = set()
    for path in packs:
        with zipfile.ZipFile(path) as pack:
            forms.add(json.loads(pack.read("manifest.json"))["form"])
    return forms
