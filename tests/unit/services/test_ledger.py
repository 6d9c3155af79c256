"""The traffic ledger adds up what it is told, and loses nothing that it can keep."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.catalog import Catalog, TrafficKey, Volume, open_catalog
from leanpacs.config import TrafficSettings
from leanpacs.errors import CatalogUnavailable
from leanpacs.services.cargo import Cargo
from leanpacs.services.ledger import Direction, Ledger, Party, Sites
from leanpacs.services.traffic import Group, traffic_sums

NOON = datetime(2026, 1, 2, 12, 34, tzinfo=UTC)
CT1, VIEWER = Party("dimse", "CT1", "192.0.2.7"), Party("http", "key:viewer", "198.51.100.7")
ONE = Volume(1, 1, 10, 30)
SITES = Sites(
    TrafficSettings(
        sites={
            "scanners": {"ae_titles": ["CT1", "key:viewer"]},
            "south": {"addresses": ["198.51.100.0/24", "2001:db8::/32"]},
            "everywhere": {"addresses": ["0.0.0.0/0"]},
        }
    ).sites
)


@pytest.fixture
def catalog() -> Catalog:
    return open_catalog(":memory:")


def ledger_of(catalog: Catalog, clock: Callable[[], datetime] = lambda: NOON) -> Ledger:
    def write(volumes: dict[TrafficKey, Volume]) -> None:
        with catalog.writing() as transaction:
            transaction.add_traffic(volumes)

    return Ledger(write, sites=SITES, clock=clock)


def test_sums_add_up_over_writes_and_processes(catalog: Catalog) -> None:
    first, second = ledger_of(catalog), ledger_of(catalog)
    for ledger in (first, second, first):
        for _ in range(3):
            ledger.count(Direction.IN, CT1, ONE, "CT", "1.2.840.10008.1.2.1")
        ledger.count(Direction.OUT, VIEWER, replace(ONE, requests=0), "CT", "1.2.840.10008.1.2.4.201")
        ledger.flush()
    found = traffic_sums(catalog, [Group.DIRECTION, Group.CLIENT, Group.SITE])
    assert [one.record() for one in found] == [
        {
            "direction": "in",
            "client": "CT1",
            "site": "scanners",
            "requests": 9,
            "instances": 9,
            "sent_bytes": 90,
            "raw_bytes": 270,
        },
        {
            "direction": "out",
            "client": "key:viewer",
            "site": "south",
            "requests": 0,
            "instances": 3,
            "sent_bytes": 30,
            "raw_bytes": 90,
        },
    ]


def test_hours_and_days(catalog: Catalog) -> None:
    moments = [NOON, NOON + timedelta(minutes=20), NOON + timedelta(minutes=30), NOON + timedelta(days=1)]
    for moment in moments:
        ledger = ledger_of(catalog, lambda: moment)  # noqa: B023 - used before the next one
        ledger.count(Direction.IN, CT1, ONE)
        ledger.flush()
    hours = {one.group["hour"]: one.volume.requests for one in traffic_sums(catalog, [Group.HOUR])}
    assert hours == {"2026-01-02T12:00+00:00": 2, "2026-01-02T13:00+00:00": 1, "2026-01-03T12:00+00:00": 1}
    days = {one.group["day"]: one.volume.requests for one in traffic_sums(catalog, [Group.DAY])}
    assert days == {"2026-01-02": 3, "2026-01-03": 1}
    both = traffic_sums(catalog, [Group.DAY, Group.HOUR])
    assert [tuple(one.group) for one in both] == [("day", "hour")] * 3
    since = traffic_sums(catalog, [Group.PROTOCOL], since=NOON + timedelta(hours=1), until=NOON + timedelta(days=2))
    assert [one.volume.requests for one in since] == [1]
    assert [one.volume.requests for one in traffic_sums(catalog, [])] == [4]


def test_what_the_catalog_does_not_take_is_written_later() -> None:
    written: dict[TrafficKey, Volume] = {}
    broken = True

    def write(volumes: dict[TrafficKey, Volume]) -> None:
        if broken:
            raise CatalogUnavailable("away")
        written.update(volumes)

    ledger = Ledger(write, clock=lambda: NOON)
    with ledger.running(3600):
        ledger.count(Direction.IN, CT1, ONE)
        ledger.flush()
        ledger.count(Direction.IN, CT1, ONE)
        ledger.flush()
        assert not written
        broken = False
    assert [volume.sent_bytes for volume in written.values()] == [20]


def test_many_threads() -> None:
    written: list[Volume] = []
    ledger = Ledger(lambda volumes: written.extend(volumes.values()), clock=lambda: NOON)
    with ledger.running(0.001), ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(lambda: [ledger.count(Direction.IN, CT1, ONE) for _ in range(1000)])
    assert sum(volume.requests for volume in written) == 8000


def test_invented_names_do_not_fill_the_memory() -> None:
    written: dict[TrafficKey, Volume] = {}
    ledger = Ledger(written.update, clock=lambda: NOON)
    for number in range(12_000):
        ledger.count(Direction.IN, Party("dimse", f"AE{number}"), ONE)
    ledger.flush()
    assert len(written) <= 10_001
    assert sum(volume.requests for volume in written.values()) == 12_000


@pytest.mark.parametrize(
    ("party", "site"),
    [
        (CT1, "scanners"),
        (Party("dimse", "CT9", "198.51.100.7"), "south"),
        (Party("http", "CT1", "192.0.2.7"), "everywhere"),
        (Party("http", "x", "2001:db8::1%eth0"), "south"),
        (Party("http", "x", "2001:db9::1"), ""),
        (Party("dimse", "x", "pacs.example.org"), ""),
    ],
)
def test_sites(party: Party, site: str) -> None:
    assert SITES.of(party) == site


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 1000), st.integers(0, 5000)), max_size=6),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_shares_add_up_to_what_was_sent(parts: list[tuple[str, int, int]], sent: int, partial: bool) -> None:
    cargo = Cargo("MR")
    for modality, weight, raw in parts:
        cargo.note(Direction.OUT, modality, "1.2", weight=weight, raw_bytes=raw, instances=1)
        cargo.note(Direction.IN, modality, "1.2", weight=1, raw_bytes=1, instances=1)
    volumes = [volume for _, _, volume in cargo.volumes(Direction.OUT, sent, partial=partial)]
    assert sum(volume.sent_bytes for volume in volumes) == sent
    assert all(volume.sent_bytes >= 0 for volume in volumes)
    if not partial and sent and any(weight for _, weight, _ in parts):
        assert sum(volume.raw_bytes for volume in volumes) == sum(raw for _, _, raw in parts)
