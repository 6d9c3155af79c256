"""PS3.18 8.9 and annex H, and what the standard leaves to servers: OpenAPI, CORS, deletion."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from conformance.conftest import CT, ORIGIN, Door, instance, study
from data import Recipe, make_instance

WADL = "{http://wadl.dev.java.net/2009/02}"


@pytest.mark.clause("8.9", "H")
def test_capabilities_are_a_wadl_tree_of_the_resources(door: Door) -> None:
    response = door.http.options(f"{door.root}/", headers={"accept": "application/vnd.sun.wadl+xml"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/vnd.sun.wadl+xml"
    (resources,) = ElementTree.fromstring(response.content)
    assert resources.tag == f"{WADL}resources"
    assert resources.get("base") == f"{door.root}/"
    studies = next(node for node in resources if node.get("path") == "studies")
    assert {node.get("name") for node in studies.iter(f"{WADL}method")} == {"GET", "POST", "DELETE"}
    (one,) = (node for node in studies if node.get("path") == "{study}")
    assert {node.get("path") for node in one.findall(f"{WADL}resource")} >= {"series", "instances", "metadata"}
    ids = [node.get("id") for node in resources.iter(f"{WADL}method")]
    assert len(set(ids)) == len(ids)


@pytest.mark.clause("8.9")
def test_capabilities_come_as_openapi_to_who_takes_json(door: Door) -> None:
    response = door.http.options(door.root, headers={"accept": "application/json"})
    assert response.json()["openapi"].startswith("3.1")
    assert response.json()["servers"] == [{"url": door.root}]
    assert door.http.options(door.root, headers={"accept": "image/png"}).status_code == 406


@pytest.mark.clause("8.9")
def test_every_resource_tells_its_methods(door: Door) -> None:
    response = door.http.options(f"{door.root}/studies/1.2.3")
    assert response.status_code == 204
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    response = door.http.put(f"{door.root}/studies")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_a_slash_at_the_end_of_a_path_changes_nothing(door: Door) -> None:
    frame = f"{instance(CT)}/frames/1"
    for path in (
        "/studies",
        f"{study(CT)}/series",
        f"{instance(CT)}/metadata",
        f"{instance(CT)}/bulkdata/7FE00010",
        frame,
    ):
        query = "?limit=1" if path == "/studies" else "?accept=*/*"
        with_slash, without = door.get(f"{path}/{query}"), door.get(path + query)
        assert with_slash.status_code == without.status_code < 300
        assert with_slash.headers.get("etag") == without.headers.get("etag")
    found = door.get(f"/studies/?StudyInstanceUID={CT.study_uid}").json()
    assert found == door.get(f"/studies?StudyInstanceUID={CT.study_uid}").json()
    new = Recipe(study=91, instance=1)
    assert door.store([make_instance(new)], "/studies/").status_code == 200
    assert door.http.head(f"{door.root}{study(new)}/").status_code == 200
    assert door.http.delete(f"{door.root}{study(new)}/").status_code == 204
    assert door.http.put(f"{door.root}/studies/").status_code == 405


def test_who_asks_for_what_there_is_not_is_told_what_there_is(door: Door) -> None:
    told = door.http.get(f"{door.root}/patients").json()
    assert told["status"] == 404
    assert told["detail"] == "Nothing is at this path. What there is, /openapi.json tells."
    told = door.http.put(f"{door.root}/studies").json()
    assert told["detail"] == "PUT is no method of this resource; it has GET, HEAD, OPTIONS, POST."
    assert "'a b' in the path is no study UID" in door.http.get(f"{door.root}/studies/a%20b").json()["detail"]
    assert door.http.get(f"{door.origin}/health/").json()["status"] == "ok"


def test_openapi_describes_the_whole_door(door: Door) -> None:
    document = door.http.get(f"{door.origin}/openapi.json").json()
    assert {"/", "/health", "/metrics", "/openapi.json", "/dicom-web/studies/{study}/metadata"} <= set(
        document["paths"]
    )
    names = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert len(set(names)) == len(names)


def test_scripts_of_named_origins_may_use_the_service(door: Door) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "GET", "access-control-request-headers": "range"}
    response = door.http.options(f"{door.root}/studies", headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-headers"] == "range"
    response = door.get("/studies", origin=ORIGIN)
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "etag" in response.headers["access-control-expose-headers"]
    assert "Origin" in response.headers["vary"]


def test_scripts_of_other_origins_may_not(door: Door) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    assert door.http.options(f"{door.root}/studies", headers=asked).status_code == 400
    assert "access-control-allow-origin" not in door.get("/studies", origin="https://evil.example").headers


def test_what_is_deleted_is_not_found_any_more(door: Door) -> None:
    kept, gone = (Recipe(study=90, series=number, instance=number) for number in (1, 2))
    assert door.store([make_instance(kept), make_instance(gone)]).status_code == 200
    response = door.http.delete(door.root + instance(gone), params={"reason": "test"})
    assert response.status_code == 204
    assert door.get(instance(gone)).status_code == 404
    assert door.get(instance(kept)).status_code == 200
    assert door.http.delete(door.root + instance(gone)).status_code == 404
    assert door.http.delete(door.root + study(kept)).status_code == 204
    assert door.get(study(kept)).status_code == 404
