"""DICOMweb: instances and frames in the form each receiver can read, over a real socket."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data import EXPLICIT_LE, HTJ2K, JPEG_BASELINE, JPEG_LS, Recipe, make_instance, native_pixels
from integration.test_dicomweb import DICOM, OCTETS, Served, _read, served
from leanpacs.codecs.registry import decode_received
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from unit.services.dicomweb_fakes import parts_of

__all__ = ["served"]

DEEP = Recipe(instance=1, frames=3, rows=64, columns=48)
STREAMS = Recipe(instance=2, frames=2, transfer_syntax=JPEG_LS)
COLOUR = Recipe(instance=3, samples=3, bits_allocated=8, bits_stored=8, planar=1)
REPORT = Recipe(instance=4, kind="none", modality="SR", private_bytes=5000)
MEDIA_TYPES = {
    "image/jpeg": uids.JPEG_LOSSLESS_SV1,
    "image/jls": uids.JPEG_LS_LOSSLESS,
    "image/jp2": uids.JPEG_2000_LOSSLESS,
    "image/jphc": uids.HTJ2K_LOSSLESS,
    "image/jxl": uids.JPEG_XL_LOSSLESS,
    "image/dicom-rle": uids.RLE,
}


def _spec(recipe: Recipe) -> FrameSpec:
    return FrameSpec(
        rows=recipe.rows,
        columns=recipe.columns,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        high_bit=11,
        pixel_representation=0,
        planar_configuration=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


def _frames(recipe: Recipe) -> list[bytes]:
    native = native_pixels(replace(recipe, transfer_syntax=EXPLICIT_LE))
    size = len(native) // recipe.frames
    return [native[at : at + size] for at in range(0, len(native), size)]


@pytest.mark.parametrize(("media_type", "syntax"), MEDIA_TYPES.items())
def test_frames_by_media_type(served: Served, media_type: str, syntax: str) -> None:
    """PS3.18 8.7.3.3: the media type alone asks for its default transfer syntax."""
    served.store([make_instance(DEEP)])
    response = served.get(served.row(DEEP), "/frames/3,1", f'multipart/related; type="{media_type}"')
    assert response.status_code == 200, response.text
    parts = parts_of(response)
    assert [part.fields["Content-Type"] for part in parts] == [f"{media_type}; transfer-syntax={syntax}"] * 2
    for part, expected in zip(parts, (_frames(DEEP)[2], _frames(DEEP)[0]), strict=True):
        assert decode_received(part.content, syntax, _spec(DEEP)).samples.tobytes() == expected
    alone = served.get(served.row(DEEP), "/frames/2", media_type)
    assert decode_received(alone.content, syntax, _spec(DEEP)).samples.tobytes() == _frames(DEEP)[1]


def test_accept_as_a_parameter_goes_first(served: Served) -> None:
    """PS3.18 8.3.3.1."""
    served.store([make_instance(DEEP)])
    response = served.get(served.row(DEEP), f"/frames/1?accept=image/jphc;transfer-syntax={HTJ2K}", OCTETS)
    assert response.headers["content-type"] == f"image/jphc; transfer-syntax={HTJ2K}"


def test_instances_in_the_syntax_that_is_named(served: Served) -> None:
    served.store([make_instance(recipe) for recipe in (DEEP, STREAMS, REPORT)])
    accept = f"{DICOM}; transfer-syntax={uids.JPEG_XL_LOSSLESS}"
    url = f"{served.url}/studies/{DEEP.study_uid}"
    found = {}
    for part in parts_of(served.http.get(url, headers={"accept": accept}, timeout=60)):
        ds = _read(part.content)
        found[ds.SOPInstanceUID] = part.fields["Content-Type"].split("=")[1]
        assert ds.file_meta.TransferSyntaxUID == found[ds.SOPInstanceUID]
    # What has no Pixel Data has nothing to compress.
    assert found == {
        DEEP.sop_uid: uids.JPEG_XL_LOSSLESS,
        STREAMS.sop_uid: uids.JPEG_XL_LOSSLESS,
        REPORT.sop_uid: EXPLICIT_LE,
    }


def test_lossy_syntaxes_are_refused_and_the_reason_is_told(served: Served) -> None:
    served.store([make_instance(DEEP)])
    for suffix, accept in (
        ("", f"application/dicom; transfer-syntax={JPEG_BASELINE}"),
        ("/frames/1", f"image/jpeg; transfer-syntax={JPEG_BASELINE}"),
    ):
        response = served.get(served.row(DEEP), suffix, accept)
        assert response.status_code == 406
        assert "loss" in response.json()["detail"]


def test_ranges_of_single_parts(served: Served) -> None:
    """RFC 9110 14: the bytes of a range, what a wrong one is answered with, and validators."""
    served.store([make_instance(recipe) for recipe in (DEEP, REPORT)])
    report = served.http.get(_url(served, REPORT) + "/bulkdata/00291010", headers={"accept": "*/*"})
    for path, accept in (
        (_url(served, DEEP) + "/frames/2", "application/octet-stream"),
        (_url(served, DEEP) + "/bulkdata/7FE00010", "application/octet-stream"),
        (_url(served, DEEP), f"application/dicom; transfer-syntax={EXPLICIT_LE}"),
        (_url(served, REPORT) + "/bulkdata/00291010", "application/octet-stream"),
    ):
        whole = served.http.get(path, headers={"accept": accept, "accept-encoding": "identity"})
        assert whole.status_code == 200, whole.text
        assert whole.headers["accept-ranges"] == "bytes"
        length = len(whole.content)
        for text, part in (
            ("bytes=0-0", slice(0, 1)),
            ("bytes=10-99", slice(10, 100)),
            ("bytes=100-", slice(100, None)),
            ("bytes=-7", slice(-7, None)),
            (f"bytes=5-{length * 2}", slice(5, None)),
        ):
            found = served.http.get(path, headers={"accept": accept, "range": text, "if-range": whole.headers["etag"]})
            assert found.status_code == 206
            assert found.content == whole.content[part]
            start, stop, _ = part.indices(length)
            assert found.headers["content-range"] == f"bytes {start}-{stop - 1}/{length}"
        gone = served.http.get(path, headers={"accept": accept, "range": f"bytes={length}-"})
        assert gone.status_code == 416
        assert gone.headers["content-range"] == f"bytes */{length}"
        other = served.http.get(path, headers={"accept": accept, "range": "bytes=0-0", "if-range": '"other"'})
        assert (other.status_code, len(other.content)) == (200, length)
        known = served.http.get(path, headers={"accept": accept, "if-none-match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        head = served.http.head(path, headers={"accept": accept, "accept-encoding": "identity"})
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
    assert report.status_code == 200
    # Who asks for a range and would take anything gets a single part, which has ranges.
    anything = served.http.get(_url(served, DEEP) + "/frames/1", headers={"range": "bytes=0-9"})
    assert (anything.status_code, len(anything.content)) == (206, 10)


def _url(served: Served, recipe: Recipe) -> str:
    return f"{served.url}/studies/{recipe.study_uid}/series/{recipe.series_uid}/instances/{recipe.sop_uid}"


def test_colour_by_planes_comes_by_pixel_in_code_streams(served: Served) -> None:
    served.store([make_instance(COLOUR)])
    native = np.frombuffer(native_pixels(COLOUR), np.uint8).reshape(3, COLOUR.rows, COLOUR.columns)
    stream = served.get(served.row(COLOUR), "/frames/1", "image/jls").content
    spec = replace(_spec(COLOUR), samples_per_pixel=3, bits_allocated=8, bits_stored=8, high_bit=7)
    samples = decode_received(stream, uids.JPEG_LS_LOSSLESS, replace(spec, photometric_interpretation="RGB")).samples
    assert np.array_equal(samples, np.moveaxis(native, 0, -1))


def test_one_instance_for_who_takes_any_syntax_is_as_it_was_received(served: Served) -> None:
    recipe = Recipe(rows=300, columns=300, frames=2)
    assert served.store([make_instance(recipe)]).status_code == 200
    served.archive.settler().drain()
    (part,) = parts_of(served.get(served.row(recipe), "", f"{DICOM}; transfer-syntax=*"))
    assert part.content == make_instance(recipe)
