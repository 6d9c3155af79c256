"""C-FIND with dcmtk's findscu and pynetdicom as peers (PS3.4 annex C)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PatientRoot,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as StudyRoot,
)

import data
from dimse_archive import made, served
from dimse_peer import P_DATA, Peer, command_set, dcmtk, pdu, pdv

EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"

STUDIES: list[dict[str, Any]] = [
    {"PatientID": "P1", "PatientName": "Doe^John", "StudyDate": "20240101", "StudyTime": "100000"},
    {"PatientID": "P1", "PatientName": "Doe^John", "StudyDate": "20240102", "StudyTime": "080000"},
    {"PatientID": "P2", "PatientName": "Müller^Jörg", "StudyDate": "20240201", "StudyTime": "120000"},
    {"PatientID": "P3", "PatientName": "Yamada^Tarou=山田^太郎", "StudyDate": "20240301", "StudyTime": "235959"},
]


def contents() -> Iterator[bytes]:
    """Four studies of three patients, with two series (CT, MR) of two instances each."""
    for study, attributes in enumerate(STUDIES):
        for series in range(2):
            for instance in range(2):
                recipe = data.Recipe(modality=("CT", "MR")[series], study=study, series=series, instance=instance)
                yield made(
                    recipe,
                    SpecificCharacterSet="ISO_IR 192",
                    AccessionNumber=f"A{study}",
                    InstanceNumber=instance + 1,
                    **attributes,
                )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with served(tmp_path_factory.mktemp("find") / "archive", *contents()) as (_, where):
        yield where


def identifier(level: str, **keys: Any) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def find(
    address: tuple[str, int],
    query: Dataset,
    model: Any = StudyRoot,
    *,
    syntax: str = IMPLICIT_LE,
    extended: bytes | None = None,
) -> tuple[list[Dataset], list[int]]:
    """Matches and statuses that pynetdicom got."""
    ae = AE("FINDER")
    ae.add_requested_context(model, syntax)
    negotiation = []
    if extended is not None:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = model, extended
        negotiation.append(item)
    association = ae.associate(*address, ext_neg=negotiation)
    assert association.is_established
    try:
        answers = list(association.send_c_find(query, model))
    finally:
        association.release()
    return [ds for _, ds in answers if ds is not None], [status.Status for status, _ in answers]


def names(matches: list[Dataset]) -> list[str]:
    return [str(ds.PatientName) for ds in matches]


def accessions(matches: list[Dataset]) -> list[str]:
    return [ds.AccessionNumber for ds in matches]


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_studies_with_all_return_keys(address: tuple[str, int], syntax: str) -> None:
    keys = dict.fromkeys(
        (
            *("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber"),
            *("RetrieveAETitle", "InstanceAvailability", "ModalitiesInStudy"),
            *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
        ),
        "",
    )
    matches, statuses = find(address, identifier("STUDY", **keys), syntax=syntax)
    assert statuses == [0xFF00] * 4 + [0]
    first = matches[0]
    assert (first.PatientID, first.PatientName, first.StudyDate) == ("P1", "Doe^John", "20240101")
    assert first.ModalitiesInStudy == ["CT", "MR"]
    assert (first.NumberOfStudyRelatedSeries, first.NumberOfStudyRelatedInstances) == (2, 4)
    assert (first.RetrieveAETitle, first.InstanceAvailability, first.QueryRetrieveLevel) == (
        *("LEANPACS", "ONLINE"),
        "STUDY",
    )
    assert "SpecificCharacterSet" not in first
    assert set(first.dir()) == {*keys, "QueryRetrieveLevel"}


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
def test_what_is_computed_of_patient_and_study_at_every_level(address: tuple[str, int], level: str) -> None:
    """PS3.4 tables C.6-1, C.6-2 and C.6-5; keys of higher levels in a relational query."""
    numbers = {
        "NumberOfPatientRelatedStudies": 2,
        "NumberOfPatientRelatedSeries": 4,
        "NumberOfPatientRelatedInstances": 8,
        "NumberOfStudyRelatedSeries": 2,
        "NumberOfStudyRelatedInstances": 4,
    }
    computed = dict.fromkeys((*numbers, "SOPClassesInStudy", "ModalitiesInStudy"), "")
    query = identifier(level, PatientID="P1", AccessionNumber="A0", **computed)
    matches, statuses = find(address, query)
    assert set(statuses[:-1]) == {0xFF00}
    classes = sorted({data.Recipe(modality=modality).sop_class for modality in ("CT", "MR")})
    for match in matches:
        assert {keyword: match[keyword].value for keyword in numbers} == numbers
        assert match.ModalitiesInStudy == ["CT", "MR"]
        assert match.SOPClassesInStudy == classes


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"PatientName": "doe^*"}, ["A0", "A1"]),
        ({"PatientName": "DOE^J?HN"}, ["A0", "A1"]),
        ({"PatientID": "P?"}, ["A0", "A1", "A2", "A3"]),
        ({"PatientID": "p1"}, []),
        ({"StudyDate": "20240102-20240201"}, ["A1", "A2"]),
        ({"StudyDate": "-20240101"}, ["A0"]),
        ({"StudyDate": "20240301-"}, ["A3"]),
        ({"ModalitiesInStudy": "MR"}, ["A0", "A1", "A2", "A3"]),
        ({"ModalitiesInStudy": "US"}, []),
        ({"AccessionNumber": "*"}, ["A0", "A1", "A2", "A3"]),
        ({"StudyInstanceUID": [data.uid("study", 0), "1.2.3"]}, None),
    ],
)
def test_matching(address: tuple[str, int], keys: dict[str, Any], expected: list[str] | None) -> None:
    query = identifier("STUDY", **{"AccessionNumber": "", **keys})
    if expected is None:
        everything, _ = find(address, identifier("STUDY", StudyInstanceUID="", AccessionNumber=""))
        query.StudyInstanceUID = [everything[1].StudyInstanceUID, everything[3].StudyInstanceUID, "1.2.3"]
        expected = ["A1", "A3"]
    matches, statuses = find(address, query)
    assert accessions(matches) == expected
    assert statuses[-1] == 0


def test_date_and_time_are_one_span_only_when_that_is_negotiated(address: tuple[str, int]) -> None:
    query = identifier("STUDY", AccessionNumber="", StudyDate="20240101-20240102", StudyTime="090000-110000")
    assert accessions(find(address, query)[0]) == ["A0"]
    assert accessions(find(address, query, extended=b"\0\1\0\0")[0]) == ["A0", "A1"]
    query.StudyTime = "090000-090000"
    assert accessions(find(address, query)[0]) == []
    assert accessions(find(address, query, extended=b"\0\1\0\0")[0]) == ["A0", "A1"]


def test_fuzzy_names_when_negotiated(address: tuple[str, int]) -> None:
    query = identifier("STUDY", PatientName="jorg", AccessionNumber="")
    query.SpecificCharacterSet = "ISO_IR 100"
    assert find(address, query)[0] == []
    assert accessions(find(address, query, extended=b"\0\0\1")[0]) == ["A2"]


@pytest.mark.parametrize(
    ("character_set", "key", "expected"),
    [
        ("ISO_IR 100", "Müller*", ("ISO_IR 100", "Müller^Jörg")),
        ("ISO_IR 192", "müller*", ("ISO_IR 192", "Müller^Jörg")),
        ("ISO_IR 192", "*=山田^太郎", ("ISO_IR 192", "Yamada^Tarou=山田^太郎")),
        (None, "Yamada*", ("ISO_IR 192", "Yamada^Tarou=山田^太郎")),
        ("ISO_IR 100", "Yamada*", ("ISO_IR 192", "Yamada^Tarou=山田^太郎")),
        ("ISO_IR 13", "Yamada*", ("ISO_IR 192", "Yamada^Tarou=山田^太郎")),
        (["", "ISO 2022 IR 87"], "*=山田^*", (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")),
        (["", "ISO 2022 IR 87"], "*ller^J*", ("ISO_IR 192", "Müller^Jörg")),
    ],
)
def test_character_sets(
    address: tuple[str, int], character_set: str | list[str] | None, key: str, expected: tuple[str | list[str], str]
) -> None:
    query = identifier("STUDY")
    if character_set:
        query.SpecificCharacterSet = character_set
    query.PatientName = key
    (match,), _ = find(address, query)
    assert (match.SpecificCharacterSet, str(match.PatientName)) == expected


def test_patients_of_the_patient_root(address: tuple[str, int]) -> None:
    keys = dict.fromkeys(
        ("PatientName", "PatientID", "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances"), ""
    )
    matches, statuses = find(address, identifier("PATIENT", **keys), PatientRoot)
    assert statuses == [0xFF00] * 3 + [0]
    assert [(ds.PatientID, ds.NumberOfPatientRelatedStudies, ds.NumberOfPatientRelatedInstances) for ds in matches] == [
        ("P1", 2, 8),
        ("P2", 1, 4),
        ("P3", 1, 4),
    ]


def test_series_and_images(address: tuple[str, int]) -> None:
    (study, *_), _ = find(address, identifier("STUDY", StudyInstanceUID=""))
    series, _ = find(
        address,
        identifier(
            "SERIES",
            StudyInstanceUID=study.StudyInstanceUID,
            SeriesInstanceUID="",
            Modality="CT",
            NumberOfSeriesRelatedInstances="",
        ),
    )
    assert [(ds.Modality, ds.NumberOfSeriesRelatedInstances) for ds in series] == [("CT", 2)]
    images, statuses = find(
        address,
        identifier(
            "IMAGE",
            StudyInstanceUID=study.StudyInstanceUID,
            SeriesInstanceUID=series[0].SeriesInstanceUID,
            SOPInstanceUID="",
            SOPClassUID="",
            InstanceNumber="",
            Rows=None,
        ),
        syntax=EXPLICIT_LE,
    )
    assert statuses == [0xFF00, 0xFF00, 0]
    assert [(ds.InstanceNumber, ds.Rows, ds.SOPClassUID.name) for ds in images] == [
        (1, 32, "CT Image Storage"),
        (2, 32, "CT Image Storage"),
    ]


def coded(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    return item


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Three studies that differ in what the catalog does not hold."""
    contents = [
        made(
            data.Recipe(study=number, instance=instance),
            AccessionNumber=str(number),
            PatientName="Müller" if number else "Doe",
            PatientComments=("tall", "TALL, of old", "")[number],
            ProcedureCodeSequence=[coded(f"K{number}"), coded("ALL")],
            ImageComments=f"{number}.{instance}",
            SpecificCharacterSet="ISO_IR 192",
        )
        for number in range(3)
        for instance in range(2)
    ]
    with served(tmp_path_factory.mktemp("headers") / "archive", *contents) as (_, address):
        yield address


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"PatientComments": "tall"}, "0"),
        ({"PatientComments": "*all"}, "0"),
        ({"PatientComments": '""'}, "2"),
        ({"PatientComments": ""}, "012"),
        ({"ProcedureCodeSequence": [coded("K1")]}, "1"),
        ({"ProcedureCodeSequence": [coded("ALL")]}, "012"),
        ({"ProcedureCodeSequence": [coded("")]}, "012"),
        ({"ProcedureCodeSequence": [coded("K*")], "PatientName": "m*"}, "12"),
        ({"ProcedureCodeSequence": [coded("no")]}, ""),
    ],
)
@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_BE])
def test_keys_that_only_headers_have(
    headers: tuple[str, int], keys: dict[str, Any], expected: str, syntax: str
) -> None:
    query = identifier("STUDY", **{"AccessionNumber": "", "PatientName": "", **keys})
    matches, statuses = find(headers, query, syntax=syntax)
    assert "".join(accessions(matches)) == expected
    assert statuses == [0xFF00] * len(expected) + [0]
    for ds in matches:
        number = int(ds.AccessionNumber)
        assert str(ds.PatientName) == ("Müller" if number else "Doe")
        if "ProcedureCodeSequence" in keys:
            assert [item.CodeValue for item in ds.ProcedureCodeSequence] == [f"K{number}", "ALL"]


