"""Interoperability with pynetdicom's applications, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import data
from dimse_archive import served, settings
from dimse_peer import door
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.catalog import DestinationRow
from leanpacs.cli.main import app
from leanpacs.dicom import uids
from peers import (
    HOST,
    RECIPES,
    STUDY,
    app_of_pynetdicom,
    assert_same,
    contents,
    files_in,
    listening,
    run,
    samples,
    syntaxes,
)
from ports import free_port

KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}")


@pytest.fixture(scope="module")
def sent() -> dict[str, Any]:
    return samples(contents())


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, tuple[str, int]]]:
    with served(tmp_path_factory.mktemp("apps") / "archive", *contents()) as both:
        yield both


def test_echoscu_and_storescu(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number, content in enumerate(contents()):
        (files / f"{number}.dcm").write_bytes(content)
    with open_archive(tmp_path / "archive", settings()) as archive, door(archive, holdings=archive) as address:
        run(*app_of_pynetdicom("echoscu"), *address)
        run(*app_of_pynetdicom("storescu"), *address, files, "-r", "-cx")
        received = [b"".join(archive.retriever.as_received(row).chunks) for row in archive.catalog.all_instances()]
    assert_same(received, samples(contents()))
    assert set(syntaxes(received).values()) == {recipe.transfer_syntax for recipe in RECIPES}


def test_findscu(held: tuple[Archive, tuple[str, int]]) -> None:
    asked = ("-k", "PatientName=DOE*", "-k", "ModalitiesInStudy=", "-k", "NumberOfStudyRelatedInstances=")
    said = run(*app_of_pynetdicom("findscu"), *held[1], "-S", *KEYS, *asked)
    assert f"IS [{len(RECIPES)}]" in said


def test_getscu(held: tuple[Archive, tuple[str, int]], sent: dict[str, Any], tmp_path: Path) -> None:
    run(*app_of_pynetdicom("getscu"), *held[1], "-S", *KEYS, "-od", tmp_path)
    assert_same(files_in(tmp_path), sent)


@pytest.mark.parametrize(
    ("option", "accepted"),
    [("-xe", uids.EXPLICIT_LE), ("-xb", uids.EXPLICIT_BE), ("-xi", uids.IMPLICIT_LE), ("-x=", uids.EXPLICIT_LE)],
)
def test_move_to_storescp(
    held: tuple[Archive, tuple[str, int]], sent: dict[str, Any], option: str, accepted: str, tmp_path: Path
) -> None:
    archive, address = held
    got, port = tmp_path / "got", free_port()
    got.mkdir()
    row = DestinationRow("STORESCP", HOST, port, (accepted,))
    archive.catalog.outgoing.keep_destination(row, datetime.now(UTC))
    with listening([*app_of_pynetdicom("storescp"), port, option, "-od", got], port, tmp_path / "log"):
        run(*app_of_pynetdicom("movescu"), *address, "-S", *KEYS, "-aem", "STORESCP")
    received = files_in(got)
    assert_same(received, sent)
    native = {recipe.sop_uid for recipe in RECIPES if recipe.transfer_syntax == data.EXPLICIT_LE}
    assert {syntaxes(received)[uid] for uid in native} == {accepted}


def test_movescu_fetches_to_itself(held: tuple[Archive, tuple[str, int]], sent: dict[str, Any], tmp_path: Path) -> None:
    archive, address = held
    port = free_port()
    archive.catalog.outgoing.keep_destination(DestinationRow("MOVESCU", HOST, port), datetime.now(UTC))
    options = ("--store", "--store-port", port, "-aem", "MOVESCU", "-od", tmp_path)
    run(*app_of_pynetdicom("movescu"), *address, "-S", *KEYS, *options)
    assert_same(files_in(tmp_path), sent)


def test_qrscp(tmp_path: Path) -> None:
    """Ours sends to pynetdicom's archive, which sends it back when it is asked to (C-MOVE)."""
    recipes = [recipe for recipe in RECIPES if recipe.transfer_syntax == data.EXPLICIT_LE and recipe.kind != "none"]
    files, port = tmp_path / "files", free_port()
    files.mkdir()
    for number, content in enumerate(contents(recipes)):
        (files / f"{number}.dcm").write_bytes(content)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with open_archive(tmp_path / "archive", settings()) as archive, door(archive, holdings=archive) as (_, ours):
        configuration = theirs / "qrscp.ini"
        configuration.write_text(f"""
[DEFAULT]
ae_title: QRSCP
port: {port}
max_pdu: 16382
acse_timeout: 30
dimse_timeout: 30
network_timeout: 30
bind_address: {HOST}
instance_location: {theirs / "instances"}
database_location: {theirs / "instances.sqlite"}
log_level: ERROR

[LEANPACS]
address: {HOST}
port: {ours}
""")
        with listening([*app_of_pynetdicom("qrscp"), "-c", configuration], port, tmp_path / "log", cwd=theirs):
            assert CliRunner().invoke(app, ["send", "--to", f"QRSCP@{HOST}:{port}", str(files)]).exit_code == 0
            run(*app_of_pynetdicom("movescu"), HOST, port, "-aec", "QRSCP", "-aem", "LEANPACS", "-S", *KEYS)
        received = [b"".join(archive.retriever.as_received(row).chunks) for row in archive.catalog.all_instances()]
    assert_same(received, samples(contents(recipes)))
