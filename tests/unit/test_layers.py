"""Imports go down only, and a fault against that is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the tree at ``root``, and on nothing that is installed."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_imports_go_down_only() -> None:
    run = lint(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("refs.py", "import leanpacs.config", "One-way layers"),
        ("catalog/rows.py", "import leanpacs.storage.store", "One-way layers"),
        ("storage/store.py", "import pydicom", "Storage knows bytes, not DICOM"),
        ("archive/intake/ingest.py", "import pynetdicom", "No network toolkit below services"),
        ("cli/main.py", "import sqlalchemy", "No database toolkit outside the catalog"),
        ("helpers/__init__.py", "", "One-way layers"),
    ],
)
def test_faults_are_found(module: str, line: str, contract: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / "src" / "leanpacs" / module
    target.parent.mkdir(exist_ok=True)
    with target.open("a") as file:
        file.write(f"\n{line}\n")
    run = lint(tmp_path)
    assert run.returncode != 0
    assert f"{contract} BROKEN" in run.stdout
