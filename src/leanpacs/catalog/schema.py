"""The tables: what is held, in which forms, where, and what is still to be done with it.

Portable by construction: integers, text, byte strings and floats only. Times are microseconds since 1970 in
UTC as ``BIGINT``, digests are 32 bytes, JSON is text; text compares by code point in every database. Columns
that hold DICOM attributes are named as the fields of `leanpacs.dicom.attributes`; keys of other rows end in
``_key``, so that they cannot be mistaken for Patient ID or Study ID.

Keys are never given out twice (``AUTOINCREMENT``): a worker that still holds the key of a deleted row must
not find another row under it.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator

from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.refs import Digest

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """Aware time, kept as microseconds since 1970 (UTC); sorts and compares alike in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds since 1970; a naive time is refused with TypeError."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Aware UTC time."""
        return None if value is None else EPOCH + timedelta(microseconds=value)


def microseconds(moment: datetime) -> int:
    """A time as it is stored: microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def plain(column: Any) -> Any:
    """Read a time as the number it is stored as."""
    return type_coerce(column, BigInteger)


class DigestBytes(TypeDecorator[Digest]):
    """A SHA-256 digest as its 32 bytes."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: Digest | None, dialect: Dialect) -> bytes | None:
        """The 32 bytes."""
        return None if value is None else value.raw

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Digest | None:
        """The digest."""
        return None if value is None else Digest(bytes(value))


KEY: Final = BigInteger().with_variant(Integer(), "sqlite")
WORDS: Final = Text().with_variant(Text(collation="C"), "postgresql")

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def names_of(record: type) -> tuple[str, ...]:
    """Field names of a dataclass of attributes, which are the names of the columns that hold them."""
    return tuple(field.name for field in fields(record))


def _attributes(record: type) -> list[Column[Any]]:
    """One column for each attribute: text ('' when absent), or a number (NULL when absent)."""
    return [
        Column(field.name, BigInteger) if "int" in str(field.type) else _words(field.name) for field in fields(record)
    ]


def _key() -> Column[int]:
    return Column("id", KEY, primary_key=True, autoincrement=True)


def _reference(name: str, target: str, **options: Any) -> Column[int]:
    return Column(name, KEY, ForeignKey(target, **options), nullable=False)


def _words(name: str, **options: Any) -> Column[str]:
    return Column(name, WORDS, nullable=False, server_default="", **options)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _time(name: str) -> Column[datetime]:
    return Column(name, UtcTime, nullable=False)


def _digest(name: str) -> Column[Digest]:
    return Column(name, DigestBytes, nullable=False)


patients: Final = Table(
    "patients",
    METADATA,
    _key(),
    *_attributes(PatientAttributes),
    UniqueConstraint("patient_id", "issuer_of_patient_id"),
    sqlite_autoincrement=True,
)
"""One row for each Patient ID and issuer. Patients without an ID share one row that says nothing of them."""

studies: Final = Table(
    "studies",
    METADATA,
    _key(),
    _reference("patient_key", "patients.id"),
    _words("study_uid", unique=True),
    *_attributes(PatientAttributes),
    *_attributes(StudyAttributes),
    _time("received_at"),
    Index(None, "patient_key"),
    Index(None, "patient_id"),
    Index(None, "accession_number"),
    Index(None, "study_date"),
    sqlite_autoincrement=True,
)
"""The patient's attributes stand here as well, as the study's own instances give them: IDs are used twice."""

