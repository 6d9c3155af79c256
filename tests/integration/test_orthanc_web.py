"""DICOMweb with others: Orthanc as client and as server, both ways; and all that dicomweb-client can ask for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

import data
from dimse_archive import made
from orthanc import Orthanc, running_orthanc
from peers import RECIPES, STUDY, assert_same, contents, samples
from serving import Server
from transcoding import read_elsewhere

pytestmark = pytest.mark.external

IMAGES = [recipe for recipe in RECIPES if recipe.kind != "none"]
CT = RECIPES[0]
CINE = RECIPES[4]
COMPARED = ("PatientID", "PatientName", "Modality", "SOPClassUID", "SeriesInstanceUID", "Rows", "Columns", "BitsStored")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Server]:
    """A server whose DICOMweb service Orthanc knows as `us`, with the study of all kinds."""
    folder = tmp_path_factory.mktemp("ours") / "archive"
    with Server(folder, workers=1, environment={"LEANPACS_HTTP__DELETING": "true"}) as server:
        orthanc.knows_web("us", f"{server.http}dicom-web/")
        client_of(server).store_instances([pydicom.dcmread(io.BytesIO(content)) for content in contents()])
        yield server


@pytest.fixture
def empty(orthanc: Orthanc) -> Orthanc:
    for name in orthanc.json("/studies"):
        orthanc.rest.delete(f"/studies/{name}").raise_for_status()
    return orthanc


def client_of(server: Server | Orthanc) -> DICOMwebClient:
    return DICOMwebClient(server.dicomweb if isinstance(server, Orthanc) else f"{server.http}dicom-web")


def files(data_sets: list[pydicom.Dataset]) -> list[bytes]:
    """Data sets as files."""
    found = []
    for ds in data_sets:
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        found.append(file.getvalue())
    return found


def call(orthanc: Orthanc, what: str, **body: Any) -> Any:
    """Let Orthanc's DICOMweb client ask us."""
    return orthanc.post(f"/dicom-web/servers/us/{what}", body)


def test_orthanc_stores_here_by_stow(ours: Server, empty: Orthanc) -> None:
    recipes = [data.Recipe(study=8, instance=number, modality="MR") for number in range(3)]
    recipes.append(data.Recipe(study=8, series=1, instance=9, modality="CR", transfer_syntax=data.JPEG_LS))
    for content in contents(recipes):
        empty.store(content)
    (study,) = empty.json("/studies")
    call(empty, "stow", Resources=[study], Synchronous=True)
    held = client_of(ours).retrieve_study(recipes[0].study_uid, media_types=(("application/dicom", "*"),))
    assert_same(files(held), samples(contents(recipes)))


def test_orthanc_searches_here_by_qido(ours: Server, orthanc: Orthanc) -> None:
    query = {"PatientName": "Doe*", "StudyInstanceUID": STUDY, "includefield": "PatientName"}
    (study,) = call(orthanc, "qido", Uri="/studies", Arguments=query)
    assert study["0020000D"]["Value"] == STUDY
    assert study["00100010"]["Value"] == "Doe^Jane"
    series = call(orthanc, "qido", Uri=f"/studies/{STUDY}/series", Arguments={"Modality": "CT"})
    assert [one["0020000E"]["Value"] for one in series] == [CT.series_uid]


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_orthanc_retrieves_from_here_by_wado(ours: Server, empty: Orthanc, level: str) -> None:
    resource = {"Study": STUDY}
    expected = list(RECIPES)
    if level != "study":
        resource["Series"], expected = CT.series_uid, [CT]
    if level == "instance":
        resource["Instance"] = CT.sop_uid
    call(empty, "retrieve", Resources=[resource], Synchronous=True)
    assert_same([empty.file(uid) for uid in empty.sop_uids()], samples(contents(expected)))


def test_orthanc_shows_what_we_answer(ours: Server, orthanc: Orthanc) -> None:
    """Its client passes our answers on as they are."""
    path = f"/studies/{STUDY}/series/{CT.series_uid}/instances/{CT.sop_uid}"
    told = call(orthanc, "get", Uri=f"{path}/metadata", HttpHeaders={"Accept": "application/dicom+json"})
    assert told == httpx.get(f"{ours.http}dicom-web{path}/metadata", timeout=60).json()


def test_what_orthanc_serves_goes_into_this_archive(ours: Server, empty: Orthanc) -> None:
    recipes = [data.Recipe(study=9, instance=number, series=number, modality="CT", signed=True) for number in (1, 2)]
    for content in contents(recipes):
        empty.store(content)
    theirs, here = client_of(empty), client_of(ours)
    here.store_instances(theirs.retrieve_study(recipes[0].study_uid))
    assert_same(files(here.retrieve_study(recipes[0].study_uid)), samples(contents(recipes)))
    tell_the_same(here, theirs, recipes[0].study_uid)


