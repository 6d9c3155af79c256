"""Made-up rows for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from leanpacs.catalog import (
    Arrival,
    Catalog,
    Evidence,
    Fidelity,
    FrameTable,
    Landed,
    Landing,
    Match,
    NewRepresentation,
    Query,
    Span,
    matchable,
    parse_match,
)
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    InstanceIndex,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.refs import HOT, BlobRef, Digest

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def make_index(
    study: int = 1, series: int = 1, instance: int = 1, *, sop_class: str = CT, **attributes: Any
) -> InstanceIndex:
    """An index whose UIDs follow from the numbers; attributes of any level by field name."""
    levels = [
        level(**{field.name: attributes.pop(field.name) for field in fields(level) if field.name in attributes})
        for level in (PatientAttributes, StudyAttributes, SeriesAttributes, InstanceAttributes)
    ]
    assert not attributes, attributes
    study_uid = f"1.2.3.{study}"
    return InstanceIndex(study_uid, f"{study_uid}.{series}", f"{study_uid}.{series}.{instance}", sop_class, (), *levels)


def make_blob(*parts: object, size_bytes: int = 1000) -> BlobRef:
    return BlobRef(HOT, Digest.of(repr(parts).encode()), size_bytes)


def make_landing(index: InstanceIndex, *, size_bytes: int = 1000, at: datetime = NOW, tag: str = "") -> Landing:
    digest = Digest.of(f"data set {index.sop_uid} {tag}".encode())
    arrival = Arrival(EXPLICIT_LE, size_bytes - 300, digest, at, sender="SENDER", door="dimse")
    blob = make_blob("landed", index.sop_uid, tag, size_bytes=size_bytes)
    return Landing(arrival, blob, 300, raw_head_bytes=100, raw_frame_bytes=size_bytes - 400)


def make_pack(*parts: object, size_bytes: int = 200, **changed: Any) -> NewRepresentation:
    digest = Digest.of(repr(parts).encode())
    given: dict[str, Any] = {
        "blob": make_blob("pack", *parts, size_bytes=size_bytes),
        "form": "frames",
        "fidelity": Fidelity.BYTES,
        "created_at": NOW,
        "codec": "jpegxl",
        "effort": 1,
        "precision": 12,
        "head": Span(34, 50),
        "frames": FrameTable.of([Span(120, 70)]),
        "dictionary_id": 40_000,
        "raw_head_bytes": 100,
        "raw_frame_bytes": 600,
        "stored_head_bytes": 50,
        "stored_frame_bytes": 70,
        "evidence": Evidence(digest, digest, NOW, "encoder 1.2", "decoder 3.4", 0.25),
    }
    return NewRepresentation(**{**given, **changed})


def land(catalog: Catalog, *indexes: InstanceIndex, **options: Any) -> list[Landed]:
    """Land all in one transaction."""
    with catalog.writing() as tx:
        return [tx.land(index, make_landing(index, **options)) for index in indexes]


def make_query(level: Any, **texts: str) -> Query:
    """A query from keywords and texts, as a door makes it."""
    attributes = matchable(level)
    filters: dict[str, Match] = {
        keyword: parse_match(keyword, attributes[keyword].vr, text) for keyword, text in texts.items()
    }
    return Query(level, filters)


def numbers(rows: Iterable[Any]) -> list[int]:
    """The numbers that `make_index` made the study UIDs of."""
    return [int(row.study_uid.rsplit(".", 1)[1]) for row in rows]
