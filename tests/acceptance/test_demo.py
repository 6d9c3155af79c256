"""``make demo``, from start to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest

DEMO = Path(__file__).parent.parent.parent / "scripts" / "demo.py"

pytestmark = pytest.mark.slow


def test_demo_shows_what_each_modality_took_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-u", DEMO, "--folder", tmp_path / "demo"]
    # Where the tests run in the background of a shell, Ctrl-C is ignored by what they start.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            preexec_fn=heeding,
            env={**os.environ, "COLUMNS": "120"},
        ) as demo,
    ):
        try:
            assert demo.stdout is not None
            told: list[str] = []
            for line in iter(demo.stdout.readline, ""):
                told.append(line)
                if "Ctrl-C ends it" in line:
                    break
            else:
                pytest.fail("".join(told) + (tmp_path / "said").read_text())
            address = next(line.split()[-1] for line in told if line.startswith("Web page"))
            assert httpx.get(address, timeout=30).status_code == 200
            demo.send_signal(signal.SIGINT)
            assert demo.wait(300) == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(address, timeout=5)
        finally:
            demo.kill()
    output = "".join(told) + (tmp_path / "said").read_text()
    assert "STOW-RS answered" not in output
    assert "storescu ended" not in output
    assert "are held" not in output
    rows = {cells[0]: cells for cells in map(_cells, told) if len(cells) == 7}
    assert {"MG", "CT", "MR", "US", "all"} <= set(rows)
    instances, sent, gzip, stored = (int(cell.replace(",", "")) for cell in rows["all"][1:5])
    assert instances > 40
    assert 0 < stored < gzip < sent


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ \n").replace("┃", "│").split("│")]


def test_demo_leaves_folders_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    run = subprocess.run(
        [sys.executable, DEMO, "--once", "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode != 0
    assert "was not made by the demo" in run.stderr
    assert (tmp_path / "precious").exists()
