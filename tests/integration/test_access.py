"""Who may come in at the HTTP door: TLS, API keys, tokens and roles, against the installed command."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from certificates import self_signed
from data import Recipe, make_instance
from leanpacs.archive.archive import open_archive
from leanpacs.config import Role
from leanpacs.services.access.keys import make_key
from serving import Server

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]

ISSUER, AUDIENCE = "https://id.example.org", "leanpacs"
STORED = {"content-type": "application/dicom"}


def leanpacs(*arguments: str, data: Path) -> str:
    """Output of a command."""
    command = [sys.executable, "-m", "leanpacs", *arguments, "--data", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Guarded:
    """A server that wants credentials, a key for each role, and whoever signs its tokens."""

    server: Server
    data: Path
    client: httpx.Client
    keys: dict[str, str]
    signer: rsa.RSAPrivateKey

    def status(self, method: str, path: str, credential: str = "", **more: Any) -> int:
        headers = more.pop("headers", {}) | ({"authorization": f"Bearer {credential}"} if credential else {})
        return self.client.request(method, path, headers=headers, **more).status_code

    def token(self, **claims: Any) -> str:
        told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 60, "roles": ["radiologist"]}
        told = {name: value for name, value in (told | claims).items() if value is not None}
        return jwt.encode(told, self.signer, "RS256", {"kid": "one"})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = self_signed(tmp_path_factory.mktemp("guarded"))
    data = folder / "archive"
    keys = {}
    with open_archive(data) as archive, archive.catalog.writing() as transaction:
        for role in Role:
            keys[role.value], row = make_key(f"only {role}", [role], "test", now=datetime.now(UTC))
            transaction.add_key(row)
    signer = rsa.generate_private_key(65537, 2048)
    public = json.loads(RSAAlgorithm.to_jwk(signer.public_key())) | {"kid": "one", "use": "sig"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))
    environment = {
        "LEANPACS_HTTP__TLS_CERTIFICATE": str(folder / "cert.pem"),
        "LEANPACS_HTTP__TLS_KEY": str(folder / "key.pem"),
        "LEANPACS_ACCESS__ANONYMOUS": "[]",
        "LEANPACS_ACCESS__KEY_SECONDS": "0",
        "LEANPACS_HTTP__DELETING": "true",
        "LEANPACS_OIDC__ISSUER": ISSUER,
        "LEANPACS_OIDC__AUDIENCE": AUDIENCE,
        "LEANPACS_OIDC__JWKS": str(folder / "jwks.json"),
        "LEANPACS_OIDC__ROLES": '{"radiologist": ["read", "write"]}',
    }
    with (
        Server(data, processes=1, workers=1, environment=environment) as server,
        httpx.Client(base_url=server.http, verify=ssl.create_default_context(cafile=folder / "cert.pem")) as client,
    ):
        yield Guarded(server, data, client, keys, signer)


NEEDS = {
    ("GET", "/"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/dicom-web/studies"): "read",
    ("HEAD", "/dicom-web/studies"): "read",
    ("GET", "/dicom-web/studies/1.2/series/3/instances/4/frames/1"): "read",
    ("POST", "/dicom-web/studies"): "write",
    ("DELETE", "/dicom-web/studies/1.2"): "delete",
}


@pytest.mark.parametrize(("method", "path"), NEEDS)
def test_each_request_needs_its_role(guarded: Guarded, method: str, path: str) -> None:
    assert guarded.status(method, path) == 401
    for role, key in guarded.keys.items():
        refused = guarded.status(method, path, key) == 403
        assert refused is (role != NEEDS[method, path]), role


def test_every_operation_is_guarded(guarded: Guarded) -> None:
    """Whatever the description of the interface says needs a right is refused without credentials."""
    document = guarded.client.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answered = guarded.status(method.upper(), re.sub(r"{\w+}", "1", path))
            assert (answered == 401) is (operation["x-right"] != "none"), (method, path)
            asked += 1
    assert asked > 20


def test_health_and_what_may_be_asked_for_are_open_to_all(guarded: Guarded) -> None:
    assert guarded.status("GET", "/health") == 200
    assert guarded.status("OPTIONS", "/dicom-web/studies") != 401


def test_store_with_one_key_and_find_with_another(guarded: Guarded) -> None:
    posted = guarded.client.post(
        "/dicom-web/studies",
        content=make_instance(Recipe()),
        headers=STORED | {"authorization": f"Bearer {guarded.keys['write']}"},
    )
    assert posted.status_code == 200
    assert posted.json()["00081199"]["Value"][0]["00081190"]["Value"][0].startswith("https://")
    found = guarded.client.get("/dicom-web/instances", auth=("anybody", guarded.keys["read"]))
    assert found.status_code == 200
    assert len(found.json()) == 1


def test_what_a_refusal_says(guarded: Guarded) -> None:
    nobody = guarded.client.get("/dicom-web/studies")
    assert nobody.headers["content-type"] == "application/problem+json"
    assert nobody.headers["www-authenticate"].startswith("Bearer realm=")
    assert "Basic realm=" in nobody.headers["www-authenticate"]
    wrong = guarded.client.get("/dicom-web/studies", headers={"authorization": f"Bearer {guarded.keys['read'][:-1]}x"})
    assert (wrong.status_code, 'error="invalid_token"' in wrong.headers["www-authenticate"]) == (401, True)
    other = guarded.client.get("/dicom-web/studies", headers={"authorization": f"Bearer {guarded.keys['write']}"})
    assert (other.status_code, "read" in other.json()["detail"]) == (403, True)
    assert 'error="insufficient_scope"' in other.headers["www-authenticate"]


def test_a_revoked_key_is_refused(guarded: Guarded) -> None:
    made = json.loads(leanpacs("key", "create", "brief", "--role", "read", "--json", data=guarded.data))
    assert guarded.status("GET", "/dicom-web/studies", made["key"]) == 200
    leanpacs("key", "revoke", made["id"], data=guarded.data)
    assert guarded.status("GET", "/dicom-web/studies", made["key"]) == 401
    listed = {key["id"]: key for key in json.loads(leanpacs("key", "list", "--json", data=guarded.data))}
    assert listed[made["id"]]["state"] == "revoked"
    assert made["key"] not in json.dumps(listed)


def test_tokens(guarded: Guarded) -> None:
    good = guarded.token()
    assert guarded.status("GET", "/dicom-web/studies", good) == 200
    assert guarded.status("GET", "/dicom-web/studies", good) == 200  # remembered
    assert guarded.status("DELETE", "/dicom-web/studies/1.2", good) == 403
    assert guarded.status("GET", "/dicom-web/studies", guarded.token(roles=["janitor"])) == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example.org"},
        {"aud": "another"},
        {"aud": None},
        {"exp": time.time() - 3600},
        {"exp": None},
        {"nbf": time.time() + 3600},
    ],
)
def test_tokens_of_others_for_others_or_of_other_times(guarded: Guarded, claims: dict[str, Any]) -> None:
    assert guarded.status("GET", "/dicom-web/studies", guarded.token(**claims)) == 401


def test_forged_tokens(guarded: Guarded) -> None:
    claims = jwt.decode(guarded.token(), options={"verify_signature": False})
    stranger = rsa.generate_private_key(65537, 2048)
    unsigned = jwt.encode(claims, None, "none", {"kid": "one"})
    for token in (
        jwt.encode(claims, stranger, "RS256", {"kid": "one"}),
        jwt.encode(claims, stranger, "RS256", {"kid": "two"}),
        jwt.encode(claims, stranger, "RS256"),
        jwt.encode(claims, "x" * 32, "HS256", {"kid": "one"}),
        unsigned,
        "a.b.c",
        "...",
    ):
        assert guarded.status("GET", "/dicom-web/studies", token) == 401


def test_plain_http_is_not_spoken(guarded: Guarded) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(guarded.server.http.replace("https", "http") + "health")


def test_old_tls_is_refused(guarded: Guarded) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with pytest.raises(httpx.ConnectError):
        httpx.get(guarded.server.http + "health", verify=context)
