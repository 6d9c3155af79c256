"""The catalog on a real PostgreSQL: migrations, writers that meet, a server that goes away and comes back."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from rich.console import Console
from sqlalchemy import inspect, text

import postgres_server
from leanpacs.archive.giveback.restoring import ask_for_study
from leanpacs.catalog import Catalog, Kind, Pool, Query, Transaction, open_catalog
from leanpacs.catalog.ageing import Swap
from leanpacs.catalog.engine import Database, database_url
from leanpacs.catalog.migrations import bring_up_to_date, configuration
from leanpacs.catalog.schema import METADATA
from leanpacs.errors import CatalogConflict, CatalogUnavailable, InstanceNotFound, RefusedByPolicy
from leanpacs.refs import Tier
from leanpacs.storage.memory import MemoryStore
from leanpacs.storage.stores import Stores
from postgres_server import PostgresServer
from unit.catalog.recipes import NOW, land, later, make_blob, make_index, make_landing, make_pack


@pytest.fixture
def catalog(postgres_url: str) -> Iterator[Catalog]:
    with closing(open_catalog(postgres_url)) as opened:
        yield opened


ROOT = Path(__file__).parents[2]
BY_CHANCE = (
    "studies by whole name",
    "studies by fuzzy name",
    "studies of a day",
    "studies of a day, a modality",
    "studies of a month, a name",
)
"""Searches that may find nothing in a catalog of some hundred studies."""


# -- migrations


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    place = tmp_path / "catalog.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(Database(database_url(place))) as opened:
        bring_up_to_date(opened)
        yield opened


def tables(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(inspect(connection).get_table_names())


def differences(database: Database) -> list[object]:
    with database.reading() as connection:
        found: list[object] = compare_metadata(MigrationContext.configure(connection), METADATA)
        return found


def migrate(database: Database, run: Callable[..., None], revision: str) -> None:
    with database.writing() as connection:
        run(configuration(connection), revision)


def revisions(database: Database) -> list[str]:
    with database.reading() as connection:
        scripts = ScriptDirectory.from_config(configuration(connection))
    return [script.revision for script in scripts.walk_revisions()]


def test_every_migration_goes_both_ways(database: Database) -> None:
    assert differences(database) == []
    made = tables(database)
    for _ in revisions(database):
        migrate(database, command.downgrade, "-1")
    assert tables(database) == {"alembic_version"}
    for _ in revisions(database):
        migrate(database, command.upgrade, "+1")
    assert tables(database) == made
    assert differences(database) == []


def test_what_is_held_outlives_going_back_and_forth(database: Database) -> None:
    catalog = Catalog(database)
    index = make_index(1, 1, 1, patient_id="A", patient_name="Doe^John", modality="CT")
    [landed] = land(catalog, index)
    with catalog.writing() as tx:
        assert tx.settle(landed.instance_id, landed.representation_id, make_pack("x"), now=later(1), due_at=later(2))
    held = catalog.instances(sop_uid=index.sop_uid), catalog.find_series(Query("series")), catalog.changes()
    form = catalog.representations(landed.instance_id)[0]
    migrate(database, command.downgrade, "0001")
    migrate(database, command.upgrade, "head")
    again = catalog.instances(sop_uid=index.sop_uid), catalog.find_series(Query("series")), catalog.changes()
    assert again == held
    [kept] = catalog.representations(landed.instance_id)
    assert (kept.blob, kept.kind, kept.codec, kept.frames) == (form.blob, Kind.PACK, form.codec, form.frames)


def test_hosts_that_start_at_once_make_one_catalog(postgres_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_catalog, [postgres_url] * 4))
    for number, catalog in enumerate(opened):
        land(catalog, make_index(number))
    assert [len(list(catalog.all_instances())) for catalog in opened] == [4] * 4
    for catalog in opened:
        catalog.close()


# -- writers that meet


def test_reading_sees_one_state_and_writes_nothing(catalog: Catalog) -> None:
    land(catalog, make_index(1))
    with catalog._database.reading() as connection:
        count = text("SELECT count(*) FROM instances")
        before = connection.scalar(count)
        land(catalog, make_index(2))
        assert connection.scalar(count) == before == 1
    assert len(list(catalog.all_instances())) == 2
    with pytest.raises(CatalogUnavailable, match="read-only"), catalog._database.reading() as connection:
        connection.execute(text("DELETE FROM changes"))


def test_a_writer_that_lost_a_race_does_it_again(catalog: Catalog) -> None:
    """Two transactions lock two patients in opposite order: PostgreSQL ends one of them, and it is done again."""
    first, second = make_index(1, patient_id="A"), make_index(2, patient_id="B")
    both_hold = threading.Barrier(2, timeout=60)
    tries: list[str] = []

    def write(one: str, *indexes: object) -> None:
        def work(tx: Transaction) -> None:
            tries.append(one)
            for number, index in enumerate(indexes):
                if number == 1 and tries.count(one) == 1:
                    both_hold.wait()
                tx.land(index, make_landing(index, tag=one))  # type: ignore[arg-type]

        catalog.write(work)

    more = make_index(1, 1, 2, patient_id="A"), make_index(2, 1, 2, patient_id="B")
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write, "x", first, more[1]), pool.submit(write, "y", second, more[0])]
        assert [future.result(60) for future in done] == [None, None]
    assert sorted(set(tries)) == ["x", "y"]
    assert len(tries) > 2
    assert len(list(catalog.all_instances())) == 4


def test_conflicts_without_end_are_told(catalog: Catalog) -> None:
    calls: list[int] = []

    def work(tx: Transaction) -> None:
        calls.append(1)
        raise CatalogConflict("somebody is always faster")

    with pytest.raises(CatalogConflict):
        catalog.write(work)
    assert 3 < len(calls) < 20


def test_deleting_waits_for_a_swap_and_forgets_no_blob(catalog: Catalog) -> None:
    """What is settled while its instance is deleted becomes garbage, whoever commits first."""
    for number in range(6):
        index = make_index(number, 1, 1)
        [landed] = land(catalog, index)
        pack = make_pack(f"pack {number}")
        start = threading.Barrier(2, timeout=60)

        def settle(landed: object = landed, pack: object = pack, start: threading.Barrier = start) -> None:
            start.wait()
            catalog.write(
                lambda tx: tx.settle(
                    landed.instance_id,  # type: ignore[attr-defined]
                    landed.representation_id,  # type: ignore[attr-defined]
                    pack,  # type: ignore[arg-type]
                    now=NOW,
                    due_at=NOW,
                )
            )

        thread = threading.Thread(target=settle)
        thread.start()
        start.wait()
        catalog.write(lambda tx, uid=index.sop_uid: tx.delete(sop_uid=uid, actor="a", reason="b", now=NOW))  # type: ignore[misc]
        thread.join(60)
        with catalog.writing() as tx:
            collected = set(tx.collect_garbage(later(10), 100))
            assert collected == {pack.blob, make_landing(index).blob}
            tx.forget_garbage(collected)
        assert list(catalog.all_blob_refs()) == []


def test_a_blob_that_is_held_is_not_collected(catalog: Catalog) -> None:
    """Naming a blob and collecting it wait for each other, and neither loses it."""
    index = make_index()
    landing = make_landing(index)
    with catalog.writing() as tx:
        tx.discard(landing.blob, now=NOW, due_at=NOW)
    collected: list[object] = []

    def collect() -> None:
        with catalog.writing() as tx:
            found = tx.collect_garbage(later(1), 10)
            tx.forget_garbage(found)
            collected.extend(found)

    collector = threading.Thread(target=collect)
    with catalog.writing() as tx:
        tx.hold_blobs([landing.blob], NOW)
        collector.start()
        collector.join(0.3)
        assert collector.is_alive()
        tx.land(index, landing)
    collector.join(60)
    assert collected == []
    assert list(catalog.all_blob_refs()) == [landing.blob]


def test_claims_of_a_host_end_when_it_starts_anew_and_those_of_others_do_not(catalog: Catalog) -> None:
    land(catalog, *(make_index(1, 1, n) for n in range(4)))
    options = {"limit_count": 2, "limit_bytes": 1 << 40, "lease_seconds": 600.0, "now": NOW}
    with catalog.writing() as tx:
        mine = tx.claim_landed("one:settler", **options)
        tx.claim_landed("two:settler", **options)
        assert tx.claim_landed("three:settler", **options) == []
        assert tx.release_claims_of("one") == 2
        assert tx.release_claims_of("tw") == 0
        again = tx.claim_landed("three:settler", **options)
    assert [work.instance.id for work in again] == [work.instance.id for work in mine]


# -- a server that goes away


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    if postgres_server.programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with PostgresServer() as started:
        yield started


@pytest.mark.parametrize("crash", [False, True])
def test_a_server_that_comes_back_is_used_again(server: PostgresServer, crash: bool) -> None:
    url = server.url.render_as_string(hide_password=False)
    with closing(open_catalog(url, Pool(connect_seconds=1))) as catalog:
        land(catalog, *(make_index(n) for n in range(5)))
        server.stop(crash=crash)
        uses = (
            lambda: land(catalog, make_index(9)),
            lambda: catalog.newest_studies(1),
            lambda: catalog.find_studies(Query("study")),
            lambda: catalog.instances(sop_uid=make_index(1).sop_uid),
        )
        for use in (*uses, *uses):  # by a connection from before, and by none
            with pytest.raises(CatalogUnavailable) as caught:
                use()
            assert caught.value.transient
        with pytest.raises(CatalogUnavailable):
            open_catalog(url, Pool(connect_seconds=1))
        server.start()
        assert len(catalog.newest_studies(10)) == 5
        land(catalog, make_index(9))
        assert len(catalog.newest_studies(10)) == 6


def test_a_transaction_that_is_cut_leaves_nothing(server: PostgresServer) -> None:
    url = server.url.render_as_string(hide_password=False)
    with closing(open_catalog(url)) as catalog:
        with pytest.raises(CatalogUnavailable), catalog.writing() as tx:  # noqa: PT012
            tx.land(make_index(1), make_landing(make_index(1)))
            server.stop(crash=True)
            tx.land(make_index(2), make_landing(make_index(2)))
        server.start()
        assert list(catalog.all_instances()) == []


def test_connections_are_bounded(postgres_url: str) -> None:
    with closing(open_catalog(postgres_url, Pool(connections=2, wait_seconds=0.3))) as catalog:
        first, second = catalog._database.reading(), catalog._database.reading()
        with first, second, pytest.raises(CatalogUnavailable, match="limit"):
            catalog.newest_studies(1)
        assert catalog.newest_studies(1) == []


def test_a_writer_waits_for_a_lock_and_not_for_ever(postgres_url: str) -> None:
    with closing(open_catalog(postgres_url, Pool(wait_seconds=0.2))) as catalog:
        index = make_index(patient_id="A")
        land(catalog, index)
        blob = make_blob("held")
        with catalog.writing() as tx:
            tx.hold_blobs([blob], NOW)
            began = time.monotonic()
            with pytest.raises(CatalogConflict), catalog.writing() as other:
                other.hold_blobs([blob], NOW)
            assert time.monotonic() - began < 30
        with pytest.raises(InstanceNotFound), catalog.writing() as tx:
            tx.delete(sop_uid="9", actor="a", reason="b", now=NOW)


def test_two_who_each_drop_one_of_two_forms_leave_one(catalog: Catalog) -> None:
    """On PostgreSQL they do not take turns: without locks each would see the other's form, and none would be left."""
    for number in range(6):
        [landed] = land(catalog, make_index(number))
        with catalog.writing() as tx:
            tx.settle(landed.instance_id, landed.representation_id, make_pack(number, "a"), now=NOW, due_at=NOW)
        [first] = catalog.representations(landed.instance_id)
        swap = Swap(landed.instance_id, first.id, make_pack(number, "b"), frozenset({first.id}))
        with catalog.writing() as tx:
            assert tx.ageing.swap(swap, now=NOW, due_at=NOW)
        forms = [one.id for one in catalog.representations(landed.instance_id)]
        assert len(forms) == 2
        start = threading.Barrier(2, timeout=60)

        def drop(form: int, instance: int = landed.instance_id, start: threading.Barrier = start) -> bool:
            start.wait()
            return catalog.write(lambda tx: tx.ageing.drop_form(instance, form, now=NOW, due_at=NOW))

        with ThreadPoolExecutor(2) as pool:
            dropped = list(pool.map(drop, forms))
        assert sorted(dropped) == [False, True]
        assert len(catalog.representations(landed.instance_id)) == 1


