"""Public keys of a provider: from a URL, remembered, found anew after a change, and missed while they are away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from leanpacs.config import OidcSettings, Role
from leanpacs.errors import ConfigError
from leanpacs.services.access.tokens import InvalidToken, KeysUnavailable, Tokens

ISSUER = "https://id.example.org"


class Provider:
    """Signs tokens, and tells its public keys over HTTP while it is there."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = True
        self.signers: dict[str, ec.EllipticCurvePrivateKey] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = json.dumps(provider.jwks()).encode()
                self.send_response(200 if provider.there else 503)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def jwks(self) -> dict[str, object]:
        keys = {name: json.loads(ECAlgorithm.to_jwk(signer.public_key())) for name, signer in self.signers.items()}
        return {"keys": [key | {"kid": name, "use": "sig"} for name, key in keys.items()]}

    def token(self, kid: str, **claims: object) -> str:
        told = {"iss": ISSUER, "aud": "leanpacs", "sub": "ann", "exp": time.time() + 60}
        return jwt.encode(told | claims, self.signers[kid], "ES256", {"kid": kid})


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    made.signers["one"] = ec.generate_private_key(ec.SECP256R1())
    yield made
    made.close()


def settings(jwks: str, **more: object) -> OidcSettings:
    return OidcSettings(**{"issuer": ISSUER, "audience": "leanpacs", "jwks": jwks, **more})  # type: ignore[arg-type]


def test_keys_from_a_url_are_remembered(provider: Provider) -> None:
    tokens = Tokens(settings(provider.url))
    for number in range(5):
        caller, until = tokens.caller(provider.token("one", roles=["read"], jti=str(number)))
        assert (caller.name, caller.roles) == ("token:ann", {Role.READ})
        assert until > time.time()
    assert provider.asked == 1


def test_a_provider_that_is_away(provider: Provider) -> None:
    provider.there = False
    tokens = Tokens(settings(provider.url))
    with pytest.raises(KeysUnavailable):
        tokens.caller(provider.token("one"))
    provider.there = True
    tokens.caller(provider.token("one"))
    provider.there = False
    tokens.caller(provider.token("one"))  # what is remembered is still good


def test_many_unknown_keys_do_not_become_many_requests(provider: Provider) -> None:
    tokens = Tokens(settings(provider.url))
    tokens.caller(provider.token("one"))
    stranger = ec.generate_private_key(ec.SECP256R1())
    for number in range(20):
        with pytest.raises(InvalidToken):
            tokens.caller(jwt.encode({"exp": 1}, stranger, "ES256", {"kid": f"unknown {number}"}))
    assert provider.asked <= 3


def test_a_file_is_read_anew_when_it_has_changed(provider: Provider, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(provider.jwks()))
    tokens = Tokens(settings(str(file)))
    tokens.caller(provider.token("one"))
    provider.signers["two"] = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(InvalidToken, match="two"):
        tokens.caller(provider.token("two"))
    file.write_text(json.dumps(provider.jwks()))
    tokens.caller(provider.token("two"))
    file.unlink()
    with pytest.raises(KeysUnavailable):
        tokens.caller(provider.token("one"))


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"keys": []}'])
def test_files_that_hold_no_keys(content: str, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(content)
    with pytest.raises(ConfigError):
        Tokens(settings(str(file)))


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"realm_access": {"roles": ["doctor", "golfer"]}}, {Role.READ}),
        ({"realm_access": {"roles": "doctor boss"}}, {Role.READ, Role.ADMIN, Role.DELETE}),
        ({"realm_access": {"roles": [1, None, ["doctor"]]}}, set()),
        ({"realm_access": ["doctor"]}, set()),
        ({}, set()),
    ],
)
def test_roles_are_those_of_the_claim(provider: Provider, claims: dict[str, object], roles: set[Role]) -> None:
    known = {"doctor": ["read"], "boss": ["admin", "delete"]}
    tokens = Tokens(settings(provider.url, roles_claim="realm_access.roles", roles=known))
    assert tokens.caller(provider.token("one", **claims))[0].roles == roles
