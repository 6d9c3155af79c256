"""Evidence tells of the preset, and of encoding apart from the check. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("representations", sa.Column("evidence_preset", WORDS, nullable=False, server_default=""))
    seconds = sa.Column("evidence_encode_seconds", sa.Float, nullable=False, server_default=sa.text("0"))
    op.add_column("representations", seconds)


def downgrade() -> None:
    op.drop_column("representations", "evidence_encode_seconds")
    op.drop_column("representations", "evidence_preset")
