"""Connections to the catalog's database: SQLite in a file or in memory, or PostgreSQL.

Everything in which the two differ is here: how a connection is set up, how writers take turns, upserts, row
locks, patterns, and which errors mean "try again".
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, ColumnElement, Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import StaticPool

from leanpacs.catalog.prepared import Repeated
from leanpacs.catalog.views import ConnectionView, Readers, View
from leanpacs.errors import CatalogConflict, CatalogError, CatalogUnavailable, ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Table

    from leanpacs.catalog.prepared import Prepared

_WAIT_SECONDS: Final = 60.0
_KEPT_CONNECTIONS: Final = 5
_CACHE_KIB: Final = 8192
_CHECKPOINT_PAGES: Final = 2000
_WAL_LIMIT_BYTES: Final = 64 << 20
_LOST_RACES: Final = frozenset({"40001", "40P01", "55P03"})
"""States of PostgreSQL: serialization failure, deadlock, lock not available."""

_BEGIN: Final = Repeated(text("BEGIN IMMEDIATE"))
_READ_ONLY: Final = "25006"
"""State of PostgreSQL: the server is a standby, as after a fail-over that is not over yet."""

Insert = sqlite.Insert | postgresql.Insert


class WriterLock:
    """Lets one writer in at a time, of all threads and processes that share a SQLite file.

    SQLite's own busy handler sleeps and tries again, so that under load some writer may never get its turn;
    a file lock puts waiters to sleep in the kernel and is let go of when a process dies.

    Parameters
    ----------
    path : Path or None
        The lock file; None when no other process can reach the database.

    Raises
    ------
    CatalogUnavailable
        The lock file cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600) if path is not None else None
        except OSError as error:
            raise CatalogUnavailable(f"the catalog's lock file cannot be opened: {error}") from error
        self._threads = threading.Lock()
        self._holder: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the turn of this thread.

        Raises
        ------
        CatalogUnavailable
            Other threads of this process kept it for a minute.
        RuntimeError
            This thread has it already; waiting would be for ever.
        """
        if self._holder == threading.get_ident():
            raise RuntimeError("a write transaction is open in this thread already")
        if not self._threads.acquire(timeout=_WAIT_SECONDS):
            raise CatalogUnavailable("the catalog is kept busy by other writers")
        try:
            self._holder = threading.get_ident()
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            yield
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self._holder = None
            self._threads.release()

    def close(self) -> None:
        """Close the lock file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class Pool:
    """How many connections a process may have to a database server, and how long it waits for one, or for a lock."""

    connections: int = 20
    connect_seconds: float = 10.0
    wait_seconds: float = _WAIT_SECONDS


class Database:
    """An engine with the rules by which this archive reads and writes.

    Parameters
    ----------
    url : URL
        ``sqlite:///PATH``, ``sqlite://`` (memory) or ``postgresql+psycopg://...``.
    pool : Pool
        Connections to PostgreSQL; SQLite opens what it needs.

    Raises
    ------
    ConfigError
        There is no driver for this database.
    """

    def __init__(self, url: URL, pool: Pool = Pool()) -> None:
        self.dialect = url.get_backend_name()
        self.in_memory = self.dialect == "sqlite" and url.database in (None, "", ":memory:")
        self._engine = _engine(url, pool, in_memory=self.in_memory)
        self._readers = self._engine
        if self.dialect == "postgresql":
            # Several statements see one state, as they do on SQLite.
            self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._lock: WriterLock | None = None
        if self.dialect == "sqlite":
            self._lock = WriterLock(None if self.in_memory else Path(f"{url.database}.lock"))
        is_file = self.dialect == "sqlite" and not self.in_memory
        self._file_readers = Readers(self._engine, _KEPT_CONNECTIONS) if is_file else None
        # A database in memory has one connection, so readers wait for the writer, or look over its shoulder.
        self._single = threading.RLock()
        self._shared: Connection | None = None
        self._writer: Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection with one consistent view of the committed state.

        In memory, and within this thread's own `writing`, the view includes what is not committed yet.
        """
        with self._translated(), self._single if self.in_memory else nullcontext():
            if self._shared is not None:
                yield self._shared
            else:
                with self._begun(self._readers, "BEGIN") as connection:
                    yield connection

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """What one query finds, which sees one state by itself; else as :meth:`reading`."""
        if self.in_memory:
            with self.reading() as connection:
                return connection.execute(prepared.statement, parameters).all()
        with self._translated():
            if self._file_readers is not None:
                return self._file_readers.rows(prepared, parameters)
            return prepared.run(self._engine, parameters)

    @contextmanager
    def viewing(self) -> Iterator[View]:
        """Several prepared queries of one committed state, as :meth:`reading`."""
        if self._file_readers is None:
            with self.reading() as connection:
                yield ConnectionView(connection)
            return
        with self._translated(), self._file_readers.view() as view:
            yield view

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: committed and durable when the block ends, undone when it raises."""
        alone = self._single if self.in_memory else nullcontext()
        begun = self._begun(self._engine, "") if self._lock is None else self._begun_alone()
        with self._translated(), self._turn(), alone, begun as connection:
            self._shared = connection if self.in_memory else None
            try:
                yield connection
            finally:
                self._shared = None

    @contextmanager
    def _begun(self, engine: Engine, begin: str) -> Iterator[Connection]:
        """A connection in a transaction, which SQLite begins in this way: its driver does not (`_set_up_sqlite`).

        SQLAlchemy has an event for that, but once anybody listens, every statement looks for listeners.
        """
        with engine.begin() as connection:
            if self._lock is not None:
                connection.exec_driver_sql(begin)
            yield connection

    @contextmanager
    def _begun_alone(self) -> Iterator[Connection]:
        """A write transaction on SQLite; as there is one writer at a time, a connection is kept for it."""
        connection = self._writer or self._engine.connect()
        self._writer = None
        try:
            with connection.begin():
                # The lock is taken at once: upgrading a read transaction fails when another has written meanwhile.
                _BEGIN.run(connection, {})
                yield connection
        except BaseException:
            connection.close()
            raise
        self._writer = connection

    def _turn(self) -> AbstractContextManager[None]:
        return self._lock.held() if self._lock is not None else nullcontext()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            if _state(error) in _LOST_RACES:
                raise CatalogConflict(f"another writer was faster: {_text(error)}") from error
            raise CatalogUnavailable(f"the catalog does not answer: {_text(error)}") from error
        except exc.IntegrityError as error:
            if self.dialect == "sqlite":
                raise CatalogError(f"the catalog refuses: {_text(error)}") from error
            # Writers are not serialised there: somebody else got in between, and a second try will see it.
            raise CatalogConflict(f"another writer was faster: {_text(error)}") from error
        except exc.DBAPIError as error:
            if _state(error) == _READ_ONLY:
                raise CatalogUnavailable(f"the catalog cannot be written now: {_text(error)}") from error
            raise CatalogError(f"the catalog cannot do this: {_text(error)}") from error

    def use_wal(self) -> None:
        """Switch a SQLite file to write-ahead logging, once, while no other writer is there."""
        if self.dialect != "sqlite" or self.in_memory:
            return
        with self._translated(), self._turn(), self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            if driver.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                driver.execute("PRAGMA journal_mode = WAL")

    def close(self) -> None:
        """Close all connections."""
        if self._writer is not None:
            self._writer.close()
        if self._file_readers is not None:
            self._file_readers.close()
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()


