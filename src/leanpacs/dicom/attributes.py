"""Searchable attributes per query level, taken from an instance as it is received.

References
----------
PS3.4 C.6.2.1 (Study Root query levels), PS3.18 10.6.3 (attributes of a search response).
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from leanpacs.dicom import text
from leanpacs.refs import Digest

if TYPE_CHECKING:
    from leanpacs.dicom.layout import Layout, RawValue

Level = Literal["patient", "study", "series", "instance"]


@dataclass(frozen=True, slots=True)
class LevelAttribute:
    """One attribute that a query can match or return.

    ``field`` names the value in the dataclass of its level (`PatientAttributes`, `StudyAttributes`,
    `SeriesAttributes`, `InstanceAttributes`), or in `InstanceIndex` for the four UIDs. A ``computed``
    attribute is in no instance: the catalog or the service works it out and calls it ``field``.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    field: str
    computed: bool = False


LEVEL_ATTRIBUTES: Final[tuple[LevelAttribute, ...]] = (
    LevelAttribute("PatientID", 0x00100020, "LO", "patient", "patient_id"),
    LevelAttribute("IssuerOfPatientID", 0x00100021, "LO", "patient", "issuer_of_patient_id"),
    LevelAttribute("PatientName", 0x00100010, "PN", "patient", "patient_name"),
    LevelAttribute("PatientBirthDate", 0x00100030, "DA", "patient", "patient_birth_date"),
    LevelAttribute("PatientSex", 0x00100040, "CS", "patient", "patient_sex"),
    LevelAttribute(
        "NumberOfPatientRelatedStudies",
        0x00201200,
        "IS",
        "patient",
        "number_of_patient_related_studies",
        True,
    ),
    LevelAttribute(
        "NumberOfPatientRelatedSeries", 0x00201202, "IS", "patient", "number_of_patient_related_series", True
    ),
    LevelAttribute(
        "NumberOfPatientRelatedInstances", 0x00201204, "IS", "patient", "number_of_patient_related_instances", True
    ),
    LevelAttribute("StudyInstanceUID", 0x0020000D, "UI", "study", "study_uid"),
    LevelAttribute("StudyDate", 0x00080020, "DA", "study", "study_date"),
    LevelAttribute("StudyTime", 0x00080030, "TM", "study", "study_time"),
    LevelAttribute("AccessionNumber", 0x00080050, "SH", "study", "accession_number"),
    LevelAttribute("StudyID", 0x00200010, "SH", "study", "study_id"),
    LevelAttribute("StudyDescription", 0x00081030, "LO", "study", "study_description"),
    LevelAttribute("ReferringPhysicianName", 0x00080090, "PN", "study", "referring_physician_name"),
    LevelAttribute("TimezoneOffsetFromUTC", 0x00080201, "SH", "study", "timezone_offset_from_utc"),
    LevelAttribute("ModalitiesInStudy", 0x00080061, "CS", "study", "modalities_in_study", True),
    LevelAttribute("SOPClassesInStudy", 0x00080062, "UI", "study", "sop_classes_in_study", True),
    LevelAttribute("NumberOfStudyRelatedSeries", 0x00201206, "IS", "study", "number_of_study_related_series", True),
    LevelAttribute(
        "NumberOfStudyRelatedInstances", 0x00201208, "IS", "study", "number_of_study_related_instances", True
    ),
    LevelAttribute("InstanceAvailability", 0x00080056, "CS", "study", "instance_availability", True),
    LevelAttribute("RetrieveURL", 0x00081190, "UR", "study", "retrieve_url", True),
    LevelAttribute("SeriesInstanceUID", 0x0020000E, "UI", "series", "series_uid"),
    LevelAttribute("Modality", 0x00080060, "CS", "series", "modality"),
    LevelAttribute("SeriesNumber", 0x00200011, "IS", "series", "series_number"),
    LevelAttribute("SeriesDescription", 0x0008103E, "LO", "series", "series_description"),
    LevelAttribute("BodyPartExamined", 0x00180015, "CS", "series", "body_part_examined"),
    LevelAttribute("Laterality", 0x00200060, "CS", "series", "laterality"),
    LevelAttribute("Manufacturer", 0x00080070, "LO", "series", "manufacturer"),
    LevelAttribute("ManufacturerModelName", 0x00081090, "LO", "series", "manufacturer_model_name"),
    LevelAttribute("StationName", 0x00081010, "SH", "series", "station_name"),
    LevelAttribute("InstitutionName", 0x00080080, "LO", "series", "institution_name"),
    LevelAttribute(
        "PerformedProcedureStepStartDate", 0x00400244, "DA", "series", "performed_procedure_step_start_date"
    ),
    LevelAttribute(
        "PerformedProcedureStepStartTime", 0x00400245, "TM", "series", "performed_procedure_step_start_time"
    ),
    LevelAttribute("ProtocolName", 0x00181030, "LO", "series", "protocol_name"),
    LevelAttribute(
        "NumberOfSeriesRelatedInstances",
        0x00201209,
        "IS",
        "series",
        "number_of_series_related_instances",
        True,
    ),
    LevelAttribute("InstanceAvailability", 0x00080056, "CS", "series", "instance_availability", True),
    LevelAttribute("RetrieveURL", 0x00081190, "UR", "series", "retrieve_url", True),
    LevelAttribute("SOPInstanceUID", 0x00080018, "UI", "instance", "sop_uid"),
    LevelAttribute("SOPClassUID", 0x00080016, "UI", "instance", "sop_class"),
    LevelAttribute("InstanceNumber", 0x00200013, "IS", "instance", "instance_number"),
    LevelAttribute("Rows", 0x00280010, "US", "instance", "rows"),
    LevelAttribute("Columns", 0x00280011, "US", "instance", "columns"),
    LevelAttribute("BitsAllocated", 0x00280100, "US", "instance", "bits_allocated"),
    LevelAttribute("NumberOfFrames", 0x00280008, "IS", "instance", "number_of_frames"),
    LevelAttribute("ContentDate", 0x00080023, "DA", "instance", "content_date"),
    LevelAttribute("ContentTime", 0x00080033, "TM", "instance", "content_time"),
    LevelAttribute("AcquisitionDate", 0x00080022, "DA", "instance", "acquisition_date"),
    LevelAttribute("AcquisitionTime", 0x00080032, "TM", "instance", "acquisition_time"),
    LevelAttribute("ImageType", 0x00080008, "CS", "instance", "image_type"),
    LevelAttribute("PhotometricInterpretation", 0x00280004, "CS", "instance", "photometric_interpretation"),
    LevelAttribute("InstanceAvailability", 0x00080056, "CS", "instance", "instance_availability", True),
    LevelAttribute("AvailableTransferSyntaxUID", 0x00083002, "UI", "instance", "transfer_syntax", True),
    LevelAttribute("RetrieveURL", 0x00081190, "UR", "instance", "retrieve_url", True),
)
"""All attributes of the four levels; attributes that hold at several levels stand once for each."""

_DESCRIBING_TAGS: Final = frozenset(
    {
        0x00020002,  # Media Storage SOP Class UID
        0x00020003,  # Media Storage SOP Instance UID
        0x00020010,  # Transfer Syntax UID
        0x00020012,  # Implementation Class UID
        0x00020013,  # Implementation Version Name
        0x00020016,  # Source Application Entity Title
        0x00080005,  # Specific Character Set
        0x00280002,  # Samples per Pixel
        0x00280006,  # Planar Configuration
        0x00280101,  # Bits Stored
        0x00280102,  # High Bit
        0x00280103,  # Pixel Representation
        0x00282110,  # Lossy Image Compression
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
    }
)

INDEXED_TAGS: Final[frozenset[int]] = _DESCRIBING_TAGS | frozenset(
    attribute.tag for attribute in LEVEL_ATTRIBUTES if not attribute.computed
)
"""Tags whose values are collected while an instance is scanned."""


@dataclass(frozen=True, slots=True)
class PatientAttributes:
    """Attributes of the patient; '' when absent or empty, several values joined by a backslash."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """Attributes of the study; '' when absent or empty."""

    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_id: str = ""
    study_description: str = ""
    referring_physician_name: str = ""
    timezone_offset_from_utc: str = ""


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """Attributes of the series; '' when absent or empty, ``series_number`` None when absent or no number."""

    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    body_part_examined: str = ""
    laterality: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    station_name: str = ""
    institution_name: str = ""
    performed_procedure_step_start_date: str = ""
    performed_procedure_step_start_time: str = ""
    protocol_name: str = ""


@dataclass(frozen=True, slots=True)
class InstanceAttributes:
    """Attributes of the instance; '' when absent or empty, numbers None when absent or no number."""

    instance_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits_allocated: int | None = None
    number_of_frames: int | None = None
    content_date: str = ""
    content_time: str = ""
    acquisition_date: str = ""
    acquisition_time: str = ""
    image_type: str = ""
    photometric_interpretation: str = ""


_THREE_SAMPLES: Final = ("RGB", "YBR", "HSV")


def native_bytes(
    rows: int | None, columns: int | None, frames: int | None, bits_allocated: int | None, photometric: str
) -> int:
    """Bytes of Pixel Data when it is not compressed (PS3.5 8.1.1); 0 when there is none, or that is not known.

    How many samples a pixel has is told by its photometric interpretation (PS3.3 C.7.6.3.1.2).
    """
    samples = 3 if photometric.startswith(_THREE_SAMPLES) else 1
    bits = (rows or 0) * (columns or 0) * (bits_allocated or 0) * samples * max(frames or 1, 1)
    return (bits + 7) // 8


@dataclass(frozen=True, slots=True)
class InstanceIndex:
    """What the catalog keeps to find an instance.

    ``assigned`` names the UIDs that the instance did not carry and that were derived for it: a subset of
    ``("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")``.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    assigned: tuple[str, ...]
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes


_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003

_UID_FIELDS: Final = frozenset({"study_uid", "series_uid", "sop_uid", "sop_class"})
_TEXT_VRS: Final = frozenset({"LO", "SH", "PN"})
_BINARY_NUMBERS: Final = MappingProxyType({"US": "H", "SS": "h", "UL": "I", "SL": "i"})
_INTEGER: Final = re.compile(rb"[ \0]*([+-]?[0-9]{1,20})(?:\.0*)?[ \0]*(?:\\|$)")
_IS_LIMIT: Final = 2**31
_VALUE_SEPARATOR: Final = re.compile(r" *\\ *")


def _plan(level: Level) -> tuple[LevelAttribute, ...]:
    return tuple(
        attribute
        for attribute in LEVEL_ATTRIBUTES
        if attribute.level == level and not attribute.computed and attribute.field not in _UID_FIELDS
    )


_PATIENT: Final = _plan("patient")
_STUDY: Final = _plan("study")
_SERIES: Final = _plan("series")
_INSTANCE: Final = _plan("instance")


def index(layout: Layout, data_set_digest: Digest, *, sop_class: str = "", sop_uid: str = "") -> InstanceIndex:
    """Take the searchable attributes from a scanned instance; never raises for odd values.

    Text is decoded by the Specific Character Set, without padding and NULs, and never cut. Numbers that are
    not numbers, or not within the range of their VR, become None.

    Parameters
    ----------
    layout : Layout
        As `leanpacs.dicom.instance.scan` returns it when it collects `INDEXED_TAGS`.
    data_set_digest : Digest
        SHA-256 of the data set as received. UIDs that the instance does not carry are derived from it, so
        that the same bytes get the same UIDs again.
    sop_class, sop_uid : str
        By which the sender named the instance; they hold where it does not carry them.
    """
    values = _Values(layout.elements)
    study_uid, series_uid, sop_uid, assigned = _assign(values, data_set_digest, sop_uid)
    return InstanceIndex(
        study_uid=study_uid,
        series_uid=series_uid,
        sop_uid=sop_uid,
        sop_class=values.uid(0x00080016) or values.uid(_MEDIA_STORAGE_SOP_CLASS_UID) or sop_class,
        assigned=assigned,
        patient=PatientAttributes(**values.fields(_PATIENT)),
        study=StudyAttributes(**values.fields(_STUDY)),
        series=SeriesAttributes(**values.fields(_SERIES)),
        instance=InstanceAttributes(**values.fields(_INSTANCE)),
    )