def test_of_two_who_each_add_a_form_one_does(catalog: Catalog) -> None:
    """Both planned it when there was none; the one whose plan has grown old must see the other's."""
    for number in range(6):
        [landed] = land(catalog, make_index(number))
        with catalog.writing() as tx:
            tx.settle(landed.instance_id, landed.representation_id, make_pack(number, "a"), now=NOW, due_at=NOW)
        [first] = catalog.representations(landed.instance_id)
        start = threading.Barrier(2, timeout=60)

        swaps = [
            Swap(landed.instance_id, first.id, make_pack(number, name), frozenset({first.id})) for name in ("b", "c")
        ]

        def add(swap: Swap, start: threading.Barrier = start) -> bool:
            start.wait()
            return catalog.write(lambda tx: tx.ageing.swap(swap, now=NOW, due_at=NOW))

        with ThreadPoolExecutor(2) as pool:
            added = list(pool.map(add, swaps))
        assert sorted(added) == [False, True]
        assert len(catalog.representations(landed.instance_id)) == 2


def waits(catalog: Catalog) -> bool:
    """Whether somebody waits for a lock."""
    with catalog._database.reading() as connection:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(connection.scalar(waiting))


def test_asking_for_a_study_begins_anew_after_a_deadlock(catalog: Catalog) -> None:
    """The lifecycle holds one of its forms and wants the other, which asking holds: the database breaks one off."""
    for number in (1, 2):
        [landed] = land(catalog, make_index(instance=number))
        pack = make_pack(number, blob=replace(make_blob("pack", number), tier=Tier("cold")))
        with catalog.writing() as tx:
            assert tx.settle(landed.instance_id, landed.representation_id, pack, now=NOW, due_at=NOW)
    first, second = sorted(form.id for one in catalog.all_instances() for form in catalog.representations(one.id))
    held = "SELECT 1 FROM representations WHERE id = :key FOR UPDATE"
    with ThreadPoolExecutor(1) as pool, catalog._database.writing() as connection:
        connection.execute(text("SET LOCAL deadlock_timeout = '30s'"))  # the other one notices
        connection.execute(text(held), {"key": second})
        asked = pool.submit(ask_for_study, Stores.of(MemoryStore()), catalog, make_index().study_uid, NOW)
        while not waits(catalog):
            time.sleep(0.01)
        connection.execute(text(held), {"key": first})
    assert asked.result(60) == 2


