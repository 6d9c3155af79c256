from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from data import Recipe
from leanpacs.catalog import AnyOf, Between, Wildcard
from leanpacs.errors import CatalogUnavailable, InvalidQuery
from leanpacs.services.dicomweb.app import DicomWebOptions
from leanpacs.services.dicomweb.qido import parse_search
from leanpacs.services.http import HttpOptions
from unit.services.dicomweb_fakes import (
    Client,
    FakeArchive,
    found_instance,
    parts_of,
    series_row,
    study_row,
)

BASE = "http://archive.test/dicom-web"


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


@pytest.fixture
def client(archive: FakeArchive) -> Client:
    return Client(archive)


def _search(text: str, level: str = "study", path: dict[str, str] | None = None):
    parameters = [tuple(pair.split("=", 1)) for pair in text.split("&") if pair]
    return parse_search(parameters, level, path or {}, max_results=100)


def test_study_result_has_the_attributes_of_the_standard(archive: FakeArchive, client: Client) -> None:
    archive.catalog.found = [study_row()]
    response = client.get("/studies")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert response.json() == [
        {
            "00080020": {"vr": "DA", "Value": ["20240229"]},
            "00080030": {"vr": "TM", "Value": ["101112"]},
            "00080050": {"vr": "SH", "Value": ["A1"]},
            "00080056": {"vr": "CS", "Value": ["ONLINE"]},
            "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
            "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Ref^Doc"}]},
            "00080201": {"vr": "SH", "Value": ["+0100"]},
            "00081190": {"vr": "UR", "Value": [f"{BASE}/studies/1.2.1"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
            "00100020": {"vr": "LO", "Value": ["P1"]},
            "00100030": {"vr": "DA", "Value": ["19700203"]},
            "00100040": {"vr": "CS", "Value": ["F"]},
            "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
            "00200010": {"vr": "SH", "Value": ["S1"]},
            "00201206": {"vr": "IS", "Value": [2]},
            "00201208": {"vr": "IS", "Value": [7]},
        }
    ]


def test_series_result_has_study_attributes_unless_the_path_names_the_study(
    archive: FakeArchive, client: Client
) -> None:
    archive.catalog.found = [series_row()]
    within = client.get("/studies/1.2.1/series").json()[0]
    assert set(within) == {
        "00080056",
        "00080060",
        "00080201",
        "0008103E",
        "00081190",
        "0020000D",
        "0020000E",
        "00200011",
        "00201209",
    }
    assert within["00081190"]["Value"] == [f"{BASE}/studies/1.2.1/series/1.2.1.1"]
    assert within["00200011"] == {"vr": "IS", "Value": [3]}
    everywhere = client.get("/series").json()[0]
    assert everywhere["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert everywhere["00081190"] == within["00081190"]
    assert archive.catalog.queries[0].filters == {"StudyInstanceUID": AnyOf(("1.2.1",))}
    assert archive.catalog.queries[1].filters == {}


def test_instance_result_has_what_the_path_leaves_open(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    archive.catalog.found = [found_instance(row)]
    series = client.get(f"/studies/{row.study_uid}/series/{row.series_uid}/instances").json()[0]
    assert set(series) == {
        "00080016",
        "00080018",
        "00080056",
        "00080201",
        "00081190",
        "00083002",
        "0020000D",
        "0020000E",
        "00200013",
        "00280010",
        "00280011",
        "00280100",
    }
    assert series["00280010"] == {"vr": "US", "Value": [32]}
    study = client.get(f"/studies/{row.study_uid}/instances").json()[0]
    assert set(study) - set(series) == {"00080060", "0008103E", "00200011", "00201209"}
    everywhere = client.get("/instances").json()[0]
    assert everywhere["00100020"] == {"vr": "LO", "Value": ["P1"]}
    assert everywhere["00081190"]["Value"][0].endswith(f"/instances/{row.sop_uid}")
    assert list(everywhere) == sorted(everywhere)


def test_required_attributes_without_value_are_returned_empty(archive: FakeArchive, client: Client) -> None:
    row = study_row()
    archive.catalog.found = [study_row(study=type(row.study)(), patient=type(row.patient)(), modalities=())]
    result = client.get("/studies").json()[0]
    assert result["00080020"] == {"vr": "DA"}
    assert result["00100010"] == {"vr": "PN"}
    assert "00080201" not in result


def test_included_and_matched_attributes_are_returned(archive: FakeArchive, client: Client) -> None:
    archive.catalog.found = [study_row()]
    assert "00081030" not in client.get("/studies").json()[0]
    for query in ("includefield=StudyDescription", "includefield=00080005,00081030", "includefield=all"):
        assert client.get(f"/studies?{query}").json()[0]["00081030"] == {"vr": "LO", "Value": ["Thorax"]}
    assert "00081030" in client.get("/studies?StudyDescription=Tho*").json()[0]
    assert "0008103E" not in client.get("/studies?includefield=SeriesDescription").json()[0]


def test_nothing_found_is_no_content(client: Client) -> None:
    response = client.get("/studies?PatientID=nobody")
    assert response.status_code == 204
    assert response.content == b""


def test_more_results_are_announced(archive: FakeArchive, client: Client) -> None:
    archive.catalog.found = [study_row(n) for n in range(10)]
    response = client.get("/studies?limit=4&offset=2")
    assert [found["0020000D"]["Value"] for found in response.json()] == [[f"1.2.{n}"] for n in (2, 3, 4, 5)]
    assert response.headers["warning"].startswith(f'299 {BASE} "The number of results exceeded')
    assert "warning" not in client.get("/studies?limit=10").headers
    assert client.get("/studies?limit=0").status_code == 204


def test_results_are_bounded_whatever_the_limit(archive: FakeArchive) -> None:
    archive.catalog.found = [study_row(n) for n in range(10)]
    client = Client(archive, HttpOptions(dicomweb=DicomWebOptions(max_results=3)))
    for query in ("", "?limit=100"):
        response = client.get(f"/studies{query}")
        assert len(response.json()) == 3
        assert "warning" in response.headers


def test_keys_by_keyword_and_by_tag() -> None:
    query = _search("00100020=P1&PatientName=DOE*&StudyDate=20240101-20241231&0020000d=1.2,1.3").query
    assert query.filters == {
        "PatientID": AnyOf(("P1",)),
        "PatientName": Wildcard(("DOE*",)),
        "StudyDate": Between("20240101", "20241231"),
        "StudyInstanceUID": AnyOf(("1.2", "1.3")),
    }
    assert query.limit == 101
    assert not query.fuzzy


def test_uids_may_be_repeated_and_other_keys_not() -> None:
    uids = _search("StudyInstanceUID=1.2&StudyInstanceUID=1.3").query.filters["StudyInstanceUID"]
    assert uids == AnyOf(("1.2", "1.3"))
    with pytest.raises(InvalidQuery, match="more than once"):
        _search("PatientID=1&PatientID=2")


def test_fuzzy_matching_and_other_switches() -> None:
    wanted = _search("fuzzymatching=true&emptyvaluematching=true&multiplevaluematching=false&accept=x&charset=y")
    assert wanted.query.fuzzy
    assert not wanted.read


def test_keys_that_the_catalog_does_not_know_are_read_from_headers() -> None:
    wanted = _search("RequestAttributesSequence.00400009=1&00400275.RequestedProcedureID=2&OperatorsName=A*", "series")
    assert wanted.query.filters == {}
    (item,) = wanted.read.RequestAttributesSequence
    assert (item.ScheduledProcedureStepID, item.RequestedProcedureID) == ("1", "2")
    assert wanted.read.OperatorsName == "A*"
    assert wanted.tags == {"00400275", "00081070"}


@pytest.mark.parametrize(
    "text",
    [
        "Nonsense=1",
        "limit=-1",
        "limit=many",
        "offset=1.5",
        "limit=" + "9" * 30,
        "fuzzymatching=perhaps",
        "StudyDate=yesterday",
        "Rows=512",
        "emptyvaluematching=perhaps",
        "RequestAttributesSequence.Nonsense=1",
        "RequestAttributesSequence=1",
        "OperatorsName.PatientID=x",
        "OverlayData=x",
        "SliceThickness=thick",
    ],
)
def test_what_is_not_understood_is_a_bad_request(client: Client, text: str) -> None:
    response = client.get(f"/studies?{text}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert text.split("=")[0][:8].lower() in response.json()["detail"].lower()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Modality=CT", "search /series by it (or match ModalitiesInStudy)"),
        ("SOPInstanceUID=1.2", "search /instances by it"),
        ("NumberOfStudyRelatedInstances=3", "worked out for each answer"),
    ],
)
def test_who_matches_another_level_is_told_where_to_search(client: Client, text: str, told: str) -> None:
    assert told in client.get(f"/studies?{text}").json()["detail"]


