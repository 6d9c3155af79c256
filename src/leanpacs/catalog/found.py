"""What searches find, at each level, and what is computed of it. Plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from leanpacs.catalog.rows import InstanceRow
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)

AVAILABILITY: Final = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
"""Values of Instance Availability (PS3.3 C.4.23.1.1), best first."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What is computed of the patient, study and series of something found, as far as it was asked for.

    Attributes
    ----------
    modalities, sop_classes : tuple of str
        Of the study, sorted.
    study_series, study_instances : int
        In the study.
    series_instances : int, optional
        In the series; None for a study.
    patient_studies, patient_series, patient_instances : int, optional
        Of the patient; None where there is no Patient ID.
    """

    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    study_series: int | None = None
    study_instances: int | None = None
    series_instances: int | None = None
    patient_studies: int | None = None
    patient_series: int | None = None
    patient_instances: int | None = None


NO_TOTALS: Final = Totals()


@dataclass(frozen=True, slots=True)
class PatientRow:
    """A patient that a query found: an ID of one issuer."""

    patient: PatientAttributes
    number_of_studies: int
    number_of_series: int
    number_of_instances: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study that a query found."""

    study_uid: str
    patient: PatientAttributes
    study: StudyAttributes
    modalities: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    received_at: datetime
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series that a query found."""

    study_uid: str
    series_uid: str
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    number_of_instances: int
    received_at: datetime
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance that a query found: its attributes, and in ``held`` what retrieving it needs."""

    held: InstanceRow
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS
