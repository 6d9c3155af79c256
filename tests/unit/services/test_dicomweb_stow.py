from __future__ import annotations

import resource
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Recipe, make_instance
from leanpacs.archive.intake.incoming import Outcome
from leanpacs.errors import CatalogUnavailable, RefusedByPolicy, StoreFull, StoreUnavailable
from leanpacs.services.dicomweb.app import DicomWebOptions
from leanpacs.services.dicomweb.receive import BrokenBody, MultipartReceiver
from leanpacs.services.http import HttpOptions
from unit.services.dicomweb_fakes import Client, FakeArchive, multipart

ONE, TWO = make_instance(Recipe(instance=1)), make_instance(Recipe(instance=2))


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


@pytest.fixture
def client(archive: FakeArchive) -> Client:
    return Client(archive)


def _items(response, tag: str) -> list[dict]:
    return response.json()[tag]["Value"]


def test_instances_are_landed_as_they_came(archive: FakeArchive, client: Client) -> None:
    response = client.store([ONE, TWO])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"
    assert archive.landed == [ONE, TWO]
    assert archive.batches == [2]
    assert [(i.sender, i.door, i.name) for i in archive.incoming] == [
        ("192.0.2.7", "stow", "part 1"),
        ("192.0.2.7", "stow", "part 2"),
    ]
    recipe = Recipe(instance=1)
    base = f"http://archive.test/dicom-web/studies/{recipe.study_uid}"
    assert response.json()["00081190"] == {"vr": "UR", "Value": [base]}
    assert _items(response, "00081199")[0] == {
        "00081150": {"vr": "UI", "Value": [recipe.sop_class]},
        "00081155": {"vr": "UI", "Value": [recipe.sop_uid]},
        "00081190": {
            "vr": "UR",
            "Value": [f"{base}/series/{recipe.series_uid}/instances/{recipe.sop_uid}"],
        },
    }
    assert "00081198" not in response.json()
    assert "warning" not in response.headers


def test_nothing_stays_in_the_spool(archive: FakeArchive, client: Client) -> None:
    client.store([ONE, b"", b"not DICOM", TWO])
    archive.failure = StoreUnavailable("away")
    client.store([ONE])
    assert list(archive.spool_folder.iterdir()) == []


def test_one_instance_may_come_as_it_is(archive: FakeArchive, client: Client) -> None:
    response = client.request("POST", "/dicom-web/studies", content=ONE, headers={"content-type": "application/dicom"})
    assert response.status_code == 200
    assert archive.landed == [ONE]


def test_many_parts_are_landed_in_batches(archive: FakeArchive, client: Client) -> None:
    response = client.store([make_instance(Recipe(instance=n)) for n in range(70)])
    assert response.status_code == 200
    assert len(_items(response, "00081199")) == 70
    assert sum(archive.batches) == 70
    assert max(archive.batches) < 70


def test_instances_of_several_studies_have_no_common_url(client: Client) -> None:
    response = client.store([ONE, make_instance(Recipe(study=5))])
    assert response.status_code == 200
    assert "00081190" not in response.json()


def test_what_is_not_dicom_is_reported_and_the_others_are_stored(archive: FakeArchive, client: Client) -> None:
    response = client.store([ONE, b"not DICOM", TWO])
    assert response.status_code == 202
    assert len(_items(response, "00081199")) == 2
    assert _items(response, "0008119A") == [{"00081197": {"vr": "US", "Value": [0xC000]}}]
    assert "part 2: it does not read as DICOM" in response.headers["warning"]
    assert archive.landed == [ONE, b"not DICOM", TWO]


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (Outcome.DUPLICATE, 200, None),
        (Outcome.REPLACED, 202, None),
        (Outcome.KEPT_BOTH, 202, None),
        (Outcome.REFUSED, 409, 0x0111),
    ],
)
def test_other_bytes_under_a_uid(
    archive: FakeArchive, client: Client, outcome: Outcome, status: int, reason: int | None
) -> None:
    archive.outcome, archive.reason = outcome, "other bytes are held"
    response = client.store([ONE])
    assert response.status_code == status
    if reason is None:
        warned = _items(response, "00081199")[0].get("00081196")
        assert warned == (None if status == 200 else {"vr": "US", "Value": [0xB007]})
    else:
        assert _items(response, "00081198")[0]["00081197"]["Value"] == [reason]
        assert _items(response, "00081198")[0]["00081155"]["Value"] == [Recipe(instance=1).sop_uid]


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (StoreFull("no room"), 507, 0xA700),
        (StoreUnavailable("away"), 503, 0x0110),
        (CatalogUnavailable("locked"), 503, 0x0110),
        (RefusedByPolicy("quota", "too much"), 409, 0x0124),
    ],
)
def test_failures_of_the_archive(
    archive: FakeArchive, client: Client, failure: Exception, status: int, reason: int
) -> None:
    archive.failure = failure
    response = client.store([ONE])
    assert response.status_code == status
    assert _items(response, "0008119A") == [{"00081197": {"vr": "US", "Value": [reason]}}]
    assert ("retry-after" in response.headers) == (status in (503, 507))


