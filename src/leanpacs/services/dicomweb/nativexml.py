"""The Native DICOM Model: DICOM JSON rewritten as XML.

References
----------
PS3.19 A.1 (Native DICOM Model), PS3.18 F (DICOM JSON Model).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree

from leanpacs.dicom import datadict

_ROOT: Final = "NativeDicomModel"
_NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_ILLEGAL: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PERSON_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_PERSON_NAME_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def native_xml(data_set: Mapping[str, Any]) -> bytes:
    """Rewrite one data set of the DICOM JSON Model as a Native DICOM Model document.

    Parameters
    ----------
    data_set : mapping
        Tag as eight hexadecimal digits to ``{"vr": ..., "Value" | "BulkDataURI" | "InlineBinary": ...}``.

    Returns
    -------
    bytes
        UTF-8 with XML declaration.
    """
    root = ElementTree.Element(_ROOT, {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _add_elements(root, data_set)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _add_elements(parent: ElementTree.Element, data_set: Mapping[str, Any]) -> None:
    for tag in sorted(data_set):
        element, vr = data_set[tag], data_set[tag]["vr"]
        attributes = {"tag": tag, "vr": vr}
        keyword = datadict.keyword_of(int(tag, 16))
        if keyword:
            attributes["keyword"] = keyword
        node = ElementTree.SubElement(parent, "DicomAttribute", attributes)
        if "BulkDataURI" in element:
            ElementTree.SubElement(node, "BulkData", {"uri": element["BulkDataURI"]})
        elif "InlineBinary" in element:
            ElementTree.SubElement(node, "InlineBinary").text = element["InlineBinary"]
        for number, value in enumerate(element.get("Value", ()), start=1):
            _add_value(node, vr, number, value)


def _add_value(parent: ElementTree.Element, vr: str, number: int, value: Any) -> None:
    attributes = {"number": str(number)}
    if vr == "SQ":
        _add_elements(ElementTree.SubElement(parent, "Item", attributes), value or {})
    elif vr == "PN":
        _add_person_name(ElementTree.SubElement(parent, "PersonName", attributes), value or {})
    else:
        node = ElementTree.SubElement(parent, "Value", attributes)
        node.text = None if value is None else _legal(str(value))


def _add_person_name(parent: ElementTree.Element, name: Mapping[str, str]) -> None:
    for group in _PERSON_NAME_GROUPS:
        if not name.get(group):
            continue
        node = ElementTree.SubElement(parent, group)
        for component, text in zip(_PERSON_NAME_COMPONENTS, name[group].split("^"), strict=False):
            if text:
                ElementTree.SubElement(node, component).text = _legal(text)


def _legal(text: str) -> str:
    """Replace what XML 1.0 cannot hold, such as the control characters some senders leave in text."""
    return _ILLEGAL.sub("\ufffd", text)
