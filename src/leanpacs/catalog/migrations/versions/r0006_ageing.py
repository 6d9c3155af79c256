"""Reads, lifecycle work and its sums, holds, scrubs. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TABLES = ("series_reads", "lifecycle_work", "lifecycle_sums", "lifecycle_state", "holds", "scrubs")


def words(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS, nullable=False, server_default="")


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "series_reads",
        sa.Column("series_key", KEY, nullable=False, autoincrement=False),
        time("last_read_at"),
        count("reads"),
        sa.PrimaryKeyConstraint("series_key", name="pk_series_reads"),
        sa.ForeignKeyConstraint(
            ["series_key"], ["series.id"], name="fk_series_reads_series_key", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "lifecycle_work",
        sa.Column("instance_key", KEY, nullable=False, autoincrement=False),
        words("goal"),
        words("owner"),
        time("claimed_until"),
        count("attempts"),
        words("outcome"),
        words("detail"),
        sa.PrimaryKeyConstraint("instance_key", "goal", name="pk_lifecycle_work"),
        sa.ForeignKeyConstraint(
            ["instance_key"], ["instances.id"], name="fk_lifecycle_work_instance_key", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "lifecycle_sums",
        words("task"),
        words("rule"),
        words("outcome"),
        count("tasks"),
        count("raw_bytes"),
        count("bytes_before"),
        count("bytes_after"),
        sa.Column("seconds", sa.Float, nullable=False, server_default=sa.text("0")),
        time("last_at"),
        sa.PrimaryKeyConstraint("task", "rule", "outcome", name="pk_lifecycle_sums"),
    )
    op.create_table(
        "lifecycle_state", words("name"), words("value"), sa.PrimaryKeyConstraint("name", name="pk_lifecycle_state")
    )
    op.create_table(
        "holds",
        sa.Column("id", KEY, primary_key=True, autoincrement=True),
        words("study_uid"),
        words("series_uid"),
        words("actor"),
        words("reason"),
        time("placed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_holds_study_uid", "holds", ["study_uid"])
    op.create_table(
        "scrubs",
        sa.Column("blob_key", KEY, nullable=False, autoincrement=False),
        time("checked_at"),
        words("problem"),
        sa.PrimaryKeyConstraint("blob_key", name="pk_scrubs"),
        sa.ForeignKeyConstraint(["blob_key"], ["blobs.id"], name="fk_scrubs_blob_key", ondelete="CASCADE"),
    )
    op.create_index("ix_scrubs_checked_at", "scrubs", ["checked_at"])


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)
