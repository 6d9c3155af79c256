"""An index for studies of a modality. Frozen: later changes are later revisions."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_series_modality_study_key"), "series", ["modality", "study_key"])


def downgrade() -> None:
    op.drop_index(op.f("ix_series_modality_study_key"), "series")
