"""A structured report as people read it: what it is about, and its content tree.

Read from the DICOM JSON Model, which is whole and in Unicode even where a sender's values are not as they should be.

References
----------
PS3.3 C.17.2 (SR document general), C.17.3 (SR document content), C.17.6 (key objects), C.18 (content items).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from leanpacs.dicom.datadict import tag_of

Model: TypeAlias = Mapping[str, Mapping[str, Any]]
"""A data set, or an item of a sequence, in the DICOM JSON Model (PS3.18 F)."""

_SHOWN_POINTS: Final = 4
_RELATIONS: Final = {"INFERRED FROM": "inferred from", "SELECTED FROM": "selected from"}
"""Relationships that a reader has to be told of; the others follow from the place."""
_TEXTS: Final = {
    "TEXT": "TextValue",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "UIDREF": "UID",
}
_BY_REFERENCE: Final = frozenset({"CONTAINER", "IMAGE", "COMPOSITE", "WAVEFORM"})
"""Their value is what they contain, or refer to."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: its meaning for people, its value and scheme for machines."""

    meaning: str = ""
    value: str = ""
    scheme: str = ""

    def __str__(self) -> str:
        """The code as PS3.3 writes it, without its meaning; '' where there is none."""
        return f"{self.value}, {self.scheme}" if self.value else ""


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a content item names.

    Attributes
    ----------
    study_uid, series_uid : str
        Where it is, '' when the report does not say.
    sop_class, sop_uid : str
        What it is.
    details : sequence of (str, tuple of int)
        Frames, segments or channels that are meant, by name; all when there are none.
    """

    study_uid: str
    series_uid: str
    sop_class: str
    sop_uid: str
    details: Sequence[tuple[str, tuple[int, ...]]] = ()

    def frames(self) -> tuple[int, ...]:
        """Numbers of the frames that are meant, () for all."""
        return next((numbers for name, numbers in self.details if name == "frame"), ())


@dataclass(frozen=True, slots=True)
class Item:
    """A content item.

    Attributes
    ----------
    position : str
        Such as '1.2.3' (C.17.3.2.5).
    kind : str
        Value Type; '' of one that stands for another one.
    relation : str
        To the item that it is in, where a reader has to be told: 'inferred from', 'selected from'.
    concept : Code
        Its name.
    value : str
        For people, '' when it has none.
    code : Code
        Of the value, or of its unit.
    references : sequence of Reference
        What it names.
    target : str
        Position of the item that it stands for, '' for none.
    observed : str
        When, where that is said.
    runs_on : bool
        Its items are one text (Continuity of Content).
    items : sequence of Item
        What it contains, or is described by.
    """

    position: str
    kind: str = ""
    relation: str = ""
    concept: Code = Code()
    value: str = ""
    code: Code = Code()
    references: Sequence[Reference] = ()
    target: str = ""
    observed: str = ""
    runs_on: bool = False
    items: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A structured report.

    Attributes
    ----------
    title : str
        Its own, or that of its SOP class.
    facts : sequence of (str, str)
        What it is about and whose it is, by name; none is empty.
    body : Item
        The root of the content tree.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    body: Item


def read_report(model: Model, otherwise: str = "Report") -> Report:
    """Read a report.

    Parameters
    ----------
    model : mapping
        The data set.
    otherwise : str
        Title of a report without one.
    """
    places = dict(_evidence(model))
    body = _item(model, "1", places)
    return Report(body.concept.meaning or otherwise, [fact for fact in _facts(model) if fact[1]], body)


def _facts(model: Model) -> Iterator[tuple[str, str]]:
    yield "Patient", person(_text(model, "PatientName"))
    yield "Patient ID", _text(model, "PatientID")
    yield "Born", _date(_text(model, "PatientBirthDate"))
    yield "Sex", _text(model, "PatientSex")
    yield "Study", _text(model, "StudyDescription")
    yield "Study date", _moment(_text(model, "StudyDate"), _text(model, "StudyTime"))
    yield "Accession number", _text(model, "AccessionNumber")
    yield "Referring physician", person(_text(model, "ReferringPhysicianName"))
    yield "Institution", _text(model, "InstitutionName")
    for request in _items(model, "ReferencedRequestSequence"):
        yield "Requested", _text(request, "RequestedProcedureDescription")
    yield "Written", _moment(_text(model, "ContentDate"), _text(model, "ContentTime"))
    for author in _items(model, "AuthorObserverSequence"):
        yield "Author", _observer(author, "PersonName")
    yield "State", ", ".join(_state(model))
    for observer in _items(model, "VerifyingObserverSequence"):
        when = _date_time(_text(observer, "VerificationDateTime"))
        yield "Verified by", ", ".join(filter(None, (_observer(observer, "VerifyingObserverName"), when)))


def _state(model: Model) -> Iterator[str]:
    for keyword in ("PreliminaryFlag", "CompletionFlag", "VerificationFlag"):
        if found := _text(model, keyword):
            yield found.lower()
    if found := _text(model, "CompletionFlagDescription"):
        yield found


def _observer(item: Model, name: str) -> str:
    organisation = _text(item, "VerifyingOrganization") or _text(item, "InstitutionName")
    device = _text(item, "ManufacturerModelName") or _text(item, "Manufacturer")
    return ", ".join(filter(None, (person(_text(item, name)) or device, organisation)))


def _item(model: Model, position: str, places: Mapping[str, tuple[str, str]]) -> Item:
    relation = _RELATIONS.get(_text(model, "RelationshipType"), "")
    target = ".".join(map(str, _numbers(model, "ReferencedContentItemIdentifier")))
    if target:
        return Item(position, relation=relation, target=target)
    kind = _text(model, "ValueType")
    value, code = _value(model, kind)
    inner = enumerate(_items(model, "ContentSequence"), start=1)
    return Item(
        position,
        kind,
        relation,
        _code(model, "ConceptNameCodeSequence"),
        value,
        code,
        list(_references(model, places)),
        observed=_date_time(_text(model, "ObservationDateTime")),
        runs_on=_text(model, "ContinuityOfContent") == "CONTINUOUS",
        items=[_item(one, f"{position}.{number}", places) for number, one in inner],
    )


def _value(model: Model, kind: str) -> tuple[str, Code]:
    """A content item's value for people, and the code of it or of its unit (PS3.3 C.18)."""
    if kind == "CODE":
        code = _code(model, "ConceptCodeSequence")
        return code.meaning or code.value, code
    if kind == "NUM":
        return _measurement(model)
    if kind == "PNAME":
        return person(_text(model, "PersonName")), Code()
    if kind in ("SCOORD", "SCOORD3D", "TCOORD"):
        return _coordinates(model, 3 if kind == "SCOORD3D" else 2), Code()
    if kind in _BY_REFERENCE:
        return "", Code()
    if kind not in _TEXTS:
        return f"(of value type {kind}, which is not shown)" if kind else "", Code()
    text = _text(model, _TEXTS[kind])
    readable = {"DATE": _date, "TIME": _time, "DATETIME": _date_time}.get(kind)
    return (readable(text) if readable else text), Code()