def _assign(values: _Values, digest: Digest, named: str) -> tuple[str, str, str, tuple[str, ...]]:
    """The three UIDs, derived where they are absent, and the keywords of those that were derived.

    An absent Study Instance UID follows from the series if that is known, an absent Series Instance UID
    from study and modality, so that instances that belong together stay together.
    """
    received = study_uid, series_uid, sop_uid = (
        values.uid(0x0020000D),
        values.uid(0x0020000E),
        values.uid(0x00080018) or values.uid(_MEDIA_STORAGE_SOP_INSTANCE_UID) or named,
    )
    study_uid = study_uid or _derived_uid("study", series_uid or digest.hex)
    modality = values.elements.get(0x00080060)
    series_uid = series_uid or _derived_uid("series", study_uid, values.text(modality.value) if modality else "")
    sop_uid = sop_uid or _derived_uid("instance", digest.hex)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    assigned = tuple(keyword for keyword, uid in zip(keywords, received, strict=True) if not uid)
    return study_uid, series_uid, sop_uid, assigned


def _derived_uid(*parts: str) -> str:
    """UID under 2.25 (PS3.5 B.2) that depends on nothing but ``parts``."""
    raw = Digest.of("\\".join(parts).encode()).raw
    return f"2.25.{uuid.UUID(bytes=raw[:16], version=5).int}"


class _Values:
    """Typed reading of the elements that a scan collected."""

    __slots__ = ("_encodings", "elements")

    def __init__(self, elements: Mapping[int, RawValue]) -> None:
        self.elements = elements
        declared = elements.get(_SPECIFIC_CHARACTER_SET)
        self._encodings = text.encodings(declared.value) if declared else text.UNDECLARED

    def fields(self, attributes: tuple[LevelAttribute, ...]) -> dict[str, Any]:
        """Values of the attributes that are present, by field name."""
        present: dict[str, Any] = {}
        for attribute in attributes:
            element = self.elements.get(attribute.tag)
            if element is not None and element.vr != "SQ":
                present[attribute.field] = self._field(attribute.vr, element)
        return present

    def uid(self, tag: int) -> str:
        element = self.elements.get(tag)
        return self.text(element.value) if element is not None else ""

    def text(self, value: bytes, vr: str = "UI") -> str:
        """Text without padding, whether or not the character set applies to ``vr``."""
        value = value.strip(b" \0")
        if value.isascii() and b"\x1b" not in value:
            decoded = value.decode("ascii")
        elif vr in _TEXT_VRS:
            delimiters = text.NAME_DELIMITERS if vr == "PN" else text.VALUE_DELIMITERS
            decoded = text.decode(value, self._encodings, delimiters=delimiters)
        else:
            decoded = text.decode_ascii(value)
        # PostgreSQL holds no NUL in text, so none comes out of here.
        if "\0" in decoded:
            decoded = decoded.replace("\0", "").strip(" ")
        return _VALUE_SEPARATOR.sub(r"\\", decoded) if "\\" in decoded else decoded

    def _field(self, vr: str, element: RawValue) -> str | int | None:
        if vr == "IS":
            return self._integer(element)
        if vr == "US":
            return self._binary_number(element)
        return self.text(element.value, vr)

    def _integer(self, element: RawValue) -> int | None:
        """First value of an integer string; '12.0' is read as 12, as some senders write it."""
        match = _INTEGER.match(element.value)
        if match is None:
            return None
        number = int(match[1])
        return number if -_IS_LIMIT <= number < _IS_LIMIT else None

    def _binary_number(self, element: RawValue) -> int | None:
        """First value of a binary integer, in the VR that the element came with where that is another one."""
        code = _BINARY_NUMBERS.get(element.vr or "US", "")
        if not code and element.vr in ("IS", "DS"):
            return self._integer(element)
        code = code or "H"
        size_bytes = struct.calcsize(code)
        if len(element.value) < size_bytes:
            return None
        number: int = struct.unpack_from(("<" if element.little_endian else ">") + code, element.value)[0]
        return number
