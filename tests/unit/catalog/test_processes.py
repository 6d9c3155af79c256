"""Several processes write to one catalog, and some of them are killed."""

from __future__ import annotations

import random
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import text

from leanpacs.catalog import Action, Catalog, Kind, Query, open_catalog
from unit.catalog.recipes import land, make_index, make_landing
from unit.catalog.workers import (
    EACH,
    die_in_a_transaction,
    fresh_processes,
    land_many,
    settle_all,
    work_until_killed,
)


def check(catalog: Catalog) -> None:
    """Everything in the catalog is whole, by SQLite's word and by ours."""
    with catalog._database.reading() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    feed = catalog.changes(limit=10**6)
    landed = {one.sop_uid for one in feed if one.action is Action.LANDED}
    settled = {one.sop_uid for one in feed if one.action is Action.SETTLED}
    for row in catalog.all_instances():
        [representation] = catalog.representations(row.id)
        assert row.sop_uid in landed
        assert (representation.kind is Kind.PACK) == (row.sop_uid in settled)


def test_four_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with ProcessPoolExecutor(4, mp_context=fresh_processes()) as pool:
        writers = list(pool.map(land_many, [path] * 4, range(4)))
    assert writers == [0, 1, 2, 3]
    catalog = open_catalog(path)
    rows = list(catalog.all_instances())
    assert len({row.sop_uid for row in rows}) == 4 * EACH
    assert sum(study.number_of_instances for study in catalog.find_studies(Query("study"))) == 4 * EACH
    assert catalog.summary().patients == 1
    check(catalog)
    catalog.close()


def test_settlers_in_processes_share_the_work(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = open_catalog(path)
    land(catalog, *(make_index(1, 1, n) for n in range(60)))
    with ProcessPoolExecutor(3, mp_context=fresh_processes()) as pool:
        shares = list(pool.map(settle_all, [path] * 3, ["one", "two", "three"]))
    assert sorted(chain(*shares)) == sorted(row.sop_uid for row in catalog.all_instances())
    assert catalog.backlog().count == 0
    check(catalog)
    catalog.close()


def test_killed_transaction_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    process = fresh_processes().Process(target=die_in_a_transaction, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    catalog = open_catalog(path)
    assert [row.sop_uid for row in catalog.all_instances()] == ["1.2.3.1.1.1"]
    assert catalog.quarantined() == []
    assert len(catalog.changes()) == 1
    check(catalog)
    # and nobody waits for the lock of the dead
    land(catalog, make_index(2))
    catalog.close()


@pytest.mark.crash
def test_what_was_acknowledged_outlives_kills(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    context = fresh_processes()
    acknowledged: list[int] = []
    for number in range(8):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work_until_killed, args=(path, 1000 * number, sender))
        process.start()
        sender.close()
        acknowledged.extend(receiver.recv() for _ in range(random.randint(1, 40)))
        process.kill()
        process.join(60)
        with suppress(EOFError):
            while True:
                acknowledged.append(receiver.recv())
        receiver.close()
        catalog = open_catalog(path)
        held = {row.sop_uid for row in catalog.all_instances()}
        assert {f"1.2.3.{n % 5}.1.{n}" for n in acknowledged} <= held
        check(catalog)
        catalog.close()


def test_readers_see_what_is_committed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog, other = open_catalog(path), open_catalog(path)
    index = make_index()
    with catalog.writing() as tx:
        tx.land(index, make_landing(index))
        assert other.instances(sop_uid=index.sop_uid) == []
        assert catalog.instances(sop_uid=index.sop_uid) == []
    assert len(other.instances(sop_uid=index.sop_uid)) == 1
    other.close()
    catalog.close()
