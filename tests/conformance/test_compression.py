"""PS3.18 8.4 and RFC 9110, RFC 9842: how answers are compressed."""

from __future__ import annotations

import base64
import gzip
import hashlib

import brotli
import httpx
import orjson
import pytest
import zstandard

from conformance.conftest import CT, RECIPES, Door, instance, series, study
from data import make_instance
from unit.services.dicomweb_fakes import parts_of

MAGIC = b"\x5e\x2a\x4d\x18\x20\x00\x00\x00"
METADATA = (f"{instance(CT)}/metadata", f"{study(CT)}/metadata", f"{study(CT)}/series?includefield=all")


MULTIPART_XML = 'multipart/related; type="application/dicom+xml"'
DICOM_XML = "application/dicom+xml"


def _from_zstd(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)


def _plain(door: Door, path: str) -> bytes:
    return door.get(path, accept_encoding="identity").content


def _raw(door: Door, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its body as it travelled."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with door.http.stream("GET", door.root + path, headers=fields) as response:
        return response, b"".join(response.iter_raw())


@pytest.fixture(scope="module")
def dictionary(door: Door) -> bytes:
    """The dictionary, found as the RFC says: by the link of an answer."""
    link = door.get(METADATA[0], accept_encoding="dcz").headers["link"]
    url, _, relation = link.partition(">; ")
    assert relation == 'rel="compression-dictionary"'
    response = door.http.get(door.origin + url.removeprefix("<"))
    assert response.status_code == 200
    assert response.headers["use-as-dictionary"] == 'match="/dicom-web/*"'
    assert "max-age=31536000" in response.headers["cache-control"]
    return response.content


def _held(dictionary: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(dictionary).digest()).decode()
    return {"accept_encoding": "gzip, br, zstd, dcb, dcz", "available_dictionary": f":{digest}:"}


@pytest.mark.clause("8.4")
@pytest.mark.parametrize(
    ("coding", "decode"),
    [
        ("zstd", lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)),
        ("br", brotli.decompress),
        ("gzip", gzip.decompress),
    ],
)
@pytest.mark.parametrize("path", METADATA)
def test_json_is_compressed_as_the_client_takes_it(door: Door, path: str, coding: str, decode) -> None:
    response, body = _raw(door, path, accept_encoding=coding)
    assert response.headers["content-encoding"] == coding
    assert "accept-encoding" in response.headers["vary"].lower()
    assert decode(body) == _plain(door, path)


@pytest.mark.clause("8.4")
@pytest.mark.parametrize(("path", "accept"), [*((path, MULTIPART_XML) for path in METADATA), ("/studies", DICOM_XML)])
@pytest.mark.parametrize(
    ("takes", "coding"),
    [("gzip, br, zstd", "zstd"), ("gzip;q=0.5, zstd;q=0", "gzip"), ("*;q=0.1, zstd;q=0", "gzip"), ("br", None)],
)
def test_xml_in_several_parts_is_compressed_too(
    door: Door, path: str, accept: str, takes: str, coding: str | None
) -> None:
    response, body = _raw(door, path, accept=accept, accept_encoding=takes)
    assert response.headers.get("content-encoding") == coding
    assert "accept-encoding" in response.headers["vary"].lower()
    decode = {"zstd": _from_zstd, "gzip": gzip.decompress, None: bytes}[coding]
    fields = {"content-type": response.headers["content-type"]}
    plain = door.get(path, accept, accept_encoding="identity")
    assert [part.content for part in parts_of(httpx.Response(200, headers=fields, content=decode(body)))] == [
        part.content for part in parts_of(plain)
    ]
    if coding is not None:
        assert len(body) < len(plain.content) / 2
    if "content-length" in response.headers:
        assert int(response.headers["content-length"]) == len(body)


def test_xml_of_one_part_is_compressed_too(door: Door) -> None:
    response = door.http.options(f"{door.root}/", headers={"accept-encoding": "gzip"})
    assert response.headers["content-type"] == "application/vnd.sun.wadl+xml"
    assert response.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("path", METADATA)
