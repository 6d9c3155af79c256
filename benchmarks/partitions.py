"""``python -m benchmarks.partitions [INSTANCES]``: divide `instances` of a generated catalog, as the docs have it.

What is long is done beside a running catalog; what locks the table is one transaction. Nothing of it is what the
archive ships: this shows that the plan works, and how long each step takes.
"""

from __future__ import annotations

import sys
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Final

from rich.console import Console

from benchmarks.catalog import SERVER
from benchmarks.catalogfill import fill
from postgres_server import PostgresServer

if TYPE_CHECKING:
    import psycopg

INSTANCES: Final = 1_000_000
PARTS: Final = 4

console = Console()


def before(last: int) -> list[str]:
    """What is done while others read and write: who lands writes UIDs into both tables by then."""
    parts = [
        f"CREATE TABLE sop_uids_{n} PARTITION OF sop_uids FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {n})"
        for n in range(PARTS)
    ]
    return [
        'CREATE TABLE sop_uids (sop_uid text COLLATE "C" PRIMARY KEY, series_key bigint NOT NULL)'
        " PARTITION BY HASH (sop_uid)",
        *parts,
        "INSERT INTO sop_uids SELECT sop_uid, series_key FROM instances",
        "CREATE UNIQUE INDEX CONCURRENTLY ux_instances_key ON instances (id, series_key)",
        "CREATE INDEX CONCURRENTLY ix_instances_sop_uid ON instances (sop_uid)",
        f"ALTER TABLE instances ADD CHECK (series_key >= 0 AND series_key <= {last}) NOT VALID",
        "ALTER TABLE instances VALIDATE CONSTRAINT instances_series_key_check",
    ]


def move(last: int, referring: list[tuple[str, str]]) -> list[str]:
    """What is done in one transaction: the old table becomes the first partition, nothing is copied."""
    return [
        *(f"ALTER TABLE {table} DROP CONSTRAINT {name}" for name, table in referring),
        "ALTER TABLE instances RENAME TO instances_0",
        "ALTER TABLE instances_0 DROP CONSTRAINT pk_instances",
        "ALTER TABLE instances_0 DROP CONSTRAINT uq_instances_sop_uid",
        "ALTER TABLE instances_0 ADD CONSTRAINT pk_instances_0 PRIMARY KEY USING INDEX ux_instances_key",
        "CREATE TABLE instances (LIKE instances_0 INCLUDING DEFAULTS) PARTITION BY RANGE (series_key)",
        "ALTER TABLE instances ADD CONSTRAINT pk_instances PRIMARY KEY (id, series_key)",
        "CREATE INDEX ON instances (series_key, instance_number)",
        "CREATE INDEX ON instances (sop_uid)",
        f"ALTER TABLE instances ATTACH PARTITION instances_0 FOR VALUES FROM (0) TO ({last + 1})",
        f"CREATE TABLE instances_1 PARTITION OF instances FOR VALUES FROM ({last + 1}) TO ({last + 4_000_001})",
    ]


def main() -> None:
    """Make a catalog, divide it, tell how long each step took."""
    instances = int(sys.argv[1]) if len(sys.argv) > 1 else INSTANCES
    with PostgresServer(SERVER) as server:
        fill(server.url.render_as_string(hide_password=False), instances, lambda _: None)
        with closing(server.connect()) as connection:
            divide(connection)


def divide(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Divide the table, and count on both sides."""
    last, held = _row(connection, "SELECT max(series_key), count(*) FROM instances")
    referring = connection.execute(
        "SELECT conname, conrelid::regclass::text FROM pg_constraint WHERE confrelid = 'instances'::regclass"
    ).fetchall()
    for statement in before(int(str(last))):
        _timed(connection, statement)
    began = perf_counter()
    with connection.transaction():
        for statement in move(int(str(last)), [(str(name), str(table)) for name, table in referring]):
            _timed(connection, statement)
    console.print(f"locked for {perf_counter() - began:.2f} s")
    assert _row(connection, "SELECT max(series_key), count(*) FROM instances") == (last, held)


def _timed(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    began = perf_counter()
    connection.execute(statement.encode())
    console.print(f"{perf_counter() - began:8.2f} s  {statement[:100]}", highlight=False)


def _row(connection: psycopg.Connection[tuple[object, ...]], query: str) -> tuple[object, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


if __name__ == "__main__":
    main()
