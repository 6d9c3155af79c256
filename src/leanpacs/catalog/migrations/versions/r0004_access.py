"""API keys, and the traffic ledger. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", WORDS, nullable=False),
        sa.Column("name", WORDS, nullable=False, server_default=""),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("roles", WORDS, nullable=False, server_default=""),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", WORDS, nullable=False, server_default=""),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
    )
    op.create_table(
        "traffic",
        sa.Column("hour", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, WORDS, nullable=False)
            for name in ("direction", "protocol", "client", "site", "modality", "transfer_syntax")
        ),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for name in ("requests", "instances", "sent_bytes", "raw_bytes")
        ),
        sa.PrimaryKeyConstraint(
            "hour", "direction", "protocol", "client", "site", "modality", "transfer_syntax", name="pk_traffic"
        ),
    )


def downgrade() -> None:
    op.drop_table("traffic")
    op.drop_table("api_keys")
