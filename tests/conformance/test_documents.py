"""PS3.18 10.4.1.1.3 and 8.7.4: what is no image, as text or as the document that was put in."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pydicom
import pytest
from pydicom.dataset import Dataset

from conformance.conftest import CT, Door, instance, series, study
from data import Recipe, corpus_folder, make_instance, uid
from dimse_archive import made
from unit.services.dicomweb_fakes import parts_of

SR, PDF, CDA, STL, KEY, STATE, ECG, DEEP = (
    Recipe(study=60, series=number, instance=number, kind="none", modality=modality)
    for number, modality in enumerate(("SR", "DOC", "DOC", "M3D", "KO", "PR", "ECG", "SR"), start=1)
)
ALONE = Recipe(study=61, instance=1, kind="none", modality="SR")
_ROOT = "1.2.840.10008.5.1.4.1.1."
_CLASSES = {
    SR: "88.33",
    PDF: "104.1",
    CDA: "104.2",
    STL: "104.3",
    KEY: "88.59",
    STATE: "11.1",
    ECG: "9.1.1",
    DEEP: "88.34",
    ALONE: "88.11",
}
DOCUMENTS = {
    PDF: ("application/pdf", b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"),
    CDA: ("text/xml", b'<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Letter</title></ClinicalDocument>'),
    STL: ("model/stl", b"solid cube\nendsolid cube\n" + bytes(2000)),
}
HOSTILE = "</style><script>alert(1)</script> <img src=x onerror=alert(1)> & \"quoted\" 'too'"
_CODES = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")


def _code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return [ds]


def _item(kind: str, name: str = "", relation: str = "CONTAINS", **values: object) -> Dataset:
    ds = Dataset()
    ds.ValueType, ds.RelationshipType = kind, relation
    if name:
        ds.ConceptNameCodeSequence = _code("121071", "DCM", name)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _number(name: str, value: str, unit: Sequence[str]) -> Dataset:
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, _code(*unit)
    return _item("NUM", name, MeasuredValueSequence=[measured])


def _referenced(sop_class: str, sop_uid: str, frames: list[int] | None = None) -> list[Dataset]:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = sop_class, sop_uid
    if frames:
        ds.ReferencedFrameNumber = frames
    return [ds]


def _evidence(recipe: Recipe) -> list[Dataset]:
    one, of_series = Dataset(), Dataset()
    one.StudyInstanceUID, one.ReferencedSeriesSequence = recipe.study_uid, [of_series]
    of_series.SeriesInstanceUID = recipe.series_uid
    of_series.ReferencedSOPSequence = _referenced(f"{_ROOT}2", recipe.sop_uid)
    return [one]


def _report(ds: Dataset) -> None:
    """A chest report: with a heading, a text, a measurement, a code, images and an item that stands for another."""
    ds.SpecificCharacterSet, ds.PatientName, ds.PatientBirthDate = "ISO_IR 192", "Mül^Ö=山田", "19700102"
    ds.ContentDate, ds.ContentTime, ds.CompletionFlag, ds.VerificationFlag = (
        "20260102",
        "101500",
        "COMPLETE",
        "VERIFIED",
    )
    observer = Dataset()
    observer.VerifyingObserverName, observer.VerifyingOrganization = "Reader^Rita", "Clinic"
    observer.VerificationDateTime = "20260103080000+0100"
    ds.VerifyingObserverSequence = [observer]
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = _code("18748-4", "LN", "Diagnostic Imaging Report")
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(CT)
    finding = _item("TEXT", "Finding", TextValue=HOSTILE)
    seen = _item("IMAGE", "Seen in", "INFERRED FROM", ReferencedSOPSequence=_referenced(f"{_ROOT}2", CT.sop_uid, [1]))
    elsewhere = _item("IMAGE", "", ReferencedSOPSequence=_referenced(f"{_ROOT}4", uid("elsewhere")))
    same = Dataset()
    same.RelationshipType, same.ReferencedContentItemIdentifier = "INFERRED FROM", [1, 1, 2]
    finding.ContentSequence = [seen, elsewhere, same]
    section = _item("CONTAINER", "Findings", ContinuityOfContent="SEPARATE")
    section.ContentSequence = [
        finding,
        _number("Diameter", "12.5", ("mm", "UCUM", "millimeter")),
        _item("CODE", "Finding Site", ConceptCodeSequence=_code("39607008", "SCT", "Lung")),
        _item("SCOORD", "Region", GraphicType="POINT", GraphicData=[1.5, 2.5]),
    ]
    person = _item("PNAME", "Person Observer Name", "HAS OBS CONTEXT", PersonName="Writer^Walt")
    running = _item("CONTAINER", "Impression", ContinuityOfContent="CONTINUOUS")
    running.ContentSequence = [
        _item("TEXT", "Text", TextValue="A mass of"),
        _number("Size", "3", ("cm", "UCUM", "centimeter")),
        _item("TEXT", "Text", TextValue="was detected."),
    ]
    ds.ContentSequence = [section, person, running]


def _nested(ds: Dataset) -> None:
    """Forty headings within each other."""
    ds.ValueType, ds.ContinuityOfContent, ds.ConceptNameCodeSequence = "CONTAINER", "SEPARATE", _code("1", "X", "Top")
    level = ds
    for number in range(40):
        inner = _item("CONTAINER", f"Level {number}", ContinuityOfContent="SEPARATE")
        level.ContentSequence = [inner]
        level = inner
    level.ContentSequence = [_item("TEXT", "Deepest", TextValue="bottom\0\x1b[31m")]


def _selection(ds: Dataset) -> None:
    ds.ValueType, ds.ConceptNameCodeSequence = "CONTAINER", _code("113000", "DCM", "Of Interest")
    ds.CurrentRequestedProcedureEvidenceSequence = _evidence(CT)
    ds.ContentSequence = [_item("IMAGE", "", ReferencedSOPSequence=_referenced(f"{_ROOT}2", CT.sop_uid))]


def _made(recipe: Recipe) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(make_instance(recipe)))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = _ROOT + _CLASSES[recipe]
    if recipe in DOCUMENTS:
        content = DOCUMENTS[recipe][1]
        ds.MIMETypeOfEncapsulatedDocument = "text/html"  # what a sender says there decides nothing
        ds.EncapsulatedDocumentLength, ds.EncapsulatedDocument = len(content), content + b"\0" * (len(content) % 2)
    if recipe in (SR, ALONE):
        _report(ds)
    if recipe == DEEP:
        _nested(ds)
    if recipe == KEY:
        _selection(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def filled(door: Door) -> Door:
    response = door.store([_made(recipe) for recipe in _CLASSES])
    assert response.status_code == 200, response.text
    return door


class _Links(HTMLParser):
    """What a page is made of: its tags, addresses and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert not any(name.startswith("on") for name in found)
        self.tags.append(tag)
        self.links += [found["href"] or ""] if "href" in found else []
        self.anchors |= {found["id"] or ""} if "id" in found else set()

    def handle_data(self, data: str) -> None:
        self.text += " " + data