person_names: Final = Table(
    "person_names",
    METADATA,
    Column("attribute", WORDS, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("folded", WORDS, primary_key=True),
    Column("study_key", KEY, ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "study_key"),
)
"""Names of a study, folded for matching: parts 0 to 2 are component groups, 3 is a word (`catalog.names`)."""

series: Final = Table(
    "series",
    METADATA,
    _key(),
    _reference("study_key", "studies.id"),
    _words("series_uid"),
    *_attributes(SeriesAttributes),
    _time("received_at"),
    UniqueConstraint("study_key", "series_uid"),
    Index(None, "series_uid"),
    Index(None, "modality", "study_key"),
    sqlite_autoincrement=True,
)

instances: Final = Table(
    "instances",
    METADATA,
    _key(),
    _reference("series_key", "series.id"),
    _words("sop_uid", unique=True),
    _words("sop_class"),
    *_attributes(InstanceAttributes),
    _words("transfer_syntax"),
    _count("data_set_length"),
    _digest("data_set_digest"),
    _words("assigned"),
    _words("sender"),
    _words("door"),
    _words("warning"),
    _time("received_at"),
    Index(None, "series_key", "instance_number"),
    sqlite_autoincrement=True,
)

blobs: Final = Table(
    "blobs",
    METADATA,
    _key(),
    _digest("digest"),
    _words("tier"),
    _count("size_bytes"),
    _time("created_at"),
    UniqueConstraint("digest", "tier"),
    sqlite_autoincrement=True,
)

representations: Final = Table(
    "representations",
    METADATA,
    _key(),
    _reference("instance_key", "instances.id"),
    _reference("blob_key", "blobs.id"),
    _words("kind"),
    _words("form"),
    _words("fidelity"),
    _words("codec"),
    _count("effort"),
    _count("precision"),
    _count("size_bytes"),
    _count("preface_length"),
    _count("head_offset"),
    _count("head_length"),
    _count("tail_offset"),
    _count("tail_length"),
    _count("skeleton_offset"),
    _count("skeleton_length"),
    Column("frames_index", LargeBinary, nullable=False),
    Column("dictionary_id", BigInteger),
    _count("raw_head_bytes"),
    _count("raw_frame_bytes"),
    _count("stored_head_bytes"),
    _count("stored_frame_bytes"),
    Column("evidence_data_set_digest", DigestBytes),
    Column("evidence_samples_digest", DigestBytes),
    Column("evidence_verified_at", UtcTime),
    _words("evidence_library"),
    _words("evidence_decoder"),
    Column("evidence_seconds", Float, nullable=False, server_default=text("0")),
    _words("evidence_preset"),
    Column("evidence_encode_seconds", Float, nullable=False, server_default=text("0")),
    _words("reason"),
    _time("created_at"),
    _words("claimed_by"),
    _count("claimed_until"),
    _count("attempts"),
    Index(None, "instance_key"),
    Index(None, "blob_key"),
    Index(
        "ix_representations_landed",
        "id",
        "claimed_until",
        "size_bytes",
        "created_at",
        sqlite_where=text("kind = 'landed'"),
        postgresql_where=text("kind = 'landed'"),
    ),
    sqlite_autoincrement=True,
)
"""``claimed_until`` is in microseconds since 1970, 0 when nobody works on the landed form."""

garbage: Final = Table(
    "garbage",
    METADATA,
    Column("blob_key", KEY, ForeignKey("blobs.id"), primary_key=True, autoincrement=False),
    _time("due_at"),
    Index(None, "due_at"),
)
"""Blobs that may be deleted from ``due_at`` on, if nothing refers to them then."""

tombstones: Final = Table(
    "tombstones",
    METADATA,
    Column("instance_key", KEY, primary_key=True, autoincrement=False),
    _words("study_uid"),
    _words("series_uid"),
    _words("sop_uid"),
    _words("sop_class"),
    _digest("data_set_digest"),
    _words("actor"),
    _words("reason"),
    _time("deleted_at"),
    Index(None, "sop_uid"),
)

dictionaries: Final = Table(
    "dictionaries",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _words("scope"),
    _count("version"),
    _digest("digest"),
    _count("size_bytes"),
    _count("samples"),
    _time("trained_at"),
)

quarantine: Final = Table(
    "quarantine",
    METADATA,
    _key(),
    Column("blob_key", KEY, ForeignKey("blobs.id"), nullable=False, unique=True),
    _words("name"),
    _words("sender"),
    _words("door"),
    _words("reason"),
    _time("received_at"),
    _count("attempts"),
    sqlite_autoincrement=True,
)

series_choices: Final = Table(
    "series_choices",
    METADATA,
    Column("series_key", KEY, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _words("choice"),
)

leases: Final = Table(
    "leases",
    METADATA,
    Column("name", WORDS, primary_key=True),
    _words("owner"),
    _time("until"),
)
"""Work that one host at a time does, or has done until then."""

changes: Final = Table(
    "changes",
    METADATA,
    Column("sequence", KEY, primary_key=True, autoincrement=True),
    _time("at"),
    _words("action"),
    Column("instance_key", KEY, nullable=False),
    sqlite_autoincrement=True,
)
"""Append only. The UIDs of an entry are those of the instance, or of its tombstone once it is deleted."""

api_keys: Final = Table(
    "api_keys",
    METADATA,
    Column("key_id", WORDS, primary_key=True),
    _words("name"),
    _digest("digest"),
    _words("roles"),
    _time("created_at"),
    _words("created_by"),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
)
"""Of the secret part of a key only its SHA-256 is here. Rows are never removed."""

traffic: Final = Table(
    "traffic",
    METADATA,
    Column("hour", UtcTime, primary_key=True),
    Column("direction", WORDS, primary_key=True),
    Column("protocol", WORDS, primary_key=True),
    Column("client", WORDS, primary_key=True),
    Column("site", WORDS, primary_key=True),
    Column("modality", WORDS, primary_key=True),
    Column("transfer_syntax", WORDS, primary_key=True),
    _count("requests"),
    _count("instances"),
    _count("sent_bytes"),
    _count("raw_bytes"),
)
"""Sums by hour, to which processes add. ``sent_bytes`` went over the line; uncompressed, it had been ``raw_bytes``."""

restores: Final = Table(
    "restores",
    METADATA,
    Column(
        "representation_key",
        KEY,
        ForeignKey("representations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _time("requested_at"),
    Column("ready_at", UtcTime),
)
"""Stored forms that somebody wants and that had to be asked for; ``ready_at`` is when they could be read."""
