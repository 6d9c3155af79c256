"""Series in one row each: what their instances have in common, and between which bounds the rest is.

A plan looks at everything that is held. Most series are uniform: one stored form for each instance, all made alike. The
database sums these up, and only what is not uniform, or worth doing first, is read row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, bindparam, cast, func, select

from leanpacs.catalog.ageing.rows import Form, Held
from leanpacs.catalog.ageing.tables import lifecycle_work, series_reads
from leanpacs.catalog.schema import blobs, instances, plain, representations, series, studies
from leanpacs.refs import Tier

PAGE_SERIES: Final = 1_000
"""Series that are summed up at a time."""

LEAST_INSTANCES: Final = 8
"""So many instances a series has in a page that is summed up, on average; of smaller ones, rows are read as fast."""


class Outline(NamedTuple):
    """A series whose instances have one form each and are alike in all but their lengths, sizes and times.

    ``low`` and ``high`` are no instances: each of their numbers is the lowest, or the highest, that occurs. Forms that
    share a blob all share the same one.
    """

    series_id: int
    instances: int
    raw_bytes: int
    stored_bytes: int
    low: Held
    high: Held


class Page(NamedTuple):
    """Some series: outlines of those that are uniform, and the keys of the others, which are to be read whole."""

    outlines: list[Outline]
    others: list[int]


_SAME: Final = (
    instances.c.sop_class,
    instances.c.transfer_syntax,
    instances.c.sender,
    instances.c.door,
    representations.c.kind,
    representations.c.form,
    representations.c.codec,
    representations.c.fidelity,
    representations.c.evidence_preset,
    func.coalesce(representations.c.dictionary_id, 0),
    blobs.c.tier,
)
"""What must be equal throughout a series."""

_BETWEEN: Final = (
    plain(instances.c.received_at),
    instances.c.data_set_length,
    plain(representations.c.created_at),
    representations.c.size_bytes,
    representations.c.raw_frame_bytes,
    blobs.c.size_bytes,
    blobs.c.size_bytes - representations.c.size_bytes,
)
_OF_SERIES: Final = (
    series.c.id,
    studies.c.study_uid,
    series.c.series_uid,
    series.c.modality,
    series.c.body_part_examined,
    series.c.institution_name,
    func.coalesce(plain(series_reads.c.last_read_at), 0),
    func.coalesce(series_reads.c.reads, 0),
)


def _sum(column: Any) -> Any:
    return cast(func.sum(column), BigInteger)


_COUNTED: Final = (
    func.count(),
    func.count(representations.c.instance_key.distinct()),
    func.count(representations.c.blob_key.distinct()),
    _sum(instances.c.data_set_length),
    _sum(representations.c.size_bytes),
)


def _summed_up() -> Select[Any]:
    bounds = [extreme(column) for extreme in (func.min, func.max) for column in (*_SAME, *_BETWEEN)]
    values = [value.label(f"value_{number}") for number, value in enumerate((*_COUNTED, *bounds))]
    summed = (
        select(instances.c.series_key, *values)
        .select_from(instances.join(representations).join(blobs))
        .where(instances.c.series_key > bindparam("after"), instances.c.series_key <= bindparam("to"))
        .group_by(instances.c.series_key)
        .subquery("summed")
    )
    return (
        select(*_OF_SERIES, *(summed.c[value.name] for value in values))
        .select_from(summed.join(series, series.c.id == summed.c.series_key).join(studies).outerjoin(series_reads))
        # Said of the series, too: PostgreSQL does not draw this conclusion, and would read all of them for each page.
        .where(series.c.id > bindparam("after"), series.c.id <= bindparam("to"))
    )


_SUMMED_UP: Final = _summed_up()
_KEYS: Final = (
    select(series.c.id).where(series.c.id > bindparam("after"), series.c.id <= bindparam("to")).order_by(series.c.id)
)
_WITHIN: Final = (instances.c.series_key > bindparam("after"), instances.c.series_key <= bindparam("to"))
_NUMBER: Final = select(func.count()).select_from(instances).where(*_WITHIN)
_TRIED: Final = (
    select(instances.c.series_key)
    .distinct()
    .join_from(lifecycle_work, instances, instances.c.id == lifecycle_work.c.instance_key)
    .where(*_WITHIN)
)


def page(connection: Connection, after_id: int, to: int) -> Page:
    """The series with keys above ``after_id`` up to ``to``."""
    bounds = {"after": after_id, "to": to}
    keys = list(connection.scalars(_KEYS, bounds))
    if (connection.scalar(_NUMBER, bounds) or 0) < LEAST_INSTANCES * len(keys):
        return Page([], keys)
    tried = set(connection.scalars(_TRIED, bounds))
    cursor = connection.execute(_SUMMED_UP, bounds).cursor
    assert cursor is not None
    found = Page([], [])
    for row in cursor.fetchall():
        outline = None if row[0] in tried else _outline(row)
        if outline is None:
            found.others.append(row[0])
        else:
            found.outlines.append(outline)
    found.others.sort()
    return found


def last_of_page(connection: Connection, after_id: int) -> int | None:
    """Key of the last series of the page that begins after a series; None when there is none."""
    later = select(series.c.id).where(series.c.id > after_id).order_by(series.c.id)
    to: int | None = connection.scalar(later.offset(PAGE_SERIES - 1).limit(1))
    if to is None:
        to = connection.scalar(select(func.max(series.c.id)).where(series.c.id > after_id))
    return to


_HEAD: Final = len(_OF_SERIES) + len(_COUNTED)
_FACTS: Final = len(_SAME)
_HALF: Final = len(_SAME) + len(_BETWEEN)


def _outline(row: tuple[Any, ...]) -> Outline | None:
    """The outline of a series; None when it is not uniform."""
    forms, holders, held_in, raw, stored = row[len(_OF_SERIES) : _HEAD]
    low, high = row[_HEAD : _HEAD + _HALF], row[_HEAD + _HALF :]
    if forms != holders or low[:_FACTS] != high[:_FACTS]:
        return None
    is_shared = low[-1] > 0
    if held_in != (1 if is_shared else forms) or (high[-1] > 0) != is_shared:
        return None
    ends = (_made_up(row[: len(_OF_SERIES)], end) for end in (low, high))
    return Outline(row[0], forms, raw, stored, *ends)


def _made_up(of_series: Sequence[Any], end: Sequence[Any]) -> Held:
    *keys_and_words, last_read_at, reads = of_series
    sop_class, transfer_syntax, sender, door, kind, form, codec, fidelity, preset, dictionary, tier = end[:_FACTS]
    received_at, length, made_at, size, raw_frames, blob_bytes, _ = end[_FACTS:]
    only = Form(
        0, kind, form, codec, fidelity, preset, made_at, size, raw_frames, dictionary, Tier(tier), b"", blob_bytes
    )
    facts = (sop_class, transfer_syntax, sender, door, received_at, length, last_read_at, reads)
    return Held._make((0, *keys_and_words, *facts, (only,)))
