"""The tables of the lifecycle; conventions are those of `leanpacs.catalog.schema`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Table, text

from leanpacs.catalog.schema import KEY, METADATA, WORDS, UtcTime


def _words(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, WORDS, nullable=False, server_default="", primary_key=primary_key)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


series_reads: Final = Table(
    "series_reads",
    METADATA,
    Column("series_key", KEY, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("last_read_at", UtcTime, nullable=False),
    _count("reads"),
)
"""When instances of a series were last given to somebody, and how often."""

lifecycle_work: Final = Table(
    "lifecycle_work",
    METADATA,
    Column("instance_key", KEY, ForeignKey("instances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _words("goal", primary_key=True),
    _words("owner"),
    Column("claimed_until", UtcTime, nullable=False),
    _count("attempts"),
    _words("outcome"),
    _words("detail"),
)
"""Who works on an instance, and what came of it where that does not show in what is stored.

``goal`` names the task and what it is to lead to. A row whose ``outcome`` is '' is a claim; else nobody tries again
before ``claimed_until``.
"""

lifecycle_sums: Final = Table(
    "lifecycle_sums",
    METADATA,
    _words("task", primary_key=True),
    _words("rule", primary_key=True),
    _words("outcome", primary_key=True),
    _count("tasks"),
    _count("raw_bytes"),
    _count("bytes_before"),
    _count("bytes_after"),
    Column("seconds", Float, nullable=False, server_default=text("0")),
    Column("last_at", UtcTime, nullable=False),
)
"""What was done so far: the measured history that plans are priced by."""

lifecycle_state: Final = Table(
    "lifecycle_state",
    METADATA,
    _words("name", primary_key=True),
    _words("value"),
)

holds: Final = Table(
    "holds",
    METADATA,
    Column("id", KEY, primary_key=True, autoincrement=True),
    _words("study_uid"),
    _words("series_uid"),
    _words("actor"),
    _words("reason"),
    Column("placed_at", UtcTime, nullable=False),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)
"""Studies and series that nothing may be deleted of; ``series_uid`` is '' for a whole study."""

scrubs: Final = Table(
    "scrubs",
    METADATA,
    Column("blob_key", KEY, ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("checked_at", UtcTime, nullable=False),
    _words("problem"),
    Index(None, "checked_at"),
)
"""When a blob was last read back whole, and what was wrong with it."""

erasures: Final = Table(
    "erasures",
    METADATA,
    Column("blob_key", KEY, ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("due_at", UtcTime, nullable=False),
)
"""Series packs that hold what was deleted: from ``due_at`` on, what is left in them goes into other ones."""
