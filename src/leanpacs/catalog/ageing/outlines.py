"""Series in one row each: what their instances have in common, and between which bounds the rest is.

A plan looks at everything that is held. Most series are uniform: one stored form for each instance, all made alike. The
database sums these up, and only what is not uniform, or worth doing first, is read row by row. Where series are small,
many that are alike are summed up in one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, Float, Select, bindparam, cast, func, select, text

from leanpacs.catalog.ageing.rows import Form, Held
from leanpacs.catalog.ageing.tables import lifecycle_work, series_reads
from leanpacs.catalog.schema import blobs, instances, plain, representations, series, studies
from leanpacs.refs import Tier

PAGE_SERIES: Final = 1_000
"""Series that are summed up at first."""

PAGE_INSTANCES: Final = 16_000
"""Instances that are summed up at a time, about: of a tenth of its tables PostgreSQL would read the whole."""

LEAST_INSTANCES: Final = 8
"""With fewer instances a series on average, series that are alike are summed up together."""


class Outline(NamedTuple):
    """A series whose instances have one form each and are alike in all but their lengths, sizes and times.

    Or several such series, given by their keys, that are alike. ``low`` and ``high`` are no instances: each of their
    numbers is the lowest, or the highest, that occurs. Forms that share a blob all share the same one, and are of one
    series.
    """

    series: Sequence[int]
    instances: int
    raw_bytes: int
    stored_bytes: int
    low: Held
    high: Held


class Line(NamedTuple):
    """Parts forms: on its good side, stored bytes times ``stored`` are at least length times ``length`` + ``least``."""

    stored: float
    length: float
    least: float


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
_READ: Final = (func.coalesce(plain(series_reads.c.last_read_at), 0), func.coalesce(series_reads.c.reads, 0))


@cache
def _grouped(dialect: str) -> Select[Any]:
    """Many small series in one row: grouped by everything that must be equal, and by whether they were ever read."""
    # Gathered, not counted as distinct: for that PostgreSQL would sort all rows by everything.
    gather = func.array_agg if dialect == "postgresql" else func.group_concat
    numbered = (gather(instances.c.series_key), gather(instances.c.id), func.count(), *_COUNTED[-2:])
    alike = (series.c.modality, series.c.body_part_examined, series.c.institution_name)
    is_shared = blobs.c.size_bytes > representations.c.size_bytes
    keys = (*alike, is_shared, series_reads.c.reads.is_not(None), *_SAME)
    bounds = [extreme(column) for column in (*_READ, *_BETWEEN) for extreme in (func.min, func.max)]
    return (
        select(*numbered, *keys, *bounds)
        .select_from(
            instances.join(representations)
            .join(blobs)
            .join(series, series.c.id == instances.c.series_key)
            .outerjoin(series_reads, series_reads.c.series_key == series.c.id)
        )
        .where(*_WITHIN, series.c.id > bindparam("after"), series.c.id <= bindparam("to"))
        .where(instances.c.series_key.not_in(bindparam("others", expanding=True, literal_execute=True)))
        .group_by(*keys)
    )


_GROUP_HEAD: Final = 10
_ROOM: Final = text("SET LOCAL work_mem = '32MB'")
"""Rows of a page are sorted by all that must be equal; by itself PostgreSQL does that on the disk beyond 4 MB."""
_KEYS: Final = (
    select(series.c.id).where(series.c.id > bindparam("after")).order_by(series.c.id).limit(bindparam("most"))
)
_WITHIN: Final = (instances.c.series_key > bindparam("after"), instances.c.series_key <= bindparam("to"))
_NUMBER: Final = select(func.count()).select_from(instances).where(*_WITHIN)
_TRIED: Final = (
    select(instances.c.series_key)
    .distinct()
    .join_from(lifecycle_work, instances, instances.c.id == lifecycle_work.c.instance_key)
    .where(*_WITHIN)
)


_PROMISING: Final = (
    select(instances.c.series_key)
    .join_from(instances, representations)
    .where(*_WITHIN)
    .where(
        representations.c.size_bytes * bindparam("stored", type_=Float)
        >= instances.c.data_set_length * bindparam("length", type_=Float) + bindparam("least", type_=Float)
    )
)


class Span(NamedTuple):
    """Where a page is: the series after a key, whether they have few instances, how many the next page may have."""

    after: int
    keys: list[int]
    has_small_series: bool
    following: int

    @property
    def bounds(self) -> dict[str, int]:
        """As parameters of statements."""
        return {"after": self.after, "to": self.keys[-1]}


def next_span(connection: Connection, after_id: int, most: int) -> Span | None:
    """The page of series with keys above ``after_id``, at most so many; None when there is none."""
    keys = [row[0] for row in _plain_rows(connection, _KEYS, {"after": after_id, "most": most})]
    if not keys:
        return None
    number = connection.scalar(_NUMBER, {"after": after_id, "to": keys[-1]}) or 0
    following = max(1, min(PAGE_INSTANCES, len(keys) * PAGE_INSTANCES // max(number, 1)))
    has_small_series = number < LEAST_INSTANCES * len(keys)
    if number > 2 * PAGE_INSTANCES:  # what comes now is larger than what came before
        keys = keys[:following]
    return Span(after_id, keys, has_small_series, following)


def page(connection: Connection, span: Span) -> Page:
    """What the series of a page have in common."""
    if connection.dialect.name == "postgresql":
        connection.execute(_ROOM)
    tried = set(connection.scalars(_TRIED, span.bounds))
    if span.has_small_series:
        return _page_of_groups(connection, span.bounds, span.keys, tried)
    return _page_of_series(connection, span.bounds, tried)


def _page_of_series(connection: Connection, bounds: Mapping[str, int], tried: set[int]) -> Page:
    """Outlines of single series."""
    found = Page([], [])
    for row in _plain_rows(connection, _SUMMED_UP, bounds):
        outline = None if row[0] in tried else _outline(row)
        if outline is None:
            found.others.append(row[0])
        else:
            found.outlines.append(outline)
    found.others.sort()
    return found


def _page_of_groups(connection: Connection, bounds: Mapping[str, int], keys: list[int], tried: set[int]) -> Page:
    """Outlines of series that are alike; series of which some instances are otherwise are among the others."""
    statement, others = _grouped(connection.dialect.name), tried
    while True:
        rows = _plain_rows(connection, statement, {**bounds, "others": sorted(others)})
        groups = [(_keys_of(row[0]), row) for row in rows]
        in_one = set[int]().union(*(of_group for of_group, _ in groups))
        if len(in_one) == sum(len(of_group) for of_group, _ in groups):
            break
        found = Counter(key for of_group, _ in groups for key in of_group)
        others = others | {key for key, number in found.items() if number > 1}
    outlines = [outline for of_group, row in groups if (outline := _group_outline(sorted(of_group), row)) is not None]
    outlined = {key for outline in outlines for key in outline.series}
    return Page(outlines, [key for key in keys if key not in outlined])


def promising(connection: Connection, outlines: Sequence[Outline], line: Line) -> list[int]:
    """Those series of outlines of a page of which a form is on the good side of a line."""
    keys = {key for outline in outlines for key in outline.series}
    bounds = {"after": min(keys) - 1, "to": max(keys), **line._asdict()}
    found = {row[0] for row in _plain_rows(connection, _PROMISING, bounds)}
    return sorted(found & keys)


def _plain_rows(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows as the driver gives them: every column is of a plain type, and there may be millions."""
    cursor = connection.execute(statement, values).cursor
    assert cursor is not None
    rows: list[tuple[Any, ...]] = list(cursor.fetchall())
    return rows


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
    return Outline((row[0],), forms, raw, stored, *ends)