def test_instances_of_another_study_are_not_taken(archive: FakeArchive, client: Client) -> None:
    other = make_instance(Recipe(study=9))
    response = client.store([ONE, other], study=Recipe().study_uid)
    assert response.status_code == 202
    assert archive.landed == [ONE]
    failed = _items(response, "00081198")[0]
    assert failed["00081155"]["Value"] == [Recipe(study=9).sop_uid]
    assert failed["00081197"]["Value"] == [0xA900]
    assert client.store([other], study=Recipe().study_uid).status_code == 409


def test_too_large_instances_are_refused_while_they_come(archive: FakeArchive) -> None:
    options = HttpOptions(dicomweb=DicomWebOptions(largest_instance_bytes=len(ONE)))
    response = Client(archive, options).store([ONE, ONE + b"\0", TWO])
    assert response.status_code == 202
    assert archive.landed == [ONE, TWO]
    assert _items(response, "0008119A") == [{"00081197": {"vr": "US", "Value": [0xA700]}}]


def test_full_disk_is_told_and_nothing_stays(archive: FakeArchive, client: Client) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        response = client.store([ONE, make_instance(Recipe(rows=1000, columns=1000)), TWO])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert response.status_code == 202
    assert archive.landed == [ONE]
    assert _items(response, "0008119A") == [{"00081197": {"vr": "US", "Value": [0xA700]}}]
    assert list(archive.spool_folder.iterdir()) == []


def test_parts_of_other_types_are_refused(archive: FakeArchive, client: Client) -> None:
    response = client.store([ONE], part_type="application/pdf")
    assert response.status_code == 409
    assert archive.landed == []
    assert "application/pdf" in response.headers["warning"]


def test_truncated_body_stores_what_is_complete_and_says_so(archive: FakeArchive, client: Client) -> None:
    body = multipart([ONE, TWO])
    response = client.request(
        "POST",
        "/dicom-web/studies",
        content=body[: len(body) - len(TWO) // 2],
        headers={"content-type": "multipart/related; type=application/dicom; boundary=b0und"},
    )
    assert response.status_code == 202
    assert archive.landed == [ONE]
    assert len(_items(response, "0008119A")) == 1
    assert "closing delimiter" in response.headers["warning"]
    assert list(archive.spool_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ('multipart/related; type="image/png"; boundary=b', 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=' + "b" * 300, 400),
        ("multipart/form-data; boundary=b0und", 415),
    ],
)
def test_requests_that_are_none(client: Client, content_type: str, status: int) -> None:
    response = client.request(
        "POST", "/dicom-web/studies", content=multipart([ONE]), headers={"content-type": content_type}
    )
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "store request" in response.json()["detail"] or "boundary" in response.json()["detail"]


def test_request_without_parts_is_a_bad_one(client: Client) -> None:
    assert client.store([]).status_code == 400


def test_encoded_bodies_are_turned_away(client: Client) -> None:
    response = client.store([ONE], **{"content-encoding": "gzip"})
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"


def test_answer_as_xml(client: Client) -> None:
    response = client.store([ONE], accept="application/dicom+xml")
    assert response.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(response.content)
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    assert root.tag == f"{space}NativeDicomModel"
    values = [value.text for value in root.iter(f"{space}Value")]
    assert Recipe(instance=1).sop_uid in values


def test_unacceptable_answer_stores_nothing(archive: FakeArchive, client: Client) -> None:
    assert client.store([ONE], accept="text/html").status_code == 406
    assert archive.landed == []


def test_what_is_received_is_counted(client: Client) -> None:
    client.store([ONE, TWO])
    text = client.request("GET", "/metrics").text
    assert 'leanpacs_received_instances_total{door="stow",outcome="stored"} 2.0' in text


@given(
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_bodies_may_come_in_any_pieces(tmp_path_factory, parts: list[bytes], cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("spool")
    receiver = MultipartReceiver("b0und", folder, 1 << 20)
    body, position, turn = multipart(parts), 0, 0
    found = []
    while position < len(body):
        step = cuts[turn % len(cuts)]
        receiver.feed(body[position : position + step])
        found += receiver.completed()
        position, turn = position + step, turn + 1
    receiver.finish()
    found += receiver.completed()
    assert [part.path.read_bytes() for part in found] == parts
    assert [part.size_bytes for part in found] == [len(part) for part in parts]


@given(noise=st.binary(max_size=400))
def test_noise_is_never_a_surprise(tmp_path_factory, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    receiver = MultipartReceiver("b", folder, 1 << 20)
    try:
        receiver.feed(b"--b\r\n" + noise)
        receiver.finish()
    except BrokenBody:
        pass
    receiver.discard()
    assert list(folder.iterdir()) == []


def test_many_headers_are_turned_away(client: Client) -> None:
    head = b"".join(b"X-%d: y\r\n" % n for n in range(1000))
    body = b"--b0und\r\n" + head + b"\r\nx\r\n--b0und--"
    response = client.request(
        "POST",
        "/dicom-web/studies",
        content=body,
        headers={"content-type": "multipart/related; type=application/dicom; boundary=b0und"},
    )
    assert response.status_code == 409
    assert orjson.loads(response.content)["0008119A"]