def _measurement(model: Model) -> tuple[str, Code]:
    why_not = _code(model, "NumericValueQualifierCodeSequence").meaning
    measured = next(_items(model, "MeasuredValueSequence"), None)
    if measured is None:
        return why_not or "not measured", Code()
    unit = _code(measured, "MeasurementUnitsCodeSequence")
    is_plain = unit.scheme == "UCUM" and (unit.value == "1" or unit.value.startswith("{"))
    name = unit.meaning if is_plain else unit.value or unit.meaning
    written = " ".join(filter(None, (_text(measured, "NumericValue"), "" if is_plain and unit.value == "1" else name)))
    return f"{written} ({why_not})" if why_not else written, unit


def _coordinates(model: Model, dimensions: int) -> str:
    if form := _text(model, "TemporalRangeType"):
        for keyword in ("ReferencedSamplePositions", "ReferencedTimeOffsets", "ReferencedDateTime"):
            if moments := _texts(model, keyword):
                return f"{form.lower()}: {', '.join(moments[:_SHOWN_POINTS])}{_more(len(moments))}"
        return form.lower()
    numbers = [f"{number:g}" for number in _floats(model, "GraphicData")]
    points = [f"({', '.join(numbers[at : at + dimensions])})" for at in range(0, len(numbers), dimensions)]
    form = _text(model, "GraphicType").lower()
    return f"{form}: {' '.join(points[:_SHOWN_POINTS])}{_more(len(points))}" if points else form


