"""Interoperability with Orthanc, both ways: a server of ours in its processes, and a real Orthanc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import data
from dimse_peer import dcmtk
from leanpacs.cli.main import app
from leanpacs.dicom import uids
from orthanc import Orthanc, running_orthanc
from peers import HOST, RECIPES, STUDY, assert_same, contents, files_in, read, run, samples, syntaxes
from serving import Server

pytestmark = pytest.mark.external

NATIVE = RECIPES[0]
WANTED = (
    *(uids.EXPLICIT_LE, uids.IMPLICIT_LE, uids.EXPLICIT_BE, uids.DEFLATED_LE, data.RLE, data.JPEG_LOSSLESS),
    *(data.JPEG_LS, uids.JPEG_LS_NEAR_LOSSLESS, data.JPEG_2000, uids.JPEG_2000),
)
"""What Orthanc 1.10 takes by default and we can write without loss."""


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Server]:
    """A server that knows Orthanc as a destination, and is known to it as `us`."""
    folder = tmp_path_factory.mktemp("ours") / "archive"
    with Server(folder, processes=1, workers=1) as server:
        leanpacs("destination", "add", "ORTHANC", f"{HOST}:{orthanc.dimse_port}", "--reports-apart", "--data", folder)
        orthanc.knows("us", server.ae_title, server.host, server.port, AllowStorageCommitment=True)

        yield server


def leanpacs(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.fixture
def empty(orthanc: Orthanc) -> Orthanc:
    for name in orthanc.json("/studies"):
        orthanc.rest.delete(f"/studies/{name}").raise_for_status()
    return orthanc


@pytest.fixture(scope="module")
def filled(ours: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Ours, with the study of all kinds."""
    folder = tmp_path_factory.mktemp("files")
    for number, content in enumerate(contents()):
        (folder / f"{number}.dcm").write_bytes(content)
    leanpacs("send", "--to", f"{ours.ae_title}@{HOST}:{ours.port}", folder)
    return ours


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


def files_of(orthanc: Orthanc) -> list[bytes]:
    return [orthanc.file(uid) for uid in sorted(orthanc.sop_uids())]


def test_send_as_it_is(filled: Server, empty: Orthanc) -> None:
    """What Orthanc knows goes as it was received; HTJ2K, which it does not know, is transcoded for it."""
    leanpacs("send", "--to", "ORTHANC", "--data", filled.folder)
    received = files_of(empty)
    assert_same(received, samples(contents()))
    came = {recipe.sop_uid: recipe.transfer_syntax for recipe in RECIPES}
    known = {uid: syntax for uid, syntax in came.items() if syntax != data.HTJ2K}
    assert known.items() <= syntaxes(received).items()


@pytest.mark.parametrize("wanted", WANTED)
def test_send_in_every_syntax_that_it_takes(filled: Server, empty: Orthanc, wanted: str) -> None:
    arguments = ("--prefer", wanted, "--instance", NATIVE.sop_uid, "--data", filled.folder)
    leanpacs("send", "--to", "ORTHANC", *arguments)
    (received,) = files_of(empty)
    assert syntaxes([received]) == {NATIVE.sop_uid: wanted}
    assert_same([received], samples(contents([NATIVE])))


def test_orthanc_stores_here(ours: Server, empty: Orthanc, tmp_path: Path) -> None:
    recipes = [data.Recipe(study=7, instance=number, modality="MR") for number in range(3)]
    for content in contents(recipes):
        empty.store(content)
    (study,) = empty.json("/studies")
    done = empty.post("/modalities/us/store", {"Resources": [study], "StorageCommitment": True})
    assert done["FailedInstancesCount"] == 0
    leanpacs("export", "--data", ours.folder, "--study", recipes[0].study_uid, "--out", tmp_path / "out")
    assert_same(files_in(tmp_path / "out"), samples(contents(recipes)))
    # It asked for storage commitment and left; the report comes on an association of its own.
    report = f"/storage-commitment/{done['StorageCommitmentTransactionUID']}"
    said = until(lambda: (one := empty.json(report))["Status"] != "Pending" and one)
    assert said["Status"] == "Success"
    assert {one["SOPInstanceUID"] for one in said["Success"]} == {recipe.sop_uid for recipe in recipes}


def test_orthanc_finds_and_moves_from_here(filled: Server, empty: Orthanc) -> None:
    query = {"PatientName": "doe*", "StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""}
    found = empty.post("/modalities/us/query", {"Level": "Study", "Query": query})["ID"]
    (answer,) = empty.json(f"/queries/{found}/answers?expand&simplify")
    assert (answer["StudyInstanceUID"], answer["NumberOfStudyRelatedInstances"]) == (STUDY, str(len(RECIPES)))
    empty.rest.post(f"/queries/{found}/retrieve", content="ORTHANC").raise_for_status()
    until(lambda: len(empty.sop_uids()) == len(RECIPES))
    assert_same(files_of(empty), samples(contents()))


def test_orthanc_moves_to_here(ours: Server, empty: Orthanc, tmp_path: Path) -> None:
    """Somebody asks Orthanc (C-MOVE) to send to us what we then give back with equal pixels."""
    recipe = data.Recipe(study=9, modality="CR", transfer_syntax=data.JPEG_LS)
    empty.store(contents([recipe])[0])
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={recipe.study_uid}"]
    run(dcmtk("movescu"), "-S", "-aec", "ORTHANC", "-aem", ours.ae_title, *keys, HOST, empty.dimse_port)
    run(dcmtk("getscu"), "-S", "+B", "-od", tmp_path, *keys, HOST, ours.port)
    assert_same(files_in(tmp_path), samples(contents([recipe])))


def test_queued(filled: Server, empty: Orthanc) -> None:
    """The running server empties its outbox into Orthanc."""
    leanpacs("send", "--queue", "--to", "ORTHANC", "--study", STUDY, "--data", filled.folder)
    until(lambda: len(empty.sop_uids()) == len(RECIPES))
    assert_same(files_of(empty), samples(contents()))


def test_lossy_comes_as_it_is(ours: Server, empty: Orthanc, tmp_path: Path) -> None:
    """An image that came lossy is never compressed again: where JPEG is taken it goes byte for byte."""
    recipe = data.Recipe(study=11, modality="US", bits_allocated=8, bits_stored=8, transfer_syntax=data.JPEG_BASELINE)
    (tmp_path / "one.dcm").write_bytes(contents([recipe])[0])
    leanpacs("send", "--to", f"{ours.ae_title}@{HOST}:{ours.port}", tmp_path / "one.dcm")
    leanpacs("send", "--to", "ORTHANC", "--instance", recipe.sop_uid, "--data", ours.folder)
    (received,) = files_of(empty)
    assert read(received).PixelData == read(contents([recipe])[0]).PixelData
    run(dcmtk("getscu"), "-S", "+B", "+xe", "-od", tmp_path, *_keys(recipe), HOST, ours.port)
    decoded = next(
        content for content in files_in(tmp_path) if syntaxes([content]) == {recipe.sop_uid: uids.EXPLICIT_LE}
    )
    expected = samples(contents([recipe]))[recipe.sop_uid]
    found = samples([decoded])[recipe.sop_uid]
    assert expected is not None
    assert found is not None
    # Decoders of lossy JPEG may differ by one in rounding.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def _keys(recipe: data.Recipe) -> list[str]:
    return ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={recipe.study_uid}"]
