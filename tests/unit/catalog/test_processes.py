"""Several processes write to one catalog, and some of them are killed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from leanpacs.catalog import Action, Catalog, Kind, Query, open_catalog
from unit.catalog.recipes import NOW, land, later, make_index, make_landing, make_pack

EACH = 50


def land_many(path: Path, writer: int) -> int:
    catalog = open_catalog(path)
    for n in range(EACH):
        land(catalog, make_index(n % 3, writer, n, patient_id="A", patient_name="Doe", modality="CT"))
    catalog.close()
    return writer


def test_four_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        writers = pool.starmap(land_many, [(path, n) for n in range(4)], chunksize=1)
        pool.close()
        pool.join()
    assert writers == [0, 1, 2, 3]
    catalog = open_catalog(path)
    rows = list(catalog.all_instances())
    assert len({row.sop_uid for row in rows}) == 4 * EACH
    assert sum(study.number_of_instances for study in catalog.find_studies(Query("study"))) == 4 * EACH
    assert catalog.summary().patients == 1
    check(catalog)
    catalog.close()


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from leanpacs.catalog import open_catalog
from unit.catalog.recipes import NOW, land, make_index, make_landing, make_pack

catalog = open_catalog(sys.argv[1])
[landed] = land(catalog, make_index(1, 1, 1))
with catalog.writing() as tx:
    tx.land(make_index(1, 1, 2), make_landing(make_index(1, 1, 2)))
    tx.delete(sop_uid="1.2.3.1.1.1", actor="a", reason="b", now=NOW)
    tx.quarantine(make_landing(make_index(3)).blob, name="", sender="", door="", reason="", now=NOW)
    os.kill(os.getpid(), signal.SIGKILL)
"""

WORKS_UNTIL_KILLED = """
import itertools, sys
from leanpacs.catalog import open_catalog
from unit.catalog.recipes import NOW, land, later, make_index, make_pack

catalog = open_catalog(sys.argv[1])
start = int(sys.argv[2])
for n in itertools.count(start):
    land(catalog, make_index(n % 5, 1, n, patient_name=f"Doe^{n}"))
    print(n, flush=True)
    with catalog.writing() as tx:
        for work in tx.claim_landed("me", limit_count=1, limit_bytes=1, lease_seconds=0, now=later(n)):
            pack = make_pack(work.instance.sop_uid)
            tx.settle(work.instance.id, work.representation.id, pack, now=later(n), due_at=later(n))
    if n % 4 == 0:
        with catalog.writing() as tx:
            tx.forget_garbage(tx.collect_garbage(later(n), 3))
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[2]
    program = f"import sys; sys.path.insert(0, {str(tests)!r})\n{program}"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def check(catalog: Catalog) -> None:
    """Everything in the catalog is whole, by SQLite's word and by ours."""
    with catalog._database.reading() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    landed = {one.sop_uid for one in catalog.changes(limit=10**6) if one.action is Action.LANDED}
    settled = {one.sop_uid for one in catalog.changes(limit=10**6) if one.action is Action.SETTLED}
    for row in catalog.all_instances():
        [representation] = catalog.representations(row.id)
        assert row.sop_uid in landed
        assert (representation.kind is Kind.PACK) == (row.sop_uid in settled)


def test_killed_transaction_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with start(KILLED_IN_THE_MIDDLE, path) as process:
        assert process.wait(60) == -signal.SIGKILL
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
    acknowledged: list[int] = []
    for _ in range(4):
        with start(WORKS_UNTIL_KILLED, path, len(acknowledged) and acknowledged[-1] + 2) as process:
            assert process.stdout is not None
            for _ in range(random.randint(1, 60)):
                acknowledged.append(int(process.stdout.readline()))
            process.kill()
            acknowledged.extend(int(line) for line in process.stdout if line.endswith("\n"))
        catalog = open_catalog(path)
        held = {row.sop_uid for row in catalog.all_instances()}
        assert {f"1.2.3.{n % 5}.1.{n}" for n in acknowledged} <= held
        check(catalog)
        catalog.close()


def test_settlers_in_processes_share_the_work(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = open_catalog(path)
    land(catalog, *(make_index(1, 1, n) for n in range(60)))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        claimed = pool.starmap(settle_all, [(path, f"settler {n}") for n in range(3)], chunksize=1)
        pool.close()
        pool.join()
    settled = [uid for uids in claimed for uid in uids]
    assert sorted(settled) == sorted(row.sop_uid for row in catalog.all_instances())
    assert catalog.backlog().count == 0
    check(catalog)
    catalog.close()


def settle_all(path: Path, owner: str) -> list[str]:
    """Claim and settle until nothing is left; what this process settled."""
    catalog = open_catalog(path)
    done: list[str] = []
    while True:
        with catalog.writing() as tx:
            claimed = tx.claim_landed(owner, limit_count=2, limit_bytes=1 << 30, lease_seconds=600, now=NOW)
        if not claimed:
            catalog.close()
            return done
        for work in claimed:
            pack = make_pack(work.instance.sop_uid)
            with catalog.writing() as tx:
                assert tx.settle(work.instance.id, work.representation.id, pack, now=later(1), due_at=later(2))
            done.append(work.instance.sop_uid)


def test_landing_recipe_is_durable_before_it_counts(tmp_path: Path) -> None:
    """A reader in another process sees what is committed, and nothing of what is not."""
    path = tmp_path / "catalog.sqlite"
    catalog, other = open_catalog(path), open_catalog(path)
    index = make_index()
    with catalog.writing() as tx:
        tx.land(index, make_landing(index))
        assert other.instances(sop_uid=index.sop_uid) == []
    assert len(other.instances(sop_uid=index.sop_uid)) == 1
    other.close()
    catalog.close()