def _more(count: int) -> str:
    return f" and {count - _SHOWN_POINTS} more" if count > _SHOWN_POINTS else ""


def _references(model: Model, places: Mapping[str, tuple[str, str]]) -> Iterator[Reference]:
    """Instances that an item names, and the presentation states with which they are to be seen (C.18.4)."""
    for one in _items(model, "ReferencedSOPSequence"):
        yield _reference(one, places)
        yield from (_reference(state, places) for state in _items(one, "ReferencedSOPSequence"))


def _reference(model: Model, places: Mapping[str, tuple[str, str]]) -> Reference:
    sop_uid = _text(model, "ReferencedSOPInstanceUID")
    named = (
        ("frame", "ReferencedFrameNumber"),
        ("segment", "ReferencedSegmentNumber"),
        ("channel", "ReferencedWaveformChannels"),
    )
    details = [(name, numbers) for name, keyword in named if (numbers := tuple(_numbers(model, keyword)))]
    return Reference(*places.get(sop_uid, ("", "")), _text(model, "ReferencedSOPClassUID"), sop_uid, details)


def _evidence(model: Model) -> Iterator[tuple[str, tuple[str, str]]]:
    """In which study and series the instances are that a report refers to (C.17.2.3)."""
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in _items(model, keyword):
            for series in _items(study, "ReferencedSeriesSequence"):
                place = _text(study, "StudyInstanceUID"), _text(series, "SeriesInstanceUID")
                for instance in _items(series, "ReferencedSOPSequence"):
                    yield _text(instance, "ReferencedSOPInstanceUID"), place


def person(name: str) -> str:
    """Person name for people: its first group that is there, family name first (PS3.5 6.2.1)."""
    group = next((group for group in name.split("=") if group.strip("^ ")), "")
    family, *others = (part.strip() for part in group.split("^"))
    given = " ".join(part for part in others if part)
    return ", ".join(filter(None, (family, given)))


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else text


def _time(text: str) -> str:
    digits = text.partition(".")[0]
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)) if digits.isdigit() else text


def _moment(date: str, time: str) -> str:
    return " ".join(filter(None, (_date(date), _time(time))))


def _date_time(text: str) -> str:
    digits, zone = text.partition(".")[0], ""
    for sign in "+-":
        before, found, after = text.partition(sign)
        if found:
            digits, zone = before.partition(".")[0], f" {sign}{after}"
    return _moment(digits[:8], digits[8:]) + zone if digits.isdigit() else text


def _code(model: Model, keyword: str) -> Code:
    item = next(_items(model, keyword), {})
    value = _text(item, "CodeValue") or _text(item, "LongCodeValue") or _text(item, "URNCodeValue")
    return Code(_text(item, "CodeMeaning"), value, _text(item, "CodingSchemeDesignator"))


def _items(model: Model, keyword: str) -> Iterator[Model]:
    element = model.get(_tag(keyword), {})
    yield from (item for item in element.get("Value", ()) if isinstance(item, dict) and element.get("vr") == "SQ")


def _text(model: Model, keyword: str) -> str:
    return next(iter(_texts(model, keyword)), "")


def _texts(model: Model, keyword: str) -> list[str]:
    """Values as text; names with all their groups."""
    found = []
    for value in model.get(_tag(keyword), {}).get("Value", ()):
        if isinstance(value, dict):
            value = "=".join(value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
        found.append("" if value is None else str(value).strip())
    return found


def _numbers(model: Model, keyword: str) -> list[int]:
    return [int(value) for value in _floats(model, keyword)]


def _floats(model: Model, keyword: str) -> list[float]:
    values = model.get(_tag(keyword), {}).get("Value", ())
    return [value for value in values if isinstance(value, int | float) and value == value]  # NaN is none


@cache
def _tag(keyword: str) -> str:
    tag = tag_of(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}"