def test_client_with_the_dictionary_gets_dcz(door: Door, dictionary: bytes, path: str) -> None:
    response, body = _raw(door, path, **_held(dictionary))
    assert response.headers["content-encoding"] == "dcz"
    assert {"accept-encoding", "available-dictionary"} <= set(response.headers["vary"].lower().split(", "))
    assert "link" not in response.headers
    assert response.headers.get("etag", "W/").startswith("W/")
    assert body[:8] == MAGIC
    assert body[8:40] == hashlib.sha256(dictionary).digest()
    raw = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    content = zstandard.ZstdDecompressor(dict_data=raw).decompressobj().decompress(body[40:])
    assert content == _plain(door, path)
    if "content-length" in response.headers:
        assert int(response.headers["content-length"]) == len(body)
    _, otherwise = _raw(door, path, accept_encoding="zstd")
    assert len(body) < len(otherwise)


@pytest.mark.parametrize(
    "changes",
    [
        {"available_dictionary": ":AAAA:"},
        {"available_dictionary": ""},
        {"accept_encoding": "gzip, br, zstd"},
        {"accept_encoding": "zstd, dcz;q=0"},
    ],
)
def test_client_without_it_gets_what_it_can_read(door: Door, dictionary: bytes, changes: dict[str, str]) -> None:
    response, _ = _raw(door, METADATA[0], **{**_held(dictionary), **changes})
    assert response.headers["content-encoding"] == "zstd"
    assert "available-dictionary" in response.headers["vary"].lower()


def test_nothing_but_json_is_encoded_with_the_dictionary(door: Door, dictionary: bytes) -> None:
    for path in (instance(CT), f"{instance(CT)}/frames/1", f"{instance(CT)}/rendered"):
        response, _ = _raw(door, path, **_held(dictionary))
        assert response.headers.get("content-encoding") in (None, "zstd")
    response, body = _raw(door, "/studies?PatientID=nobody", **_held(dictionary))
    assert response.status_code == 204
    assert body == b""
    response, body = _raw(door, "/studies?limit=x", **_held(dictionary))
    assert response.status_code == 400
    assert orjson.loads(body)["status"] == 400
    head = door.http.head(door.root + METADATA[0], headers={"accept-encoding": "dcz"})
    assert head.status_code == 200


@pytest.mark.clause("8.4")
def test_native_pixels_travel_compressed_and_code_streams_do_not(door: Door) -> None:
    response, body = _raw(door, f"{instance(CT)}/frames/1", accept="application/octet-stream", accept_encoding="zstd")
    assert response.headers["content-encoding"] == "zstd"
    plain = door.get(f"{instance(CT)}/frames/1", "application/octet-stream", accept_encoding="identity").content
    assert zstandard.ZstdDecompressor().decompressobj().decompress(body) == plain
    for path, accept in ((f"{instance(CT)}/frames/1", "image/jxl"), (f"{series(CT)}/rendered", "image/jpeg")):
        response, _ = _raw(door, path, accept=accept, accept_encoding="zstd")
        assert response.status_code == 200
        assert "content-encoding" not in response.headers


@pytest.mark.clause("8.4", "8.7.3")
def test_one_instance_in_any_syntax_travels_compressed_if_its_pixels_are_not(door: Door) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    response, body = _raw(door, instance(CT), accept=accept, accept_encoding="zstd")
    assert response.headers["content-encoding"] == "zstd"
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    assert len(body) < len(unpacked)
    (part,) = parts_of(
        httpx.Response(200, headers={"content-type": response.headers["content-type"]}, content=unpacked)
    )
    assert part.content == make_instance(CT)
    response, _ = _raw(door, instance(RECIPES[7]), accept=accept, accept_encoding="zstd")
    assert "content-encoding" not in response.headers  # it was received in HTJ2K
