"""DICOMweb against the real archive, over a real socket, with a client that others wrote."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from data import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    HTJ2K,
    IMPLICIT_LE,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    Recipe,
    bundled,
    corpus,
    make_data_set_bytes,
    make_instance,
    native_pixels,
)
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import InstanceRow
from leanpacs.config import Settings, SettleSettings
from leanpacs.services.dicomweb.app import DicomWebOptions
from leanpacs.services.http import HttpOptions, serve
from leanpacs.telemetry import Metrics
from unit.services.dicomweb_fakes import multipart, parts_of

SETTINGS = Settings(storage={"minimum_free_bytes": 0})
STORE = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und'}
DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'

RECIPES = (
    Recipe(instance=1),
    Recipe(instance=2, signed=True, transfer_syntax=IMPLICIT_LE, undefined_lengths=True),
    Recipe(instance=3, transfer_syntax=EXPLICIT_BE),
    Recipe(instance=4, transfer_syntax=DEFLATED_LE),
    Recipe(instance=5, frames=4, transfer_syntax=JPEG_LS, fragments=2),
    Recipe(instance=6, frames=3, bits_allocated=8, bits_stored=8, transfer_syntax=RLE),
    Recipe(instance=7, transfer_syntax=JPEG_2000),
    Recipe(instance=8, transfer_syntax=HTJ2K),
    Recipe(instance=9, transfer_syntax=JPEG_LOSSLESS, bits_allocated=8, bits_stored=8),
    Recipe(instance=10, samples=3, bits_allocated=8, bits_stored=8, planar=1, series=2, modality="US"),
    Recipe(
        instance=11,
        samples=3,
        bits_allocated=8,
        bits_stored=8,
        series=2,
        modality="US",
        transfer_syntax=JPEG_BASELINE,
    ),
    Recipe(instance=12, kind="none", series=3, modality="SR", private_bytes=5000),
    Recipe(instance=1, study=2, modality="MG", rows=64, columns=48, icon=True),
)


class Inline(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Served:
    """A running server, its archive and two clients."""

    archive: Archive
    url: str
    http: httpx.Client
    client: DICOMwebClient

    def store(self, files: Sequence[bytes]) -> httpx.Response:
        return self.http.post(f"{self.url}/studies", content=multipart(files), headers=STORE, timeout=120)

    def get(self, row: InstanceRow, suffix: str = "", accept: str = "*/*") -> httpx.Response:
        return self.http.get(_url(self.url, row) + suffix, headers={"accept": accept}, timeout=120)

    def row(self, recipe: Recipe) -> InstanceRow:
        (row,) = self.archive.catalog.instances(sop_uid=recipe.sop_uid)
        return row


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = threading.Event()
    with open_archive(tmp_path / "archive", SETTINGS) as archive, httpx.Client(timeout=120) as http:
        # The client sends a Host field without the port, so it has to be told where it is.
        options = HttpOptions(dicomweb=DicomWebOptions(public_url=base))
        arguments = (listener, archive, options, stop)
        serving = threading.Thread(target=serve, args=arguments, kwargs={"metrics": Metrics()})
        serving.start()
        client = DICOMwebClient(f"{base}/dicom-web")
        client.set_http_retry_params(retry=False)
        try:
            yield Served(archive, f"{base}/dicom-web", http, client)
        finally:
            stop.set()
            serving.join(30)
            listener.close()


@pytest.fixture(params=["landed", "settled"])
def filled(served: Served, request: pytest.FixtureRequest) -> Served:
    """The archive with all recipes in it, as they landed or settled."""
    response = served.store([make_instance(recipe) for recipe in RECIPES])
    assert response.status_code == 200, response.text
    if request.param == "settled":
        settler = Settler(
            served.archive.store,
            served.archive.catalog,
            served.archive.settings.settle,
            limit_inflated_bytes=1 << 30,
            executor=Inline,
        )
        settler.drain()
        assert served.archive.catalog.backlog().count == 0
    return served


def _url(base: str, row: InstanceRow) -> str:
    return f"{base}/studies/{row.study_uid}/series/{row.series_uid}/instances/{row.sop_uid}"


def _read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data), force=True)


def _without_meta(data: bytes) -> bytes:
    """The data set of a Part 10 file."""
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def _uids(recipe: Recipe) -> tuple[str, str, str]:
    return recipe.study_uid, recipe.series_uid, recipe.sop_uid


def test_every_instance_comes_back_as_it_was_received(filled: Served) -> None:
    for recipe in RECIPES:
        syntax = recipe.transfer_syntax
        for accept in (f"{DICOM}; transfer-syntax={syntax}", f"application/dicom; transfer-syntax={syntax}"):
            response = filled.get(filled.row(recipe), accept=accept)
            assert response.status_code == 200, (recipe, response.text)
            multi = response.headers["content-type"].startswith("multipart")
            content = parts_of(response)[0].content if multi else response.content
            assert _without_meta(content) == _without_meta(make_instance(recipe)), recipe


def test_every_instance_comes_in_explicit_little_endian(filled: Served) -> None:
    accept = f"application/dicom; transfer-syntax={EXPLICIT_LE}"
    for recipe in RECIPES:
        response = filled.get(filled.row(recipe), accept=accept)
        assert response.status_code == 200, (recipe, response.text)
        ds, original = _read(response.content), _read(make_instance(recipe))
        assert ds.file_meta.TransferSyntaxUID == EXPLICIT_LE
        assert ds.PatientName == original.PatientName
        if recipe.kind != "none" and recipe.transfer_syntax != JPEG_BASELINE:
            native = native_pixels(replace(recipe, transfer_syntax=EXPLICIT_LE))
            assert ds.PixelData == native, recipe


def test_studies_and_series_come_whole(filled: Served) -> None:
    study = RECIPES[0].study_uid
    found = filled.client.retrieve_study(study)
    expected = {recipe.sop_uid for recipe in RECIPES if recipe.study_uid == study}
    assert {ds.SOPInstanceUID for ds in found} == expected
    series = filled.client.retrieve_series(study, RECIPES[9].series_uid)
    assert {ds.SOPInstanceUID for ds in series} == {RECIPES[9].sop_uid, RECIPES[10].sop_uid}


@pytest.mark.parametrize("preset", ["htj2k", "zstd"])
def test_a_study_that_came_over_dimse_says_how_long_it_is(served: Served, preset: str) -> None:
    recipes = [Recipe(instance=number, rows=640, columns=640) for number in (1, 2, 3)]
    for recipe in recipes:
        path = served.archive.spool_folder / recipe.sop_uid
        path.write_bytes(make_data_set_bytes(recipe))
        served.archive.land(Incoming(path, "SCU", "dimse", transfer_syntax=recipe.transfer_syntax))
    study = f"{served.url}/studies/{recipes[0].study_uid}"
    for is_settled in (False, True):
        if is_settled:
            settle = SettleSettings(preset=preset)
            archive = served.archive
            Settler(archive.store, archive.catalog, settle, limit_inflated_bytes=1 << 30, executor=Inline).drain()
        for syntax in (EXPLICIT_LE, "*", JPEG_LS):
            fields = {"accept": f"{DICOM}; transfer-syntax={syntax}", "accept-encoding": "identity"}
            response = served.http.get(study, headers=fields)
            parts = parts_of(response)
            assert len(parts) == 3
            comes_as_received = syntax == EXPLICIT_LE or (syntax == "*" and not (is_settled and preset == "htj2k"))
            assert ("content-length" in response.headers) == comes_as_received
            if comes_as_received:
                assert int(response.headers["content-length"]) == len(response.content)
                for recipe in recipes:
                    content = make_data_set_bytes(recipe)
                    assert sum(part.content.endswith(content) for part in parts) == 1


def test_client_stores_searches_and_retrieves(served: Served) -> None:
    recipe = Recipe(modality="MR", rows=40, columns=56, signed=True)
    original = _read(make_instance(recipe))
    answer = served.client.store_instances([original])
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == recipe.sop_uid
    assert "FailedSOPSequence" not in answer
    found = served.client.retrieve_instance(*_uids(recipe))
    assert np.array_equal(found.pixel_array, original.pixel_array)
    # The client writes data sets anew; element by element they are what it was given.
    assert found == original


def test_client_finds_what_is_there(filled: Served) -> None:
    client, study = filled.client, RECIPES[0].study_uid
    studies = {
        pydicom.Dataset.from_json(found).StudyInstanceUID: pydicom.Dataset.from_json(found)
        for found in client.search_for_studies()
    }
    assert set(studies) == {study, RECIPES[-1].study_uid}
    assert studies[study].NumberOfStudyRelatedInstances == len(RECIPES) - 1
    assert studies[study].NumberOfStudyRelatedSeries == 3
    assert set(studies[study].ModalitiesInStudy) == {"CT", "US", "SR"}
    assert studies[study].PatientName == "Synthetic^Patient0"
    assert len(client.search_for_studies(search_filters={"PatientName": "SYNTH*2"})) == 1
    assert len(client.search_for_studies(search_filters={"ModalitiesInStudy": "MG"})) == 1
    assert len(client.search_for_studies(search_filters={"StudyDate": "20240101-20241231"})) == 2
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_studies(limit=1)) == 1
    assert len(client.search_for_studies(limit=1, get_remaining=True)) == 2
    assert {found["0020000E"]["Value"][0] for found in client.search_for_series(study)} == {
        recipe.series_uid for recipe in RECIPES if recipe.study_uid == study
    }
    assert len(client.search_for_series(search_filters={"Modality": "US"})) == 1
    assert len(client.search_for_instances()) == len(RECIPES)
    assert len(client.search_for_instances(study)) == len(RECIPES) - 1
    by_frames = client.search_for_instances(search_filters={"NumberOfFrames": "4"}, fields=["StudyDate"])
    assert [found["00080018"]["Value"][0] for found in by_frames] == [RECIPES[4].sop_uid]
    assert by_frames[0]["00080020"]["Value"] == ["20240229"]


def test_metadata_are_the_instance_without_its_pixels(filled: Served) -> None:
    for recipe in RECIPES:
        original = _read(make_instance(recipe))
        (found,) = (filled.client.retrieve_instance_metadata(*_uids(recipe)),)
        bulk = {tag for tag, element in found.items() if "BulkDataURI" in element}
        ds = pydicom.Dataset.from_json({tag: e for tag, e in found.items() if tag not in bulk})
        for element in original:
            tag = f"{element.tag:08X}"
            if tag not in bulk and element.tag.element != 0:
                assert ds[element.tag].value == element.value, (recipe, element)
        assert ("7FE00010" in bulk) == (recipe.kind != "none")


def test_metadata_of_a_study(filled: Served) -> None:
    study = RECIPES[0].study_uid
    found = filled.client.retrieve_study_metadata(study)
    assert len(found) == len(RECIPES) - 1
    series = filled.client.retrieve_series_metadata(study, RECIPES[0].series_uid)
    assert {model["00080018"]["Value"][0] for model in series} == {
        recipe.sop_uid for recipe in RECIPES if recipe.series_uid == RECIPES[0].series_uid
    }


def test_frames_native_and_as_received(filled: Served) -> None:
    recipe = RECIPES[4]
    native = native_pixels(recipe)
    size = len(native) // recipe.frames
    expected = [native[at : at + size] for at in range(0, len(native), size)]
    found = filled.client.retrieve_instance_frames(*_uids(recipe), frame_numbers=[4, 1, 2, 3])
    assert found == [expected[3], *expected[:3]]
    row = filled.row(recipe)
    streams = parts_of(filled.get(row, "/frames/1,2,3,4", 'multipart/related; type="image/jls"'))
    original = _read(make_instance(recipe))
    received = list(pydicom.encaps.generate_frames(original.PixelData, number_of_frames=4))
    assert [part.content for part in streams] == received
    anything = parts_of(filled.get(row, "/frames/2", f"{OCTETS}; transfer-syntax=*"))
    assert anything[0].content == received[1]
    assert anything[0].fields["Content-Type"].endswith(f"transfer-syntax={JPEG_LS}")


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.kind != "none"], ids=lambda r: str(r.instance))
def test_frames_of_every_kind_are_the_pixels(served: Served, recipe: Recipe) -> None:
    assert served.store([make_instance(recipe)]).status_code == 200
    row = served.row(recipe)
    numbers = ",".join(str(n) for n in range(1, recipe.frames + 1))
    found = b"".join(part.content for part in parts_of(served.get(row, f"/frames/{numbers}", OCTETS)))
    (bulk,) = parts_of(served.get(row, "/bulkdata/7FE00010", OCTETS))
    assert bulk.content == found
    if recipe.transfer_syntax == JPEG_BASELINE:
        return
    ds = _read(served.get(row, accept=f"application/dicom; transfer-syntax={EXPLICIT_LE}").content)
    assert ds.PixelData[: len(found)] == found


def test_bulk_data_beside_the_pixels(filled: Served) -> None:
    recipe = RECIPES[11]
    (found,) = [filled.client.retrieve_instance_metadata(*_uids(recipe))]
    uri = found["00291010"]["BulkDataURI"]
    original = _read(make_instance(recipe))
    assert filled.client.retrieve_bulkdata(uri) == [original[0x00291010].value]


def test_what_is_sent_again_or_broken_is_told_apart(served: Served) -> None:
    first = make_instance(Recipe())
    assert served.store([first]).status_code == 200
    again = served.store([first])
    assert again.status_code == 200
    other = served.store([make_instance(Recipe(seed=5)), b"no DICOM at all"])
    assert other.status_code == 409
    assert other.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0111]
    assert other.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert served.archive.status().quarantined == 1
    assert list(served.archive.spool_folder.iterdir()) == []


def test_page_metrics_and_health(filled: Served) -> None:
    base = filled.url.removesuffix("/dicom-web")
    page = filled.http.get(base + "/")
    assert page.status_code == 200
    assert "Patient0" in page.text
    metrics = filled.http.get(base + "/metrics").text
    assert 'leanpacs_modality_instances{modality="US"} 2.0' in metrics
    assert f'leanpacs_received_instances_total{{door="stow",outcome="stored"}} {len(RECIPES)}.0' in metrics
    assert filled.http.get(base + "/health").json()["status"] == "ok"


def _store_and_compare(served: Served, files: list[bytes]) -> None:
    """Store files; every one that is taken comes back with the same data set, whatever it is."""
    response = served.store(files)
    assert response.status_code in (200, 202, 409), response.text
    module = response.json()
    for tag in ("00081198", "0008119A"):
        for failed in module.get(tag, {}).get("Value", []):
            assert failed["00081197"]["Value"][0] in (0x0111, 0xC000)
    for item in module.get("00081199", {}).get("Value", []):
        (row,) = served.archive.catalog.instances(sop_uid=item["00081155"]["Value"][0])
        accept = f"application/dicom; transfer-syntax={row.transfer_syntax}"
        got = served.get(row, accept=accept)
        assert got.status_code == 200, got.text
        meta = len(got.content) - row.data_set_length
        assert row.data_set_digest == type(row.data_set_digest).of(got.content[meta:])
        for suffix, wanted in (("", "*/*"), ("/metadata", "*/*"), ("/frames/1", "*/*")):
            assert served.get(row, suffix, wanted).status_code in (200, 404, 406), (row, suffix)


def test_bundled_files(served: Served) -> None:
    for path in (path for path in bundled() if path.stat().st_size < 300_000):
        _store_and_compare(served, [path.read_bytes()])


@pytest.mark.corpus
@pytest.mark.slow
def test_real_files(served: Served) -> None:
    for path in corpus():
        _store_and_compare(served, [path.read_bytes()])
