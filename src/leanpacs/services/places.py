"""Where the rows of a search have the value of each attribute: C-FIND and QIDO-RS answer from the same table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.dicom.attributes import Level, LevelAttribute

_LEVELS: Final[tuple[Level, ...]] = ("patient", "study", "series", "instance")
_UIDS: Final = frozenset({"study_uid", "series_uid", "sop_uid", "sop_class"})
_TOTALS: Final = "totals."
_AVAILABILITY: Final = "availability"

_OWN: Final[Mapping[Level, Mapping[str, str]]] = MappingProxyType(
    {
        "patient": {
            "number_of_patient_related_studies": "number_of_studies",
            "number_of_patient_related_series": "number_of_series",
            "number_of_patient_related_instances": "number_of_instances",
        },
        "study": {
            "study_uid": "study_uid",
            "modalities_in_study": "modalities",
            "number_of_study_related_series": "number_of_series",
            "number_of_study_related_instances": "number_of_instances",
            "instance_availability": _AVAILABILITY,
        },
        "series": {
            "study_uid": "study_uid",
            "series_uid": "series_uid",
            "number_of_series_related_instances": "number_of_instances",
            "instance_availability": _AVAILABILITY,
        },
        "instance": {
            "study_uid": "held.study_uid",
            "series_uid": "held.series_uid",
            "sop_uid": "held.sop_uid",
            "sop_class": "held.sop_class",
            "transfer_syntax": "held.transfer_syntax",
            "instance_availability": _AVAILABILITY,
        },
    }
)
"""By level of the row and field, where that is not among the attributes of a level."""

_COMPUTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "number_of_patient_related_studies": "patient_studies",
        "number_of_patient_related_series": "patient_series",
        "number_of_patient_related_instances": "patient_instances",
        "modalities_in_study": "modalities",
        "sop_classes_in_study": "sop_classes",
        "number_of_study_related_series": "study_series",
        "number_of_study_related_instances": "study_instances",
        "number_of_series_related_instances": "series_instances",
    }
)
"""Fields of `Totals`, which rows have when the query asks for them."""


def place(attribute: LevelAttribute, level: Level) -> str | None:
    """Dotted name of an attribute's value in rows of a level; None where they do not have it."""
    own = _OWN[level].get(attribute.field)
    if own is not None:
        return own
    if _LEVELS.index(attribute.level) > _LEVELS.index(level) or attribute.field in _UIDS:
        return None
    if not attribute.computed:
        return f"{attribute.level}.{attribute.field}"
    total = _COMPUTED.get(attribute.field)
    return None if total is None or level == "patient" else f"{_TOTALS}{total}"


def totals(places: Iterable[str]) -> frozenset[str]:
    """What a query has to ask for so that its rows have values in these places."""
    return frozenset(one.removeprefix(_TOTALS) for one in places if one.startswith(_TOTALS))