def test_path_and_parameter_must_agree() -> None:
    path = {"StudyInstanceUID": "1.2"}
    assert _search("StudyInstanceUID=1.2,1.3", "series", path).query.filters["StudyInstanceUID"] == AnyOf(("1.2",))
    with pytest.raises(InvalidQuery, match="path"):
        _search("StudyInstanceUID=1.3", "series", path)


def test_results_as_xml(archive: FakeArchive, client: Client) -> None:
    archive.catalog.found = [study_row(1), study_row(2)]
    response = client.get("/studies", accept='multipart/related; type="application/dicom+xml"')
    parts = parts_of(response)
    assert [part.fields["Content-Type"] for part in parts] == ["application/dicom+xml"] * 2
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    root = ElementTree.fromstring(parts[1].content)
    study = root.find(f"{space}DicomAttribute[@keyword='StudyInstanceUID']/{space}Value")
    assert study is not None
    assert study.text == "1.2.2"
    name = root.find(f"{space}DicomAttribute[@keyword='PatientName']/{space}PersonName/{space}Alphabetic")
    assert name is not None
    assert [(part.tag.removeprefix(space), part.text) for part in name] == [
        ("FamilyName", "Doe"),
        ("GivenName", "Jane"),
    ]


def test_unacceptable_results(client: Client) -> None:
    response = client.get("/studies", accept="text/html")
    assert response.status_code == 406
    assert "application/dicom+json" in response.json()["detail"]


def test_accept_may_be_a_parameter(archive: FakeArchive, client: Client) -> None:
    archive.catalog.found = [study_row()]
    response = client.get("/studies?accept=application/json", accept="text/html")
    assert response.headers["content-type"] == "application/json"


def test_catalog_that_does_not_answer(archive: FakeArchive, client: Client) -> None:
    archive.catalog.failure = CatalogUnavailable("locked")
    response = client.get("/studies")
    assert response.status_code == 503
    assert response.headers["retry-after"]


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_results_are_compressed_by_negotiation(archive: FakeArchive, client: Client, encoding: str) -> None:
    archive.catalog.found = [study_row(n) for n in range(50)]
    response = client.get("/studies", accept_encoding=encoding)
    assert response.headers["content-encoding"] == encoding
    assert "accept-encoding" in response.headers["vary"].lower()
    assert len(response.json()) == 50
