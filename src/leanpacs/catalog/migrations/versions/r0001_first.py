"""The first schema. Frozen: later changes are later revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

PATIENT = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex")
STUDY = (
    "study_date",
    "study_time",
    "accession_number",
    "study_id",
    "study_description",
    "referring_physician_name",
    "timezone_offset_from_utc",
)
SERIES = (
    "series_description",
    "body_part_examined",
    "laterality",
    "manufacturer",
    "manufacturer_model_name",
    "station_name",
    "institution_name",
    "performed_procedure_step_start_date",
    "performed_procedure_step_start_time",
    "protocol_name",
)
INSTANCE = (
    "content_date",
    "content_time",
    "acquisition_date",
    "acquisition_time",
    "image_type",
    "photometric_interpretation",
    "transfer_syntax",
)
SPANS = ("head_offset", "head_length", "tail_offset", "tail_length", "skeleton_offset", "skeleton_length")
SIZES = ("raw_head_bytes", "raw_frame_bytes", "stored_head_bytes", "stored_frame_bytes")


def key(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, KEY, primary_key=True, autoincrement=True)


def reference(name: str) -> sa.Column[int]:
    return sa.Column(name, KEY, nullable=False)


def own(name: str) -> sa.Column[int]:
    return sa.Column(name, KEY, primary_key=True, autoincrement=False)


def words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, WORDS, nullable=False, server_default="") for name in names]


def counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")) for name in names]


def numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger) for name in names]


def time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def digest(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(32), nullable=False)


def primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def foreign(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"), ondelete=ondelete)


def index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def upgrade() -> None:
    """Create all tables."""
    levels()
    holdings()
    records()


def levels() -> None:
    """Patients, studies, series, instances."""
    op.create_table(
        "patients",
        key(),
        *words(*PATIENT),
        primary("patients", "id"),
        unique("patients", "patient_id", "issuer_of_patient_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "studies",
        key(),
        reference("patient_key"),
        *words("study_uid", *PATIENT, *STUDY),
        time("received_at"),
        primary("studies", "id"),
        foreign("studies", "patient_key", "patients.id"),
        unique("studies", "study_uid"),
        sqlite_autoincrement=True,
    )
    for column in ("patient_key", "patient_id", "accession_number", "study_date"):
        index("studies", column)
    op.create_table(
        "person_names",
        sa.Column("attribute", WORDS, nullable=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("folded", WORDS, nullable=False),
        reference("study_key"),
        primary("person_names", "attribute", "part", "folded", "study_key"),
        foreign("person_names", "study_key", "studies.id", "CASCADE"),
    )
    index("person_names", "study_key")
    op.create_table(
        "series",
        key(),
        reference("study_key"),
        *words("series_uid", "modality"),
        *numbers("series_number"),
        *words(*SERIES),
        time("received_at"),
        primary("series", "id"),
        foreign("series", "study_key", "studies.id"),
        unique("series", "study_key", "series_uid"),
        sqlite_autoincrement=True,
    )
    index("series", "series_uid")
    op.create_table(
        "instances",
        key(),
        reference("series_key"),
        *words("sop_uid", "sop_class"),
        *numbers("instance_number", "rows", "columns", "bits_allocated", "number_of_frames"),
        *words(*INSTANCE),
        *counts("data_set_length"),
        digest("data_set_digest"),
        *words("assigned", "sender", "door", "warning"),
        time("received_at"),
        primary("instances", "id"),
        foreign("instances", "series_key", "series.id"),
        unique("instances", "sop_uid"),
        sqlite_autoincrement=True,
    )
    index("instances", "series_key", "instance_number")


def holdings() -> None:
    """Blobs and what they hold."""
    op.create_table(
        "blobs",
        key(),
        digest("digest"),
        *words("tier"),
        *counts("size_bytes"),
        time("created_at"),
        primary("blobs", "id"),
        unique("blobs", "digest", "tier"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "representations",
        key(),
        reference("instance_key"),
        reference("blob_key"),
        *words("kind", "form", "fidelity", "codec"),
        *counts("effort", "precision", "size_bytes", "preface_length", *SPANS),
        sa.Column("frames_index", sa.LargeBinary, nullable=False),
        *numbers("dictionary_id"),
        *counts(*SIZES),
        sa.Column("evidence_data_set_digest", sa.LargeBinary(32)),
        sa.Column("evidence_samples_digest", sa.LargeBinary(32)),
        *numbers("evidence_verified_at"),
        *words("evidence_library", "evidence_decoder"),
        sa.Column("evidence_seconds", sa.Float, nullable=False, server_default=sa.text("0")),
        *words("reason"),
        time("created_at"),
        *words("claimed_by"),
        *counts("claimed_until", "attempts"),
        primary("representations", "id"),
        foreign("representations", "instance_key", "instances.id"),
        foreign("representations", "blob_key", "blobs.id"),
        sqlite_autoincrement=True,
    )
    index("representations", "instance_key")
    index("representations", "blob_key")
    landed = sa.text("kind = 'landed'")
    op.create_index(
        "ix_representations_landed",
        "representations",
        ["id", "claimed_until", "size_bytes", "created_at"],
        sqlite_where=landed,
        postgresql_where=landed,
    )
    op.create_table(
        "garbage",
        own("blob_key"),
        time("due_at"),
        primary("garbage", "blob_key"),
        foreign("garbage", "blob_key", "blobs.id"),
    )
    index("garbage", "due_at")
    op.create_table(
        "quarantine",
        key(),
        reference("blob_key"),
        *words("name", "sender", "door", "reason"),
        time("received_at"),
        *counts("attempts"),
        primary("quarantine", "id"),
        foreign("quarantine", "blob_key", "blobs.id"),
        unique("quarantine", "blob_key"),
        sqlite_autoincrement=True,
    )


def records() -> None:
    """What is remembered: dictionaries, choices, deletions, changes."""
    op.create_table(
        "dictionaries",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        *words("scope"),
        *counts("version"),
        digest("digest"),
        *counts("size_bytes", "samples"),
        time("trained_at"),
        primary("dictionaries", "id"),
    )
    op.create_table(
        "series_choices",
        own("series_key"),
        *words("choice"),
        primary("series_choices", "series_key"),
        foreign("series_choices", "series_key", "series.id", "CASCADE"),
    )
    op.create_table(
        "tombstones",
        own("instance_key"),
        *words("study_uid", "series_uid", "sop_uid", "sop_class"),
        digest("data_set_digest"),
        *words("actor", "reason"),
        time("deleted_at"),
        primary("tombstones", "instance_key"),
    )
    index("tombstones", "sop_uid")
    op.create_table(
        "changes",
        key("sequence"),
        time("at"),
        *words("action"),
        reference("instance_key"),
        primary("changes", "sequence"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop all tables, those that refer to others first."""
    for table in (
        *("changes", "tombstones", "series_choices", "dictionaries", "quarantine", "garbage", "representations"),
        *("blobs", "instances", "series", "person_names", "studies", "patients"),
    ):
        op.drop_table(table)
