"""Runs queries: the rows of studies, series and instances with what is computed for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from leanpacs.catalog.found import AVAILABILITY, FoundInstance, PatientRow, SeriesRow, StudyRow, Totals
from leanpacs.catalog.lookup import INSTANCE_COLUMNS, LEVELS, instance_row
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.query import Query, conditions
from leanpacs.catalog.restores import Level, availability
from leanpacs.catalog.schema import instances, patients, series, studies
from leanpacs.catalog.shapes import prepared
from leanpacs.catalog.statements import INSTANCE, PATIENT, SERIES, STUDY
from leanpacs.catalog.totals import filled_up, modalities, numbers_of_patients, one_of, totals
from leanpacs.catalog.views import ConnectionView, View
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.refs import Tier

_WORST: Final = len(AVAILABILITY) - 1
NO_RANKS: Final[Mapping[Tier, int]] = MappingProxyType({})

_ABOVE: Final = tuple(studies.c[name] for name in (*PATIENT, *STUDY))
_OF_SERIES: Final = tuple(series.c[name] for name in SERIES)
_OF_INSTANCE: Final = tuple(instances.c[name] for name in INSTANCE)

_STUDIES: Final = select(studies.c.id, studies.c.study_uid, studies.c.received_at, *_ABOVE).order_by(studies.c.id)
_NEWEST: Final = _STUDIES.order_by(None).order_by(studies.c.id.desc())
_SERIES: Final = (
    select(series.c.id, studies.c.study_uid, series.c.series_uid, series.c.received_at, *_ABOVE, *_OF_SERIES)
    .join_from(series, studies)
    .order_by(series.c.id)
)
_INSTANCES: Final = (
    select(*INSTANCE_COLUMNS, *_ABOVE, *_OF_SERIES, *_OF_INSTANCE).select_from(LEVELS).order_by(instances.c.id)
)


@cache
def _series_of_studies(count: int) -> Prepared:
    """Modality and number of instances of the series of so many studies."""
    number = select(func.count()).where(instances.c.series_key == series.c.id).correlate(series).scalar_subquery()
    statement = select(series.c.study_key, series.c.modality, number)
    return Prepared(statement.where(one_of(series.c.study_key, count)))


@cache
def _counts_of_series(count: int) -> Prepared:
    """Number of instances of each of so many series."""
    statement = select(instances.c.series_key, func.count()).where(one_of(instances.c.series_key, count))
    return Prepared(statement.group_by(instances.c.series_key))


def find_patients(connection: Connection, query: Query) -> list[PatientRow]:
    """Patients with an ID who have a study that matches, with what is held of them."""
    columns = [patients.c[name] for name in PATIENT]
    matching = select(studies.c.patient_key).where(*conditions(query, connection.dialect.name))
    statement = select(patients.c.id, *columns).where(patients.c.patient_id != "", patients.c.id.in_(matching))
    rows = connection.execute(_limited(statement.order_by(patients.c.id), query)).all()
    held = numbers_of_patients(ConnectionView(connection), [row[0] for row in rows])
    return [PatientRow(PatientAttributes(*row[1:]), *held.get(row[0], (0, 0, 0))) for row in rows]


def find_studies(
    view: View, query: Query, ranks: Mapping[Tier, int] = NO_RANKS, *, newest_first: bool = False
) -> list[StudyRow]:
    """Studies that match, with their modalities and numbers of series and instances.

    ``ranks`` tell how available each tier is (indices of `AVAILABILITY`); without any, all counts as available.
    """
    rows = view.rows(*prepared(_NEWEST if newest_first else _STUDIES, query, view.dialect))
    below = _series_of(view, [row[0] for row in rows])
    told = _availability(view, "study", [row[0] for row in rows], ranks)
    more = totals(view, [(row[1], "") for row in rows], query.totals)
    return [_study(row, below[row[0]], told[row[0]], one) for row, one in zip(rows, more, strict=True)]


def find_series(view: View, query: Query, ranks: Mapping[Tier, int] = NO_RANKS) -> list[SeriesRow]:
    """Series that match, with their number of instances."""
    rows = view.rows(*prepared(_SERIES, query, view.dialect))
    counts = _counts(view, [row[0] for row in rows])
    told = _availability(view, "series", [row[0] for row in rows], ranks)
    more = totals(view, [(row[1], row[2]) for row in rows], query.totals)
    return [
        SeriesRow(
            study_uid,
            series_uid,
            *_upper_levels(rest),
            SeriesAttributes(*rest[len(_ABOVE) :]),
            counts.get(key, 0),
            received_at,
            told[key],
            one,
        )
        for (key, study_uid, series_uid, received_at, *rest), one in zip(rows, more, strict=True)
    ]


def find_instances(view: View, query: Query, ranks: Mapping[Tier, int] = NO_RANKS) -> list[FoundInstance]:
    """Instances that match."""
    at = len(INSTANCE_COLUMNS)
    rows = view.rows(*prepared(_INSTANCES, query, view.dialect))
    told = _availability(view, "instance", [row[0] for row in rows], ranks)
    held = [instance_row(row[:at]) for row in rows]
    more = totals(view, [(one.study_uid, one.series_uid) for one in held], query.totals)
    return [
        FoundInstance(
            one,
            *_upper_levels(row[at:]),
            SeriesAttributes(*row[at + len(_ABOVE) : at + len(_ABOVE) + len(SERIES)]),
            InstanceAttributes(*row[-len(INSTANCE) :]),
            told[row[0]],
            of_it,
        )
        for row, one, of_it in zip(rows, held, more, strict=True)
    ]


def _availability(view: View, level: Level, keys: Sequence[int], ranks: Mapping[Tier, int]) -> Mapping[int, str]:
    """How available what is below each key is; where that has to be looked for, by a connection of the toolkit."""
    if not ranks:
        return dict.fromkeys(keys, AVAILABILITY[0])
    assert isinstance(view, ConnectionView), "tiers of several ranks are looked at by a connection of the toolkit"
    found = availability(view.connection, level, keys, ranks)
    return {key: AVAILABILITY[min(found.get(key, _WORST), _WORST)] for key in keys}


def _limited(statement: Select[Any], query: Query) -> Select[Any]:
    if query.limit is not None:
        statement = statement.limit(query.limit)
    return statement.offset(query.offset) if query.offset else statement


def _upper_levels(values: Sequence[Any]) -> tuple[PatientAttributes, StudyAttributes]:
    patient = PatientAttributes(*values[: len(PATIENT)])
    return patient, StudyAttributes(*values[len(PATIENT) : len(_ABOVE)])


def _study(row: Any, below: Sequence[tuple[str, int]], told: str, more: Totals) -> StudyRow:
    _, study_uid, received_at, *values = row
    numbers = len(below), sum(count for _, count in below)
    held = modalities(modality for modality, _ in below)
    return StudyRow(study_uid, *_upper_levels(values), held, *numbers, received_at, told, more)


def _series_of(view: View, study_keys: list[int]) -> dict[int, list[tuple[str, int]]]:
    """Modality and number of instances of each series, by study."""
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for keys in filled_up(study_keys):
        for key, modality, count in view.rows(_series_of_studies(len(keys)), keys):
            found[key].append((modality, count))
    return found


def _counts(view: View, series_keys: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for keys in filled_up(series_keys):
        found.update((key, count) for key, count in view.rows(_counts_of_series(len(keys)), keys))
    return found