@pytest.mark.clause("8.7.4", "10.4.1.1.3")
def test_report_is_a_page_for_people(filled: Door) -> None:
    response = filled.get(f"{instance(SR)}/rendered", "text/html")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = _Links(response.text)
    for text in (
        *("Diagnostic Imaging Report", "Mül, Ö", "1970-01-02", "complete, verified"),
        *("Reader, Rita", "Clinic", "2026-01-03 08:00:00 +0100", "Person Observer Name", "Writer, Walt"),
        *("Findings", "Diameter", "12.5 mm", "Finding Site", "Lung", "39607008, SCT", "point: (1.5, 2.5)"),
    ):
        assert text in page.text
    assert {"h1", "h2"} <= set(page.tags)
    assert re.search(r"A mass of\s+3 cm\s.*was detected\.", page.text, re.DOTALL)


@pytest.mark.clause("8.7.4")
def test_report_names_its_images_by_addresses_here(filled: Door) -> None:
    page = _Links(filled.get(f"{instance(SR)}/rendered", "text/html").text)
    images = [link for link in page.links if not link.startswith("#")]
    assert images == [
        f"{filled.root}{instance(CT)}/frames/1/rendered?accept=image/jpeg,text/html,application/pdf,video/*"
    ]
    shown = filled.http.get(images[0])
    assert shown.status_code == 200
    assert shown.headers["content-type"] == "image/jpeg"
    assert "CT Image, frame 1" in page.text
    assert "MR Image" in page.text  # the report does not say where that is
    inner = [link for link in page.links if link.startswith("#")]
    assert inner == ["#item-1.1.2"]
    assert inner[0][1:] in page.anchors


