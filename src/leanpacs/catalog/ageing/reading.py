"""Reading what the lifecycle plans from: instances by series, what was tried, sums, holds, scrubs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, LargeBinary, bindparam, exists, func, or_, select, type_coerce

from leanpacs.catalog.ageing import outlines
from leanpacs.catalog.ageing.outlines import Line, Outline, Page, Span
from leanpacs.catalog.ageing.rows import Form, Held, HoldRow, Key, ScrubRow, Sums, Tried
from leanpacs.catalog.ageing.tables import (
    erasures,
    holds,
    lifecycle_state,
    lifecycle_sums,
    lifecycle_work,
    scrubs,
    series_reads,
)
from leanpacs.catalog.engine import Database
from leanpacs.catalog.lookup import blob_ref
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.schema import (
    blobs,
    dictionaries,
    garbage,
    instances,
    names_of,
    plain,
    representations,
    series,
    studies,
)
from leanpacs.refs import Tier

PAGE_ROWS: Final = 8_000
"""Rows that are read at a time, about; a series is never divided."""

_AHEAD: Final = 2
"""Pages that the database sums up at a time."""

_FIRST_SERIES: Final = 64
_MOST_SERIES: Final = 1_000

_INSTANCE: Final = (
    instances.c.id,
    instances.c.series_key,
    studies.c.study_uid,
    series.c.series_uid,
    series.c.modality,
    series.c.body_part_examined,
    series.c.institution_name,
    instances.c.sop_class,
    instances.c.transfer_syntax,
    instances.c.sender,
    instances.c.door,
    plain(instances.c.received_at),
    instances.c.data_set_length,
    func.coalesce(plain(series_reads.c.last_read_at), 0),
    func.coalesce(series_reads.c.reads, 0),
)
_FORM: Final = (
    representations.c.id,
    representations.c.kind,
    representations.c.form,
    representations.c.codec,
    representations.c.fidelity,
    representations.c.evidence_preset,
    plain(representations.c.created_at),
    representations.c.size_bytes,
    representations.c.raw_frame_bytes,
    func.coalesce(representations.c.dictionary_id, 0),
    blobs.c.tier,
    type_coerce(blobs.c.digest, LargeBinary),
    blobs.c.size_bytes,
)
_WIDTH: Final = len(_INSTANCE)
# Written into the statement: a driver takes as long for a thousand parameters as the database for the rows.
_KEYS: Final[BindParameter[int]] = bindparam("keys", expanding=True, literal_execute=True)
_HELD: Final = (
    select(*_INSTANCE, *_FORM)
    .select_from(
        instances.join(series, instances.c.series_key == series.c.id)
        .join(studies, series.c.study_key == studies.c.id)
        .join(representations, representations.c.instance_key == instances.c.id)
        .join(blobs, blobs.c.id == representations.c.blob_key)
        .outerjoin(series_reads, series_reads.c.series_key == series.c.id)
    )
    .where(instances.c.series_key.in_(_KEYS))
    .order_by(instances.c.series_key, instances.c.instance_number, instances.c.id, representations.c.id)
)
_TRIED: Final = (
    select(
        lifecycle_work.c.instance_key,
        lifecycle_work.c.goal,
        lifecycle_work.c.outcome,
        lifecycle_work.c.claimed_until,
        lifecycle_work.c.attempts,
        lifecycle_work.c.detail,
    )
    .join_from(lifecycle_work, instances, instances.c.id == lifecycle_work.c.instance_key)
    .where(instances.c.series_key.in_(_KEYS))
)

_KEY: Final = Prepared(
    select(instances.c.id, instances.c.sop_uid, instances.c.data_set_digest).where(instances.c.id == bindparam("id"))
)

_instance_id = itemgetter(0)
_series_id = itemgetter(1)

Series = list[Held]
Trials = dict[int, dict[str, Tried]]


class AgeingView:
    """Reads what the lifecycle needs; each method sees one committed state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def outlines(self, after_id: int = 0) -> Iterator[Page]:
        """Every series in the order of keys, by pages: summed up where it is uniform, else by its key alone.

        Memory is that of some pages: the database sums up the next ones while the caller looks at the last. No
        transaction stays open between pages.
        """
        span, coming = self._span(after_id, outlines.PAGE_SERIES), deque[Future[Page]]()
        with ThreadPoolExecutor(_AHEAD, "pages") as ahead:
            while span is not None or coming:
                while span is not None and len(coming) < _AHEAD:
                    coming.append(ahead.submit(self._page, span))
                    span = self._span(span.keys[-1], span.following)
                yield coming.popleft().result()

    def _span(self, after_id: int, most: int) -> Span | None:
        with self._database.reading() as connection:
            return outlines.next_span(connection, after_id, most)

    def _page(self, span: Span) -> Page:
        with self._database.reading() as connection:
            return outlines.page(connection, span)

    def promising(self, of_page: Sequence[Outline], line: Line) -> list[int]:
        """Those series of outlines of a page of which some stored form is on the good side of a line."""
        with self._database.reading() as connection:
            return outlines.promising(connection, of_page, line)

    def read(self, series_ids: Sequence[int]) -> Iterator[tuple[Series, Trials]]:
        """Series with all their instances and forms, and what was tried on them, in the order of keys.

        Memory is that of a page, or of the largest series; those without instances are left out.
        """
        ordered = sorted(series_ids)
        start, step = 0, _FIRST_SERIES
        while start < len(ordered):
            keys = {"keys": ordered[start : start + step]}
            with self._database.reading() as connection:
                rows = _rows(connection, keys)
                tried: Trials = {}
                for key, goal, *facts in connection.execute(_TRIED, keys):
                    tried.setdefault(key, {})[goal] = Tried(*facts)
            for _, of_series in groupby(_grouped(rows), key=_series_id):
                yield list(of_series), tried
            start += step
            step = max(1, min(_MOST_SERIES, step * PAGE_ROWS // max(len(rows), 1)))

    def all_series(self) -> Iterator[tuple[Series, Trials]]:
        """Every series, as :meth:`read` gives them."""
        for page in self.outlines():
            yield from self.read([*(key for one in page.outlines for key in one.series), *page.others])

    def series_of(self, series_id: int) -> Series:
        """All instances of a series, by instance number; none when it has gone."""
        with self._database.reading() as connection:
            return _grouped(_rows(connection, {"keys": [series_id]}))

    def keys(self, instance_ids: Sequence[int]) -> list[Key]:
        """What names instances, and what must come out of their forms; those that are gone are left out."""
        if len(instance_ids) == 1:
            return [Key(*row) for row in self._database.rows(_KEY, {"id": instance_ids[0]})]
        query = select(instances.c.id, instances.c.sop_uid, instances.c.data_set_digest)
        with self._database.reading() as connection:
            return [Key(*row) for row in connection.execute(query.where(instances.c.id.in_(list(instance_ids))))]

    def series_key_of(self, instance_id: int) -> int:
        """Key of the series of an instance; 0 when it has gone."""
        query = select(instances.c.series_key).where(instances.c.id == instance_id)
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def tried(self, instance_id: int) -> dict[str, Tried]:
        """What was tried on an instance, by goal."""
        query = select(*[lifecycle_work.c[name] for name in ("goal", "outcome", "claimed_until", "attempts", "detail")])
        query = query.where(lifecycle_work.c.instance_key == instance_id).order_by(lifecycle_work.c.goal)
        with self._database.reading() as connection:
            return {row[0]: Tried(*row[1:]) for row in connection.execute(query)}

    def study(self, study_uid: str) -> list[Series]:
        """All series of a study."""
        keys = select(series.c.id).join_from(series, studies).where(studies.c.study_uid == study_uid)
        with self._database.reading() as connection:
            found = list(connection.scalars(keys.order_by(series.c.id)))
        return [self.series_of(key) for key in found]

    def sums(self) -> list[Sums]:
        """What was done so far, by task, rule and outcome."""
        columns = [lifecycle_sums.c[name] for name in names_of(Sums)]
        with self._database.reading() as connection:
            return [Sums(*row) for row in connection.execute(select(*columns).order_by(*columns[:3]))]

    def problems(self, limit: int = 100) -> list[tuple[str, str, Tried]]:
        """Instances (SOP Instance UID) and goals that failed, the latest first."""
        query = select(
            instances.c.sop_uid,
            lifecycle_work.c.goal,
            lifecycle_work.c.outcome,
            lifecycle_work.c.claimed_until,
            lifecycle_work.c.attempts,
            lifecycle_work.c.detail,
        ).join_from(lifecycle_work, instances)
        query = query.where(lifecycle_work.c.outcome == "failed").order_by(lifecycle_work.c.claimed_until.desc())
        with self._database.reading() as connection:
            return [(row[0], row[1], Tried(*row[2:])) for row in connection.execute(query.limit(limit))]

    def tiers(self) -> list[tuple[Tier, int, int]]:
        """Blobs and their bytes by tier, without what waits to be swept."""
        kept = ~blobs.c.id.in_(select(garbage.c.blob_key))
        query = select(blobs.c.tier, func.count(), func.sum(blobs.c.size_bytes)).where(kept).group_by(blobs.c.tier)
        with self._database.reading() as connection:
            return [
                (Tier(row[0]), row[1], int(row[2] or 0)) for row in connection.execute(query.order_by(blobs.c.tier))
            ]

    def presets(self) -> list[tuple[str, str, int, int, int]]:
        """Forms, their raw and stored bytes, by preset and tier."""
        name = func.coalesce(func.nullif(representations.c.evidence_preset, ""), "as it came")
        query = (
            select(
                name,
                blobs.c.tier,
                func.count(),
                func.sum(representations.c.raw_head_bytes + representations.c.raw_frame_bytes),
                func.sum(representations.c.size_bytes),
            )
            .join_from(representations, blobs)
            .group_by(name, blobs.c.tier)
            .order_by(name, blobs.c.tier)
        )
        with self._database.reading() as connection:
            return [(row[0], row[1], row[2], int(row[3] or 0), int(row[4] or 0)) for row in connection.execute(query)]

    def state(self, name: str) -> str:
        """A switch of the lifecycle, '' when it was never set."""
        query = select(lifecycle_state.c.value).where(lifecycle_state.c.name == name)
        with self._database.reading() as connection:
            return connection.scalar(query) or ""

    def holds(self) -> list[HoldRow]:
        """All holds, oldest first."""
        columns = [holds.c[name] for name in names_of(HoldRow)]
        with self._database.reading() as connection:
            return [HoldRow(*row) for row in connection.execute(select(*columns).order_by(holds.c.id))]

    def untaught(self, least: int) -> list[tuple[str, int, int]]:
        """SOP classes of which so many instances have come since their newest dictionary was trained.

        The class, how many, and the key of the first of them.
        """
        trained_at = func.max(dictionaries.c.trained_at).label("trained_at")
        newest = select(dictionaries.c.scope, trained_at).group_by(dictionaries.c.scope).subquery("newest")
        query = (
            select(instances.c.sop_class, func.count(), func.min(instances.c.id))
            .select_from(instances.outerjoin(newest, newest.c.scope == instances.c.sop_class))
            .where(or_(newest.c.trained_at.is_(None), instances.c.received_at > newest.c.trained_at))
            .group_by(instances.c.sop_class)
            .having(func.count() >= least)
            .order_by(instances.c.sop_class)
        )
        with self._database.reading() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def erased(self, now: datetime) -> frozenset[bytes]:
        """Digests of the packs in use that hold what was deleted, and whose time of grace is over."""
        query = select(type_coerce(blobs.c.digest, LargeBinary)).join_from(erasures, blobs)
        query = query.where(erasures.c.due_at <= now, exists().where(representations.c.blob_key == erasures.c.blob_key))
        with self._database.reading() as connection:
            return frozenset(connection.scalars(query))

    def to_scrub(self, before: datetime, limit: int) -> list[ScrubRow]:
        """Blobs in use that nobody has read back since ``before``, nor written, those not read for longest first."""
        last = func.coalesce(scrubs.c.checked_at, blobs.c.created_at)
        query = (
            select(blobs.c.tier, blobs.c.digest, blobs.c.size_bytes, scrubs.c.checked_at, scrubs.c.problem)
            .select_from(blobs.outerjoin(scrubs).outerjoin(garbage))
            .where(garbage.c.blob_key.is_(None))
            .where(last < before)
            .order_by(plain(last), blobs.c.id)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_scrub_row(row) for row in connection.execute(query)]

    def damaged(self) -> list[ScrubRow]:
        """Blobs that a scrub found damaged and could not repair."""
        query = (
            select(blobs.c.tier, blobs.c.digest, blobs.c.size_bytes, scrubs.c.checked_at, scrubs.c.problem)
            .join_from(scrubs, blobs)
            .where(scrubs.c.problem != "")
            .order_by(blobs.c.id)
        )
        with self._database.reading() as connection:
            return [_scrub_row(row) for row in connection.execute(query)]


def _rows(connection: Connection, keys: dict[str, list[int]]) -> list[tuple[Any, ...]]:
    """Plain rows of the driver: every column is of a plain type, and there may be millions."""
    cursor = connection.execute(_HELD, keys).cursor
    assert cursor is not None
    rows: list[tuple[Any, ...]] = list(cursor.fetchall())
    return rows


def _grouped(rows: list[tuple[Any, ...]]) -> list[Held]:
    """Rows of instances and forms, one for each form, as instances."""
    found = []
    for _, group in groupby(rows, key=_instance_id):
        first, *others = group
        forms = (Form._make(first[_WIDTH:]), *(Form._make(row[_WIDTH:]) for row in others))
        found.append(Held._make((*first[:_WIDTH], forms)))
    return found


def _scrub_row(row: Any) -> ScrubRow:
    return ScrubRow(blob_ref(row[:3]), row[3], row[4] or "")
