"""PS3.18 10.4.1.1.5 and 10.4.1.1.7: bulk data and pixels of whole studies, series and instances; videos."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import JPEG_BASELINE, JPEG_LS, Recipe, make_data_set, make_samples, native_pixels
from unit.services.dicomweb_fakes import parts_of

OCTETS = 'multipart/related; type="application/octet-stream"'
BE, REPORT, CINE, US = RECIPES[2], RECIPES[3], RECIPES[4], RECIPES[6]
MP4 = "1.2.840.10008.1.2.4.102"
VIDEO = Recipe(study=50, modality="ES", rows=8, columns=8, samples=3, bits_allocated=8, bits_stored=8, frames=25)
STREAM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40


@pytest.mark.clause("10.4.1.1.7")
def test_pixels_come_frame_by_frame(door: Door) -> None:
    response = door.get(f"{series(CINE)}/pixeldata", OCTETS)
    assert response.headers["content-type"].startswith('multipart/related; type="application/octet-stream"')
    parts = parts_of(response)
    assert [part.content for part in parts] == [frame.tobytes() for frame in make_samples(CINE).astype("<u2")]
    assert [part.fields["Content-Location"] for part in parts] == [
        f"{door.root}{instance(CINE)}/frames/{number}" for number in range(1, 5)
    ]
    (part, *_) = parts_of(door.get(f"{instance(CINE)}/pixeldata", 'multipart/related; type="image/jls"'))
    assert part.fields["Content-Type"] == f"image/jls; transfer-syntax={JPEG_LS}"
    located = {part.fields["Content-Location"] for part in parts_of(door.get(f"{study(CT)}/pixeldata"))}
    assert len(located) == 3


@pytest.mark.clause("10.4.1.1.5", "10.4.3.3.5")
def test_bulk_data_are_all_that_the_metadata_refer_to(door: Door) -> None:
    parts = {part.fields["Content-Location"]: part.content for part in parts_of(door.get(f"{study(CT)}/bulkdata"))}
    private = make_data_set(REPORT)[0x0029, 0x1010].value
    assert parts[f"{door.root}{instance(REPORT)}/bulkdata/00291010"] == private
    assert parts[f"{door.root}{instance(CT)}/frames/1"] == native_pixels(CT)
    assert parts[f"{door.root}{instance(BE)}/frames/1"] == make_samples(BE)[0].astype("<u2").tobytes()
    assert len(parts) == 4


@pytest.mark.clause("10.4.4")
def test_what_cannot_be_had_so_is_refused(door: Door) -> None:
    assert door.get(f"{study(CT)}/bulkdata", "application/octet-stream").status_code == 406
    assert door.get(f"{instance(REPORT)}/pixeldata").status_code == 404
    (part,) = parts_of(door.get(f"{instance(US)}/pixeldata"))  # lossy: it is not decoded for who asks for nothing
    assert part.fields["Content-Type"].endswith(JPEG_BASELINE)


@pytest.fixture(scope="module")
def video(door: Door) -> str:
    """Path of a stored video: one stream in fragments, many frames."""
    ds = make_data_set(VIDEO)
    ds.PhotometricInterpretation = "YBR_PARTIAL_420"
    value = encapsulate([STREAM], fragments_per_frame=3, has_bot=False)
    ds.add_new(0x7FE00010, "OB", value)
    ds["PixelData"].is_undefined_length = True
    assert door.store([_file(ds)]).status_code == 200
    return instance(VIDEO)


def _file(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = MP4
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.clause("8.7.3.3", "10.4.1.1.5")
def test_video_comes_as_it_is_also_in_ranges(door: Door, video: str) -> None:
    path = f"{video}/bulkdata/7FE00010"
    response = door.get(path, "video/mp4")
    assert response.headers["content-type"] == f"video/mp4; transfer-syntax={MP4}"
    assert response.content == STREAM
    part = door.get(path, "video/mp4", range="bytes=4-11")
    assert (part.status_code, part.content) == (206, b"ftypmp42")
    assert part.headers["content-range"] == f"bytes 4-11/{len(STREAM)}"
    (part,) = parts_of(door.get(path, 'multipart/related; type="video/mp4"'))
    assert part.content == STREAM
    (part,) = parts_of(door.get(f"{study(VIDEO)}/pixeldata", 'multipart/related; type="video/*"; transfer-syntax=*'))
    assert part.content == STREAM
    assert door.get(path, "image/png").status_code == 406


@pytest.mark.clause("10.4.1.1.3", "8.7.4")
def test_video_is_rendered_as_what_browsers_play(door: Door, video: str) -> None:
    response = door.get(f"{video}/rendered", "video/mp4")
    assert response.headers["content-type"].startswith("video/mp4")
    assert response.content == STREAM
    assert response.headers["accept-ranges"] == "bytes"
    assert door.get(f"{video}/frames/1", "image/jpeg").status_code == 406
