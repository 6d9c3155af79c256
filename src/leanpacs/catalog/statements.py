"""The statements that run for each instance, built once for a database so that they are compiled once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Executable, Text, and_, bindparam, delete, exists, func, select

from leanpacs.catalog import engine, onego
from leanpacs.catalog.prepared import Repeated
from leanpacs.catalog.schema import (
    blobs,
    changes,
    garbage,
    instances,
    names_of,
    patients,
    person_names,
    representations,
    series,
    series_choices,
    studies,
)
from leanpacs.dicom.attributes import InstanceAttributes, PatientAttributes, SeriesAttributes, StudyAttributes

PATIENT: Final = names_of(PatientAttributes)
STUDY: Final = names_of(StudyAttributes)
SERIES: Final = names_of(SeriesAttributes)
INSTANCE: Final = names_of(InstanceAttributes)
PERSON_NAMES: Final = ("patient_name", "referring_physician_name")


_NAMED: Final = (
    representations.c.id.in_(bindparam("keys", expanding=True)),
    representations.c.kind == bindparam("old_kind"),
)


def _filled(column: Column[Any], new: Any) -> Any:
    """The value that is there, else the new one."""
    return func.coalesce(column if column.nullable else func.nullif(column, ""), new)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements, built once for a database so that they are compiled once."""

    parents: Repeated
    patient: Repeated
    study: Repeated
    lonely_patient: Repeated
    series: Repeated
    person_name: Repeated
    instance: Repeated
    blob: Repeated
    hold_blob: Repeated
    blob_keys: Executable
    representation: Repeated
    representations: Repeated
    change: Repeated
    garbage: Repeated
    current: Executable
    end_forms: Executable
    choice: Repeated
    landing: Executable | None
    replacing: Executable | None
    holding: Executable | None
    """All in one statement, where the database can do that and gains by it."""

    @classmethod
    def of(cls, dialect: str) -> Statements:
        """Statements in the dialect of a database."""
        patient = engine.insert(dialect, patients)
        study = engine.insert(dialect, studies)
        one_series = engine.insert(dialect, series)
        blob = engine.insert(dialect, blobs)
        # Setting the size to what it is locks the row that was there, and makes the statement return it.
        held = blob.on_conflict_do_update(
            index_elements=["digest", "tier"], set_={"size_bytes": blob.excluded.size_bytes}
        )
        due = engine.insert(dialect, garbage)
        return cls(
            parents=Repeated(_select_parents()),
            patient=Repeated(
                patient.on_conflict_do_update(
                    index_elements=["patient_id", "issuer_of_patient_id"],
                    set_={name: _filled(patients.c[name], patient.excluded[name]) for name in PATIENT[2:]},
                ).returning(patients.c.id)
            ),
            study=Repeated(
                study.on_conflict_do_update(
                    index_elements=["study_uid"],
                    set_={name: _filled(studies.c[name], study.excluded[name]) for name in (*PATIENT, *STUDY)}
                    | {"patient_key": study.excluded.patient_key},
                ).returning(studies.c.id, *(studies.c[name] for name in PERSON_NAMES))
            ),
            lonely_patient=Repeated(
                delete(patients).where(
                    patients.c.id == bindparam("key"), ~exists().where(studies.c.patient_key == patients.c.id)
                )
            ),
            series=Repeated(
                one_series.on_conflict_do_update(
                    index_elements=["study_key", "series_uid"],
                    set_={name: _filled(series.c[name], one_series.excluded[name]) for name in SERIES},
                ).returning(series.c.id)
            ),
            person_name=Repeated(engine.insert(dialect, person_names).on_conflict_do_nothing()),
            instance=Repeated(
                engine.insert(dialect, instances)
                .on_conflict_do_nothing(index_elements=["sop_uid"])
                .returning(instances.c.id)
            ),
            blob=Repeated(held.returning(blobs.c.id)),
            hold_blob=Repeated(held),
            blob_keys=select(blobs.c.id, blobs.c.digest, blobs.c.tier).where(
                blobs.c.digest.in_(bindparam("digests", expanding=True))
            ),
            representation=Repeated(engine.insert(dialect, representations).returning(representations.c.id)),
            representations=Repeated(engine.insert(dialect, representations)),
            change=Repeated(engine.insert(dialect, changes)),
            garbage=Repeated(
                due.on_conflict_do_update(index_elements=["blob_key"], set_={"due_at": due.excluded.due_at})
            ),
            current=select(representations.c.id, representations.c.instance_key, representations.c.blob_key).where(
                *_NAMED
            ),
            end_forms=delete(representations).where(*_NAMED),
            choice=Repeated(_remember_choice(dialect)),
            landing=onego.landing() if dialect == "postgresql" else None,
            replacing=onego.replacing() if dialect == "postgresql" else None,
            holding=onego.holding() if dialect == "postgresql" else None,
        )


def _remember_choice(dialect: str) -> Executable:
    """Keep the choice of a series that is still there."""
    alive = select(series.c.id, bindparam("choice", type_=Text)).where(series.c.id == bindparam("series_id"))
    kept = engine.insert(dialect, series_choices).from_select(["series_key", "choice"], alive)
    return kept.on_conflict_do_update(index_elements=["series_key"], set_={"choice": kept.excluded.choice})


def _select_parents() -> Executable:
    same_series = and_(series.c.study_key == studies.c.id, series.c.series_uid == bindparam("series_uid"))
    return (
        select(
            series.c.id,
            studies.c.patient_key,
            *(studies.c[name] for name in (*PATIENT, *STUDY)),
            *(series.c[name] for name in SERIES),
        )
        .select_from(studies.outerjoin(series, same_series))
        .where(studies.c.study_uid == bindparam("study_uid"))
    )
