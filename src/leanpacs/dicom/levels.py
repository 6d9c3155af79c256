"""To which level of the information model an attribute belongs: what a study, a series or an instance is asked for.

References
----------
PS3.3 C.7.1, C.7.2 (patient and study), C.7.3, C.7.4, C.7.5 (series, frame of reference, equipment).
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

from leanpacs.dicom.datadict import tag_of

HeldAt = Literal["study", "series", "instance"]

_STUDY_GROUPS: Final = frozenset({0x0010, 0x0012, 0x0032})
"""Patient, clinical trial, requested procedure."""
_STUDY: Final = (
    "StudyInstanceUID StudyDate StudyTime StudyID StudyDescription AccessionNumber IssuerOfAccessionNumberSequence "
    "ReferringPhysicianName ReferringPhysicianIdentificationSequence ReferringPhysicianAddress "
    "ReferringPhysicianTelephoneNumbers ConsultingPhysicianName ConsultingPhysicianIdentificationSequence "
    "PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy "
    "PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence ReferencedStudySequence "
    "ReferencedPatientSequence ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence "
    "AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence AdmissionID IssuerOfAdmissionIDSequence "
    "ServiceEpisodeID ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence ReasonForVisit "
    "ReasonForVisitCodeSequence TimezoneOffsetFromUTC"
)
_SERIES: Final = (
    "SeriesInstanceUID Modality SeriesNumber SeriesDate SeriesTime SeriesDescription SeriesDescriptionCodeSequence "
    "Laterality BodyPartExamined PatientPosition AnatomicalOrientationType ProtocolName "
    "PerformingPhysicianName PerformingPhysicianIdentificationSequence OperatorsName OperatorIdentificationSequence "
    "ReferencedPerformedProcedureStepSequence RelatedSeriesSequence RequestAttributesSequence "
    "SmallestPixelValueInSeries LargestPixelValueInSeries "
    "PerformedProcedureStepID PerformedProcedureStepDescription PerformedProcedureStepStartDate "
    "PerformedProcedureStepStartTime PerformedProcedureStepEndDate PerformedProcedureStepEndTime "
    "PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep TreatmentSessionUID "
    "Manufacturer ManufacturerModelName ManufacturerDeviceClassUID InstitutionName InstitutionAddress "
    "InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence StationName DeviceSerialNumber "
    "SoftwareVersions GantryID UDISequence DeviceUID SpatialResolution DateOfLastCalibration TimeOfLastCalibration "
    "FrameOfReferenceUID PositionReferenceIndicator SynchronizationFrameOfReferenceUID SynchronizationTrigger"
)


def level_of(tag: int) -> HeldAt:
    """The level at which an attribute has one value; attributes of the patient are given with studies."""
    if tag >> 16 in _STUDY_GROUPS or tag in _tags(_STUDY):
        return "study"
    return "series" if tag in _tags(_SERIES) else "instance"


@cache
def _tags(keywords: str) -> frozenset[int]:
    found = {keyword: tag_of(keyword) for keyword in keywords.split()}
    assert all(found.values()), found
    return frozenset(tag for tag in found.values() if tag is not None)
