"""Audit events in the form of the standard.

Patients are not named: the trail carries UIDs only, so the participant object of the patient, which the tables of A.5.3
ask for, is left out.

References
----------
PS3.15 A.5.1 (schema), A.5.2 (conventions), A.5.3 (messages); PS3.16 CID 400 to 405 (codes).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from leanpacs.audit.trail import AuditAction, AuditEvent, AuditOutcome

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_APPLICATION_SERVER: Final = "4"
_MACHINE: Final = "1"
_ADDRESS: Final = "2"
_OUTCOME: Final = {AuditOutcome.SUCCESS: "0", AuditOutcome.REFUSED: "4", AuditOutcome.FAILURE: "8"}


@dataclass(frozen=True, slots=True)
class Code:
    """A code of DICOM (PS3.16 annex D)."""

    value: str
    meaning: str


_APPLICATION: Final = Code("110150", "Application")
_DESTINATION: Final = Code("110152", "Destination Role ID")
_SOURCE: Final = Code("110153", "Source Role ID")
_STUDY: Final = Code("110180", "Study Instance UID")


@dataclass(frozen=True, slots=True)
class Kind:
    """What an action is in the standard: event, type where there is one, and one letter for what was done."""

    event: Code
    letter: str
    type: Code | None = None


_ACTIVITY: Final = Code("110100", "Application Activity")
_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
_ALERT: Final = Code("110113", "Security Alert")

KINDS: Final[Mapping[AuditAction, Kind]] = {
    AuditAction.START: Kind(_ACTIVITY, "E", Code("110120", "Application Start")),
    AuditAction.STOP: Kind(_ACTIVITY, "E", Code("110121", "Application Stop")),
    AuditAction.STORE: Kind(_TRANSFERRED, "C"),
    AuditAction.QUARANTINE: Kind(_TRANSFERRED, "C"),
    AuditAction.SEND: Kind(Code("110102", "Begin Transferring DICOM Instances"), "E"),
    AuditAction.RETRIEVE: Kind(_TRANSFERRED, "R"),
    AuditAction.QUERY: Kind(Code("110112", "Query"), "E"),
    AuditAction.EXPORT: Kind(Code("110106", "Export"), "R"),
    AuditAction.DELETE: Kind(_ACCESSED, "D"),
    AuditAction.VERIFY: Kind(_ACCESSED, "R"),
    AuditAction.REBUILD: Kind(_ALERT, "E", Code("110131", "Software Configuration")),
    AuditAction.LOGIN: Kind(Code("110114", "User Authentication"), "E", Code("110122", "Login")),
    AuditAction.CONFIGURE: Kind(_ALERT, "E", Code("110129", "Security Configuration")),
}
"""For every action; a deletion of a whole study is one of `DICOM Study Deleted`."""

_STUDY_DELETED: Final = Kind(Code("110105", "DICOM Study Deleted"), "D")


@dataclass(frozen=True, slots=True)
class Source:
    """Who reports.

    Parameters
    ----------
    name : str
        Of this archive: its AE title, say.
    site : str
        Where it is; '' says nothing.
    """

    name: str
    site: str = ""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, taken apart: ``dimse:CT1@192.0.2.7`` is CT1 at 192.0.2.7."""

    name: str
    address: str = ""

    @classmethod
    def of(cls, text: str) -> Actor:
        """Read the actor of an event."""
        named = text.partition(":")[2] or text
        name, at, address = named.rpartition("@")
        if at:
            return cls(name, address)
        return cls(named, named if _is_address(named) else "")


def message(event: AuditEvent, source: Source) -> bytes:
    """One event as a document in one line of ASCII, without declaration."""
    kind = _STUDY_DELETED if event.action is AuditAction.DELETE and not event.series_uid + event.sop_uid else None
    kind = kind or KINDS[event.action]
    root = Element("AuditMessage")
    identification = SubElement(
        root,
        "EventIdentification",
        EventActionCode=kind.letter,
        EventDateTime=event.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=_outcome(event),
    )
    _coded(identification, "EventID", kind.event)
    if kind.type is not None:
        _coded(identification, "EventTypeCode", kind.type)
    if described := _description(event):
        SubElement(identification, "EventOutcomeDescription").text = described
    _participants(root, event, source)
    site = {"AuditEnterpriseSiteID": _clean(source.site)} if source.site else {}
    reporter = SubElement(root, "AuditSourceIdentification", site, AuditSourceID=_clean(source.name))
    SubElement(reporter, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    for element in _objects(event):
        root.append(element)
    document: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False)
    return document.replace(b"\n", b"&#10;")


def _description(event: AuditEvent) -> str:
    """The detail; and what it was done to, where the study is not known and so cannot be named as an object."""
    unnamed = "" if event.study_uid else event.sop_uid or event.series_uid
    return _clean(" ".join(part for part in (event.detail, unnamed and f"({unnamed})") if part))


def _outcome(event: AuditEvent) -> str:
    if event.action is AuditAction.QUARANTINE and event.outcome is AuditOutcome.SUCCESS:
        return _OUTCOME[AuditOutcome.REFUSED]  # it was kept, but not as what it was sent as
    return _OUTCOME[event.outcome]


def _participants(root: Element, event: AuditEvent, source: Source) -> None:
    actor = Actor.of(event.actor)
    arriving = event.action in (AuditAction.STORE, AuditAction.QUARANTINE)
    leaving = event.action in (AuditAction.SEND, AuditAction.RETRIEVE, AuditAction.EXPORT)
    theirs = _SOURCE if arriving else _DESTINATION if leaving else None
    ours = _DESTINATION if arriving else _SOURCE if leaving else _APPLICATION
    access = {}
    if actor.address:
        kind = _ADDRESS if _is_address(actor.address) else _MACHINE
        access = {"NetworkAccessPointID": _clean(actor.address), "NetworkAccessPointTypeCode": kind}
    person = SubElement(root, "ActiveParticipant", access, UserID=_clean(actor.name), UserIsRequestor="true")
    if theirs is not None:
        _coded(person, "RoleIDCode", theirs)
    archive = SubElement(root, "ActiveParticipant", UserID=_clean(source.name), UserIsRequestor="false")
    _coded(archive, "RoleIDCode", ours)


def _objects(event: AuditEvent) -> Iterator[Element]:
    if not event.study_uid:
        return
    found = Element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(event.study_uid),
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="3",
    )
    _coded(found, "ParticipantObjectIDTypeCode", _STUDY)
    SubElement(found, "ParticipantObjectName").text = _clean(event.series_uid or event.study_uid)
    count = event.instances or (1 if event.sop_uid else 0)
    if count:
        description = SubElement(found, "ParticipantObjectDescription")
        sop_class = SubElement(description, "SOPClass", NumberOfInstances=str(count))
        if event.sop_uid:
            SubElement(sop_class, "Instance", UID=_clean(event.sop_uid))
    yield found


def _coded(parent: Element, name: str, code: Code) -> None:
    meaning = code.meaning
    fields = {"csd-code": code.value, "codeSystemName": "DCM", "displayName": meaning, "originalText": meaning}
    SubElement(parent, name, fields)


def _clean(text: str) -> str:
    """The text without characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True
