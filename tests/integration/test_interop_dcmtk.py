"""Interoperability with dcmtk, both ways, in every transfer syntax that its programs can name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import data
from dimse_archive import put, served, settings
from dimse_peer import dcmtk, door
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.catalog import DestinationRow
from leanpacs.cli.main import app
from leanpacs.dicom import uids
from peers import (
    HOST,
    RECIPES,
    STUDY,
    assert_same,
    contents,
    dcmqrscp,
    files_in,
    listening,
    run,
    samples,
    syntaxes,
)
from ports import free_port

pytestmark = pytest.mark.external

MPEG = ("+xm", "+xh", "+xn", "+xl", "+x2", "+x3", "+xo", "+x4", "+x5")
ASKED: dict[str, str] = {
    "+x=": uids.EXPLICIT_LE,
    "+xe": uids.EXPLICIT_LE,
    "+xb": uids.EXPLICIT_LE,  # offered beside, and better
    "+xi": uids.IMPLICIT_LE,
    "+xd": uids.DEFLATED_LE,
    "+xs": data.JPEG_LOSSLESS,
    "+xt": data.JPEG_LS,
    "+xv": data.JPEG_2000,
    "+xr": data.RLE,
    "+xw": uids.JPEG_2000,  # without loss: these two can hold that
    "+xu": uids.JPEG_LS_NEAR_LOSSLESS,
    # Nothing is compressed with loss on the way, and no image becomes a video: these get what is offered beside.
    "+xy": uids.EXPLICIT_LE,
    "+xx": uids.EXPLICIT_LE,
    **dict.fromkeys(MPEG, uids.EXPLICIT_LE),
}
"""What native images come in, by the option that asks for a transfer syntax."""


@pytest.fixture(scope="module")
def sent() -> dict[str, Any]:
    return samples(contents())


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, tuple[str, int]]]:
    with served(tmp_path_factory.mktemp("dcmtk") / "archive", *contents()) as both:
        yield both


def study(*more: str) -> list[str]:
    return ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}", *more]


@pytest.mark.parametrize("option", ASKED)
def test_getscu(held: tuple[Archive, tuple[str, int]], sent: dict[str, Any], option: str, tmp_path: Path) -> None:
    run(dcmtk("getscu"), "-S", "+B", option, "-od", tmp_path, *study(), *held[1])
    received = files_in(tmp_path)
    assert_same(received, sent)
    native = [recipe.sop_uid for recipe in RECIPES[:3]]
    found = syntaxes(received)
    # getscu 3.6.7 proposes Explicit VR for this option.
    assert {found[uid] for uid in native} == {uids.EXPLICIT_LE if option == "+xi" else ASKED[option]}


@pytest.mark.parametrize("option", [*ASKED, "+xa"])
def test_movescu_to_storescp(
    held: tuple[Archive, tuple[str, int]], sent: dict[str, Any], option: str, tmp_path: Path
) -> None:
    archive, address = held
    got, port = tmp_path / "got", free_port()
    got.mkdir()
    wanted = ASKED.get(option, uids.EXPLICIT_LE)
    archive.catalog.outgoing.keep_destination(DestinationRow("STORESCP", HOST, port, (wanted,)), datetime.now(UTC))
    with listening([dcmtk("storescp"), "+B", option, "-od", got, port], port, tmp_path / "log"):
        run(dcmtk("movescu"), "-S", "-aem", "STORESCP", *study(), *address)
    received = files_in(got)
    assert_same(received, sent)
    found = syntaxes(received)
    assert {found[recipe.sop_uid] for recipe in RECIPES[:3]} == {wanted}
    if option == "+xa":  # takes all that dcmtk knows: each comes as it was received
        came = {recipe.sop_uid: recipe.transfer_syntax for recipe in RECIPES if recipe.transfer_syntax != data.HTJ2K}
        assert came.items() <= found.items()


@pytest.mark.parametrize("options", [["+xe", "-xe"], ["+xi", "-xi"]], ids=" ".join)
def test_dcmqrscp(sent: dict[str, Any], options: list[str], tmp_path: Path) -> None:
    """An archive of ours sends to dcmtk's; from there it is moved to another one of ours, pixels equal."""
    with open_archive(tmp_path / "one", settings()) as one:
        for content in contents():
            put(one, content)
    with (
        open_archive(tmp_path / "two", settings()) as two,
        door(two, holdings=two) as (_, ours),
        dcmqrscp(tmp_path / "theirs", ours, options) as port,
    ):
        arguments = ["send", "--to", f"DCMQRSCP@{HOST}:{port}", "--data", str(tmp_path / "one")]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        run(dcmtk("movescu"), "-S", "-aec", "DCMQRSCP", "-aem", "LEANPACS", *study(), HOST, port)
        received = [b"".join(two.retriever.part10(row).chunks) for row in two.catalog.all_instances()]
        assert_same(received, sent)


def test_findscu_in_every_model(held: tuple[Archive, tuple[str, int]], tmp_path: Path) -> None:
    asked = ["-k", "PatientName=DOE*", "-k", "PatientID", *study()]
    run(dcmtk("findscu"), "-S", "-X", "-od", tmp_path, *asked, *held[1])
    assert len(list(tmp_path.iterdir())) == 1
    levels = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P1", "-k", "NumberOfPatientRelatedInstances"]
    assert "[9 ]" in run(dcmtk("findscu"), "-P", *levels, *held[1])