def database_url(place: str | os.PathLike[str]) -> URL:
    """URL of a catalog that is named by a URL, by the path of a SQLite file, or as ``:memory:``."""
    text = os.fspath(place)
    if "://" in text:
        url = make_url(text)
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    return URL.create("sqlite", database=None if text == ":memory:" else os.path.abspath(text))  # noqa: PTH100


def _engine(url: URL, pool: Pool, *, in_memory: bool) -> Engine:
    # Parameters are names and birth dates of patients: they do not belong into error texts and logs.
    options: dict[str, Any] = {"hide_parameters": True}
    if url.get_backend_name() != "sqlite":
        return _postgresql_engine(url, pool, options)
    options["connect_args"] = {"timeout": _WAIT_SECONDS, "check_same_thread": False}
    if in_memory:
        options["poolclass"] = StaticPool
    else:
        # The connection used last comes first: its page cache is warm, and rarely used ones stay small.
        options |= {"max_overflow": -1, "pool_use_lifo": True}
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _postgresql_engine(url: URL, pool: Pool, options: dict[str, Any]) -> Engine:
    kept = min(_KEPT_CONNECTIONS, pool.connections)
    options |= {
        "pool_size": kept,
        "max_overflow": pool.connections - kept,
        "pool_timeout": pool.wait_seconds,
        "pool_use_lifo": True,
        # A server that was started anew, or a fail-over, is noticed before a transaction begins on a dead connection.
        "pool_pre_ping": True,
        "connect_args": {
            "application_name": "leanpacs",
            "connect_timeout": max(1, round(pool.connect_seconds)),
            # A host that vanishes without a word is noticed within a minute.
            "keepalives": 1,
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 4,
            "tcp_user_timeout": 60_000,
        },
    }
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        message = f"the driver is not installed ({error.name}): pip install 'leanpacs[postgres]'"
        raise ConfigError("catalog.url", url.render_as_string(), message) from error
    wait = f"SET lock_timeout = {round(pool.wait_seconds * 1000)}"

    def set_up(connection: Any, record: object) -> None:
        connection.execute(wait)
        connection.commit()

    event.listen(engine, "connect", set_up)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # The driver's own guesses about when to begin a transaction are switched off.
    connection.isolation_level = None
    for setting in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "mmap_size = 0",
        f"cache_size = -{_CACHE_KIB}",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"journal_size_limit = {_WAL_LIMIT_BYTES}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {setting}")


def _state(error: exc.SQLAlchemyError) -> str | None:
    """The code of an error, as PostgreSQL gives it."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _text(error: exc.SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).strip()


def insert(dialect: str, table: Table) -> Insert:
    """``INSERT`` that knows ``ON CONFLICT``, which both databases write alike."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def like(dialect: str, column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Match with ``*`` (any characters) and ``?`` (one character), case-sensitively (PS3.4 C.2.2.2.4)."""
    if dialect == "sqlite":
        # LIKE ignores the case of ASCII letters there; GLOB does not, and can use an index.
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, "\\" + special)
    return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")
