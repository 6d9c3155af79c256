"""What is computed of the patient, study and series that something found is part of: numbers, modalities, SOP classes.

References
----------
PS3.4 C.3.4 (additional Query/Retrieve attributes).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, func, select

from leanpacs.catalog.found import NO_TOTALS, Totals
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.schema import instances, series, studies
from leanpacs.catalog.views import View

CHUNK: Final = 512
OF_PATIENT: Final = frozenset({"patient_studies", "patient_series", "patient_instances"})
OF_SERIES: Final = frozenset({"modalities", "study_series", "study_instances", "series_instances"})


def totals(view: View, within: Sequence[tuple[str, str]], wanted: Collection[str]) -> list[Totals]:
    """Totals for each that was found.

    Parameters
    ----------
    view : View
        What is seen.
    within : sequence of (str, str)
        Study Instance UID of each, and Series Instance UID where it has one.
    wanted : collection of str
        Fields of `Totals`; the others stay empty.
    """
    if not wanted:
        return [NO_TOTALS] * len(within)
    uids = sorted({study_uid for study_uid, _ in within})
    of_series = _of_series(view, uids) if OF_SERIES & set(wanted) else {}
    classes = _classes(view, uids) if "sop_classes" in wanted else {}
    patients = _of_studies_patients(view, uids) if OF_PATIENT & set(wanted) else {}
    return [
        _made(
            series_uid, of_series.get(study_uid, {}), classes.get(study_uid, ()), patients.get(study_uid, (None,) * 3)
        )
        for study_uid, series_uid in within
    ]


def _made(
    series_uid: str,
    of_series: Mapping[str, tuple[str, int]],
    classes: Sequence[str],
    patient: Sequence[int | None],
) -> Totals:
    return Totals(
        modalities=modalities(modality for modality, _ in of_series.values()),
        sop_classes=tuple(classes),
        study_series=len(of_series),
        study_instances=sum(count for _, count in of_series.values()),
        series_instances=of_series[series_uid][1] if series_uid in of_series else None,
        patient_studies=patient[0],
        patient_series=patient[1],
        patient_instances=patient[2],
    )


def modalities(of_series: Iterable[str]) -> tuple[str, ...]:
    """Modalities in a study, sorted; those of a series may be several, separated by backslashes."""
    return tuple(sorted({value for modality in of_series for value in modality.split("\\") if value}))


def numbers_of_patients(view: View, patient_keys: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """Numbers of studies, series and instances of each patient."""
    found: dict[int, tuple[int, int, int]] = {}
    for keys in filled_up(patient_keys):
        for key, *counted in view.rows(_patients_prepared(len(keys)), keys):
            found[key] = (counted[0], counted[1], counted[2])
    return found


def _of_series(view: View, uids: Sequence[str]) -> Mapping[str, Mapping[str, tuple[str, int]]]:
    """Modality and number of instances by study and series."""
    found: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    for keys in filled_up(uids):
        for study_uid, series_uid, modality, count in view.rows(_series_prepared(len(keys)), keys):
            found[study_uid][series_uid] = modality, count
    return found


def _classes(view: View, uids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """SOP classes by study, sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    for keys in filled_up(uids):
        for study_uid, sop_class in view.rows(_classes_prepared(len(keys)), keys):
            if sop_class:
                found[study_uid].append(sop_class)
    return {study_uid: sorted(classes) for study_uid, classes in found.items()}


def _of_studies_patients(view: View, uids: Sequence[str]) -> Mapping[str, tuple[int, int, int]]:
    """Numbers of the patient of each study, by study; studies whose patient has no ID are left out."""
    patient_of = {
        study_uid: patient_key
        for keys in filled_up(uids)
        for study_uid, patient_key in view.rows(_known_patients_prepared(len(keys)), keys)
    }
    numbers = numbers_of_patients(view, sorted(set(patient_of.values())))
    return {study_uid: numbers[key] for study_uid, key in patient_of.items() if key in numbers}


@cache
def _series_prepared(count: int) -> Prepared:
    number = select(func.count()).where(instances.c.series_key == series.c.id).correlate(series).scalar_subquery()
    statement = select(studies.c.study_uid, series.c.series_uid, series.c.modality, number)
    return Prepared(statement.join_from(studies, series).where(one_of(studies.c.study_uid, count)))


@cache
def _classes_prepared(count: int) -> Prepared:
    statement = select(studies.c.study_uid, instances.c.sop_class).distinct()
    joined = statement.join_from(studies, series).join(instances, instances.c.series_key == series.c.id)
    return Prepared(joined.where(one_of(studies.c.study_uid, count)))


@cache
def _known_patients_prepared(count: int) -> Prepared:
    statement = select(studies.c.study_uid, studies.c.patient_key)
    return Prepared(statement.where(studies.c.patient_id != "", one_of(studies.c.study_uid, count)))


@cache
def _patients_prepared(count: int) -> Prepared:
    # Each instance comes once, and its series' key is in the index that they are counted from.
    numbers = [func.count(table.c.id.distinct()) for table in (studies, series)] + [func.count(instances.c.series_key)]
    below = studies.join(series, series.c.study_key == studies.c.id).join(
        instances, instances.c.series_key == series.c.id
    )
    statement = select(studies.c.patient_key, *numbers).select_from(below).group_by(studies.c.patient_key)
    return Prepared(statement.where(one_of(studies.c.patient_key, count)))


def one_of(column: Any, count: int) -> ColumnElement[bool]:
    """Whether a column has one of so many values, parameters that `filled_up` names."""
    found: ColumnElement[bool] = column.in_([bindparam(f"key{place}", type_=column.type) for place in range(count)])
    return found


def filled_up(keys: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Parameters of one of a few statements: the last key of a chunk fills up their number to a power of two."""
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        number = 1 << (len(chunk) - 1).bit_length()
        yield {f"key{place}": chunk[min(place, len(chunk) - 1)] for place in range(number)}
