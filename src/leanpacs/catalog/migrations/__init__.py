"""Brings the schema of a catalog up to date. Alembic is imported only when there is something to do.

``HEAD`` is the newest revision in ``versions``; a test holds it to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from leanpacs.errors import CatalogError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from leanpacs.catalog.engine import Database

HEAD: Final = "0009"
_ADVISORY_LOCK: Final = 0x4C65616E  # 'Lean'


def bring_up_to_date(database: Database) -> None:
    """Create the tables, or run the migrations that are missing; one process does it, others wait.

    Raises
    ------
    CatalogError
        The catalog was made by a later release.
    """
    with database.reading() as connection:
        if current_revision(connection) == HEAD:
            return
    database.use_wal()
    with database.writing() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        # Looked at again: another process may have done it while this one waited.
        if current_revision(connection) != HEAD:
            _upgrade(connection)


def current_revision(connection: Connection) -> str | None:
    """Revision of the schema; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def configuration(connection: Connection) -> Config:
    """Alembic's settings for these migrations, over a connection whose transaction is the caller's."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.util.exc import CommandError

    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        revision = current_revision(connection)
        raise CatalogError(f"the catalog (schema {revision}) was made by a later release: {error}") from error
