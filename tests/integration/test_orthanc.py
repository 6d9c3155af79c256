"""Interoperability with Orthanc, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import data
from dimse_archive import made
from leanpacs.cli.main import app
from orthanc import Orthanc, running_orthanc

pytestmark = pytest.mark.external


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def test_send_to_orthanc(orthanc: Orthanc, tmp_path: Path) -> None:
    recipe = data.Recipe(study=1)
    (tmp_path / "one.dcm").write_bytes(made(recipe))
    assert CliRunner().invoke(app, ["send", "--to", orthanc.address, str(tmp_path / "one.dcm")]).exit_code == 0
    assert recipe.sop_uid in orthanc.sop_uids()
    assert orthanc.json("/dicom-web/studies")