def test_what_we_serve_goes_into_orthanc(ours: Server, empty: Orthanc) -> None:
    theirs, here = client_of(empty), client_of(ours)
    theirs.store_instances(here.retrieve_study(STUDY))
    assert_same([empty.file(uid) for uid in empty.sop_uids()], samples(contents()))
    tell_the_same(here, theirs, STUDY)


def tell_the_same(one: DICOMwebClient, other: DICOMwebClient, study_uid: str) -> None:
    """Both servers say the same of a study, in metadata and in answers to searches."""

    def told(client: DICOMwebClient) -> dict[str, list[str]]:
        read = map(pydicom.Dataset.from_json, client.retrieve_study_metadata(study_uid))
        return {ds.SOPInstanceUID: [str(ds.get(keyword)) for keyword in COMPARED] for ds in read}

    def series(client: DICOMwebClient) -> dict[str, tuple[str, int]]:
        read = map(pydicom.Dataset.from_json, client.search_for_series(study_uid))
        return {ds.SeriesInstanceUID: (ds.Modality, ds.NumberOfSeriesRelatedInstances) for ds in read}

    assert told(one) == told(other)
    assert series(one) == series(other)


@pytest.mark.parametrize("recipe", IMAGES, ids=lambda recipe: recipe.modality)
def test_frames_by_dicomweb_client(ours: Server, recipe: data.Recipe) -> None:
    """Native frames, all and one by one."""
    client, uids = client_of(ours), (recipe.study_uid, recipe.series_uid, recipe.sop_uid)
    expected = read_elsewhere(contents([recipe])[0])
    assert expected is not None
    numbers = list(range(1, recipe.frames + 1))
    for found in (client.retrieve_instance_frames(*uids, numbers), [*client.iter_instance_frames(*uids, numbers)]):
        assert [frame[: expected[0].nbytes] for frame in found] == [
            frame.astype(frame.dtype.newbyteorder("<")).tobytes() for frame in expected
        ]


def test_pictures_by_dicomweb_client(ours: Server) -> None:
    client, uids = client_of(ours), (CT.study_uid, CT.series_uid, CT.sop_uid)
    jpeg, png = ("image/jpeg",), ("image/png",)
    assert client.retrieve_instance_rendered(*uids, media_types=jpeg)[:3] == b"\xff\xd8\xff"
    assert client.retrieve_instance_rendered(*uids, media_types=png, params={"viewport": "12,12"})[:4] == b"\x89PNG"
    assert client.retrieve_instance_frames_rendered(*uids, [1], media_types=jpeg)[:3] == b"\xff\xd8\xff"
    assert client.retrieve_series_rendered(*uids[:2], media_types=jpeg)


def test_everything_iterated_by_dicomweb_client(ours: Server) -> None:
    client = client_of(ours)
    assert_same(files([*client.iter_study(STUDY)]), samples(contents()))
    assert_same(files([*client.iter_series(STUDY, CINE.series_uid)]), samples(contents([CINE])))
    pixels = f"{client.base_url}/studies/{STUDY}/series/{CT.series_uid}/instances/{CT.sop_uid}/bulkdata/7FE00010"
    expected = data.native_pixels(CT)
    assert b"".join(client.iter_bulkdata(pixels)) == expected
    assert b"".join(client.retrieve_bulkdata(pixels)) == expected


def test_deleted_by_dicomweb_client(ours: Server) -> None:
    recipes = [data.Recipe(study=10, series=number // 2, instance=number, modality="OT") for number in range(5)]
    client, study = client_of(ours), recipes[0].study_uid
    client.store_instances([pydicom.dcmread(io.BytesIO(made(recipe))) for recipe in recipes])

    def left() -> int:
        return len(client.search_for_instances(study))

    deletions: list[tuple[Callable[[], None], int]] = [
        (lambda: client.delete_instance(study, recipes[0].series_uid, recipes[0].sop_uid), 4),
        (lambda: client.delete_series(study, recipes[2].series_uid), 2),
        (lambda: client.delete_study(study), 0),
    ]
    for delete, count in deletions:
        delete()
        assert left() == count


def test_image_keeps_its_samples_on_the_way_round(ours: Server, empty: Orthanc) -> None:
    """From us to Orthanc, changed there, back to us under another UID: equal."""
    call(empty, "retrieve", Resources=[{"Study": STUDY, "Series": CT.series_uid}], Synchronous=True)
    (name,) = empty.json("/instances")
    changed = {
        "Replace": {"SOPInstanceUID": data.uid("round"), "StudyInstanceUID": data.uid("round study")},
        "Force": True,
    }
    content = empty.rest.post(f"/instances/{name}/modify", json=changed).raise_for_status().content
    client_of(ours).store_instances([pydicom.dcmread(io.BytesIO(content))])
    back = client_of(ours).retrieve_study(data.uid("round study"))
    found, expected = read_elsewhere(files(back)[0]), read_elsewhere(contents([CT])[0])
    assert np.array_equal(found, expected)  # type: ignore[arg-type]
