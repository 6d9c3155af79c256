"""What one party does to one study within some seconds is one event."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.errors import StoreFull
from leanpacs.services.journal import Journal
from leanpacs.services.ledger import Ledger, Party

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CT1 = Party("dimse", "CT1", "192.0.2.7")


def test_a_study_is_one_event(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    ledger = Ledger(lambda _: None, journal=Journal(trail.record, lambda: NOON))
    with ledger.running(3600):
        for _ in range(300):
            ledger.tell(AuditAction.STORE, CT1, study_uid="1.2", instances=1)
        ledger.tell(AuditAction.STORE, CT1, study_uid="1.3", instances=1)
        ledger.tell(AuditAction.QUERY, Party("http", "192.0.2.9", "192.0.2.9"))
        assert not list(trail.events())
    assert list(trail.events()) == [
        AuditEvent(
            NOON,
            "dimse:CT1@192.0.2.7",
            AuditAction.STORE,
            AuditOutcome.SUCCESS,
            study_uid="1.2",
            detail="300 requests",
            instances=300,
        ),
        AuditEvent(NOON, "dimse:CT1@192.0.2.7", AuditAction.STORE, AuditOutcome.SUCCESS, study_uid="1.3", instances=1),
        AuditEvent(NOON, "http:192.0.2.9", AuditAction.QUERY, AuditOutcome.SUCCESS),
    ]


def test_a_full_disk_loses_nothing() -> None:
    kept: list[AuditEvent] = []
    full = True

    def record(*events: AuditEvent) -> None:
        if full:
            raise StoreFull("no room")
        kept.extend(events)

    journal = Journal(record, lambda: NOON)
    for _ in range(2):
        journal.note(AuditAction.RETRIEVE, "http:x", study_uid="1.2", instances=3)
        journal.flush()
    full = False
    journal.flush()
    assert [(event.instances, event.detail) for event in kept] == [(6, "2 requests")]


def test_invented_names_do_not_fill_the_memory() -> None:
    kept: list[AuditEvent] = []
    journal = Journal(lambda *events: kept.extend(events), lambda: NOON)
    for number in range(10_500):
        journal.note(AuditAction.LOGIN, f"http:{number}", AuditOutcome.REFUSED)
    journal.flush()
    assert len(kept) == 10_001
    assert kept[-1].detail == "500 requests"