def test_only_what_all_instances_agree_on_is_returned(headers: tuple[str, int]) -> None:
    query = identifier("STUDY", AccessionNumber="1", ImageComments="", ProcedureCodeSequence=[])
    ((ds,), _) = find(headers, query)
    assert ds.ImageComments == ""
    assert len(ds.ProcedureCodeSequence) == 2
    query = identifier("IMAGE", StudyInstanceUID=data.uid("study", 1), ImageComments="1.1", Rows="", SOPInstanceUID="")
    ((ds,), _) = find(headers, query)
    assert (ds.ImageComments, ds.Rows) == ("1.1", 32)
    query.AvailableTransferSyntaxUID = ""
    ((ds,), _) = find(headers, query)
    assert ds.AvailableTransferSyntaxUID in (EXPLICIT_LE, IMPLICIT_LE)
    query.AvailableTransferSyntaxUID = "1.2.3"
    assert find(headers, query)[0] == []


def test_keys_that_are_not_supported_are_told_of(tmp_path: Path) -> None:
    query = identifier("STUDY", StudyInstanceUID="", PatientComments="")
    query.ProcedureCodeSequence = Sequence([coded("1")])
    with served(tmp_path / "archive", made(), read_headers=False) as (_, address):
        matches, statuses = find(address, query)
    assert statuses == [0xFF01, 0]
    assert all("PatientComments" not in ds and "ProcedureCodeSequence" not in ds for ds in matches)


