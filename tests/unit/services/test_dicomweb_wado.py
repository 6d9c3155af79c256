from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pydicom
import pytest

from data import IMPLICIT_LE, Recipe, make_instance
from leanpacs.errors import BlobCorrupt, DecodeError, EncapsulationError
from leanpacs.services.dicomweb.forms import frame_forms, instance_form
from leanpacs.services.dicomweb.media import parse_accept
from unit.services.dicomweb_fakes import (
    EXPLICIT_LE,
    JPEG_BASELINE,
    JPEG_LS,
    MPEG4,
    Client,
    FakeArchive,
    parts_of,
)

DICOM = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_XL = "1.2.840.10008.1.2.4.110"
EXPLICIT_BE = "1.2.840.10008.1.2.2"


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


@pytest.fixture
def client(archive: FakeArchive) -> Client:
    return Client(archive)


def _url(row) -> str:
    return f"/studies/{row.study_uid}/series/{row.series_uid}/instances/{row.sop_uid}"


@pytest.mark.parametrize(
    ("received", "accept", "syntax", "multipart"),
    [
        (EXPLICIT_LE, "*/*", EXPLICIT_LE, True),
        (IMPLICIT_LE, "*/*", EXPLICIT_LE, True),
        (IMPLICIT_LE, f"{DICOM}; transfer-syntax=*", EXPLICIT_LE, True),
        (EXPLICIT_BE, f"{DICOM}; transfer-syntax=*", EXPLICIT_LE, True),
        (IMPLICIT_LE, f"{DICOM}; transfer-syntax={IMPLICIT_LE}", IMPLICIT_LE, True),
        (JPEG_LS, DICOM, EXPLICIT_LE, True),
        (JPEG_LS, f"{DICOM}; transfer-syntax=*", JPEG_LS, True),
        (JPEG_LS, f"{DICOM}; transfer-syntax={JPEG_BASELINE}, {DICOM}", EXPLICIT_LE, True),
        (JPEG_LS, f"{DICOM}, {DICOM}; transfer-syntax={JPEG_LS}", JPEG_LS, True),
        (JPEG_LS, f"{DICOM}, {DICOM}; transfer-syntax={JPEG_LS}; q=0.9", EXPLICIT_LE, True),
        (JPEG_BASELINE, DICOM, JPEG_BASELINE, True),
        (JPEG_BASELINE, f"{DICOM}; transfer-syntax={EXPLICIT_LE}", EXPLICIT_LE, True),
        (MPEG4, "application/dicom", MPEG4, False),
        (EXPLICIT_LE, "application/*", EXPLICIT_LE, False),
        (EXPLICIT_LE, f"application/dicom;q=0.5, {DICOM};q=0.4", EXPLICIT_LE, False),
    ],
)
def test_form_of_an_instance(received: str, accept: str, syntax: str, multipart: bool) -> None:
    form = instance_form(received, parse_accept(accept), alone=True)
    assert form is not None
    assert (form.transfer_syntax, form.multipart) == (syntax, multipart)


@pytest.mark.parametrize(
    ("received", "accept"),
    [
        (EXPLICIT_LE, "text/html"),
        (EXPLICIT_LE, f"{DICOM}; transfer-syntax={JPEG_BASELINE}"),
        (MPEG4, f"{DICOM}; transfer-syntax={EXPLICIT_LE}"),
    ],
)
def test_no_form_of_an_instance(received: str, accept: str) -> None:
    assert instance_form(received, parse_accept(accept), alone=True) is None


@pytest.mark.parametrize("accept", ["image/*", 'multipart/related; type="image/*"'])
def test_who_takes_any_image_gets_native_frames_as_one(accept: str) -> None:
    found = {form.media_type: form.transfer_syntax for form in frame_forms(EXPLICIT_LE, parse_accept(accept))}
    assert found["image/jls"] == JPEG_LS
    assert found["image/jxl"] == JPEG_XL
    refused = frame_forms(EXPLICIT_LE, parse_accept(f"image/jls;q=0, {accept}"))
    assert {form.media_type for form in refused} == found.keys() - {"image/jls"}