@pytest.mark.clause("8.7.4")
def test_what_a_sender_writes_runs_nowhere(filled: Door) -> None:
    response = filled.get(f"{instance(SR)}/rendered", "text/html")
    page = _Links(response.text)
    assert not {"script", "img", "iframe", "object", "link", "form"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert HOSTILE in page.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    document = filled.get(f"{instance(CDA)}/rendered")
    assert "sandbox" in document.headers["content-security-policy"]


@pytest.mark.clause("8.7.4")
def test_report_is_plain_text_and_xml(filled: Door) -> None:
    response = filled.get(f"{instance(SR)}/rendered", "text/plain")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Diagnostic Imaging Report\n====" in response.text
    assert "Diameter: 12.5 mm (mm, UCUM)" in response.text
    assert HOSTILE.split(" & ")[0] in response.text
    assert f"{instance(CT)}/frames/1/rendered" in response.text
    response = filled.get(f"{instance(SR)}/rendered", "text/xml")
    assert response.headers["content-type"].startswith("text/xml")
    assert ElementTree.fromstring(response.content).tag.endswith("NativeDicomModel")


@pytest.mark.clause("8.7.4")
def test_html_is_the_default_of_reports(filled: Door) -> None:
    for accept in (
        None,
        "*/*",
        "text/*",
        "image/png, text/*;q=0.5",
        "text/html,application/xhtml+xml,image/webp,*/*;q=0.8",
    ):
        response = filled.get(f"{instance(ALONE)}/rendered", accept)
        assert response.headers["content-type"] == "text/html; charset=utf-8", accept
    assert filled.get(f"{instance(KEY)}/rendered").headers["content-type"].startswith("text/html")
    assert filled.get(f"{instance(SR)}/rendered?accept=text/plain", "text/html").text.startswith("Diagnostic")


@pytest.mark.clause("8.7.4", "10.4.1.1.3")
@pytest.mark.parametrize("recipe", DOCUMENTS, ids=lambda recipe: recipe.modality)
def test_document_comes_as_it_was_put_in(filled: Door, recipe: Recipe) -> None:
    kind, content = DOCUMENTS[recipe]
    path = f"{instance(recipe)}/rendered"
    for accept in (None, kind, "*/*"):
        response = filled.get(path, accept)
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == kind
        assert response.content == content
    head = filled.http.head(filled.root + path, headers={"accept-encoding": "identity"})
    assert head.headers["content-length"] == str(len(content))
    part = filled.get(path, kind, range="bytes=5-9")
    assert part.status_code == 206
    assert part.content == content[5:10]
    assert part.headers["content-range"] == f"bytes 5-9/{len(content)}"
    assert filled.get(path, kind, range="bytes=9999-").status_code == 416
    assert filled.get(path, kind, if_none_match=response.headers["etag"]).status_code == 304


@pytest.mark.clause("8.7.4", "10.4.4")
def test_documents_of_a_study_come_each_in_a_part(filled: Door) -> None:
    parts = parts_of(filled.get(f"{study(SR)}/rendered", 'multipart/related; type="text/html"'))
    assert len(parts) == 3  # reports and key objects
    assert all(part.fields["Content-Location"].endswith("/rendered") for part in parts)
    assert len(parts_of(filled.get(f"{study(SR)}/rendered"))) == 6
    assert parts_of(filled.get(f"{series(PDF)}/rendered", "multipart/related"))[0].content == DOCUMENTS[PDF][1]
    images = filled.get(f"{study(CT)}/rendered", "image/png")
    assert images.headers["content-type"] == "image/png"


@pytest.mark.clause("8.7.4")
def test_an_instance_without_its_document_keeps_the_others_from_nobody(filled: Door) -> None:
    empty = Recipe(study=62, series=1, instance=1, kind="none", modality="DOC")
    whole = Recipe(study=62, series=2, instance=2, kind="none", modality="DOC")
    pdf = f"{_ROOT}104.1"
    files = [
        made(empty, SOPClassUID=pdf),
        made(whole, SOPClassUID=pdf, EncapsulatedDocument=DOCUMENTS[PDF][1], MIMETypeOfEncapsulatedDocument="x/y"),
    ]
    assert filled.store(files).status_code == 200
    (part,) = parts_of(filled.get(f"{study(whole)}/rendered", "multipart/related"))
    assert part.content.startswith(b"%PDF-1.4")
    assert filled.get(f"{instance(empty)}/rendered", "application/pdf").status_code == 406
    assert filled.get(f"{series(empty)}/rendered", "multipart/related").status_code == 406


@pytest.mark.clause("8.7.4")
def test_what_cannot_be_shown_is_refused_with_words(filled: Door) -> None:
    for recipe, accept, words in (
        (SR, "image/jpeg", "text/html"),
        (PDF, "text/html", "application/pdf"),
        (STATE, "*/*", "Grayscale Softcopy Presentation State"),
        (ECG, "text/html", "12-lead ECG"),
    ):
        response = filled.get(f"{instance(recipe)}/rendered", accept)
        assert response.status_code == 406
        assert words in response.json()["detail"]
    assert "application/dicom" in filled.get(f"{instance(ECG)}/rendered").json()["detail"]
    assert filled.get(f"{instance(SR)}/frames/1/rendered").status_code == 404
    assert filled.get(f"{instance(CT)}/rendered", "text/html").status_code == 406


@pytest.mark.clause("10.4.1.1.4")
def test_documents_have_no_thumbnail(filled: Door) -> None:
    response = filled.get(f"{instance(PDF)}/thumbnail")
    assert response.status_code == 404
    assert "frames" in response.json()["detail"]


@pytest.mark.clause("10.4.1.1.4")
def test_thumbnail_tells_nothing_of_the_patient(filled: Door) -> None:
    path = f"{instance(CT)}/thumbnail"
    named = filled.get(f"{path}?annotation=patient,technique", "image/png")
    assert named.content == filled.get(path, "image/png").content
    assert "annotation" in named.headers["warning"]


@pytest.mark.clause("9.5")
def test_uri_service_shows_documents(filled: Door) -> None:
    def get(recipe: Recipe, **parameters: str) -> tuple[int, str, bytes]:
        named = {"studyUID": recipe.study_uid, "seriesUID": recipe.series_uid, "objectUID": recipe.sop_uid}
        response = filled.http.get(f"{filled.origin}/wado", params={"requestType": "WADO", **named, **parameters})
        return response.status_code, response.headers["content-type"], response.content

    assert get(SR)[:2] == (200, "text/html; charset=utf-8")
    assert get(SR, contentType="text/plain")[1] == "text/plain; charset=utf-8"
    assert get(PDF) == (200, *DOCUMENTS[PDF])
    assert get(PDF, contentType="application/pdf") == (200, *DOCUMENTS[PDF])
    assert get(PDF, contentType="application/dicom")[1].startswith("application/dicom;")
    assert get(PDF, contentType="text/html")[0] == 406
    assert get(STATE)[1].startswith("application/dicom;")


@pytest.mark.clause("8.7.4")
def test_deep_and_odd_reports_are_shown(filled: Door) -> None:
    page = filled.get(f"{instance(DEEP)}/rendered", "text/html")
    assert "Level 39" in page.text
    assert "bottom\ufffd\ufffd[31m" in page.text
    assert "bottom" in filled.get(f"{instance(DEEP)}/rendered", "text/plain").text
    empty = _Links(filled.get(f"{study(Recipe(study=1))}/series/{Recipe(study=1, series=3).series_uid}/rendered").text)
    assert "Basic Text SR" in empty.text  # a report with neither a title nor content


@pytest.mark.clause("8.7.4")
@pytest.mark.parametrize("name", ["dcmqi__sr", "pydicom__reportsi", "pydicom__test-SR"])
def test_real_reports_say_what_dcmtk_reads_in_them(filled: Door, name: str, tmp_path: Path) -> None:
    file = corpus_folder() / "SR-doc" / f"{name}.dcm"
    if not file.is_file():
        pytest.skip("LEANPACS_TEST_DATA has no such report")
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump of dcmtk is not installed")
    ds = pydicom.dcmread(file)
    assert filled.store([file.read_bytes()]).status_code in (200, 202)
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}/rendered"
    page = _Links(filled.get(path, "text/html").text)
    read = subprocess.run(
        ["dsrdump", "+U8", "-Ei", "+Pl", "+Pu", str(file)], capture_output=True, check=False, encoding="utf-8"
    ).stdout
    names = set(re.findall(r'\(,,"([^"]+)"\)=', read))
    values = set(re.findall(r'"\)="([^"\\^]*[a-z][^"\\^]*)"', read))
    assert len(names) > 5
    seen = " ".join(page.text.split())
    assert not {text for text in names | values if " ".join(text.split()) not in seen}
    assert len(page.anchors) >= len(re.findall(r"^ *<", read, re.MULTILINE)) - 1
