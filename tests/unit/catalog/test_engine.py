"""Connections, turns of writers, and errors of the database."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from leanpacs.catalog import Transaction, open_catalog
from leanpacs.catalog.engine import WriterLock, database_url, like
from leanpacs.catalog.prepared import Repeated
from leanpacs.catalog.schema import DigestBytes, UtcTime, studies
from leanpacs.errors import CatalogError, CatalogUnavailable
from leanpacs.refs import Digest
from unit.catalog.recipes import land, make_index, make_landing


def test_pragmas_that_durability_rests_on(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    with catalog._database.reading() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "busy_timeout")
        }
    catalog.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "mmap_size": 0,
        "busy_timeout": 60_000,
    }


def test_url_of_a_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_url("some where%.sqlite").database == str(tmp_path / "some where%.sqlite")
    assert database_url("postgresql+psycopg://host/name").get_backend_name() == "postgresql"
    assert database_url(":memory:").database is None


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    order: list[str] = []
    holds = threading.Event()

    def wait_for_the_turn() -> None:
        holds.set()
        with second.held():
            order.append("second")

    with first.held():
        waiter = threading.Thread(target=wait_for_the_turn)
        waiter.start()
        assert holds.wait(60)
        waiter.join(0.1)
        order.append("first")
    waiter.join(60)
    first.close()
    second.close()
    assert order == ["first", "second"]


def test_a_thread_does_not_wait_for_itself() -> None:
    lock = WriterLock(None)
    with lock.held(), pytest.raises(RuntimeError, match="in this thread already"), lock.held():
        pass
    with lock.held():
        pass  # and the refused try has not let go of it or kept it


def test_threads_write_in_turn(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    threads = [
        threading.Thread(target=lambda n=n: [land(catalog, make_index(n, 1, k)) for k in range(10)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [study.number_of_instances for study in catalog.newest_studies(10)]
    catalog.close()
    assert counts == [10] * 4


def test_memory_is_shared_by_threads() -> None:
    catalog = open_catalog(":memory:")
    seen: list[int] = []
    with catalog.writing() as tx:
        index = make_index()
        tx.land(index, make_landing(index))
        # another thread waits until this transaction is over
        reader = threading.Thread(target=lambda: seen.append(len(catalog.newest_studies(5))))
        reader.start()
        assert len(catalog.newest_studies(5)) == 1
    reader.join(60)
    catalog.close()
    assert seen == [1]


def test_failed_block_is_undone(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    index = make_index()
    with pytest.raises(ZeroDivisionError), catalog.writing() as tx:  # noqa: PT012
        tx.land(index, make_landing(index))
        raise ZeroDivisionError
    assert catalog.newest_studies(5) == []
    land(catalog, index)
    assert len(catalog.newest_studies(5)) == 1
    catalog.close()


def test_locked_database_is_a_transient_error(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    with catalog._database.writing() as connection:  # the one that is kept for writers
        connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CatalogUnavailable) as caught:
        land(catalog, make_index())
    other.close()
    assert caught.value.transient
    assert "locked" in str(caught.value)
    land(catalog, make_index())
    catalog.close()


def test_refusal_by_the_schema_is_an_error_without_values(tmp_path: Path) -> None:
    catalog = open_catalog(":memory:")
    with pytest.raises(CatalogError) as caught, catalog._database.writing() as connection:
        connection.execute(studies.insert(), {"patient_key": 7, "study_uid": "1.2", "patient_name": "Doe"})
    catalog.close()
    assert not caught.value.transient
    assert "Doe" not in f"{caught.value} {caught.value.__cause__}"


def test_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"what is this? " * 100)
    with pytest.raises(CatalogError, match="not a database"):
        open_catalog(path)
    assert path.read_bytes() == b"what is this? " * 100


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable):
        open_catalog(tmp_path / "nowhere" / "catalog.sqlite")


def test_a_file_that_cannot_be_opened_any_more(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with closing(open_catalog(path)) as catalog:
        path.rename(tmp_path / "away")
        path.mkdir()
        for use in (lambda: catalog.newest_studies(1), lambda: catalog.instances(sop_uid="1.2")):
            with pytest.raises(CatalogUnavailable, match="unable to open") as caught:
                use()
            assert caught.value.transient
        path.rmdir()
        (tmp_path / "away").rename(path)
        assert catalog.newest_studies(1) == []
        assert catalog.instances(sop_uid="1.2") == []


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(1935, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    ],
)
def test_times_keep_their_microseconds(moment: datetime) -> None:
    column, dialect = UtcTime(), sqlite.dialect()
    kept = column.process_result_value(column.process_bind_param(moment, dialect), dialect)
    assert kept == moment
    assert kept.tzinfo is UTC


def test_naive_times_are_refused() -> None:
    catalog = open_catalog(":memory:")
    index = make_index()
    with pytest.raises(TypeError), catalog.writing() as tx:
        tx.land(index, make_landing(index, at=datetime(2025, 1, 1)))  # noqa: DTZ001
    catalog.close()


def test_errors_of_the_driver_are_those_of_the_catalog_and_undo_all(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog.sqlite")
    wrong = {"at": datetime.now(UTC), "action": "landed", "instance_key": None}

    def break_off(tx: Transaction) -> None:
        tx.land(make_index(), make_landing(make_index()))
        catalog._statements.change.run(tx._connection, wrong)

    with pytest.raises(CatalogError, match="refuses"):
        catalog.write(break_off)
    with pytest.raises(CatalogUnavailable, match="no such table"), catalog.writing() as tx:
        Repeated(text("SELECT * FROM absent")).run(tx._connection, {})
    assert not list(catalog.all_instances())
    land(catalog, make_index())  # the next writer begins anew
    assert len(list(catalog.all_instances())) == 1
    catalog.close()


def test_digests_are_their_bytes() -> None:
    column, digest = DigestBytes(), Digest.of(b"")
    dialect = sqlite.dialect()
    assert column.process_bind_param(digest, dialect) == digest.raw
    assert column.process_result_value(memoryview(digest.raw), dialect) == digest


def test_patterns_of_postgresql_escape_what_is_special_there() -> None:
    condition = like("postgresql", studies.c.study_id, "5%_\\*x?")
    assert condition.compile().params == {"study_id_1": "5\\%\\_\\\\%x_"}