@pytest.mark.parametrize(
    ("received", "accept", "forms"),
    [
        (EXPLICIT_LE, "*/*", [("application/octet-stream", EXPLICIT_LE)]),
        (IMPLICIT_LE, f"{OCTETS}; transfer-syntax=*", [("application/octet-stream", EXPLICIT_LE)]),
        (JPEG_LS, "*/*", [("application/octet-stream", EXPLICIT_LE)]),
        (JPEG_BASELINE, "*/*", [("image/jpeg", JPEG_BASELINE)]),
        (JPEG_BASELINE, OCTETS, [("application/octet-stream", EXPLICIT_LE)]),
        (JPEG_LS, f"{OCTETS}; transfer-syntax=*", [("application/octet-stream", JPEG_LS)]),
        (JPEG_LS, "*/*; transfer-syntax=*", [("image/jls", JPEG_LS)]),
        (JPEG_LS, 'multipart/related; type="image/*"', [("image/jls", JPEG_LS)]),
        (
            JPEG_BASELINE,
            "multipart/related; type=image/jpeg",
            [("image/jpeg", JPEG_BASELINE), ("image/jpeg", JPEG_LOSSLESS)],
        ),
        (JPEG_LS, f"image/jls, {OCTETS};q=0.5", [("image/jls", JPEG_LS), ("application/octet-stream", EXPLICIT_LE)]),
        (JPEG_LS, f"{OCTETS}, image/jls", [("image/jls", JPEG_LS), ("application/octet-stream", EXPLICIT_LE)]),
        (EXPLICIT_LE, "multipart/related; type=image/jxl", [("image/jxl", JPEG_XL)]),
        (EXPLICIT_LE, "multipart/related; type=video/mp4", []),
        (JPEG_BASELINE, "image/jls;q=0, image/*", [("image/jpeg", JPEG_BASELINE)]),
    ],
)
def test_forms_of_frames(received: str, accept: str, forms: list[tuple[str, str]]) -> None:
    found = frame_forms(received, parse_accept(accept))
    assert [(form.media_type, form.transfer_syntax) for form in found] == forms


