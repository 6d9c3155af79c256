"""The Native DICOM Model read: XML rewritten as the DICOM JSON Model.

References
----------
PS3.19 A.1 (Native DICOM Model), PS3.18 F.2.3 (which JSON values a VR has).
"""

from __future__ import annotations

import re
from typing import Any, Final
from xml.etree import ElementTree

from leanpacs.dicom.vrs import NUMBER_CODES, VRS
from leanpacs.errors import DicomError

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_INTEGERS: Final = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_NUMBERS: Final = frozenset({"DS", *NUMBER_CODES})
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_MOST_DEPTH: Final = 64


def read_native_xml(document: bytes) -> dict[str, Any]:
    """Return the DICOM JSON Model object of a document.

    Raises
    ------
    DicomError
        It is not well-formed, declares a document type, or is no Native DICOM Model.
    """
    try:
        root = ElementTree.fromstring(_without_types(document))  # noqa: S314 -- without entities it cannot explode
    except ElementTree.ParseError as error:
        raise DicomError(f"the metadata are not well-formed XML: {error}") from error
    if _name(root) != "NativeDicomModel":
        raise DicomError(f"the metadata are no Native DICOM Model but <{_name(root)}>")
    return _data_set(root, 0)


def _without_types(document: bytes) -> bytes:
    """Refuse document types: entities are a way to make much of little, and the model has none."""
    if b"<!DOCTYPE" in document or b"<\0!\0D\0" in document or b"\0<\0!\0D" in document:
        raise DicomError("the metadata declare a document type, which this model does not have")
    return document


def _data_set(parent: ElementTree.Element, depth: int) -> dict[str, Any]:
    if depth > _MOST_DEPTH:
        raise DicomError(f"sequences are nested deeper than {_MOST_DEPTH}")
    found = {}
    for node in parent:
        if _name(node) == "DicomAttribute":
            tag = _attribute(node, "tag")
            if not _TAG.fullmatch(tag):
                raise DicomError(f"{tag!r} is no tag")
            found[tag.upper()] = _element(node, depth)
    return dict(sorted(found.items()))


def _element(node: ElementTree.Element, depth: int) -> dict[str, Any]:
    vr = _attribute(node, "vr")
    if vr not in VRS:
        raise DicomError(f"{vr!r} is no VR")
    element: dict[str, Any] = {"vr": vr}
    values: list[tuple[int, Any]] = []
    for place, child in enumerate(node, start=1):
        match _name(child):
            case "BulkData":
                element["BulkDataURI"] = _attribute(child, "uri")
            case "InlineBinary":
                element["InlineBinary"] = "".join((child.text or "").split())
            case "Item":
                values.append((_number(child, place), _data_set(child, depth + 1)))
            case "PersonName":
                values.append((_number(child, place), _person_name(child)))
            case "Value":
                values.append((_number(child, place), _value(vr, child.text)))
    if values:
        element["Value"] = [value for _, value in sorted(values, key=lambda pair: pair[0])]
    return element


def _value(vr: str, text: str | None) -> str | int | float | None:
    if text is None or not text.strip():
        return None
    if vr not in _NUMBERS and vr not in _INTEGERS:
        return text
    try:
        return int(text) if vr in _INTEGERS else float(text)
    except ValueError as error:
        raise DicomError(f"{text!r} is no number of VR {vr}") from error


def _person_name(node: ElementTree.Element) -> dict[str, str]:
    name = {}
    for group in node:
        parts = {_name(part): (part.text or "").strip() for part in group}
        name[_name(group)] = "^".join(parts.get(component, "") for component in _COMPONENTS).rstrip("^")
    return name


def _number(node: ElementTree.Element, otherwise: int) -> int:
    text = _attribute(node, "number")
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def _attribute(node: ElementTree.Element, name: str) -> str:
    """Value of an attribute; an example of the standard (PS3.18 B.23) begins their names with capitals."""
    return node.get(name) or node.get(name.capitalize()) or node.get(name.upper()) or ""


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