def test_of_a_hold_and_a_deletion_one_is_refused(catalog: Catalog) -> None:
    """Without locks neither would see the other: what is held would be deleted."""
    for number in range(6):
        index = make_index(number)
        land(catalog, index)
        start = threading.Barrier(2, timeout=60)

        def hold(study: str = index.study_uid, start: threading.Barrier = start) -> bool:
            def work(tx: Transaction) -> None:
                tx.ageing.hold(study, "", actor="a", reason="b", now=NOW)
                time.sleep(0.02)

            start.wait()
            with suppress(InstanceNotFound):
                catalog.write(work)
                return True
            return False

        def delete(study: str = index.study_uid, start: threading.Barrier = start) -> bool:
            def work(tx: Transaction) -> None:
                tx.delete(study_uid=study, actor="a", reason="b", now=NOW)
                time.sleep(0.02)

            start.wait()
            with suppress(RefusedByPolicy):
                catalog.write(work)
                return True
            return False

        with ThreadPoolExecutor(2) as pool:
            held, deleted = pool.submit(hold), pool.submit(delete)
            assert held.result() != deleted.result()


# -- a generated catalog


def test_a_generated_catalog_answers_what_doors_ask(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the benchmark makes and asks; that every kind of search finds something there on PostgreSQL."""
    monkeypatch.syspath_prepend(str(ROOT))
    catalog, catalogfill = (importlib.import_module(f"benchmarks.{name}") for name in ("catalog", "catalogfill"))
    monkeypatch.setattr(catalog, "TAKEN", 320)
    catalogfill.fill(postgres_url, 20_000, lambda _: None)
    result = catalog.measure(postgres_url, 0, 2, console=Console(quiet=True))
    assert result.instances == 20_000
    assert result.planned.instances > result.instances
    for asked in result.asked:
        if asked.name not in BY_CHANCE:
            assert asked.rows > 0, asked.name
    assert [sheet.markdown() for sheet in catalog.sheets(result)]
