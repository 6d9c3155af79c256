"""What calling AE titles may do, with dcmtk's programs as peers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from data import Recipe
from dimse_archive import made, served
from dimse_peer import dcmtk
from leanpacs.config import DimseSettings, Role

pytestmark = pytest.mark.external

NOT_AUTHORIZED = re.compile(r"(?i)0x0?124")
ROLES = DimseSettings(roles={"CT1": ["write"], "VIEWER": ["read"], "*": []}).roles


def said(program: str, calling: str, address: tuple[str, int], *arguments: str) -> str:
    """What a program of dcmtk prints."""
    host, port = address
    command = [dcmtk(program), "-v", "-aet", calling, "-aec", "LEANPACS", host, str(port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("calling", "may"), [("CT1", Role.WRITE), ("VIEWER", Role.READ), ("STRANGER", None)])
def test_each_does_what_it_may(tmp_path: Path, calling: str, may: Role | None) -> None:
    file = tmp_path / "file.dcm"
    file.write_bytes(made(Recipe(instance=7)))
    query = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
    with served(tmp_path / "archive", made(), roles=ROLES) as (archive, address):
        stored = said("storescu", calling, address, str(file))
        found = said("findscu", calling, address, *query)
        echoed = said("echoscu", calling, address)
        held = archive.catalog.summary().total.instances
    assert bool(NOT_AUTHORIZED.search(stored)) is (may is not Role.WRITE)
    assert held == (2 if may is Role.WRITE else 1)
    assert ("Find Response: 1 (Pending)" in found) is (may is Role.READ)
    assert bool(NOT_AUTHORIZED.search(found)) is (may is not Role.READ)
    assert "Received Echo Response (Success)" in echoed
