"""What came in, day by day and by modality: the past from which a future can be projected."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Connection, func, select, type_coerce

from leanpacs.catalog.rows import DayOfArrivals
from leanpacs.catalog.schema import EPOCH, instances, representations, series

_DAY: Final = 86_400_000_000


def arrivals(connection: Connection) -> tuple[DayOfArrivals, ...]:
    """Sums by day (UTC) and modality, oldest first; a study counts on the day its first instance of the modality came.

    Reads every instance once: for a report, not for each request.
    """
    # What is stored of an instance, in all its forms.
    stored = (
        select(representations.c.instance_key, func.sum(representations.c.size_bytes).label("stored_bytes"))
        .group_by(representations.c.instance_key)
        .subquery()
    )
    day = func.min(type_coerce(instances.c.received_at, BigInteger)).op("/")(_DAY)
    studies = (
        select(
            series.c.modality.label("modality"),
            day.label("day"),
            func.count(series.c.id.distinct()).label("series"),
            func.count().label("instances"),
            func.sum(instances.c.data_set_length).label("raw_bytes"),
            func.sum(func.coalesce(stored.c.stored_bytes, 0)).label("stored_bytes"),
        )
        .select_from(instances.join(series).outerjoin(stored, stored.c.instance_key == instances.c.id))
        .group_by(series.c.study_key, series.c.modality)
        .subquery()
    )
    sums = [func.sum(studies.c[name]) for name in ("series", "instances", "raw_bytes", "stored_bytes")]
    query = (
        select(studies.c.day, studies.c.modality, func.count(), *sums)
        .group_by(studies.c.day, studies.c.modality)
        .order_by(studies.c.day, studies.c.modality)
    )
    return tuple(
        DayOfArrivals(_date(int(row[0])), row[1], *(int(value) for value in row[2:]))
        for row in connection.execute(query)
    )


def _date(days: int) -> date:
    at: datetime = EPOCH + timedelta(days=days)
    return at.astimezone(UTC).date()
