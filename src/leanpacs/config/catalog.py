"""Where the catalog is."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from leanpacs.config.section import Seconds, Section


def _known_database(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(("postgresql://", "postgresql+psycopg://")):
        raise ValueError("the catalog is a file of the archive's folder, or at postgresql://user@host/database")
    return url


class CatalogSettings(Section):
    """The catalog: a SQLite file in the archive's folder, or a PostgreSQL database that several hosts may share."""

    url: Annotated[SecretStr, AfterValidator(_known_database)] = Field(
        default=SecretStr(""),
        description="`postgresql://user@host/database`; empty for `catalog.sqlite` in `storage.data`. A password is "
        "safer in the file that PGPASSFILE names than here.",
    )
    connections: int = Field(
        default=20, ge=2, le=1000, description="Most connections to PostgreSQL at a time, for each process."
    )
    connect_seconds: Seconds = Field(default=10.0, ge=1, description="How long to wait for PostgreSQL to answer.")
    wait_seconds: Seconds = Field(
        default=60.0, gt=0, description="How long to wait for a free connection, or for another writer."
    )
