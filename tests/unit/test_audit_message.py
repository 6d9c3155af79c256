"""Audit messages are what the schema of PS3.15 A.5.1 allows, and say what the tables of A.5.3 ask for."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome
from leanpacs.audit.message import KINDS, Actor, Source, message
from leanpacs.audit.syslog import Collector, framed

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SOURCE = Source("ARCHIVE", "north")
CODED = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"})
# Of each element: attributes that it needs, that it may have, and its children in their order with how often they come.
SCHEMA: dict[str, tuple[tuple[set[str], set[str]], str]] = {
    "AuditMessage": (
        (set(), set()),
        "(EventIdentification )(ActiveParticipant )+(AuditSourceIdentification )(ParticipantObjectIdentification )*",
    ),
    "EventIdentification": (
        ({"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"}),
        "(EventID )(EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "ActiveParticipant": (
        (
            {"UserID", "UserIsRequestor"},
            {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        ),
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "AuditSourceIdentification": (({"AuditSourceID"}, {"AuditEnterpriseSiteID"}), "(AuditSourceTypeCode )*"),
    "AuditSourceTypeCode": (({"csd-code"}, {"codeSystemName", "displayName", "originalText"}), ""),
    "ParticipantObjectIdentification": (
        (
            {"ParticipantObjectID"},
            {
                "ParticipantObjectTypeCode",
                "ParticipantObjectTypeCodeRole",
                "ParticipantObjectDataLifeCycle",
                "ParticipantObjectSensitivity",
            },
        ),
        "(ParticipantObjectIDTypeCode )((ParticipantObjectName )|(ParticipantObjectQuery ))"
        "(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectDescription": ((set(), set()), "(MPPS )*(Accession )*(SOPClass )*"),
    "SOPClass": (({"NumberOfInstances"}, {"UID"}), "(Instance )*"),
    "Instance": (({"UID"}, set()), ""),
    "EventOutcomeDescription": ((set(), set()), ""),
    "ParticipantObjectName": ((set(), set()), ""),
    **dict.fromkeys(("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"), (CODED, "")),
}
VALUES = {
    "EventActionCode": "C|R|U|D|E",
    "EventOutcomeIndicator": "0|4|8|12",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00",
    "NumberOfInstances": r"\d+",
}


def check(element: Element) -> None:
    """Fail where an element is not what the schema says."""
    (needed, allowed), children = SCHEMA[element.tag]
    assert needed <= set(element.attrib) <= needed | allowed, element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(VALUES.get(name, "(?s).*"), value), (name, value)
    assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
    for child in element:
        check(child)


def read(event: AuditEvent) -> Element:
    document = message(event, SOURCE)
    assert b"\n" not in document
    root = ElementTree.fromstring(document)
    check(root)
    return root


def event(action: AuditAction, **fields: object) -> AuditEvent:
    return replace(AuditEvent(NOON, "dimse:CT1@192.0.2.7", action, AuditOutcome.SUCCESS), **fields)  # type: ignore[arg-type]


def codes(root: Element, path: str) -> list[str]:
    return [found.attrib["csd-code"] for found in root.findall(path)]


texts = st.text(max_size=30)


@given(
    st.builds(
        AuditEvent,
        at=st.datetimes(timezones=st.just(UTC)),
        actor=texts,
        action=st.sampled_from(AuditAction),
        outcome=st.sampled_from(AuditOutcome),
        study_uid=texts,
        series_uid=texts,
        sop_uid=texts,
        detail=texts,
        instances=st.integers(0, 10**9),
    )
)
def test_whatever_the_event_the_message_is_valid(entry: AuditEvent) -> None:
    read(entry)


def test_every_action_has_its_event() -> None:
    assert set(KINDS) == set(AuditAction)


@pytest.mark.parametrize(
    ("action", "event_id", "letter"),
    [
        (AuditAction.STORE, "110104", "C"),
        (AuditAction.SEND, "110102", "E"),
        (AuditAction.RETRIEVE, "110104", "R"),
        (AuditAction.QUERY, "110112", "E"),
        (AuditAction.DELETE, "110105", "D"),
        (AuditAction.LOGIN, "110114", "E"),
        (AuditAction.START, "110100", "E"),
    ],
)
def test_events_of_the_standard(action: AuditAction, event_id: str, letter: str) -> None:
    root = read(event(action, study_uid="1.2"))
    assert codes(root, "EventIdentification/EventID") == [event_id]
    assert root.find("EventIdentification").attrib["EventActionCode"] == letter  # type: ignore[union-attr]


def test_who_sends_and_who_receives() -> None:
    stored = read(event(AuditAction.STORE, study_uid="1.2", instances=7))
    sender, archive = stored.findall("ActiveParticipant")
    assert (sender.attrib["UserID"], sender.attrib["NetworkAccessPointID"]) == ("CT1", "192.0.2.7")
    assert (codes(sender, "RoleIDCode"), codes(archive, "RoleIDCode")) == (["110153"], ["110152"])
    assert archive.attrib == {"UserID": "ARCHIVE", "UserIsRequestor": "false"}
    given_back = read(event(AuditAction.RETRIEVE, study_uid="1.2"))
    assert [codes(one, "RoleIDCode") for one in given_back.findall("ActiveParticipant")] == [["110152"], ["110153"]]
    study = stored.find("ParticipantObjectIdentification")
    assert study is not None
    assert study.attrib["ParticipantObjectID"] == "1.2"
    assert codes(study, "ParticipantObjectIDTypeCode") == ["110180"]
    assert study.find("ParticipantObjectDescription/SOPClass").attrib["NumberOfInstances"] == "7"  # type: ignore[union-attr]


def test_part_of_a_study_is_not_a_study() -> None:
    assert codes(read(event(AuditAction.DELETE, study_uid="1.2", series_uid="1.3")), ".//EventID") == ["110103"]


def test_what_was_refused_is_a_failure() -> None:
    outcomes = {
        (AuditAction.STORE, AuditOutcome.SUCCESS): "0",
        (AuditAction.STORE, AuditOutcome.REFUSED): "4",
        (AuditAction.STORE, AuditOutcome.FAILURE): "8",
        (AuditAction.QUARANTINE, AuditOutcome.SUCCESS): "4",
    }
    for (action, outcome), expected in outcomes.items():
        found = read(event(action, outcome=outcome)).find("EventIdentification")
        assert found is not None
        assert found.attrib["EventOutcomeIndicator"] == expected


@pytest.mark.parametrize(
    ("text", "actor"),
    [
        ("dimse:CT1@192.0.2.7", Actor("CT1", "192.0.2.7")),
        ("http:key:reading room@2001:db8::1", Actor("key:reading room", "2001:db8::1")),
        ("http:192.0.2.9", Actor("192.0.2.9", "192.0.2.9")),
        ("cli:alice", Actor("alice")),
        ("nobody", Actor("nobody")),
    ],
)
def test_actors(text: str, actor: Actor) -> None:
    assert Actor.of(text) == actor


def test_header_of_syslog() -> None:
    """RFC 5424 6: facility 10, severity notice or warning, version 1."""
    pattern = rb"<(\d+)>1 2026-01-02T12:00:00\.000Z [!-~]+ leanpacs \d+ DICOM\+RFC3881 - <AuditMessage/>"
    for is_success, priority in ((True, b"85"), (False, b"84")):
        found = re.fullmatch(pattern, framed(b"<AuditMessage/>", NOON, is_success=is_success))
        assert found
        assert found[1] == priority


@pytest.mark.parametrize("url", ["", "http://host", "tls://", "tls://host:0x", "udp://host/path", "host:514"])
def test_what_is_no_collector(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what urllib raises is one too
        Collector.of(url)


def test_collectors() -> None:
    assert Collector.of("tls://audit.example.org") == Collector("tls", "audit.example.org", 6514)
    assert Collector.of("udp://[2001:db8::1]:1514") == Collector("udp", "2001:db8::1", 1514)
