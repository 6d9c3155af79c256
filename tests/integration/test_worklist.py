"""Modality Worklist with dcmtk, pynetdicom and Orthanc as peers (PS3.4 annex K)."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind
from typer.testing import CliRunner

import data
from dimse_archive import served, settings
from dimse_peer import dcmtk
from leanpacs.archive.archive import open_archive
from leanpacs.archive.worklist import WorklistFolder
from leanpacs.cli.main import app
from leanpacs.errors import InvalidWorklistItem
from orthanc import Orthanc, running_orthanc


def step(station: str, modality: str, day: str, time: str, **more: Any) -> Dataset:
    ds = Dataset()
    ds.ScheduledStationAETitle, ds.Modality = station, modality
    ds.ScheduledProcedureStepStartDate, ds.ScheduledProcedureStepStartTime = day, time
    ds.ScheduledProcedureStepID = f"{modality}{day}"
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def order(patient: str, name: str, *steps: Dataset, **more: Any) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.AccessionNumber = f"A{patient}"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = name, patient, "19700102", "F"
    ds.StudyInstanceUID = data.uid("order", patient)
    ds.RequestedProcedureID, ds.RequestedProcedureDescription = f"R{patient}", "Knee"
    ds.ScheduledProcedureStepSequence = list(steps)
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def part10(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = data.EXPLICIT_LE
    ds.file_meta.MediaStorageSOPClassUID = ModalityWorklistInformationFind
    ds.file_meta.MediaStorageSOPInstanceUID = data.uid("worklist", ds.PatientID)
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


ORDERS = {
    "a.wl": order("1", "Doe^Jane", step("CT1", "CT", "20260105", "0900")),
    "b.wl": order("2", "Doe^John", step("CT1", "CT", "20260106", "143000")),
    "c.wl": order("3", "Müller^Hans=漢字", step("MR1", "MR", "20260106", "10")),
    "d.wl": order("4", "Smith^Ann", step("US1", "US", "20260110", "0800", ScheduledPerformingPhysicianName="X^Y")),
}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[WorklistFolder, tuple[str, int]]]:
    with served(tmp_path / "archive") as (archive, address):
        for name, one in ORDERS.items():
            archive.worklist.add(name, part10(one))
        yield archive.worklist, address


def query(step_keys: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in {"PatientName": "", "PatientID": "", "AccessionNumber": "", **keys}.items():
        setattr(ds, keyword, value)
    inner = Dataset()
    for keyword, value in {"Modality": "", "ScheduledProcedureStepStartDate": "", **(step_keys or {})}.items():
        setattr(inner, keyword, value)
    ds.ScheduledProcedureStepSequence = [inner]
    return ds


def find(address: tuple[str, int], keys: Dataset) -> list[Dataset]:
    ae = AE("MODALITY")
    ae.add_requested_context(ModalityWorklistInformationFind)
    association = ae.associate(*address)
    assert association.is_established
    try:
        answers = list(association.send_c_find(keys, ModalityWorklistInformationFind))
    finally:
        association.release()
    assert [status.Status for status, _ in answers] == [0xFF00] * (len(answers) - 1) + [0]
    return [ds for _, ds in answers[:-1] if ds is not None]


QUERIES = {
    "all": (query(), "1234"),
    "ID": (query(PatientID="2"), "2"),
    "name, any case": (query(PatientName="doe^j*"), "12"),
    "name, prefix": (query(PatientName="Doe*"), "12"),
    "modality": (query({"Modality": "CT"}), "12"),
    "station": (query({"ScheduledStationAETitle": "MR1"}), "3"),
    "day": (query({"ScheduledProcedureStepStartDate": "20260106"}), "23"),
    "days": (query({"ScheduledProcedureStepStartDate": "20260106-20260109"}), "23"),
    "from": (query({"ScheduledProcedureStepStartDate": "20260106-"}), "234"),
    "until, modality": (query({"ScheduledProcedureStepStartDate": "-20260106", "Modality": "CT"}), "12"),
    "none": (query({"Modality": "CT"}, PatientID="3"), ""),
    "accession": (query(AccessionNumber="A?"), "1234"),
}


def ids(found: list[Dataset]) -> str:
    return "".join(sorted(ds.PatientID for ds in found))


@pytest.mark.parametrize("name", QUERIES)
def test_matching(door: tuple[WorklistFolder, tuple[str, int]], name: str) -> None:
    keys, expected = QUERIES[name]
    assert ids(find(door[1], keys)) == expected


def test_date_and_time_are_one_moment(door: tuple[WorklistFolder, tuple[str, int]]) -> None:
    span = {"ScheduledProcedureStepStartDate": "20260105-20260106", "ScheduledProcedureStepStartTime": "0930-1100"}
    assert ids(find(door[1], query(span))) == "3"
    span["ScheduledProcedureStepStartTime"] = "0830-1100"
    assert ids(find(door[1], query(span))) == "13"
    span = {"ScheduledProcedureStepStartDate": "20260105", "ScheduledProcedureStepStartTime": "08-10"}
    assert ids(find(door[1], query(span))) == "1"


def test_answers_have_what_is_asked_for(door: tuple[WorklistFolder, tuple[str, int]]) -> None:
    keys = query({"ScheduledPerformingPhysicianName": ""}, PatientID="4", PatientWeight=None)
    (found,) = find(door[1], keys)
    assert sorted(element.keyword for element in found) == sorted(
        ["PatientName", "PatientID", "AccessionNumber", "PatientWeight", "ScheduledProcedureStepSequence"]
    )
    assert found.PatientWeight is None
    (inner,) = found.ScheduledProcedureStepSequence
    assert (inner.Modality, inner.ScheduledPerformingPhysicianName) == ("US", "X^Y")
    keys.ScheduledProcedureStepSequence = []
    (found,) = find(door[1], keys)
    assert found.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "US1"


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "ISO_IR 100", ""])
def test_character_sets(door: tuple[WorklistFolder, tuple[str, int]], character_set: str) -> None:
    keys = query(PatientID="3")
    if character_set:
        keys.SpecificCharacterSet = character_set
    if character_set == "ISO_IR 192":
        keys.PatientName = "müller*"
    (found,) = find(door[1], keys)
    assert (str(found.PatientName), found.SpecificCharacterSet) == ("Müller^Hans=漢字", "ISO_IR 192")


def test_answers_with_code_extensions(door: tuple[WorklistFolder, tuple[str, int]]) -> None:
    """PS3.5 6.1.2.5: many modalities read nothing else."""
    keys = query(PatientID="3")
    keys.SpecificCharacterSet = ["ISO 2022 IR 100", "ISO 2022 IR 87"]
    (found,) = find(door[1], keys)
    assert found.SpecificCharacterSet == ["ISO 2022 IR 100", "ISO 2022 IR 87"]
    assert str(found.PatientName) == "Müller^Hans=漢字"


def test_an_order_with_several_steps(tmp_path: Path) -> None:
    two = order("9", "A^B", step("CT1", "CT", "20260105", "09"), step("MR1", "MR", "20260106", "10"))
    with served(tmp_path / "archive") as (archive, address):
        assert archive.worklist.add("two.json", json.dumps([json.loads(two.to_json())]).encode()) == 2
        assert [one.ScheduledProcedureStepSequence[0].Modality for one in find(address, query())] == ["CT", "MR"]
        assert len(find(address, query({"Modality": "MR"}))) == 1
        assert archive.worklist.remove("two.json")
        assert not archive.worklist.remove("two.json")
        assert find(address, query()) == []


def test_files_come_and_go_and_may_be_broken(door: tuple[WorklistFolder, tuple[str, int]]) -> None:
    folder, address = door
    (folder.folder / "broken.wl").write_bytes(part10(ORDERS["a.wl"])[:200])
    (folder.folder / "broken.json").write_text('{"00100010": ')
    (folder.folder / "notes.txt").write_text("no order")
    (folder.folder / "a.wl").unlink()
    assert ids(find(address, query())) == "234"
    (folder.folder / "broken.wl").write_bytes(part10(order("7", "N^N", step("CT1", "CT", "20260105", "09"))))
    assert ids(find(address, query())) == "2347"
    for name, content in (("x.txt", b""), ("../x.wl", b""), ("x.wl", b"no DICOM"), ("x.json", b"[{}]")):
        with pytest.raises(InvalidWorklistItem):
            folder.add(name, content)
    assert not (folder.folder / "x.wl").exists()


def test_queries_that_are_none(door: tuple[WorklistFolder, tuple[str, int]]) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(ModalityWorklistInformationFind)
    association = ae.associate(*door[1])
    keys = query({"ScheduledProcedureStepStartDate": "tomorrow-"})
    ((status, _),) = association.send_c_find(keys, ModalityWorklistInformationFind)
    association.release()
    assert status.Status == 0xA900


@pytest.mark.external
def test_dcmtk(door: tuple[WorklistFolder, tuple[str, int]], tmp_path: Path) -> None:
    keys = ("PatientID", "PatientName=DOE*", "ScheduledProcedureStepSequence[0].Modality=CT")
    asked = [word for key in keys for word in ("-k", key)]
    done = subprocess.run(
        [dcmtk("findscu"), "-W", *asked, "-X", "-od", str(tmp_path), "127.0.0.1", str(door[1][1])],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = [pydicom.dcmread(path) for path in tmp_path.glob("rsp*.dcm")]
    assert ids(found) == "12"
    assert {one.ScheduledProcedureStepSequence[0].Modality for one in found} == {"CT"}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.mark.external
def test_orthanc_asks(door: tuple[WorklistFolder, tuple[str, int]], orthanc: Orthanc) -> None:
    orthanc.knows("us", "LEANPACS", *door[1])
    keys = {"PatientID": "", "PatientName": "Doe*", "ScheduledProcedureStepSequence": [{"Modality": "CT"}]}
    found = orthanc.post("/modalities/us/find-worklist", keys)
    assert sorted(one["PatientID"] for one in found) == ["1", "2"]


@pytest.mark.external
@pytest.mark.parametrize("name", QUERIES)
def test_orthanc_answers_the_same(door: tuple[WorklistFolder, tuple[str, int]], orthanc: Orthanc, name: str) -> None:
    """Orthanc's worklist server finds the same in the same files."""
    for one in ORDERS:
        (orthanc.worklists / one).write_bytes((door[0].folder / one).read_bytes())
    keys, expected = QUERIES[name]
    assert ids(find(("127.0.0.1", orthanc.dimse_port), keys)) == expected


def test_commands(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    (tmp_path / "a.wl").write_bytes(part10(ORDERS["a.wl"]))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["worklist", *arguments, "--data", str(archive)])

    assert "1 scheduled" in run("add", str(tmp_path / "a.wl")).stdout
    (row,) = json.loads(run("list", "--json").stdout)
    assert (row["file"], row["PatientName"], row["Modality"]) == ("a.wl", "Doe^Jane", "CT")
    assert "Doe^Jane" in run("list").stdout
    assert isinstance(run("add", str(tmp_path / "none.wl")).exception, Exception)
    assert run("remove", "a.wl").exit_code == 0
    assert run("remove", "a.wl").exit_code == 1
    with open_archive(archive, settings()) as opened:
        assert list(opened.worklist.items()) == []
