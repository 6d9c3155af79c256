"""The outbox of a catalog: nothing is sent twice at a time, nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL

from leanpacs.catalog import DestinationRow, Outbound, Outgoing, open_catalog
from postgres_server import schema_of_its_own

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def on_postgresql(postgres_database: URL) -> Iterator[Outgoing]:
    with schema_of_its_own(postgres_database) as url, closing(open_catalog(url)) as catalog:
        yield catalog.outgoing


@pytest.fixture(params=["file", "postgresql"])
def outgoing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outgoing]:
    if request.param == "postgresql":
        yield request.getfixturevalue("on_postgresql")
    else:
        with closing(open_catalog(tmp_path / "catalog.sqlite")) as catalog:
            yield catalog.outgoing


def entry(number: int, destination: str = "A") -> Outbound:
    return Outbound(destination, "1.1", "1.2", f"1.3.{number}", "a rule")


def claim(outgoing: Outgoing, owner: str, *, now: datetime = NOW, limit: int = 10) -> list[int]:
    return [row.id for row in outgoing.claim("A", owner, limit=limit, now=now, until=now + timedelta(minutes=1))]


def test_destinations(outgoing: Outgoing) -> None:
    row = DestinationRow("A", "host", 104, ("1.2", "1.3"), True, "/ca.pem", True)
    outgoing.keep_destination(row, NOW)
    outgoing.keep_destination(DestinationRow("B", "b", 11112), NOW)
    assert outgoing.destination("A") == row
    outgoing.keep_destination(DestinationRow("A", "other", 105), LATER)
    assert [one.host for one in outgoing.destinations()] == ["other", "b"]
    assert outgoing.forget_destination("A")
    assert not outgoing.forget_destination("A")
    assert outgoing.destination("A") is None


def test_an_instance_waits_once_for_each_destination(outgoing: Outgoing) -> None:
    assert outgoing.enqueue([entry(1), entry(2), entry(1, "B")], NOW) == 3
    assert outgoing.enqueue([entry(1), entry(3)], LATER) == 1
    assert outgoing.totals() == [("A", False, 3), ("B", False, 1)]
    assert outgoing.due(NOW) == ["A", "B"]


def test_claims_exclude_each_other_and_end(outgoing: Outgoing) -> None:
    outgoing.enqueue([entry(number) for number in range(5)], NOW)
    first = claim(outgoing, "one", limit=2)
    second = claim(outgoing, "two")
    assert (len(first), len(second)) == (2, 3)
    assert outgoing.due(NOW) == []
    assert claim(outgoing, "three") == []
    assert claim(outgoing, "three", now=NOW + timedelta(minutes=1)) == first + second
    assert outgoing.let_go("one") == 0
    assert outgoing.let_go("three") == 5


def test_what_became_of_claims(outgoing: Outgoing) -> None:
    outgoing.enqueue([entry(number) for number in range(4)], NOW)
    sent, later, failed, held = claim(outgoing, "host/A")
    outgoing.settle("other", sent=[sent])
    outgoing.settle("host/A", sent=[sent], later=[(later, LATER, "busy")], failed=[(failed, "no")], held_until=LATER)
    assert [(row.id, row.failed, row.reason, row.attempts) for row in outgoing.entries()] == [
        (later, False, "busy", 1),
        (failed, True, "no", 1),
        (held, False, "", 1),
    ]
    assert claim(outgoing, "two", now=LATER - timedelta(seconds=1)) == []
    assert outgoing.let_go("host") == 1
    assert claim(outgoing, "two") == [held]
    assert claim(outgoing, "two", now=LATER) == [later, held]  # the claim of the latter has run out
    assert [row.id for row in outgoing.entries(failed=True)] == [failed]
    assert outgoing.retry(None, LATER) == 1
    assert claim(outgoing, "two", now=LATER) == [failed]
    assert outgoing.drop([failed, held, 99]) == 2
    assert [row.id for row in outgoing.entries(destination="A")] == [later]


def test_what_has_failed_is_tried_again_when_it_is_queued_again(outgoing: Outgoing) -> None:
    outgoing.enqueue([entry(1)], NOW)
    (key,) = claim(outgoing, "one")
    outgoing.settle("one", failed=[(key, "no")])
    assert outgoing.enqueue([entry(1)], LATER) == 1
    assert claim(outgoing, "one", now=LATER) == [key]


def test_put_off(outgoing: Outgoing) -> None:
    outgoing.enqueue([entry(1), entry(2), entry(1, "B")], NOW)
    claim(outgoing, "one", limit=1)
    outgoing.put_off("A", LATER, "nobody there")
    assert outgoing.due(NOW) == ["B"]
    assert [row.due_at for row in outgoing.entries(destination="A")] == [NOW, LATER]


def test_reports_that_are_owed(outgoing: Outgoing) -> None:
    pairs = (("1.2", "1.3"), ("1.2", "1.4"))
    key = outgoing.ask_commitment("CT", "2.25.1", pairs, now=NOW, due_at=LATER)
    assert outgoing.claim_commitments(NOW, LATER) == []
    (row,) = outgoing.claim_commitments(LATER, LATER + timedelta(minutes=1))
    assert (row.id, row.destination, row.transaction_uid, row.instances, row.attempts) == (
        key,
        "CT",
        "2.25.1",
        pairs,
        1,
    )
    assert outgoing.claim_commitments(LATER, LATER) == []
    outgoing.put_off_commitment(key, LATER, "away")
    assert outgoing.claim_commitments(LATER, LATER)[0].reason == "away"
    outgoing.end_commitment(key)
    assert outgoing.commitments() == []
