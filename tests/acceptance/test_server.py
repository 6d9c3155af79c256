"""A real server and real peers: all goes in by dcmtk's storescu, settles, comes out, can be restored without us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.filebase import DicomBytesIO

import data
from leanpacs.archive.archive import RECENT_FOLDER
from leanpacs.storage.memoryfolder import memory_folder
from serving import Server

RESTORER = Path(__file__).parents[2] / "restore" / "leanpacs_restore.py"
STORESCU = shutil.which("storescu")

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(STORESCU is None, reason="dcmtk's storescu is not installed (scripts/bootstrap.sh installs it)"),
]


def sources() -> list[Path]:
    """pydicom's bundled files, and the real ones where they are at hand."""
    return data.bundled() + (data.corpus() if os.environ.get("LEANPACS_TEST_DATA") else [])


def wait_until_settled(folder: Path) -> dict[str, Any]:
    """Wait for an empty backlog; what ``leanpacs status`` then says."""
    for _ in range(600):
        command = [sys.executable, "-m", "leanpacs", "status", "--data", str(folder), "--json"]
        status: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        if status["backlog"]["instances"] == 0:
            return status
        time.sleep(0.5)
    pytest.fail(f"the backlog does not empty: {status['backlog']}")


@pytest.mark.slow
def test_everything_dcmtk_can_send(tmp_path: Path) -> None:
    """Each file is sent in its own transfer syntax; pixels that come out are those that went in."""
    folder = tmp_path / "archive"
    with Server(folder) as server:
        sent = [path for path in sources() if store(server, path)]
        assert len(sent) > 20
        status = wait_until_settled(folder)
        assert status["quarantined"] == 0
        memory = memory_folder(folder)
        assert memory is None or any((memory / RECENT_FOLDER).iterdir())
        compared = sum(compare(server, path) for path in sent)
        assert compared > 20
        assert server.stop() == 0
        assert memory_folder(folder) is None
    with Server(folder) as server:  # all of it is there after a restart, when nothing is in memory any more
        assert sum(compare(server, path) for path in sent) == compared
    restore(folder, tmp_path / "restored", status["total"]["instances"])


def store(server: Server, path: Path) -> bool:
    """Send one file with storescu in the syntax it has; whether dcmtk could read it and the archive took it."""
    command = [str(STORESCU), "-R", "-aec", server.ae_title, server.host, str(server.port), str(path)]
    environment = os.environ | {"TCP_NODELAY": "1"}
    finished = subprocess.run(command, capture_output=True, check=False, env=environment)
    return finished.returncode == 0


def compare(server: Server, path: Path) -> bool:
    """Whether there were pixels to compare; fails when they differ."""
    try:
        original = pydicom.dcmread(path, force=True)
        pixels = original.pixel_array
    except (AttributeError, ValueError, NotImplementedError, RuntimeError, KeyError, TypeError):
        return False
    found = retrieved(server, original)
    # Another file with the same UID may have come first; then this one was refused.
    if found is None or found.file_meta.TransferSyntaxUID != original.file_meta.TransferSyntaxUID:
        return False
    if found.get("Rows") != original.get("Rows") or found.get("NumberOfFrames") != original.get("NumberOfFrames"):
        return False
    assert np.array_equal(found.pixel_array, pixels), path.name
    return True


def retrieved(server: Server, original: pydicom.Dataset) -> pydicom.Dataset | None:
    if "StudyInstanceUID" not in original or not original.StudyInstanceUID or not original.SeriesInstanceUID:
        return None
    url = (
        f"{server.http}dicom-web/studies/{original.StudyInstanceUID}/series/{original.SeriesInstanceUID}"
        f"/instances/{original.SOPInstanceUID}"
    )
    answer = httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
    return pydicom.dcmread(DicomBytesIO(answer.content)) if answer.status_code == 200 else None


def restore(folder: Path, out: Path, instances: int) -> None:
    """The stand-alone restorer gives back every instance from packs and dictionaries alone."""
    command = [sys.executable, "-I", str(RESTORER), str(folder / "hot"), str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(list(out.rglob("*.dcm"))) == instances