def test_relational_queries_are_a_setting(tmp_path: Path) -> None:
    content = made(data.Recipe(), PatientID="P1")
    query = identifier("SERIES", SeriesInstanceUID="")
    with served(tmp_path / "lenient", content) as (_, address):
        assert find(address, query)[1] == [0xFF00, 0]
    with served(tmp_path / "strict", content, relational=False) as (_, address):
        assert find(address, query)[1] == [0xA900]
        query.StudyInstanceUID = "1.2.*"
        assert find(address, query)[1] == [0xA900]
        query.StudyInstanceUID = data.uid("study", 0)
        assert find(address, query)[1][-1] == 0
        assert find(address, query, PatientRoot)[1] == [0xA900]
        query.PatientID = "P1"
        assert find(address, query, PatientRoot)[1][-1] == 0


@pytest.mark.parametrize(
    ("level", "keys", "model"),
    [
        ("", {}, StudyRoot),
        ("PATIENT", {"PatientID": ""}, StudyRoot),
        ("STUDY", {"StudyDate": "20240101-20240102-20240103"}, StudyRoot),
        ("STUDY", {"StudyInstanceUID": "1.2.*"}, StudyRoot),
    ],
)
def test_faulty_identifiers(address: tuple[str, int], level: str, keys: dict[str, str], model: Any) -> None:
    assert find(address, identifier(level, **keys), model)[1] == [0xA900]


