"""Packs of every release read for ever, with this package and with the stand-alone restorer."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import SeriesPack, is_series_pack
from leanpacs.storage.dictionary import load_all
from leanpacs.storage.local import LocalStore

GOLDEN = Path(__file__).parents[1] / "golden"
RESTORER = Path(__file__).parents[2] / "restore" / "leanpacs_restore.py"

each_release = pytest.mark.parametrize("release", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)


def received(release: Path) -> dict[str, str]:
    """SHA-256 of the files as received by SOP Instance UID."""
    digests: dict[str, str] = json.loads((release / "received.json").read_text(encoding="utf-8"))
    return digests


@each_release
def test_golden_packs_are_rebuilt(release: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for part in ("blobs", "dictionaries"):
        (tmp_path / "store" / part).symlink_to(release / part)
    store = LocalStore(tmp_path / "store")
    dictionaries = load_all(store)
    rebuilt = {}
    for blob in store.list():
        with store.open(blob.digest) as file:
            for packed in SeriesPack(file) if is_series_pack(file) else [PackedInstance(file, dictionaries)]:
                sha = hashlib.sha256(packed.preface())
                for chunk in packed.data_set():
                    sha.update(chunk)
                rebuilt[packed.manifest.sop_uid] = sha.hexdigest()
    assert rebuilt == received(release)


@each_release
def test_golden_packs_are_restored_without_the_package(release: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(RESTORER), str(release), str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    restored = {path.stem: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    assert set(restored) == set(received(release))
    # A file that came without file meta gets new ones; all others are as they were.
    exact = [uid for uid, digest in received(release).items() if hashlib.sha256(restored[uid]).hexdigest() == digest]
    assert len(exact) == len(restored) - 1
