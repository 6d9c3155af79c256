"""Rows by key or UID: what retrieving, settling and verifying ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, select

from leanpacs.catalog.forms import Evidence, Fidelity, FrameTable, Kind, RepresentationRow, Span
from leanpacs.catalog.found import SeriesRow, StudyRow
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.rows import InstanceRow
from leanpacs.catalog.schema import blobs, instances, representations, series, studies
from leanpacs.refs import BlobRef, Tier

LEVELS: Final = instances.join(series, instances.c.series_key == series.c.id).join(
    studies, series.c.study_key == studies.c.id
)
"""Instances with their series and studies."""

INSTANCE_COLUMNS: Final = (
    instances.c.id,
    instances.c.series_key,
    studies.c.study_uid,
    series.c.series_uid,
    instances.c.sop_uid,
    instances.c.sop_class,
    instances.c.transfer_syntax,
    instances.c.number_of_frames,
    instances.c.rows,
    instances.c.columns,
    instances.c.data_set_length,
    instances.c.data_set_digest,
    instances.c.received_at,
    instances.c.sender,
    instances.c.door,
    instances.c.warning,
    instances.c.assigned,
    series.c.modality,
    instances.c.bits_allocated,
    instances.c.photometric_interpretation,
)
_ASSIGNED_AT: Final = [column.key for column in INSTANCE_COLUMNS].index("assigned")
SELECT_INSTANCES: Final = select(*INSTANCE_COLUMNS).select_from(LEVELS)

_EVIDENCE: Final = (
    "data_set_digest",
    "samples_digest",
    "verified_at",
    "library",
    "decoder",
    "seconds",
    "preset",
    "encode_seconds",
)
_SPANS: Final = ("head", "tail", "skeleton")
_PLAIN: Final = (
    "id",
    "instance_key",
    "kind",
    "form",
    "fidelity",
    "codec",
    "effort",
    "precision",
    "size_bytes",
    "preface_length",
    "frames_index",
    "dictionary_id",
    "raw_head_bytes",
    "raw_frame_bytes",
    "stored_head_bytes",
    "stored_frame_bytes",
    "reason",
    "created_at",
    "attempts",
)
_BLOB: Final = (blobs.c.tier, blobs.c.digest, blobs.c.size_bytes)
_REPRESENTATION_COLUMNS: Final = (
    *_BLOB,
    *(representations.c[f"evidence_{name}"] for name in _EVIDENCE),
    *(representations.c[f"{name}_{part}"] for name in _SPANS for part in ("offset", "length")),
    *(representations.c[name] for name in _PLAIN),
)
_PLAIN_AT: Final = len(_REPRESENTATION_COLUMNS) - len(_PLAIN)
_SPANS_AT: Final = _PLAIN_AT - 2 * len(_SPANS)
SELECT_REPRESENTATIONS: Final = select(*_REPRESENTATION_COLUMNS).join_from(representations, blobs)
REPRESENTATIONS_OF_INSTANCE: Final = Prepared(
    SELECT_REPRESENTATIONS.where(representations.c.instance_key == bindparam("instance_key")).order_by(
        representations.c.id
    )
)

UidsOf = tuple[str, str]
"""Study and Series Instance UID; '' for the latter stands for all of the study."""
Uid = str | BindParameter[str] | None
_UIDS: Final = ("study_uid", "series_uid", "sop_uid")


def instance_row(row: Sequence[Any]) -> InstanceRow:
    """An instance from the columns of `INSTANCE_COLUMNS`."""
    assigned: str = row[_ASSIGNED_AT]
    listed = tuple(assigned.split("\\")) if assigned else ()
    values = (*row[:_ASSIGNED_AT], listed, *row[_ASSIGNED_AT + 1 :])
    return InstanceRow(*values)


def representation_row(row: Sequence[Any]) -> RepresentationRow:
    """A representation from a row of `SELECT_REPRESENTATIONS`."""
    values: dict[str, Any] = dict(zip(_PLAIN, row[_PLAIN_AT:], strict=True))
    values["instance_id"] = values.pop("instance_key")
    values["kind"] = Kind(values["kind"])
    values["fidelity"] = Fidelity(values["fidelity"])
    values["frames"] = FrameTable(bytes(values.pop("frames_index")))
    for at, name in enumerate(_SPANS):
        offset, length = row[_SPANS_AT + 2 * at : _SPANS_AT + 2 * at + 2]
        values[name] = Span(offset, length) if length else None
    return RepresentationRow(
        blob=blob_ref(row[: len(_BLOB)]), evidence=Evidence(*row[len(_BLOB) : _SPANS_AT]), **values
    )


def blob_ref(row: Sequence[Any]) -> BlobRef:
    """A blob from its tier, digest and size."""
    tier, digest, size_bytes = row
    return BlobRef(Tier(tier), digest, size_bytes)


def instance_by_uid(connection: Connection, sop_uid: str) -> InstanceRow | None:
    """The instance of a SOP Instance UID, if it is held."""
    rows = select_instances(connection, SELECT_INSTANCES.where(instances.c.sop_uid == sop_uid))
    return rows[0] if rows else None


def select_instances(connection: Connection, query: Select[Any]) -> list[InstanceRow]:
    """Run a query that selects `INSTANCE_COLUMNS`."""
    return [instance_row(row) for row in connection.execute(query)]


def ends(connection: Connection, found: Sequence[StudyRow | SeriesRow]) -> dict[UidsOf, list[InstanceRow]]:
    """The instances that came first and last of some studies, or of some series; one where there is only one.

    Parameters
    ----------
    connection : Connection
        For reading.
    found : sequence of StudyRow or SeriesRow
        All of one kind, as many as a statement takes parameters.

    Returns
    -------
    dict
        By the UIDs of the study and of the series; '' for the latter when studies were asked for.
    """
    is_series = any(isinstance(one, SeriesRow) for one in found)
    groups = (studies.c.study_uid, series.c.series_uid) if is_series else (studies.c.study_uid,)
    bounds = select(func.min(instances.c.id), func.max(instances.c.id)).select_from(LEVELS).group_by(*groups)
    bounds = bounds.where(studies.c.study_uid.in_({one.study_uid for one in found}))
    if is_series:
        bounds = bounds.where(series.c.series_uid.in_({one.series_uid for one in found if isinstance(one, SeriesRow)}))
    keys = {key for pair in connection.execute(bounds) for key in pair}
    rows = select_instances(connection, SELECT_INSTANCES.where(instances.c.id.in_(keys)).order_by(instances.c.id))
    held: dict[UidsOf, list[InstanceRow]] = {}
    for row in rows:
        held.setdefault((row.study_uid, row.series_uid if is_series else ""), []).append(row)
    return held


def select_representations(connection: Connection, query: Select[Any]) -> list[RepresentationRow]:
    """Run a query over `SELECT_REPRESENTATIONS`."""
    return [representation_row(row) for row in connection.execute(query)]


@cache
def instances_by(*, study_uid: bool, series_uid: bool, sop_uid: bool) -> Prepared:
    """Instances with the UIDs that are given as parameters, by series, instance number and arrival."""
    asked = zip(_UIDS, (study_uid, series_uid, sop_uid), strict=True)
    uids: list[Uid] = [bindparam(name) if is_asked else None for name, is_asked in asked]
    order = (series.c.id, instances.c.instance_number, instances.c.id)
    return Prepared(narrowed(SELECT_INSTANCES, *uids).order_by(*order))


def narrowed(query: Select[Any], study_uid: Uid, series_uid: Uid, sop_uid: Uid) -> Select[Any]:
    """The query, restricted to the UIDs that are given."""
    given: Iterable[tuple[Any, Uid]] = (
        (studies.c.study_uid, study_uid),
        (series.c.series_uid, series_uid),
        (instances.c.sop_uid, sop_uid),
    )
    return query.where(*(column == uid for column, uid in given if uid is not None))
