"""Storage commitment with pynetdicom as the peer (PS3.4 annex J)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

import data
from dimse_archive import made, served, settings
from leanpacs.archive.archive import open_archive
from leanpacs.services.dimse import Peer
from leanpacs.services.dimse.directory import Directory
from leanpacs.services.dimse.dispatch import Dispatcher, DispatchOptions
from ports import free_port

WELL_KNOWN = "1.2.840.10008.1.20.1.1"


def action(references: Sequence[tuple[str, str]], transaction: str = "2.25.1") -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = []
    for sop_class, sop_uid in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class), UID(sop_uid)
        ds.ReferencedSOPSequence.append(item)
    return ds


class Modality:
    """Asks for commitment and notes the reports."""

    def __init__(self) -> None:
        self.reports: queue.Queue[tuple[int, Dataset]] = queue.Queue()
        self.handlers: Any = [(evt.EVT_N_EVENT_REPORT, self._report)]

    def _report(self, event: Any) -> tuple[int, None]:
        self.reports.put((event.event_type, event.event_information))
        return 0x0000, None

    def ask(
        self,
        address: tuple[str, int],
        ds: Dataset | None,
        *,
        action_type: int = 1,
        instance: str = WELL_KNOWN,
        stays: bool = True,
    ) -> int:
        ae = AE("MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        association = ae.associate(*address, evt_handlers=self.handlers)
        assert association.is_established
        try:
            status, _ = association.send_n_action(ds, action_type, StorageCommitmentPushModel, instance)
            if status.Status == 0 and stays:
                self.last = self.reports.get(timeout=60)
            return int(status.Status)
        finally:
            association.release()


def test_report_on_the_same_association(tmp_path: Path) -> None:
    contents = [made(data.Recipe(instance=number)) for number in range(3)]
    with served(tmp_path / "archive", *contents) as (archive, address):
        held = [(row.sop_class, row.sop_uid) for row in archive.catalog.all_instances()]
        modality = Modality()
        assert modality.ask(address, action(held)) == 0
        event_type, ds = modality.last
        assert (event_type, ds.TransactionUID, ds.RetrieveAETitle) == (1, "2.25.1", "LEANPACS")
        assert [
            (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in ds.ReferencedSOPSequence
        ] == held
        assert "FailedSOPSequence" not in ds
        wrong = [(CTImageStorage, "1.2.3"), (MRImageStorage, held[0][1]), held[1]]
        assert modality.ask(address, action(wrong)) == 0
        event_type, ds = modality.last
        assert event_type == 2
        assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in ds.FailedSOPSequence] == [
            ("1.2.3", 0x0112),
            (held[0][1], 0x0119),
        ]
        assert [item.ReferencedSOPInstanceUID for item in ds.ReferencedSOPSequence] == [held[1][1]]


def test_a_report_on_a_new_association_outlives_a_restart(tmp_path: Path) -> None:
    modality = Modality()
    ae = AE("MODALITY")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=modality.handlers)
    try:
        peer = Peer("MODALITY", "127.0.0.1", server.server_address[1], reports_apart=True)
        with served(tmp_path / "archive", made(), destinations=(peer,)) as (archive, address):
            held = [(row.sop_class, row.sop_uid) for row in archive.catalog.all_instances()]
            references = [*held, (CTImageStorage, "1.2.3")]
            assert modality.ask(address, action(references, "2.25.7"), stays=False) == 0
        with open_archive(tmp_path / "archive", settings()) as archive:
            assert [row.destination for row in archive.catalog.outgoing.commitments()] == ["MODALITY"]
            options = DispatchOptions("LEANPACS", "tests", timeout_seconds=60)
            known = Directory((peer,), archive.catalog.outgoing)
            Dispatcher(archive.catalog, archive.retriever, known, options).send_due()
            assert archive.catalog.outgoing.commitments() == []
        event_type, ds = modality.reports.get(timeout=60)
        assert (event_type, ds.TransactionUID) == (2, "2.25.7")
        assert [item.ReferencedSOPInstanceUID for item in ds.ReferencedSOPSequence] == [held[0][1]]
    finally:
        server.shutdown()


def test_a_report_that_cannot_be_delivered_is_tried_again(tmp_path: Path) -> None:
    peer = Peer("MODALITY", "127.0.0.1", free_port(), reports_apart=True)
    with served(tmp_path / "archive", made(), destinations=(peer,)) as (archive, address):
        assert Modality().ask(address, action([(CTImageStorage, "1.2.3")]), stays=False) == 0
        now = datetime.now(UTC)
        options = DispatchOptions("LEANPACS", "tests", timeout_seconds=60)
        known = Directory((peer,), archive.catalog.outgoing)

        def send_at(moment: datetime) -> None:
            Dispatcher(archive.catalog, archive.retriever, known, options, lambda: moment).send_due()

        send_at(now + timedelta(seconds=1))
        (row,) = archive.catalog.outgoing.commitments()
        assert (row.attempts, "MODALITY" in row.reason) == (1, True)
        send_at(now + timedelta(seconds=2))
        assert archive.catalog.outgoing.commitments()[0].attempts == 1
        send_at(now + timedelta(days=8))
        assert archive.catalog.outgoing.commitments() == []


def test_a_report_that_was_taken_is_not_owed_any_more(tmp_path: Path) -> None:
    peer = Peer("MODALITY", "127.0.0.1", 1)
    with served(tmp_path / "archive", made(), destinations=(peer,)) as (archive, address):
        modality = Modality()
        assert modality.ask(address, action([(CTImageStorage, "1.2.3")])) == 0
        assert modality.last[0] == 2
        assert archive.catalog.outgoing.commitments() == []


@pytest.mark.parametrize(
    ("ds", "changes", "status"),
    [
        (action([(CTImageStorage, "1.2.3")]), {"action_type": 2}, 0x0123),
        (action([(CTImageStorage, "1.2.3")]), {"instance": "1.2.3"}, 0x0112),
        (action([]), {}, 0x0115),
    ],
)
def test_requests_that_are_none(tmp_path: Path, ds: Dataset, changes: dict[str, Any], status: int) -> None:
    with served(tmp_path / "archive") as (_, address):
        assert Modality().ask(address, ds, **changes) == status


@pytest.mark.parametrize("answers", [True, False])
def test_a_peer_that_asks_again_before_it_answers(tmp_path: Path, answers: bool) -> None:
    """Reports are notifications, not operations: further requests may cross with them (PS3.7 sections 7.5, 10.1.1)."""
    may_answer = threading.Event()
    modality = Modality()

    def held_back(event: Any) -> tuple[int, None]:
        modality.reports.put((event.event_type, event.event_information))
        may_answer.wait(60)
        return 0x0000, None

    known = Peer("MODALITY", "127.0.0.1", free_port())
    contents = [made(data.Recipe(instance=number)) for number in range(2)]
    with served(tmp_path / "archive", *contents, destinations=(known,)) as (archive, address):
        held = [(row.sop_class, row.sop_uid) for row in archive.catalog.all_instances()]
        ae = AE("MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = ae.associate(*address, evt_handlers=[(evt.EVT_N_EVENT_REPORT, held_back)])
        for number in range(3):
            asked = action(held, f"2.25.{number}"), 1, StorageCommitmentPushModel, WELL_KNOWN, number + 1
            status, _ = association.send_n_action(*asked)
            assert status.Status == 0
        told = [modality.reports.get(timeout=60)[1].TransactionUID for _ in range(3)]
        assert sorted(told) == ["2.25.0", "2.25.1", "2.25.2"]
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", ""
        found = association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
        assert [status.Status for status, _ in found][-1] == 0
        assert len(archive.catalog.outgoing.commitments()) == 3
        if answers:
            may_answer.set()
            while archive.catalog.outgoing.commitments():
                time.sleep(0.02)
            association.release()
            return
        association.abort()
        may_answer.set()
        while not all(row.reason for row in archive.catalog.outgoing.commitments()):  # put off, to now
            time.sleep(0.02)
