"""PS3.18 10.6 and 8.3.4: search."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import Recipe, make_data_set, make_instance
from unit.services.dicomweb_fakes import parts_of

MODEL = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def _uids(door: Door, path: str, tag: str = "0020000D") -> list[str]:
    response = door.get(path)
    assert response.status_code in (200, 204), response.text
    return [found[tag]["Value"][0] for found in response.json()] if response.content else []


@pytest.mark.clause("10.6.1", "10.6.3")
def test_every_level_is_searched_within_what_the_path_names(door: Door) -> None:
    assert CT.study_uid in _uids(door, "/studies")
    assert set(_uids(door, f"{study(CT)}/series", "0020000E")) == {r.series_uid for r in RECIPES[:4]}
    assert len(_uids(door, f"{study(CT)}/instances", "00080018")) == 4
    assert len(_uids(door, f"{series(CT)}/instances", "00080018")) == 2
    assert CT.series_uid in _uids(door, "/series?Modality=CT", "0020000E")
    assert CT.sop_uid in _uids(door, f"/instances?PatientID=P{CT.study}", "00080018")


@pytest.mark.clause("10.6.3")
def test_results_have_the_attributes_of_their_level_and_can_be_retrieved(door: Door) -> None:
    (found,) = door.get(f"/studies?StudyInstanceUID={CT.study_uid}").json()
    assert {"00080020", "00080050", "00080056", "00080061", "00081190", "00100010", "00201206"} <= set(found)
    assert found["00080056"]["Value"] == ["ONLINE"]
    assert sorted(found["00080061"]["Value"]) == ["CT", "MR", "SR"]
    assert found["00201208"]["Value"] == [4]
    for path in ("/studies", f"{study(CT)}/series", f"{series(CT)}/instances"):
        for one in door.get(f"{path}?StudyInstanceUID={CT.study_uid}").json():
            (url,) = one["00081190"]["Value"]
            assert door.http.head(url).status_code == 200


@pytest.mark.clause("10.6.3", "10.6.4")
def test_results_come_as_json_or_xml(door: Door) -> None:
    path = f"/studies?StudyInstanceUID={CT.study_uid}"
    assert door.get(path).headers["content-type"] == "application/dicom+json"
    assert door.get(path, "application/json").headers["content-type"] == "application/json"
    response = door.get(path, 'multipart/related; type="application/dicom+xml"')
    (part,) = parts_of(response)
    named = {node.get("keyword"): node for node in ElementTree.fromstring(part.content)}
    assert named["StudyInstanceUID"].find(f"{MODEL}Value").text == CT.study_uid
    assert door.get(path, "text/html").status_code == 406


@pytest.mark.clause("10.6.3")
def test_nothing_found_is_no_content(door: Door) -> None:
    response = door.get("/studies?PatientID=nobody")
    assert response.status_code == 204
    assert response.content == b""


@pytest.mark.clause("8.3.4.1")
@pytest.mark.parametrize(
    "query",
    [
        "PatientID=P1",
        "00100020=P1",
        f"StudyInstanceUID={CT.study_uid}",
        f"0020000D={CT.study_uid},1.2.3",
        f"StudyInstanceUID={CT.study_uid}%5C1.2.3",
        "PatientName=synthetic%5Epatient1",
        "PatientName=SYN*1",
        "PatientID=P?&AccessionNumber=A1",
        "StudyDate=20240229&PatientID=P1",
        "StudyDate=20240201-20240301&PatientID=P1",
        "StudyDate=-20240301&StudyTime=-101112&PatientID=P1",
        "StudyDate=20240229&StudyTime=10-11&PatientID=P1",
        "ModalitiesInStudy=MR&PatientID=P1",
        "ReferringPhysicianName=%22%22&PatientID=P1",
        "PatientID=P1%5CP99",
        "StudyDescription=&PatientID=P1",
        "Manufacturer=Synthetic&PatientID=P1",
    ],
)
def test_all_kinds_of_matching_find_the_study(door: Door, query: str) -> None:
    if query.startswith("Manufacturer"):
        assert CT.series_uid in _uids(door, f"/series?{query}", "0020000E")
    else:
        assert _uids(door, f"/studies?{query}") == [CT.study_uid]


@pytest.mark.clause("8.3.4.1")
@pytest.mark.parametrize(
    "query", ["PatientID=p1", "StudyDate=20240301-", "PatientName=synthetic", "ModalitiesInStudy=PT", "StudyID=1*2"]
)
def test_what_does_not_match_is_not_found(door: Door, query: str) -> None:
    assert CT.study_uid not in _uids(door, f"/studies?{query}")


@pytest.mark.clause("8.3.4.2")
def test_fuzzy_matching_takes_the_beginnings_of_words(door: Door) -> None:
    assert CT.study_uid in _uids(door, "/studies?PatientName=patient1+synth&fuzzymatching=true")
    assert CT.study_uid not in _uids(door, "/studies?PatientName=patient1+synth&fuzzymatching=false")


@pytest.mark.clause("8.3.4.3")
def test_included_attributes_are_returned_whether_the_catalog_holds_them_or_not(door: Door) -> None:
    path = f"{series(CT)}/instances?SOPInstanceUID={CT.sop_uid}"
    (found,) = door.get(path).json()
    assert "00280101" not in found
    for asked in ("BitsStored", "00280101", "BitsStored,HighBit", "BitsStored&includefield=00280102"):
        (found,) = door.get(f"{path}&includefield={asked}").json()
        assert found["00280101"] == {"vr": "US", "Value": [12]}
    (found,) = door.get(f"{path}&includefield=all").json()
    assert found["00080008"]["Value"] == ["ORIGINAL", "PRIMARY"]
    (found,) = door.get(f"{study(CT)}/series?SeriesInstanceUID={CT.series_uid}&includefield=00400275").json()
    assert found["00400275"]["Value"] == [
        {
            "00400007": {"vr": "LO", "Value": ["Synthetic step"]},
            "00400009": {"vr": "SH", "Value": [str(CT.series)]},
        }
    ]
    (found,) = door.get(f"/studies?StudyInstanceUID={CT.study_uid}&includefield=InstanceNumber,SOPInstanceUID").json()
    assert "00200013" not in found  # instances of a study differ in it
    assert door.get(f"{path}&includefield=Nonsense").status_code == 200


@pytest.mark.clause("8.3.4.3")
def test_all_attributes_are_those_of_the_level_and_of_levels_that_no_uid_names(door: Door) -> None:
    held = door.get(f"{instance(CT)}/metadata").json()[0]
    (whole,) = door.get(f"/instances?SOPInstanceUID={CT.sop_uid}&includefield=all").json()
    missing = {tag for tag, element in held.items() if tag not in whole and "BulkDataURI" not in element}
    assert not missing  # everything but bulk data
    assert all(whole[tag] == held[tag] for tag in whole.keys() & held.keys() - {"00080005"})
    assert "7FE00010" not in whole
    (below,) = door.get(f"{series(CT)}/instances?SOPInstanceUID={CT.sop_uid}&includefield=all").json()
    assert below["00280101"] == held["00280101"]
    assert not {"00100010", "00080060", "00400275"} & set(below)
    (found,) = door.get(f"{study(CT)}/series?SeriesInstanceUID={CT.series_uid}&includefield=all").json()
    assert found["00400275"] == held["00400275"]
    assert found["00080070"] == held["00080070"]
    assert not {"00280101", "00280010", "00100010"} & set(found)
    (found,) = door.get(f"/studies?StudyInstanceUID={CT.study_uid}&includefield=all").json()
    assert {"00080020", "00100010"} <= set(found)
    assert not {"00080070", "00280101", "00400275", "0020000E"} & set(found)
    xml = door.get(
        f"/studies?StudyInstanceUID={CT.study_uid}&includefield=all", 'multipart/related; type="application/dicom+xml"'
    )
    assert len(parts_of(xml)) == 1


@pytest.mark.clause("8.3.4.3")
def test_attributes_of_series_are_those_that_its_instances_agree_on(door: Door) -> None:
    recipe = Recipe(study=54, series=1)
    models = []
    for number, (operator, comment) in enumerate((("Doe^J", "first"), ("Doe^J", "second")), 1):
        ds = make_data_set(replace(recipe, instance=number))
        ds.OperatorsName, ds.CommentsOnThePerformedProcedureStep, ds.PatientComments = operator, comment, "both"
        models.append(ds.to_json_dict(bulk_data_threshold=1 << 30))
    headers = {"content-type": "application/dicom+json"}
    assert door.http.post(f"{door.root}/studies", json=models, headers=headers).status_code == 200
    (found,) = door.get(f"{study(recipe)}/series?includefield=all").json()
    assert found["00081070"]["Value"] == [{"Alphabetic": "Doe^J"}]
    assert "00400280" not in found
    (found,) = door.get(f"/studies?StudyInstanceUID={recipe.study_uid}&includefield=all").json()
    assert found["00104000"]["Value"] == ["both"]
    third = make_data_set(replace(recipe, instance=3))
    third.PatientComments = "another"
    model = third.to_json_dict(bulk_data_threshold=1 << 30)
    assert door.http.post(f"{door.root}/studies", json=[model], headers=headers).status_code == 200
    for path in (f"/studies?StudyInstanceUID={recipe.study_uid}", f"{study(recipe)}/series?PatientID=P54"):
        (found,) = door.get(f"{path}&includefield=all").json()
        assert not {"00081070", "00104000"} & set(found)


@pytest.mark.clause("10.6.3", "8.3.4.1")
def test_instances_tell_in_which_syntax_they_were_received_and_are_found_by_it(door: Door) -> None:
    for recipe in (CT, RECIPES[1], RECIPES[6]):
        (found,) = door.get(f"/instances?SOPInstanceUID={recipe.sop_uid}").json()
        assert found["00083002"] == {"vr": "UI", "Value": [recipe.transfer_syntax]}
        name = door.get(instance(recipe), f"application/dicom; transfer-syntax={recipe.transfer_syntax}")
        assert name.status_code == 200
    baseline = RECIPES[6]
    for key in ("AvailableTransferSyntaxUID", "00083002"):
        uids = _uids(door, f"{study(baseline)}/instances?{key}={baseline.transfer_syntax}", "00080018")
        assert uids == [baseline.sop_uid]
        assert not _uids(door, f"{study(baseline)}/instances?{key}={CT.transfer_syntax}", "00080018")


@pytest.mark.clause("10.6.3", "8.3.4.3")
def test_what_is_computed_of_a_study_is_told_at_every_level_that_has_it(door: Door) -> None:
    counts = {"00201206": [3], "00201208": [4]}
    for path in ("/studies", "/series", "/instances"):
        for found in door.get(f"{path}?StudyInstanceUID={CT.study_uid}").json():
            assert {tag: found[tag]["Value"] for tag in counts} == counts
            assert sorted(found["00080061"]["Value"]) == ["CT", "MR", "SR"]
            assert not {"00080062", "00201200", "00201202", "00201204"} & set(found)
    (one,) = door.get(f"/instances?SOPInstanceUID={CT.sop_uid}").json()
    assert one["00201209"] == {"vr": "IS", "Value": [2]}
    assert "00201206" not in door.get(f"{study(CT)}/series").json()[0]
    classes = sorted({make_data_set(recipe).SOPClassUID for recipe in RECIPES[:4]})
    asked = "includefield=SOPClassesInStudy,NumberOfPatientRelatedStudies&includefield=00201204"
    for query in (asked, "includefield=all", "SOPClassesInStudy=*&" + asked):
        (found,) = door.get(f"/studies?StudyInstanceUID={CT.study_uid}&{query}").json()
        assert found["00080062"] == {"vr": "UI", "Value": classes}
        assert (found["00201200"]["Value"], found["00201204"]["Value"]) == ([1], [4])
    (found,) = door.get(f"{study(CT)}/series?SeriesInstanceUID={CT.series_uid}&{asked}").json()
    assert found["00080062"]["Value"] == classes


@pytest.mark.clause("8.3.4.4")
def test_results_come_page_by_page_and_more_are_announced(door: Door) -> None:
    everything = _uids(door, f"{study(CT)}/instances", "00080018")
    pages = []
    for offset in range(4):
        response = door.get(f"{study(CT)}/instances?limit=1&offset={offset}")
        (found,) = response.json()
        pages.append(found["00080018"]["Value"][0])
        assert ("warning" in response.headers) == (offset < 3)
        assert response.headers.get("warning", "299 ").startswith("299 ")
    assert pages == everything
    assert door.get(f"{study(CT)}/instances?offset=4").status_code == 204


@pytest.mark.clause("8.3.4.5")
def test_empty_values_are_matched(door: Door) -> None:
    for switch in ("", "&emptyvaluematching=true"):
        assert CT.study_uid in _uids(door, f"/studies?ReferringPhysicianName=%22%22{switch}")
        assert CT.study_uid not in _uids(door, f"/studies?PatientName=%22%22{switch}")


@pytest.mark.clause("8.3.4.6")
def test_any_of_several_values_matches(door: Door) -> None:
    for switch in ("", "&multiplevaluematching=true"):
        found = _uids(door, f"/series?Modality=CT%5CMR{switch}", "00080060")
        assert set(found) == {"CT", "MR"}


@pytest.mark.clause("8.3.4.1", "10.6.1")
def test_items_of_sequences_are_matched_as_a_whole(door: Door) -> None:
    recipe = Recipe(study=40, series=7)
    ds = make_data_set(recipe)
    other = Dataset()
    other.ScheduledProcedureStepID, other.RequestedProcedureID = "S8", "R8"
    ds.RequestAttributesSequence[0].RequestedProcedureID = "R7"
    ds.RequestAttributesSequence = Sequence([ds.RequestAttributesSequence[0], other])
    model = ds.to_json_dict(bulk_data_threshold=1 << 30)
    headers = {"content-type": "application/dicom+json"}
    assert door.http.post(f"{door.root}/studies", json=[model], headers=headers).status_code == 200
    sequence = "RequestAttributesSequence"
    for query, hit in (
        (f"{sequence}.ScheduledProcedureStepID=7", True),
        ("00400275.00400009=S8", True),
        (f"{sequence}.ScheduledProcedureStepID=S?&{sequence}.RequestedProcedureID=R8", True),
        (f"{sequence}.ScheduledProcedureStepID=7&{sequence}.RequestedProcedureID=R8", False),
        (f"{sequence}.ScheduledProcedureStepID=9", False),
    ):
        found = door.get(f"/series?PatientID=P40&{query}")
        assert (found.status_code == 200) == hit, query
        if hit:
            assert len(found.json()[0]["00400275"]["Value"]) == 2  # what was matched is returned


@pytest.mark.clause("8.3.4.1")
def test_attributes_that_the_catalog_does_not_hold_are_matched_too(door: Door) -> None:
    assert _uids(door, f"{study(CT)}/instances?BitsStored=12&PixelRepresentation=1", "00080018") == [RECIPES[1].sop_uid]
    assert _uids(door, f"{study(CT)}/instances?PixelRepresentation=0&limit=1&offset=1", "00080018") == [
        RECIPES[2].sop_uid
    ]
    assert _uids(door, "/studies?OperatorsName=nobody") == []


@pytest.mark.clause("8.5")
@pytest.mark.parametrize("query", ["Nonsense=1", "limit=x", "StudyDate=yesterday", "Rows=512", "fuzzymatching=maybe"])
def test_parameters_that_are_not_understood_are_refused(door: Door, query: str) -> None:
    response = door.get(f"/studies?{query}")
    assert response.status_code == 400
    assert response.json()["detail"]


@pytest.mark.clause("10.6.1")
def test_relational_searches_need_no_path(door: Door) -> None:
    recipe = Recipe(study=41, series=1, instance=1)
    assert door.store([make_instance(recipe)]).status_code == 200
    response = door.get(f"/instances?SeriesInstanceUID={recipe.series_uid}")
    (found,) = response.json()
    assert found["00100020"]["Value"] == ["P41"]
    assert found["00080060"]["Value"] == ["CT"]
    assert found["00081190"]["Value"] == [f"{door.root}{instance(recipe)}"]
