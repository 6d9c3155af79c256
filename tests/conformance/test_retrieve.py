"""PS3.18 10.4: instances, metadata, frames, bulk data."""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import EXPLICIT_LE, HTJ2K, JPEG_BASELINE, JPEG_LS, make_samples, native_pixels
from unit.services.dicomweb_fakes import parts_of

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'
BE, REPORT, CINE, US, MG = RECIPES[2], RECIPES[3], RECIPES[4], RECIPES[6], RECIPES[7]
NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@pytest.mark.clause("10.4.1.1.1", "10.4.3", "8.6.1.2")
def test_study_series_and_instance_come_in_multipart_related(door: Door) -> None:
    for path, count in ((study(CT), 4), (series(CT), 2), (instance(CT), 1)):
        response = door.get(path, DICOM)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
        parts = parts_of(response)
        assert len(parts) == count
        for part in parts:
            ds = pydicom.dcmread(io.BytesIO(part.content))
            assert part.fields["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT_LE}"
            assert part.fields["Content-Location"].endswith(f"/instances/{ds.SOPInstanceUID}")
            assert ds.file_meta.TransferSyntaxUID == EXPLICIT_LE


@pytest.mark.clause("10.4.4")
def test_one_instance_may_be_a_single_part_and_several_may_not(door: Door) -> None:
    response = door.get(instance(CT), "application/dicom")
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT_LE}"
    assert pydicom.dcmread(io.BytesIO(response.content)).SOPInstanceUID == CT.sop_uid
    assert door.get(study(CT), "application/dicom").status_code == 406


@pytest.mark.clause("8.7.3")
def test_transfer_syntax_is_the_one_asked_for_or_the_default(door: Door) -> None:
    def syntax(path: str, parameter: str = "") -> str:
        response = door.get(path, f"application/dicom{parameter}")
        assert response.status_code == 200
        return response.headers["content-type"].split("transfer-syntax=")[1]

    assert syntax(instance(CINE)) == EXPLICIT_LE
    assert syntax(instance(CINE), "; transfer-syntax=*") == JPEG_LS
    assert syntax(instance(CINE), f"; transfer-syntax={HTJ2K}") == HTJ2K
    assert syntax(instance(BE), "; transfer-syntax=*") == EXPLICIT_LE
    assert syntax(instance(US)) == JPEG_BASELINE  # lossy: nothing else is as good
    assert door.get(instance(CT), "application/dicom; transfer-syntax=1.2.3").status_code == 406


@pytest.mark.clause("8.7.5", "8.7.8", "8.3.3.1")
def test_best_accepted_form_is_taken_and_the_parameter_goes_first(door: Door) -> None:
    best = 'application/dicom;q=0.5, multipart/related; type="application/dicom";q=0.9'
    assert door.get(instance(CT), best).headers["content-type"].startswith("multipart/related")
    response = door.get(f"{instance(CT)}?accept=application/dicom", DICOM)
    assert response.headers["content-type"].startswith("application/dicom;")
    assert door.get(instance(CT), "text/plain").status_code == 406
    assert door.get(instance(CT), "application/dicom;q=0").status_code == 406


@pytest.mark.clause("8.6.1.3")
def test_instances_come_in_a_zip_for_who_wants_one(door: Door) -> None:
    for path, count in ((study(CT), 4), (series(CT), 2), (instance(CT), 1)):
        response = door.get(path, "application/zip; transfer-syntax=*, */*;q=0.1")
        assert response.headers["content-type"] == "application/zip"
        assert response.headers["content-disposition"].endswith('.zip"')
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            files = {name: pydicom.dcmread(archive.open(name)) for name in archive.namelist()}
        assert len(files) == count
        for name, ds in files.items():
            assert name == f"{ds.StudyInstanceUID}/{ds.SeriesInstanceUID}/{ds.SOPInstanceUID}.dcm"
    everything = door.get(f"{study(CT)}?accept=application/zip")
    assert everything.headers["content-type"] == "application/zip"
    assert door.get(study(CT), "application/zip; transfer-syntax=1.2.3").status_code == 406


@pytest.mark.clause("10.4.1.1.2", "F.2")
def test_metadata_are_an_array_of_json_objects(door: Door) -> None:
    for path, count in ((study(CT), 4), (series(CT), 2), (instance(CT), 1)):
        response = door.get(f"{path}/metadata", "application/dicom+json")
        assert response.headers["content-type"] == "application/dicom+json"
        found = response.json()
        assert len(found) == count
        for one in found:
            assert list(one) == sorted(one)
            assert one["0020000D"] == {"vr": "UI", "Value": [CT.study_uid]}
    (one,) = door.get(f"{instance(CT)}/metadata").json()
    assert one["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{door.root}{instance(CT)}/bulkdata/7FE00010"}
    assert one["00100010"]["Value"] == [{"Alphabetic": "Synthetic^Patient1"}]


