"""Several prepared queries of one committed state, and the connections to a SQLite file that they are run by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from leanpacs.catalog.prepared import Prepared, as_the_toolkit

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection, Engine


class View(Protocol):
    """One committed state of the catalog."""

    @property
    def dialect(self) -> str:
        """Name of the database's dialect."""

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """What a query finds."""


class ConnectionView:
    """What a connection of the toolkit sees."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.dialect = connection.dialect.name

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """See `View`."""
        return self.connection.execute(prepared.statement, parameters).all()


class Readers:
    """Connections to a SQLite file. Thread-safe.

    Taking one from the toolkit's pool and putting it back takes longer than a query does.

    Parameters
    ----------
    engine : Engine
        Opens connections, and sets them up.
    kept : int
        How many stay open while nobody uses them.
    """

    def __init__(self, engine: Engine, kept: int) -> None:
        self._engine = engine
        self._kept = kept
        # The one used last comes first: its page cache is warm.
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thread; closed after an error, and kept for others otherwise."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._opened()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed or len(self._idle) >= self._kept:
            connection.close()
        else:
            self._idle.append(connection)

    @contextmanager
    def view(self) -> Iterator[View]:
        """One state for several queries."""
        with self.one() as connection:
            with as_the_toolkit(self._engine.dialect, "BEGIN"):
                connection.execute("BEGIN")
            yield _DriverView(self._engine, connection)
            with as_the_toolkit(self._engine.dialect, "COMMIT"):
                connection.execute("COMMIT")

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """What one query finds."""
        with self.one() as connection:
            return prepared.run_on(connection, self._engine.dialect, parameters)

    def close(self) -> None:
        """Close all connections that nobody uses; the others are closed when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _opened(self) -> sqlite3.Connection:
        with as_the_toolkit(self._engine.dialect):
            pooled = self._engine.raw_connection()
        connection: sqlite3.Connection = pooled.driver_connection  # type: ignore[assignment]
        pooled.detach()
        return connection


class _DriverView:
    """What a connection of the driver sees."""

    def __init__(self, engine: Engine, connection: sqlite3.Connection) -> None:
        self._dialect = engine.dialect
        self._connection = connection
        self.dialect = engine.dialect.name

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """See `View`."""
        return prepared.run_on(self._connection, self._dialect, parameters)
