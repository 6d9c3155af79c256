"""A real PostgreSQL for tests: a cluster of its own in a folder of its own, on a free port of 127.0.0.1.

PostgreSQL refuses to run as root: as root it is run as the user ``postgres`` (or ``nobody``), in a folder that this
user can reach. The server ends with the process that started it, however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import URL, make_url

from ports import free_port

START_SECONDS = 60.0
DATABASE = "archive"
_SERVER_SETTINGS = {
    # The machine does not lose its power during a test; that a commit survives the server's end needs no sync.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
    "max_wal_size": "256MB",
}


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, of the newest version that is installed; None when there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = shutil.which("initdb") or (debian[-1] if debian else None)
    return Path(found).resolve().parent if found else None


class PostgresServer:
    """One cluster; a context manager that makes, starts, stops and removes it.

    Parameters
    ----------
    settings : dict of str to str
        Settings of the server beside, or instead of, those that are good for tests.
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        self._programs = found
        self._settings = _SERVER_SETTINGS | (settings or {})
        self._user = _unprivileged_user() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="leanpacs-postgres-"))
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        made = [
            self._programs / "initdb",
            "-D",
            self._data,
            "-U",
            "leanpacs",
            "--no-sync",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(self._as_user([*map(str, made), "--locale=C.UTF-8"]), check=True, capture_output=True)
        self.port = free_port()
        self.start()
        with closing(self.connect("postgres")) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        return self

    def start(self) -> None:
        """Start the server, on the same port as before, and wait until it answers."""
        given = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *given]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._as_user(command), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server: connections are cut; with ``crash`` it must recover from its log at the next start."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait(START_SECONDS)
        self._process = None

    def connect(self, database: str = DATABASE) -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection with autocommit."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="leanpacs", dbname=database, autocommit=True, connect_timeout=10
        )

    @property
    def pid(self) -> int:
        """Process ID of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> URL:
        """URL of the database, as the catalog takes it."""
        return URL.create(
            "postgresql+psycopg", username="leanpacs", host="127.0.0.1", port=self.port, database=DATABASE
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _as_user(self, command: list[str]) -> list[str]:
        """The command so that it runs as the unprivileged user and is told to end when this process does."""
        if shutil.which("setpriv") is None:
            return command
        user = ["--reuid", self._user, "--regid", self._user, "--clear-groups"] if self._user else []
        return ["setpriv", "--pdeathsig", "INT", *user, *command]


@contextmanager
def schema_of_its_own(url: URL) -> Iterator[str]:
    """URL of a new schema in a database; it is dropped at the end."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    schema = f"leanpacs_{uuid.uuid4().hex}"
    with closing(psycopg.connect(plain, autocommit=True)) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    finally:
        with closing(psycopg.connect(plain, autocommit=True)) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def given_or_own() -> Iterator[URL]:
    """The database that LEANPACS_TEST_POSTGRES names, or one in a cluster of our own."""
    given = os.environ.get("LEANPACS_TEST_POSTGRES", "")
    if given:
        yield make_url(given)
        return
    with PostgresServer() as server:
        yield server.url


def why_not() -> str:
    """Why there is no PostgreSQL to test with; '' when there is one."""
    if os.environ.get("LEANPACS_TEST_POSTGRES"):
        return ""
    return (
        "" if programs() else "PostgreSQL is not installed (Debian: postgresql), and LEANPACS_TEST_POSTGRES names none"
    )


def _unprivileged_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("root cannot run PostgreSQL, and there is no other user")