@pytest.mark.clause("10.4.1.1.2", "10.4.4")
def test_metadata_are_native_dicom_model_documents_for_who_takes_xml(door: Door) -> None:
    response = door.get(f"{series(CT)}/metadata", 'multipart/related; type="application/dicom+xml"')
    parts = parts_of(response)
    assert len(parts) == 2
    for part in parts:
        assert part.fields["Content-Type"] == "application/dicom+xml"
        root = ElementTree.fromstring(part.content)
        assert root.tag == f"{NATIVE}NativeDicomModel"
        named = {node.get("tag"): node for node in root}
        assert named["0020000D"].find(f"{NATIVE}Value").text == CT.study_uid
        assert named["7FE00010"].find(f"{NATIVE}BulkData").get("uri").endswith("/bulkdata/7FE00010")


@pytest.mark.clause("10.4.1.1.6", "8.7.3.3")
def test_frames_come_in_the_order_asked_for(door: Door) -> None:
    response = door.get(f"{instance(CINE)}/frames/3,1", OCTETS)
    samples = make_samples(CINE).astype("<u2")
    assert [part.content for part in parts_of(response)] == [samples[2].tobytes(), samples[0].tobytes()]
    assert [part.fields["Content-Location"].rsplit("/", 1)[1] for part in parts_of(response)] == ["3", "1"]
    response = door.get(f"{instance(CINE)}/frames/2", "image/jls")
    assert response.headers["content-type"] == f"image/jls; transfer-syntax={JPEG_LS}"
    assert door.get(f"{instance(CINE)}/frames/5", OCTETS).status_code == 404
    assert door.get(f"{instance(CINE)}/frames/0", OCTETS).status_code == 400
    assert door.get(f"{instance(REPORT)}/frames/1", OCTETS).status_code == 404


@pytest.mark.clause("8.7.3.3")
@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [
        ("image/jls", JPEG_LS),
        ("image/jphc", HTJ2K),
        ("image/jp2", "1.2.840.10008.1.2.4.90"),
        ("image/jxl", "1.2.840.10008.1.2.4.110"),
        ("image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("image/jpeg", "1.2.840.10008.1.2.4.70"),
    ],
)
def test_media_type_without_transfer_syntax_means_its_default(door: Door, media_type: str, syntax: str) -> None:
    response = door.get(f"{instance(CT)}/frames/1", f'multipart/related; type="{media_type}"')
    assert response.status_code == 200
    (part,) = parts_of(response)
    assert part.fields["Content-Type"] == f"{media_type}; transfer-syntax={syntax}"


@pytest.mark.clause("10.4.1.1.5")
def test_bulk_data_are_what_the_metadata_refer_to(door: Door) -> None:
    for recipe in (CT, REPORT, MG):
        (model,) = door.get(f"{instance(recipe)}/metadata").json()
        uris = list(_uris(model))
        assert uris
        for uri in uris:
            response = door.http.get(uri, headers={"accept": "*/*"})
            assert response.status_code == 200
            assert all(part.content for part in parts_of(response))
    pixels = door.get(f"{instance(CT)}/bulkdata/7FE00010", "application/octet-stream").content
    assert pixels == native_pixels(CT)


@pytest.mark.clause("10.4.1.1.5", "8.4")
def test_bulk_data_and_frames_come_in_ranges(door: Door) -> None:
    for path in (f"{instance(CT)}/bulkdata/7FE00010", f"{instance(CT)}/frames/1"):
        response = door.get(path, range="bytes=100-199")
        assert response.status_code == 206
        assert response.content == native_pixels(CT)[100:200]
        assert response.headers["content-range"] == f"bytes 100-199/{len(native_pixels(CT))}"
        assert door.get(path, range="bytes=9999999-").status_code == 416


@pytest.mark.clause("8.4")
def test_what_the_client_has_is_not_sent_again(door: Door) -> None:
    for path in (study(CT), f"{study(CT)}/metadata", f"{instance(CT)}/frames/1", f"{instance(CT)}/rendered"):
        first = door.get(path)
        assert door.get(path, if_none_match=first.headers["etag"]).status_code == 304
        assert door.get(path, if_none_match='"other"').status_code == 200
        head = door.http.head(door.root + path)
        assert head.status_code == 200
        assert head.content == b""


@pytest.mark.clause("8.5")
def test_what_is_not_held_is_not_found(door: Door) -> None:
    for path in ("/studies/1.2.3", f"{study(CT)}/series/1.2.3", f"{series(CT)}/instances/1.2.3/metadata"):
        response = door.get(path)
        assert response.status_code == 404
        assert response.json()["status"] == 404
    assert door.get(f"{instance(CT)}/bulkdata/00990099").status_code == 404


def _uris(model: dict) -> list[str]:
    found = []
    for element in model.values():
        found += [element["BulkDataURI"]] if "BulkDataURI" in element else []
        if element["vr"] == "SQ":
            found += [uri for item in element.get("Value", []) for uri in _uris(item)]
    return found


@pytest.mark.clause("10.4.3")
def test_samples_are_equal_whatever_was_received(door: Door) -> None:
    for recipe in RECIPES:
        if recipe.kind == "none" or recipe is US:
            continue
        ds = pydicom.dcmread(io.BytesIO(door.get(instance(recipe), "application/dicom").content))
        assert np.array_equal(ds.pixel_array, make_samples(recipe).squeeze()), recipe