def test_damaged_identifier(address: tuple[str, int]) -> None:
    command = command_set(
        AffectedSOPClassUID=StudyRoot, CommandField=0x0020, MessageID=1, Priority=0, CommandDataSetType=0
    )
    with Peer(address) as peer:
        peer.associate([(1, StudyRoot, [IMPLICIT_LE])])
        for damaged in (b"\x08\0\x52\0\xff\0\0\0ST", b"", b"\xff" * 99):
            peer.send(pdu(P_DATA, pdv(1, command, command=True)), pdu(P_DATA, pdv(1, damaged)))
            assert peer.response().Status == 0xA900
        peer.release()


def test_cancel(tmp_path: Path) -> None:
    """A cancellation that is there before the first match is sent ends the query at once."""
    command = command_set(
        AffectedSOPClassUID=StudyRoot, CommandField=0x0020, MessageID=7, Priority=0, CommandDataSetType=0
    )
    cancel = command_set(CommandField=0x0FFF, MessageIDBeingRespondedTo=7, CommandDataSetType=0x0101)
    other = command_set(CommandField=0x0FFF, MessageIDBeingRespondedTo=6, CommandDataSetType=0x0101)
    level = b"\x08\0\x52\0\x06\0\0\0STUDY "
    with served(tmp_path / "archive", made()) as (_, address), Peer(address) as peer:
        peer.associate([(1, StudyRoot, [IMPLICIT_LE])])
        query = pdu(P_DATA, pdv(1, command, command=True)) + pdu(P_DATA, pdv(1, level))
        peer.send(query + pdu(P_DATA, pdv(1, cancel, command=True)))
        answer = peer.response()
        assert (answer.Status, answer.MessageIDBeingRespondedTo) == (0xFE00, 7)
        # One for another query is passed over.
        peer.send(query + pdu(P_DATA, pdv(1, other, command=True)))
        assert peer.response().Status == 0xFF00


@pytest.mark.external
def test_findscu(address: tuple[str, int]) -> None:
    keys = ("QueryRetrieveLevel=STUDY", "PatientName=DOE*", "StudyDate", "StudyInstanceUID", "ModalitiesInStudy")
    options = [part for key in keys for part in ("-k", key)]
    done = subprocess.run(
        [dcmtk("findscu"), "-S", "-v", "-aec", "LEANPACS", *options, *map(str, address)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert len(re.findall(r"Find Response: \d+ \(Pending\)|# Dicom-Data-Set", said)) >= 2, said
    assert "CT\\MR" in said
    assert "Received Final Find Response (Success)" in said