def _group_outline(keys: list[int], row: tuple[Any, ...]) -> Outline | None:
    """The outline of series that are alike; None when some instance has several forms, or shares a blob."""
    _, holders, forms, raw, stored, modality, body_part, institution, is_shared, _ = row[:_GROUP_HEAD]
    if forms != len(_keys_of(holders)) or is_shared:
        return None
    facts, numbers = row[_GROUP_HEAD : _GROUP_HEAD + _FACTS], row[_GROUP_HEAD + _FACTS :]
    ends = (
        _made_up((keys[0], "", "", modality, body_part, institution, *end[:2]), (*facts, *end[2:]))
        for end in (numbers[::2], numbers[1::2])
    )
    return Outline(keys, forms, raw, stored, *ends)


def _keys_of(told: str | list[int]) -> set[int]:
    """Keys as the database gathers them."""
    return set(map(int, told.split(",")) if isinstance(told, str) else told)


def _made_up(of_series: Sequence[Any], end: Sequence[Any]) -> Held:
    *keys_and_words, last_read_at, reads = of_series
    sop_class, transfer_syntax, sender, door, kind, form, codec, fidelity, preset, dictionary, tier = end[:_FACTS]
    received_at, length, made_at, size, raw_frames, blob_bytes, _ = end[_FACTS:]
    only = Form(
        0, kind, form, codec, fidelity, preset, made_at, size, raw_frames, dictionary, Tier(tier), b"", blob_bytes
    )
    facts = (sop_class, transfer_syntax, sender, door, received_at, length, last_read_at, reads)
    return Held._make((0, *keys_and_words, *facts, (only,)))
