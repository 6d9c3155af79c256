"""The schema in the code is the one that the migrations make."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from leanpacs.catalog import open_catalog
from leanpacs.catalog.engine import Database, database_url
from leanpacs.catalog.migrations import HEAD, bring_up_to_date, configuration, current_revision
from leanpacs.catalog.schema import METADATA
from leanpacs.errors import CatalogError
from unit.catalog.workers import fresh_processes, open_and_tell


def definitions(connection: Connection) -> dict[str, set[str]]:
    """Tables and indexes as SQL, each as the set of its clauses."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    clause = re.compile(r",\s*(?=CONSTRAINT|\w+ [A-Z])")
    return {
        name: {part.strip(" )") for part in clause.split(" ".join(sql.split()))}
        for name, sql in rows
        if not name.startswith(("alembic", "sqlite"))
    }


def test_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    database = Database(database_url(tmp_path / "catalog.sqlite"))
    bring_up_to_date(database)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        migrated = definitions(connection)
    database.close()
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        declared = definitions(connection)
    engine.dispose()
    assert migrated == declared


def test_head_is_the_newest_revision() -> None:
    database = Database(database_url(":memory:"))
    with database.reading() as connection:
        scripts = ScriptDirectory.from_config(configuration(connection))
    database.close()
    assert scripts.get_heads() == [HEAD]


def test_alembic_is_left_alone_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    program = (
        "import sys; from leanpacs.catalog import open_catalog; open_catalog(sys.argv[1]).close();"
        "print('alembic' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True", "False"]


def test_catalog_of_a_later_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    open_catalog(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogError, match=r"9999.*later release"):
        open_catalog(path)
    with engine.begin() as connection:
        assert current_revision(connection) == "9999"
    engine.dispose()


def test_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE changes (somebody_elses INTEGER)"))
    with pytest.raises(CatalogError):
        open_catalog(path)
    with engine.begin() as connection:
        assert list(definitions(connection)) == ["changes"]
    engine.dispose()


def test_odd_paths(tmp_path: Path) -> None:
    folder = tmp_path / "100% of ? and #"
    folder.mkdir()
    open_catalog(folder / "cat alog;.sqlite").close()
    assert (folder / "cat alog;.sqlite").stat().st_size > 0


def test_many_processes_may_open_a_new_catalog_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=fresh_processes()) as pool:
        for n in range(5):
            paths = [tmp_path / f"{n}.sqlite"] * 4
            assert list(pool.map(open_and_tell, paths)) == [HEAD] * 4
