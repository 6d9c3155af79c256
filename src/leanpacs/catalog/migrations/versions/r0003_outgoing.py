"""Destinations, outbox and reports of storage commitment that are owed. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def words(name: str) -> sa.Column[str]:
    return sa.Column(name, WORDS, nullable=False, server_default="")


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "destinations",
        sa.Column("ae_title", WORDS, nullable=False),
        words("host"),
        count("port"),
        words("prefer"),
        count("tls"),
        words("tls_ca"),
        count("reports_apart"),
        time("changed_at"),
        sa.PrimaryKeyConstraint("ae_title", name="pk_destinations"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        words("destination"),
        words("study_uid"),
        words("series_uid"),
        words("sop_uid"),
        words("cause"),
        time("queued_at"),
        time("due_at"),
        count("attempts"),
        count("failed"),
        words("reason"),
        words("claimed_by"),
        time("claimed_until"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("destination", "sop_uid", name="uq_outbox_destination_sop_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_due", "outbox", ["failed", "destination", "due_at"])
    op.create_table(
        "commitments",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        words("destination"),
        words("transaction_uid"),
        words("instances"),
        time("asked_at"),
        time("due_at"),
        count("attempts"),
        words("reason"),
        sa.PrimaryKeyConstraint("id", name="pk_commitments"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for table in ("commitments", "outbox", "destinations"):
        op.drop_table(table)
