"""Packs that hold what was deleted. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("blob_key", KEY, autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("blob_key", name="pk_erasures"),
        sa.ForeignKeyConstraint(["blob_key"], ["blobs.id"], name="fk_erasures_blob_key", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("erasures")
