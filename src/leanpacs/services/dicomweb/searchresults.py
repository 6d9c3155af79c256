"""Results of a search as DICOM JSON Model objects: which attributes, and where their values are.

References
----------
PS3.18 10.6.3.3 (search response payload), tables 10.6.3-3 to 10.6.3-5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from leanpacs.catalog import FoundInstance, SeriesRow, StudyRow
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, Level, LevelAttribute
from leanpacs.dicom.jsonvalues import attribute_json
from leanpacs.services import places

if TYPE_CHECKING:
    from leanpacs.services.dicomweb.urls import Urls

Found = StudyRow | SeriesRow | FoundInstance
"""What a search finds."""

_RETRIEVE_URL: Final = "RetrieveURL"
_KEYWORDS: Final = frozenset(attribute.keyword for attribute in LEVEL_ATTRIBUTES)
_DEPTH: Final = {"patient": 0, "study": 1, "series": 2, "instance": 3}

_ALWAYS: Final[Mapping[str, frozenset[str]]] = {
    "study": frozenset(
        {
            "StudyDate",
            "StudyTime",
            "AccessionNumber",
            "InstanceAvailability",
            "ModalitiesInStudy",
            "ReferringPhysicianName",
            "TimezoneOffsetFromUTC",
            "RetrieveURL",
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyInstanceUID",
            "StudyID",
            "NumberOfStudyRelatedSeries",
            "NumberOfStudyRelatedInstances",
        }
    ),
    "series": frozenset(
        {
            "Modality",
            "TimezoneOffsetFromUTC",
            "SeriesDescription",
            "RetrieveURL",
            "SeriesInstanceUID",
            "SeriesNumber",
            "NumberOfSeriesRelatedInstances",
            "PerformedProcedureStepStartDate",
            "PerformedProcedureStepStartTime",
            "InstanceAvailability",
        }
    ),
    "instance": frozenset(
        {
            "SOPClassUID",
            "SOPInstanceUID",
            "InstanceAvailability",
            "AvailableTransferSyntaxUID",
            "TimezoneOffsetFromUTC",
            "RetrieveURL",
            "InstanceNumber",
            "Rows",
            "Columns",
            "BitsAllocated",
            "NumberOfFrames",
        }
    ),
}
"""Attributes that a result of each level always has, by keyword (PS3.18 tables 10.6.3-3 to 10.6.3-5)."""

_UIDS_ABOVE: Final[Mapping[str, frozenset[str]]] = {
    "study": frozenset(),
    "series": frozenset({"StudyInstanceUID"}),
    "instance": frozenset({"StudyInstanceUID", "SeriesInstanceUID"}),
}
"""Without these a result could not be told where it belongs."""

_IF_KNOWN: Final = frozenset(
    {
        "InstanceAvailability",
        "TimezoneOffsetFromUTC",
        "SeriesDescription",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "Rows",
        "Columns",
        "BitsAllocated",
        "NumberOfFrames",
    }
)
"""Left out where there is no value; the others are returned empty."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which attributes a search returns.

    Attributes
    ----------
    level : str
        What is searched for.
    within : frozenset of str
        Keywords of the UIDs in the path. The attributes of the levels that it names are not repeated, those
        of other levels above are (PS3.18 10.6.3.3.2 and 10.6.3.3.3).
    included : frozenset of str
        Keywords asked for.
    include_all : bool
        All attributes are asked for.
    """

    level: Level
    within: frozenset[str]
    included: frozenset[str] = frozenset()
    include_all: bool = False

    def attributes(self) -> list[LevelAttribute]:
        """Return the attributes in ascending order of tags; those that hold at several levels at this one."""
        depth = _DEPTH[self.level]
        keywords = self._keywords()
        chosen = {
            attribute.tag: attribute
            for attribute in sorted(LEVEL_ATTRIBUTES, key=lambda attribute: _DEPTH[attribute.level])
            if _DEPTH[attribute.level] <= depth and (self._is_all(attribute) or attribute.keyword in keywords)
        }
        return [chosen[tag] for tag in sorted(chosen)]

    def _keywords(self) -> frozenset[str]:
        keywords = _ALWAYS[self.level] | _UIDS_ABOVE[self.level] | self.included
        if self.level in ("series", "instance") and "StudyInstanceUID" not in self.within:
            keywords |= _ALWAYS["study"]
        if self.level == "instance" and "SeriesInstanceUID" not in self.within:
            keywords |= _ALWAYS["series"]
        return keywords

    def levels(self) -> frozenset[str]:
        """Levels of which everything is returned, where all is asked for: this one, and those that no UID names."""
        chosen = {self.level}
        if "StudyInstanceUID" not in self.within:
            chosen |= {"study", "patient"}
        if self.level == "instance" and "SeriesInstanceUID" not in self.within:
            chosen.add("series")
        return frozenset(chosen)

    def _is_all(self, attribute: LevelAttribute) -> bool:
        return self.include_all and attribute.level in self.levels()


class Results:
    """Makes results of one search.

    Parameters
    ----------
    selection : Selection
        Which attributes.
    urls : Urls
        For the retrieve URLs.

    Attributes
    ----------
    totals : frozenset of str
        What the query has to ask for, so that its rows have all values.
    """

    def __init__(self, selection: Selection, urls: Urls) -> None:
        self._urls = urls
        known = replace(selection, included=selection.included & _KEYWORDS)  # names that nobody knows are many
        self.totals, self._columns = _columns(known)

    def json(self, found: Found) -> dict[str, Any]:
        """Return one result as a DICOM JSON Model object."""
        result: dict[str, Any] = {}
        for tag, vr, value_of, if_known in self._columns:
            value = self._retrieve_url(found) if value_of is None else value_of(found)
            if not (if_known and value in (None, "")):
                result[tag] = attribute_json(vr, value)
        return result

    def _retrieve_url(self, found: Found) -> str:
        if isinstance(found, StudyRow):
            return self._urls.study(found.study_uid)
        if isinstance(found, SeriesRow):
            return self._urls.series(found.study_uid, found.series_uid)
        return self._urls.instance(found.held.study_uid, found.held.series_uid, found.held.sop_uid)


_Column: TypeAlias = "tuple[str, str, Callable[[Found], Any] | None, bool]"
"""Tag and VR; what takes the value from a row, None for the retrieve URL; whether it is left out without a value."""


@lru_cache(maxsize=256)
def _columns(selection: Selection) -> tuple[frozenset[str], Sequence[_Column]]:
    """What the query has to ask for, and the columns of results: the same for most searches."""
    columns: list[_Column] = []
    found = [(attribute, places.place(attribute, selection.level)) for attribute in selection.attributes()]
    for attribute, place in found:
        if place is not None or attribute.keyword == _RETRIEVE_URL:
            value_of = None if place is None else attrgetter(place)
            columns.append((f"{attribute.tag:08X}", attribute.vr, value_of, attribute.keyword in _IF_KNOWN))
    return places.totals(place for _, place in found if place is not None), columns
