"""API keys and the traffic ledger of a catalog, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL

from leanpacs.catalog import Catalog, KeyRow, TrafficKey, Volume, open_catalog
from leanpacs.errors import LeanPACSError
from leanpacs.refs import Digest
from postgres_server import schema_of_its_own

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = KeyRow("0123456789ab", "viewer", Digest(b"\1" * 32), ("read", "write"), NOW, "cli:test")
HOUR = TrafficKey(NOW.replace(minute=0, second=0), "in", "dimse", "CT1", "north", "CT", "1.2")


@pytest.fixture
def on_postgresql(postgres_database: URL) -> Iterator[Catalog]:
    with schema_of_its_own(postgres_database) as url, closing(open_catalog(url)) as catalog:
        yield catalog


@pytest.fixture(params=["file", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    if request.param == "postgresql":
        yield request.getfixturevalue("on_postgresql")
    else:
        with closing(open_catalog(tmp_path / "catalog.sqlite")) as catalog:
            yield catalog


def add(catalog: Catalog, volumes: dict[TrafficKey, Volume]) -> None:
    with catalog.writing() as transaction:
        transaction.add_traffic(volumes)


def test_keys(catalog: Catalog) -> None:
    later = replace(KEY, key_id="ba9876543210", created_at=NOW + timedelta(days=1), expires_at=NOW + timedelta(days=2))
    with catalog.writing() as transaction:
        transaction.add_key(later)
        transaction.add_key(KEY)
    assert catalog.api_keys() == [KEY, later]
    assert catalog.api_key("000000000000") is None
    assert (later.is_good(NOW + timedelta(days=1)), later.is_good(NOW + timedelta(days=2))) == (True, False)
    with catalog.writing() as transaction:
        assert transaction.revoke_key(KEY.key_id, NOW)
        assert not transaction.revoke_key(KEY.key_id, NOW)
        assert not transaction.revoke_key("000000000000", NOW)
    found = catalog.api_key(KEY.key_id)
    assert found == replace(KEY, revoked_at=NOW)
    assert not found.is_good(NOW - timedelta(days=1))
    with pytest.raises(LeanPACSError), catalog.writing() as transaction:
        transaction.add_key(KEY)


def test_traffic_is_summed_up(catalog: Catalog) -> None:
    other = replace(HOUR, client="CT2", hour=HOUR.hour + timedelta(hours=1))
    add(catalog, {HOUR: Volume(1, 2, 3, 4), other: Volume(10, 20, 30, 40)})
    add(catalog, {HOUR: Volume(1, 1, 1, 1 << 50)})
    assert catalog.traffic(["client"]) == [
        (("CT1",), Volume(2, 3, 4, 4 + (1 << 50))),
        (("CT2",), Volume(10, 20, 30, 40)),
    ]
    assert catalog.traffic(["hour"], since=other.hour) == [((other.hour,), Volume(10, 20, 30, 40))]
    assert catalog.traffic([], until=HOUR.hour) == [((), Volume())]


def test_many_may_add_at_once(catalog: Catalog) -> None:
    keys = [replace(HOUR, client=f"CT{number}") for number in range(20)]

    def add_some(number: int) -> None:
        order = keys if number % 2 else keys[::-1]
        for _ in range(5):
            add(catalog, dict.fromkeys(order, Volume(1, 1, 1, 1)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_some, range(4)))
    assert catalog.traffic([]) == [((), Volume(400, 400, 400, 400))]
