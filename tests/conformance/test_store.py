"""PS3.18 10.5 and annex I: store."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import httpx
import imagecodecs
import numpy as np
import orjson
import pydicom
import pytest

from conformance.conftest import STORE, Door, instance, study
from data import (
    EXPLICIT_LE,
    HTJ2K,
    JPEG_BASELINE,
    JPEG_LS,
    RLE,
    Recipe,
    make_data_set,
    make_instance,
    make_samples,
    native_pixels,
)
from leanpacs.services.dicomweb.nativexml import native_xml
from unit.services.dicomweb_fakes import multipart

PIXELS = "http://sender.example/pixels"
JSON, XML = "application/dicom+json", "application/dicom+xml"
MACRO = ("00280002", "00280004", "00280010", "00280011", "00280100", "00280101", "00280102", "00280103")


def _body(*parts: tuple[str, str, bytes]) -> bytes:
    """Parts of (Content-Type, Content-Location, content)."""
    pieces = []
    for content_type, location, content in parts:
        fields = f"Content-Type: {content_type}\r\n" + (f"Content-Location: {location}\r\n" if location else "")
        pieces.append(f"--b0und\r\n{fields}\r\n".encode() + content + b"\r\n")
    return b"".join(pieces) + b"--b0und--\r\n"


def _send(door: Door, part_type: str, *parts: tuple[str, str, bytes], path: str = "/studies") -> httpx.Response:
    headers = {"content-type": f'multipart/related; type="{part_type}"; boundary=b0und'}
    return door.http.post(door.root + path, content=_body(*parts), headers=headers)


def _model(recipe: Recipe, *, uri: str = PIXELS) -> dict[str, Any]:
    ds = make_data_set(replace(recipe, transfer_syntax=EXPLICIT_LE))
    model = ds.to_json_dict(bulk_data_threshold=1 << 30)
    model["7FE00010"] = {"vr": model["7FE00010"]["vr"], "BulkDataURI": uri}
    return model


def _held(door: Door, recipe: Recipe) -> pydicom.Dataset:
    response = door.get(instance(recipe), "application/dicom; transfer-syntax=*")
    assert response.status_code == 200
    return pydicom.dcmread(io.BytesIO(response.content))


@pytest.mark.clause("10.5.3", "I")
def test_response_names_what_is_stored_and_where_it_is(door: Door) -> None:
    recipe = Recipe(study=20, instance=1)
    response = door.store([make_instance(recipe)], study(recipe))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    module = response.json()
    assert module["00081190"]["Value"] == [f"{door.root}{study(recipe)}"]
    (item,) = module["00081199"]["Value"]
    assert item["00081155"]["Value"] == [recipe.sop_uid]
    assert item["00081190"]["Value"] == [f"{door.root}{instance(recipe)}"]
    response = door.http.post(
        f"{door.root}/studies", content=multipart([make_instance(recipe)]), headers={**STORE, "accept": XML}
    )
    assert response.headers["content-type"] == XML


@pytest.mark.clause("10.5.3", "I")
def test_response_names_what_failed_and_why(door: Door) -> None:
    stored, other = Recipe(study=20, instance=2), Recipe(study=21, instance=1)
    response = door.store([make_instance(stored), make_instance(other), b"no DICOM" * 50], study(stored))
    assert response.status_code == 202
    assert response.headers["warning"].startswith("299 ")
    module = response.json()
    assert [item["00081155"]["Value"] for item in module["00081199"]["Value"]] == [[stored.sop_uid]]
    (failed,) = module["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [other.sop_uid]
    assert failed["00081197"]["Value"] == [0xA900]
    assert module["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]
    response = door.store([make_instance(other)], study(stored))
    assert response.status_code == 409


@pytest.mark.clause("10.5.1")
def test_one_instance_may_come_as_a_single_part(door: Door) -> None:
    recipe = Recipe(study=20, instance=3)
    headers = {"content-type": "application/dicom"}
    response = door.http.post(f"{door.root}/studies", content=make_instance(recipe), headers=headers)
    assert response.status_code == 200
    assert door.get(instance(recipe)).status_code == 200


@pytest.mark.clause("10.5.1")
def test_what_is_no_store_request_is_refused(door: Door) -> None:
    for headers, status in (
        ({"content-type": "text/plain"}, 415),
        ({"content-type": 'multipart/related; type="image/png"; boundary=b'}, 415),
        ({"content-type": 'multipart/related; type="application/dicom"'}, 400),
        ({**STORE, "content-encoding": "gzip"}, 415),
        ({**STORE, "accept": "image/png"}, 406),
    ):
        response = door.http.post(f"{door.root}/studies", content=b"--b0und--\r\n", headers=headers)
        assert response.status_code == status
        assert response.json()["detail"]


@pytest.mark.clause("10.5.1.4", "F.2")
@pytest.mark.parametrize("part_type", [JSON, XML])
def test_metadata_and_native_pixels_make_the_instance(door: Door, part_type: str) -> None:
    recipe = Recipe(study=22, instance=len(part_type), signed=True, private_bytes=300)
    model = _model(recipe)
    model["00100010"]["Value"] = [{"Alphabetic": "Müller^Jörg", "Ideographic": "山田"}]
    document = orjson.dumps([model]) if part_type == JSON else native_xml(model)
    response = _send(
        door,
        part_type,
        (part_type, "", document),
        ("application/octet-stream", PIXELS, native_pixels(recipe)),
    )
    assert response.status_code == 200, response.text
    ds = _held(door, recipe)
    assert ds.file_meta.TransferSyntaxUID == EXPLICIT_LE
    assert np.array_equal(ds.pixel_array, make_samples(recipe)[0])
    assert str(ds.PatientName) == "Müller^Jörg=山田"
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.RequestAttributesSequence == make_data_set(recipe).RequestAttributesSequence
    assert ds[0x0029, 0x1010].value == make_data_set(recipe)[0x0029, 0x1010].value


@pytest.mark.clause("10.5.1.4", "8.7.3.3")
@pytest.mark.parametrize(
    ("media_type", "syntax"),
    [("image/jls", JPEG_LS), ("image/jphc", HTJ2K), ("image/dicom-rle", RLE), ("image/jpeg", JPEG_BASELINE)],
)
def test_frames_come_as_code_streams_each_in_a_part(door: Door, media_type: str, syntax: str) -> None:
    recipe = Recipe(
        study=23, instance=len(syntax + media_type), frames=3, bits_allocated=8, bits_stored=8, transfer_syntax=syntax
    )
    sent = pydicom.encaps.generate_frames(make_data_set(recipe).PixelData, number_of_frames=3)
    parts = [(media_type, PIXELS, frame) for frame in sent]
    response = _send(door, JSON, (JSON, "", orjson.dumps([_model(recipe)])), *parts)
    assert response.status_code == 200, response.text
    ds = _held(door, recipe)
    assert ds.file_meta.TransferSyntaxUID == syntax
    held = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=3)
    assert [frame.rstrip(b"\0") for frame in held] == [frame.rstrip(b"\0") for _, _, frame in parts]


@pytest.mark.clause("10.5.1.4")
def test_a_photograph_needs_no_description_of_its_pixels(door: Door) -> None:
    """PS3.18 B.23: a JPEG file beside metadata that leave out the Image Pixel Description Macro."""
    recipe = Recipe(study=24, modality="XC", samples=3, bits_allocated=8, bits_stored=8)
    model = {tag: value for tag, value in _model(recipe).items() if tag not in (*MACRO, "00280006")}
    picture = imagecodecs.jpeg8_encode(make_samples(replace(recipe, rows=50, columns=70))[0].astype(np.uint8))
    response = _send(door, XML, (XML, "", native_xml(model)), ("image/jpeg", PIXELS, picture))
    assert response.status_code == 200, response.text
    ds = _held(door, recipe)
    assert ds.file_meta.TransferSyntaxUID == JPEG_BASELINE
    assert (ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated) == (50, 70, 3, 8)
    shown = door.get(f"{instance(recipe)}/rendered", "image/png")
    assert np.abs(imagecodecs.png_decode(shown.content).astype(int) - imagecodecs.jpeg8_decode(picture)).max() <= 3


@pytest.mark.clause("10.5.1.4", "F.2")
def test_metadata_alone_may_hold_all_of_it(door: Door) -> None:
    recipe = Recipe(study=25, kind="none", modality="SR", private_bytes=2000)
    model = make_data_set(recipe).to_json_dict(bulk_data_threshold=1 << 30)
    response = door.http.post(
        f"{door.root}/studies", content=orjson.dumps([model]), headers={"content-type": JSON, "accept": JSON}
    )
    assert response.status_code == 200, response.text
    ds = _held(door, recipe)
    del ds.file_meta
    assert ds == make_data_set(recipe)


@pytest.mark.clause("10.5.1.4", "10.4.1.1.2")
def test_what_is_retrieved_as_metadata_and_bulk_data_can_be_stored_so(door: Door) -> None:
    """Round trip: all that the archive gives as JSON and bulk data makes the same data set again."""
    recipe = Recipe(study=26, instance=1, private_bytes=4000, icon=True, frames=2)
    assert door.store([make_instance(recipe)]).status_code == 200
    (model,) = door.get(f"{instance(recipe)}/metadata").json()
    uris = [element["BulkDataURI"] for element in model.values() if "BulkDataURI" in element]
    uris += [
        element["BulkDataURI"]
        for sequence in model.values()
        if sequence["vr"] == "SQ"
        for item in sequence["Value"]
        for element in item.values()
        if "BulkDataURI" in element
    ]
    parts = [
        ("application/octet-stream", uri, door.http.get(uri, headers={"accept": "application/octet-stream"}).content)
        for uri in uris
    ]
    copy = Recipe(study=26, instance=2)
    model["00080018"]["Value"] = [copy.sop_uid]
    assert _send(door, JSON, (JSON, "", orjson.dumps([model])), *parts).status_code == 200
    one, two = _held(door, recipe), _held(door, copy)
    two.SOPInstanceUID = one.SOPInstanceUID
    del one.file_meta, two.file_meta
    assert one == two


@pytest.mark.clause("10.5.3")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"7FE00010": {"vr": "OW", "BulkDataURI": "elsewhere"}}, "Content-Location elsewhere"),
        ({"0020000D": {"vr": "UI"}}, "StudyInstanceUID"),
        ({"00280010": {"vr": "US", "Value": ["many"]}}, "not understood"),
        ({"00081140": {"vr": "SQ", "Value": ["x"]}}, "not understood"),
        ({"7FE00010": {"vr": "OW", "InlineBinary": "%%"}}, "base64"),
    ],
)
def test_metadata_that_make_no_instance_fail_with_the_reason(door: Door, change: dict, told: str) -> None:
    recipe = Recipe(study=27, instance=1)
    whole = Recipe(study=27, instance=2)
    models = [_model(recipe) | change, _model(whole)]
    response = _send(
        door,
        JSON,
        (JSON, "", orjson.dumps(models)),
        ("application/octet-stream", PIXELS, native_pixels(whole)),
    )
    assert response.status_code == 202
    assert told in response.headers["warning"]
    assert [item["00081155"]["Value"] for item in response.json()["00081199"]["Value"]] == [[whole.sop_uid]]


@pytest.mark.clause("10.5.3")
def test_documents_that_are_none_fail(door: Door) -> None:
    for part_type, document in (
        (JSON, b"{"),
        (JSON, b"[1]"),
        (XML, b"<a>"),
        (XML, b"<a/>"),
        (XML, b'<!DOCTYPE x [<!ENTITY a "b">]><NativeDicomModel/>'),
    ):
        response = _send(door, part_type, (part_type, "", document))
        assert response.status_code == 409
        assert response.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert _send(door, JSON, ("image/jpeg", PIXELS, b"x")).status_code == 409
    assert not list(door.archive.spool_folder.glob("stow-*"))
