"""What is to be brought back from an archive class. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("representation_key", KEY, autoincrement=False, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("ready_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("representation_key", name="pk_restores"),
        sa.ForeignKeyConstraint(
            ["representation_key"], ["representations.id"], name="fk_restores_representation_key", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("restores")