def test_study_comes_in_parts(archive: FakeArchive, client: Client) -> None:
    rows = [archive.hold(Recipe(instance=n, transfer_syntax=IMPLICIT_LE)) for n in range(3)]
    response = client.get(f"/studies/{rows[0].study_uid}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(DICOM)
    for part, row in zip(parts_of(response), rows, strict=True):
        assert part.fields["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT_LE}"
        assert part.fields["Content-Location"] == f"http://archive.test/dicom-web{_url(row)}"
        assert part.content == archive.retriever.native[row.sop_uid]
    assert sorted(archive.retriever.closed) == sorted(row.sop_uid for row in rows)


def test_series_as_received(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(), transfer_syntax=JPEG_LS)
    archive.hold(Recipe(series=2))
    response = client.get(f"/studies/{row.study_uid}/series/{row.series_uid}", accept=f"{DICOM}; transfer-syntax=*")
    (part,) = parts_of(response)
    assert part.content == archive.retriever.files[row.sop_uid]
    assert part.fields["Content-Type"] == f"application/dicom; transfer-syntax={JPEG_LS}"


def test_one_instance_has_a_length(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    multi = client.get(_url(row), accept_encoding="identity")
    assert int(multi.headers["content-length"]) == len(multi.content)
    single = client.get(_url(row), accept="application/dicom", accept_encoding="identity")
    assert single.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT_LE}"
    assert single.content == archive.retriever.files[row.sop_uid]
    assert int(single.headers["content-length"]) == len(single.content)


def test_several_instances_do_not_fit_a_single_part(archive: FakeArchive, client: Client) -> None:
    rows = [archive.hold(Recipe(instance=n)) for n in range(2)]
    assert client.get(f"/studies/{rows[0].study_uid}", accept="application/dicom").status_code == 406
    both = f"application/dicom, {DICOM};q=0.1"
    assert len(parts_of(client.get(f"/studies/{rows[0].study_uid}", accept=both))) == 2


def test_what_cannot_be_had_in_the_wanted_syntax_is_left_out_and_said(archive: FakeArchive, client: Client) -> None:
    archive.hold(Recipe(instance=1))
    archive.hold(Recipe(instance=2), transfer_syntax=MPEG4)
    response = client.get(f"/studies/{Recipe().study_uid}", accept=f"{DICOM}; transfer-syntax={EXPLICIT_LE}")
    assert response.status_code == 206
    assert len(parts_of(response)) == 1
    response = client.get(f"/studies/{Recipe().study_uid}", accept=f"{DICOM}; transfer-syntax={JPEG_BASELINE}")
    assert response.status_code == 406
    assert MPEG4 in response.json()["detail"]


def test_damaged_instance_comes_as_it_was_received(archive: FakeArchive, client: Client) -> None:
    archive.hold(Recipe(instance=1))
    damaged = archive.hold(Recipe(instance=2), transfer_syntax=JPEG_LS)
    archive.retriever.broken[damaged.sop_uid] = EncapsulationError("fragments do not fit the frames")
    response = client.get(f"/studies/{damaged.study_uid}")
    assert response.status_code == 200
    parts = parts_of(response)
    assert parts[1].fields["Content-Type"].endswith(JPEG_LS)
    assert parts[1].content == archive.retriever.files[damaged.sop_uid]


def test_damaged_instance_is_not_passed_for_what_was_named(archive: FakeArchive, client: Client) -> None:
    damaged = archive.hold(Recipe(), transfer_syntax=JPEG_LS)
    archive.retriever.broken[damaged.sop_uid] = EncapsulationError("fragments do not fit the frames")
    for form in (DICOM, "application/dicom"):
        response = client.get(_url(damaged), accept=f"{form}; transfer-syntax={EXPLICIT_LE}")
        assert response.status_code == 406
        assert "fragments do not fit the frames" in response.json()["detail"]
        assert client.get(_url(damaged), accept=form).status_code == 200


@pytest.mark.parametrize(("received", "status"), [(JPEG_LS, 406), (EXPLICIT_LE, 500)])
def test_frame_that_does_not_decode(archive: FakeArchive, client: Client, received: str, status: int) -> None:
    damaged = archive.hold(Recipe(), transfer_syntax=received)
    archive.retriever.broken[damaged.sop_uid] = DecodeError("jpegls", "it ends too early")
    response = client.get(f"{_url(damaged)}/frames/1", accept=OCTETS)
    assert response.status_code == status
    assert "ends too early" in response.json()["detail"]


def test_corrupt_blob_is_an_error_and_not_a_short_answer(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(), transfer_syntax=JPEG_LS)
    archive.retriever.broken[row.sop_uid] = BlobCorrupt("abc", "digest differs")
    response = client.get(_url(row))
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1", "/bulkdata/7FE00010"])
def test_unknown_instances_are_not_found(client: Client, suffix: str) -> None:
    response = client.get(f"/studies/1.2/series/1.3/instances/1.4{suffix}")
    assert response.status_code == 404
    assert response.json()["detail"] == "1.4 is not in this archive"


def test_metadata_is_a_list_of_json_objects(archive: FakeArchive, client: Client) -> None:
    rows = [archive.hold(Recipe(instance=n)) for n in range(3)]
    for url in (f"/studies/{rows[0].study_uid}", f"/studies/{rows[0].study_uid}/series/{rows[0].series_uid}"):
        response = client.get(f"{url}/metadata")
        assert response.headers["content-type"] == "application/dicom+json"
        assert [found["00080018"]["Value"][0] for found in response.json()] == [row.sop_uid for row in rows]
    (found,) = client.get(f"{_url(rows[0])}/metadata").json()
    assert found["7FE00010"]["BulkDataURI"] == f"http://archive.test/dicom-web{_url(rows[0])}/bulkdata/7FE00010"


def test_metadata_as_xml(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    response = client.get(f"{_url(row)}/metadata", accept="multipart/related; type=application/dicom+xml")
    (part,) = parts_of(response)
    root = ElementTree.fromstring(part.content)
    bulk = root.find(".//{*}DicomAttribute[@tag='7FE00010']/{*}BulkData")
    assert bulk is not None
    assert bulk.attrib["uri"].endswith("/bulkdata/7FE00010")
    assert root.find(".//{*}DicomAttribute[@keyword='RequestAttributesSequence']/{*}Item[@number='1']") is not None


def test_one_unreadable_head_does_not_hide_the_others(archive: FakeArchive, client: Client) -> None:
    archive.hold(Recipe(instance=1))
    damaged = archive.hold(Recipe(instance=2))
    archive.retriever.broken[damaged.sop_uid] = EncapsulationError("no")
    found = client.get(f"/studies/{damaged.study_uid}/metadata").json()
    assert found[1] == {
        "00080016": {"vr": "UI", "Value": [damaged.sop_class]},
        "00080018": {"vr": "UI", "Value": [damaged.sop_uid]},
        "0020000D": {"vr": "UI", "Value": [damaged.study_uid]},
        "0020000E": {"vr": "UI", "Value": [damaged.series_uid]},
    }
    assert client.get(f"{_url(damaged)}/metadata").status_code == 406


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
def test_what_the_client_has_is_not_sent_again(archive: FakeArchive, client: Client, suffix: str) -> None:
    row = archive.hold(Recipe())
    first = client.get(_url(row) + suffix)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(_url(row) + suffix, if_none_match=f'"other", {etag}')
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == etag
    assert client.get(_url(row) + suffix, if_none_match='"other"').status_code == 200
    assert client.get(_url(row) + suffix, if_none_match="*").status_code == 304


def test_other_forms_have_other_tags(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(), transfer_syntax=JPEG_LS)
    accepts = (DICOM, f"{DICOM}; transfer-syntax=*", "application/dicom")
    tags = {client.get(_url(row), accept=accept).headers["etag"] for accept in accepts}
    assert len(tags) == 3
    before = client.get(f"/studies/{row.study_uid}/metadata").headers["etag"]
    archive.hold(Recipe(instance=9))
    assert client.get(f"/studies/{row.study_uid}/metadata").headers["etag"] != before


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1", "/bulkdata/00291010"])
def test_head_answers_like_get_without_the_body(archive: FakeArchive, client: Client, suffix: str) -> None:
    row = archive.hold(Recipe())
    url = f"/dicom-web{_url(row)}{suffix}"
    head, get = client.request("HEAD", url), client.request("GET", url)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["etag"] == get.headers["etag"]
    boundless = [h.headers["content-type"].split("boundary")[0] for h in (head, get)]
    assert boundless[0] == boundless[1]


def test_frames_in_the_order_asked_for(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(frames=3))
    parts = parts_of(client.get(f"{_url(row)}/frames/3,1"))
    native = archive.retriever.held_frames[row.sop_uid, EXPLICIT_LE]
    assert [part.content for part in parts] == [native[2], native[0]]
    assert parts[0].fields["Content-Type"] == f"application/octet-stream; transfer-syntax={EXPLICIT_LE}"
    assert parts[0].fields["Content-Location"].endswith("/frames/3")
    assert [part.content for part in parts_of(client.get(f"{_url(row)}/frames/1%2C2"))] == native[:2]


def test_received_code_streams_on_request(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(frames=2), transfer_syntax=JPEG_LS)
    coded = archive.retriever.held_frames[row.sop_uid, JPEG_LS]
    response = client.get(f"{_url(row)}/frames/1,2", accept='multipart/related; type="image/jls"')
    assert response.headers["content-type"].startswith('multipart/related; type="image/jls"')
    assert [part.content for part in parts_of(response)] == coded
    single = client.get(f"{_url(row)}/frames/2", accept="image/jls")
    assert single.headers["content-type"] == f"image/jls; transfer-syntax={JPEG_LS}"
    assert single.content == coded[1]


def test_single_part_holds_one_frame_only(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(frames=2))
    assert client.get(f"{_url(row)}/frames/1,2", accept="application/octet-stream").status_code == 406


def test_next_best_form_when_the_best_is_not_at_hand(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    response = client.get(f"{_url(row)}/frames/1", accept=f"image/jxl, {OCTETS};q=0.1")
    assert response.headers["content-type"].startswith(OCTETS)
    assert client.get(f"{_url(row)}/frames/1", accept="image/jxl").status_code == 406


@pytest.mark.parametrize("frames", ["0", "a", "1,,2", "-1", "1;2", "1," * 20_000 + "1", "9999999999", "٣"])
def test_bad_frame_lists(archive: FakeArchive, client: Client, frames: str) -> None:
    row = archive.hold(Recipe())
    assert client.get(f"{_url(row)}/frames/{frames}").status_code == 400


def test_frames_that_are_not_there(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(frames=2))
    response = client.get(f"{_url(row)}/frames/1,3")
    assert response.status_code == 404
    assert "the instance has 2" in response.json()["detail"]
    report = archive.hold(Recipe(modality="SR", kind="none", instance=7))
    assert client.get(f"{_url(report)}/frames/1").status_code == 404


def test_pixel_data_as_one_value_or_frame_by_frame(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(frames=3), transfer_syntax=JPEG_LS)
    native = archive.retriever.held_frames[row.sop_uid, EXPLICIT_LE]
    coded = archive.retriever.held_frames[row.sop_uid, JPEG_LS]
    url = f"{_url(row)}/bulkdata/7FE00010"
    (part,) = parts_of(client.get(url))
    assert part.content == b"".join(native)
    assert client.get(url, accept="application/octet-stream").content == b"".join(native)
    received = client.get(url, accept='multipart/related; type="image/jls"')
    assert [part.content for part in parts_of(received)] == coded


def test_other_values_by_path(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    (part,) = parts_of(client.get(f"{_url(row)}/bulkdata/00291010"))
    assert part.content == b"private value"
    assert client.get(f"{_url(row)}/bulkdata/00291010", accept="*/*").status_code == 200
    assert client.get(f"{_url(row)}/bulkdata/00291010", accept="image/jpeg").status_code == 406
    for path in ("00291011", "../../secret", "nonsense", "00291010/1", "%00"):
        assert client.get(f"{_url(row)}/bulkdata/{path}").status_code in (400, 404)


def test_native_pixels_are_compressed_for_those_who_take_zstd(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    stream = archive.hold(Recipe(instance=1), transfer_syntax=JPEG_LS)
    assert client.get(f"{_url(row)}/metadata", accept_encoding="zstd").headers["content-encoding"] == "zstd"
    assert client.get(f"{_url(row)}/metadata", accept_encoding="br").headers["content-encoding"] == "br"
    for url in (_url(row), f"{_url(row)}/frames/1"):
        for accept in ("*/*", "application/dicom, application/octet-stream"):
            plain = client.get(url, accept=accept, accept_encoding="gzip, zstd;q=0")
            assert "content-encoding" not in plain.headers
            coded = client.get(url, accept=accept, accept_encoding="gzip, zstd")
            assert coded.headers["content-encoding"] == "zstd"
            assert coded.headers["etag"].startswith("W/")
            assert "Accept-Encoding" in coded.headers["vary"]
            if "multipart" not in coded.headers["content-type"]:
                assert coded.content == plain.content
            assert "content-encoding" not in client.get(url, accept=accept, range="bytes=0-9").headers
    for accept in ("image/jls", 'multipart/related; type="application/dicom"; transfer-syntax=*'):
        url = f"{_url(stream)}/frames/1" if accept.startswith("image") else _url(stream)
        assert "content-encoding" not in client.get(url, accept=accept, accept_encoding="zstd, gzip, br").headers


def test_metadata_of_several_are_ready_made_and_follow_what_arrives(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe(instance=1))
    archive.hold(Recipe(instance=2))
    url = f"/studies/{row.study_uid}/metadata"
    coded = client.get(url, accept_encoding="zstd")
    assert coded.headers["content-encoding"] == "zstd"
    plain = client.get(url, accept_encoding="identity")
    assert "content-encoding" not in plain.headers
    assert plain.json() == coded.json()
    assert client.get(url, if_none_match=coded.headers["etag"]).status_code == 304
    archive.hold(Recipe(instance=3))
    assert len(client.get(url, if_none_match=coded.headers["etag"]).json()) == 3


def test_part_10_files_read_back(archive: FakeArchive, client: Client) -> None:
    row = archive.hold(Recipe())
    (part,) = parts_of(client.get(_url(row)))
    ds = pydicom.dcmread(io.BytesIO(part.content))
    assert ds.SOPInstanceUID == row.sop_uid
    assert part.content == make_instance(Recipe())


def test_public_url_replaces_the_host(archive: FakeArchive) -> None:
    from leanpacs.services.dicomweb.app import DicomWebOptions
    from leanpacs.services.http import HttpOptions

    row = archive.hold(Recipe())
    client = Client(archive, HttpOptions(dicomweb=DicomWebOptions("/dw", "https://pacs.example/")))
    response = client.request("GET", f"/dw{_url(row)}/metadata")
    uri = orjson.loads(response.content)[0]["7FE00010"]["BulkDataURI"]
    assert uri == f"https://pacs.example/dw{_url(row)}/bulkdata/7FE00010"


def test_all_frames_go_on_in_the_next_form_from_one_that_cannot_be_had_in_the_best(
    archive: FakeArchive, client: Client
) -> None:
    row = replace(archive.hold(Recipe(), transfer_syntax=JPEG_LS), rows=4, columns=4, number_of_frames=3)
    archive.catalog.rows = [row]
    archive.retriever.held_frames[row.sop_uid, EXPLICIT_LE] = [b"native 1", DecodeError("jpegls", "frame 2")]
    archive.retriever.held_frames[row.sop_uid, JPEG_LS] = [b"stream 1", b"stream 2", b"stream 3"]
    jls = f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS}; q=0.5'
    answer = client.get(f"{_url(row)}/pixeldata", Accept=f"{OCTETS}, {jls}")
    assert answer.status_code == 200, answer.text
    found = parts_of(answer)
    assert [part.content for part in found] == [b"native 1", b"stream 2", b"stream 3"]
