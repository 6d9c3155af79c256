"""Runs queries: the rows of studies, series and instances with what is computed for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select

from leanpacs.catalog.lookup import INSTANCE_COLUMNS, LEVELS, instance_row
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.query import Query, conditions
from leanpacs.catalog.restores import Level, availability
from leanpacs.catalog.rows import AVAILABILITY, FoundInstance, PatientRow, SeriesRow, StudyRow
from leanpacs.catalog.schema import instances, patients, series, studies
from leanpacs.catalog.shapes import prepared
from leanpacs.catalog.statements import INSTANCE, PATIENT, SERIES, STUDY
from leanpacs.catalog.views import ConnectionView, View
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.refs import Tier

_CHUNK: Final = 512
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
    return Prepared(statement.where(series.c.study_key.in_(_keys(count))))


@cache
def _counts_of_series(count: int) -> Prepared:
    """Number of instances of each of so many series."""
    statement = select(instances.c.series_key, func.count()).where(instances.c.series_key.in_(_keys(count)))
    return Prepared(statement.group_by(instances.c.series_key))


def _keys(count: int) -> list[Any]:
    return [bindparam(f"key{number}", type_=studies.c.id.type) for number in range(count)]


def find_patients(connection: Connection, query: Query) -> list[PatientRow]:
    """Patients with an ID who have a study that matches, with what is held of them."""
    columns = [patients.c[name] for name in PATIENT]
    matching = select(studies.c.patient_key).where(*conditions(query, connection.dialect.name))
    statement = select(patients.c.id, *columns).where(patients.c.patient_id != "", patients.c.id.in_(matching))
    rows = connection.execute(_limited(statement.order_by(patients.c.id), query)).all()
    held = _held(connection, [row[0] for row in rows])
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
    return [_study(row, below[row[0]], told[row[0]]) for row in rows]


def find_series(view: View, query: Query, ranks: Mapping[Tier, int] = NO_RANKS) -> list[SeriesRow]:
    """Series that match, with their number of instances."""
    rows = view.rows(*prepared(_SERIES, query, view.dialect))
    counts = _counts(view, [row[0] for row in rows])
    told = _availability(view, "series", [row[0] for row in rows], ranks)
    return [
        SeriesRow(
            study_uid,
            series_uid,
            *_upper_levels(rest),
            SeriesAttributes(*rest[len(_ABOVE) :]),
            counts.get(key, 0),
            received_at,
            told[key],
        )
        for key, study_uid, series_uid, received_at, *rest in rows
    ]


def find_instances(view: View, query: Query, ranks: Mapping[Tier, int] = NO_RANKS) -> list[FoundInstance]:
    """Instances that match."""
    at = len(INSTANCE_COLUMNS)
    rows = view.rows(*prepared(_INSTANCES, query, view.dialect))
    told = _availability(view, "instance", [row[0] for row in rows], ranks)
    return [
        FoundInstance(
            instance_row(row[:at]),
            *_upper_levels(row[at:]),
            SeriesAttributes(*row[at + len(_ABOVE) : at + len(_ABOVE) + len(SERIES)]),
            InstanceAttributes(*row[-len(INSTANCE) :]),
            told[row[0]],
        )
        for row in rows
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


def _study(row: Any, below: Sequence[tuple[str, int]], told: str) -> StudyRow:
    _, study_uid, received_at, *values = row
    modalities, counts = zip(*below, strict=True) if below else ((), ())
    held = {value for modality in modalities for value in modality.split("\\") if value}
    numbers = len(counts), sum(counts)
    return StudyRow(study_uid, *_upper_levels(values), tuple(sorted(held)), *numbers, received_at, told)


def _held(connection: Connection, patient_keys: list[int]) -> dict[int, tuple[int, int, int]]:
    """Numbers of studies, series and instances of each patient."""
    found: dict[int, tuple[int, int, int]] = {}
    # Each instance comes once, and its series' key is in the index that they are counted from.
    numbers = [func.count(table.c.id.distinct()) for table in (studies, series)] + [func.count(instances.c.series_key)]
    below = studies.join(series, series.c.study_key == studies.c.id).join(
        instances, instances.c.series_key == series.c.id
    )
    statement = select(studies.c.patient_key, *numbers).select_from(below).group_by(studies.c.patient_key)
    for start in range(0, len(patient_keys), _CHUNK):
        chunk = patient_keys[start : start + _CHUNK]
        for key, *counted in connection.execute(statement.where(studies.c.patient_key.in_(chunk))):
            found[key] = (counted[0], counted[1], counted[2])
    return found


def _series_of(view: View, study_keys: list[int]) -> dict[int, list[tuple[str, int]]]:
    """Modality and number of instances of each series, by study."""
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for start in range(0, len(study_keys), _CHUNK):
        keys = _some(study_keys[start : start + _CHUNK])
        for key, modality, count in view.rows(_series_of_studies(len(keys)), keys):
            found[key].append((modality, count))
    return found


def _counts(view: View, series_keys: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for start in range(0, len(series_keys), _CHUNK):
        keys = _some(series_keys[start : start + _CHUNK])
        found.update((key, count) for key, count in view.rows(_counts_of_series(len(keys)), keys))
    return found


def _some(keys: list[int]) -> dict[str, int]:
    """Parameters of one of a few statements: the last key fills up their number to a power of two."""
    number = 1 << (len(keys) - 1).bit_length()
    return {f"key{place}": keys[min(place, len(keys) - 1)] for place in range(number)}
