"""C-GET and C-MOVE with dcmtk and pynetdicom as peers (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

import data
from dimse_archive import made, served
from dimse_peer import P_DATA, command_set, data_set, dcmtk, pdu, pdv
from dimse_peer import Peer as Connection
from leanpacs.services.dimse import Peer
from peers import listening
from ports import free_port

EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE = data.EXPLICIT_LE, data.IMPLICIT_LE, data.EXPLICIT_BE
STUDY = data.uid("study", 0)
IMAGES = 4


def contents(count: int = IMAGES, **changes: Any) -> Iterator[bytes]:
    """A study with two series."""
    for number in range(count):
        series = number % 2
        recipe = data.Recipe(modality=("CT", "MR")[series], series=series, instance=number, **changes)
        yield made(recipe, PatientID="P1", InstanceNumber=number)


def samples(contents: Iterator[bytes]) -> dict[str, Any]:
    sets = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)) for content in contents]
    return {ds.SOPInstanceUID: ds.pixel_array for ds in sets}


def identifier(level: str, **keys: Any) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def study_of(content: bytes) -> str:
    return str(pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)).StudyInstanceUID)


def get(
    address: tuple[str, int],
    query: Dataset,
    syntaxes: list[str],
    *,
    model: Any = StudyRootQueryRetrieveInformationModelGet,
    classes: tuple[Any, ...] = (CTImageStorage, MRImageStorage),
    answer: Callable[[Any], int] = lambda _: 0,
) -> tuple[list[Dataset], list[tuple[Dataset, Dataset | None]]]:
    """What pynetdicom was given, and the responses that it got."""
    received: list[Dataset] = []

    def store(event: Any) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        received.append(ds)
        return answer(event)

    ae = AE("GETTER")
    ae.add_requested_context(model)
    for sop_class in classes:
        ae.add_requested_context(sop_class, syntaxes)
    roles = [build_role(sop_class, scp_role=True) for sop_class in classes]
    association = ae.associate(*address, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert association.is_established
    try:
        return received, list(association.send_c_get(query, model))
    finally:
        association.release()


def same(received: list[Dataset], sent: dict[str, Any]) -> None:
    assert {ds.SOPInstanceUID for ds in received} == set(sent)
    for ds in received:
        assert np.array_equal(ds.pixel_array, sent[ds.SOPInstanceUID])


@pytest.mark.parametrize(
    ("syntaxes", "expected"),
    [
        ([EXPLICIT_LE], EXPLICIT_LE),
        ([IMPLICIT_LE], IMPLICIT_LE),
        ([IMPLICIT_LE, EXPLICIT_LE], EXPLICIT_LE),
        ([data.JPEG_LS, EXPLICIT_LE], data.JPEG_LS),
        ([EXPLICIT_LE, data.JPEG_LS], EXPLICIT_LE),
        ([data.JPEG_2000], data.JPEG_2000),
        ([data.RLE], data.RLE),
        ([data.JPEG_BASELINE, IMPLICIT_LE], IMPLICIT_LE),
    ],
)
def test_get_in_what_was_agreed(tmp_path: Path, syntaxes: list[str], expected: str) -> None:
    sent = list(contents())
    with served(tmp_path / "archive", *sent) as (_, address):
        received, responses = get(address, identifier("STUDY", StudyInstanceUID=study_of(sent[0])), syntaxes)
    assert {ds.file_meta.TransferSyntaxUID for ds in received} == {expected}
    same(received, samples(iter(sent)))
    assert [status.Status for status, _ in responses] == [0xFF00] * (IMAGES - 1) + [0]
    last = responses[-1][0]
    assert (last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (IMAGES, 0)
    assert [status.NumberOfRemainingSuboperations for status, _ in responses[:-1]] == [3, 2, 1]


@pytest.mark.parametrize(
    ("syntaxes", "expected"),
    [
        ([data.JPEG_LS, EXPLICIT_LE], data.JPEG_LS),
        ([EXPLICIT_LE, data.JPEG_LS], EXPLICIT_LE),
        ([data.JPEG_BASELINE, data.JPEG_2000, EXPLICIT_LE], data.JPEG_2000),
        ([data.JPEG_BASELINE, EXPLICIT_LE, data.JPEG_LS], EXPLICIT_LE),
    ],
)
def test_get_goes_by_the_order_of_contexts(tmp_path: Path, syntaxes: list[str], expected: str) -> None:
    """What is lossless and offered before anything native; never what may lose something."""
    content = made(data.Recipe(bits_allocated=8, bits_stored=8))
    with served(tmp_path / "archive", content) as (_, address):
        received: list[Dataset] = []

        def store(event: Any) -> int:
            received.append(event.dataset)
            received[-1].file_meta = event.file_meta
            return 0

        ae = AE("GETTER")
        ae.requested_contexts = [
            build_context(StudyRootQueryRetrieveInformationModelGet),
            *each_alone(CTImageStorage, syntaxes),
        ]
        association = ae.associate(
            *address, ext_neg=[build_role(CTImageStorage, scp_role=True)], evt_handlers=[(evt.EVT_C_STORE, store)]
        )
        assert association.is_established
        query = identifier("STUDY", StudyInstanceUID=study_of(content))
        list(association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet))
        association.release()
    assert [str(ds.file_meta.TransferSyntaxUID) for ds in received] == [expected]
    same(received, samples(iter([content])))


def test_get_in_what_a_known_destination_prefers(tmp_path: Path) -> None:
    """A peer that offers each transfer syntax in a context of its own gets native images in the one it prefers."""
    content = made(data.Recipe())
    peer = Peer("GETTER", "127.0.0.1", 1, (data.JPEG_LS,))
    for destinations, expected in (((), EXPLICIT_LE), ((peer,), data.JPEG_LS)):
        with served(tmp_path / expected, content, destinations=destinations) as (_, address):
            received: list[str] = []

            def store(event: Any, received: list[str] = received) -> int:
                received.append(event.context.transfer_syntax)
                return 0

            ae = AE("GETTER")
            ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
            ae.requested_contexts = [
                *ae.requested_contexts[:1],
                *each_alone(CTImageStorage, [EXPLICIT_LE, data.JPEG_LS]),
            ]
            association = ae.associate(
                *address, ext_neg=[build_role(CTImageStorage, scp_role=True)], evt_handlers=[(evt.EVT_C_STORE, store)]
            )
            assert association.is_established
            query = identifier("STUDY", StudyInstanceUID=study_of(content))
            assert [
                one.Status for one, _ in association.send_c_get(query, ae.requested_contexts[0].abstract_syntax)
            ] == [0]
            association.release()
            assert received == [expected]


def each_alone(abstract_syntax: str, syntaxes: list[str]) -> list[Any]:
    """A presentation context for each transfer syntax."""
    return [build_context(abstract_syntax, syntax) for syntax in syntaxes]


def test_get_at_all_levels(tmp_path: Path) -> None:
    sent = list(contents())
    first = pydicom.dcmread(pydicom.filebase.DicomBytesIO(sent[0]))
    series = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    with served(tmp_path / "archive", *sent) as (_, address):
        for level, keys, count in (
            ("PATIENT", {"PatientID": "P1"}, 4),
            ("STUDY", {"PatientID": "P1", "StudyInstanceUID": first.StudyInstanceUID}, 4),
            ("STUDY", {"PatientID": "P2", "StudyInstanceUID": first.StudyInstanceUID}, 0),
            ("SERIES", series, 2),
            ("IMAGE", {**series, "SOPInstanceUID": [first.SOPInstanceUID, "1.2.3"]}, 1),
            ("IMAGE", {"SOPInstanceUID": first.SOPInstanceUID}, 1),
        ):
            model = PatientRootQueryRetrieveInformationModelGet
            received, responses = get(address, identifier(level, **keys), [EXPLICIT_LE], model=model)
            assert len(received) == count
            assert responses[-1][0].Status == 0


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("STUDY", {"StudyInstanceUID": ""}),
        ("STUDY", {"StudyInstanceUID": "*"}),
        ("SERIES", {"StudyInstanceUID": "1.2"}),
        ("", {}),
        ("PATIENT", {"PatientID": "P*"}),
    ],
)
def test_get_of_what_is_not_named(tmp_path: Path, level: str, keys: dict[str, str]) -> None:
    with served(tmp_path / "archive", made()) as (_, address):
        assert [status.Status for status, _ in get(address, identifier(level, **keys), [EXPLICIT_LE])[1]] == [0xA900]


def test_get_with_failures_and_warnings(tmp_path: Path) -> None:
    sent = list(contents())
    query = identifier("STUDY", StudyInstanceUID=study_of(sent[0]))
    with served(tmp_path / "archive", *sent) as (_, address):
        refused: list[str] = []

        def refuse_one(event: Any) -> int:
            if not refused:
                refused.append(event.request.AffectedSOPInstanceUID)
                return 0xA700
            return 0xB000

        _, responses = get(address, query, [EXPLICIT_LE], answer=refuse_one)
        status, failed = responses[-1]
        assert status.Status == 0xB000
        assert (status.NumberOfFailedSuboperations, status.NumberOfWarningSuboperations) == (1, 3)
        assert failed is not None
        assert failed.FailedSOPInstanceUIDList == refused[0]
        # No context for MR: half of the instances cannot be sent.
        received, responses = get(address, query, [EXPLICIT_LE], classes=(CTImageStorage,))
        status, failed = responses[-1]
        assert (len(received), status.Status, status.NumberOfFailedSuboperations) == (2, 0xB000, 2)
        assert failed is not None
        assert len(failed.FailedSOPInstanceUIDList) == 2
        # What is lossy is never made, so nothing fits.
        received, responses = get(address, query, [data.JPEG_BASELINE])
        assert (received, responses[-1][0].Status, responses[-1][0].NumberOfFailedSuboperations) == ([], 0xA702, 4)


def test_get_cancelled(tmp_path: Path) -> None:
    sent = list(contents(8))
    with served(tmp_path / "archive", *sent) as (_, address):
        cancelled: list[int] = []

        def cancel(event: Any) -> int:
            if not cancelled:
                event.assoc.send_c_cancel(1, None, StudyRootQueryRetrieveInformationModelGet)
                cancelled.append(1)
            return 0

        _, responses = get(
            address, identifier("STUDY", StudyInstanceUID=study_of(sent[0])), [EXPLICIT_LE], answer=cancel
        )
    status = responses[-1][0]
    assert status.Status == 0xFE00
    assert status.NumberOfCompletedSuboperations + status.NumberOfRemainingSuboperations == 8
    assert status.NumberOfRemainingSuboperations >= 6


@pytest.mark.external
@pytest.mark.parametrize(
    ("option", "expected"),
    [("+xe", EXPLICIT_LE), ("+xt", data.JPEG_LS), ("+xv", data.JPEG_2000), ("+xr", data.RLE)],
)
def test_getscu(tmp_path: Path, option: str, expected: str) -> None:
    sent = list(contents())
    folder = tmp_path / "got"
    folder.mkdir()
    with served(tmp_path / "archive", *sent) as (_, address):
        done = subprocess.run(
            [
                *(dcmtk("getscu"), "-v", "-S", option, "-aec", "LEANPACS", "-od", str(folder)),
                *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_of(sent[0])}"),
                *map(str, address),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    received = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert {ds.file_meta.TransferSyntaxUID for ds in received} == {expected}
    same(received, samples(iter(sent)))


# ------------------------------------------------------------------------------------------------- C-MOVE


class Destination:
    """A storage SCP (pynetdicom) that takes what it is told to."""

    def __init__(self, syntaxes: list[str], answer: Callable[[Any], int] = lambda _: 0) -> None:
        self.received: list[Dataset] = []
        self.originators: set[tuple[str, int]] = set()
        self._answer = answer
        ae = AE("VIEWER")
        for sop_class in (CTImageStorage, MRImageStorage):
            ae.add_supported_context(sop_class, syntaxes)
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port: int = self._server.server_address[1]

    def _store(self, event: Any) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        self.received.append(ds)
        self.originators.add(
            (event.request.MoveOriginatorApplicationEntityTitle, event.request.MoveOriginatorMessageID)
        )
        return self._answer(event)

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def move(address: tuple[str, int], query: Dataset, destination: str = "VIEWER") -> list[tuple[Dataset, Dataset | None]]:
    ae = AE("MOVER")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = ae.associate(*address)
    assert association.is_established
    try:
        return list(association.send_c_move(query, destination, StudyRootQueryRetrieveInformationModelMove, msg_id=9))
    finally:
        association.release()


@pytest.mark.parametrize(
    ("stored", "syntaxes", "prefer", "expected"),
    [
        (EXPLICIT_LE, [EXPLICIT_LE, IMPLICIT_LE], (), EXPLICIT_LE),
        (EXPLICIT_LE, [IMPLICIT_LE], (), IMPLICIT_LE),
        (data.JPEG_LS, [IMPLICIT_LE, EXPLICIT_LE], (), EXPLICIT_LE),
        (data.JPEG_LS, [EXPLICIT_LE, data.JPEG_LS], (), data.JPEG_LS),
        (EXPLICIT_LE, [EXPLICIT_LE, data.JPEG_2000], (data.JPEG_2000,), data.JPEG_2000),
        (data.JPEG_LS, [EXPLICIT_LE, data.JPEG_LS, data.JPEG_2000], (data.JPEG_2000,), data.JPEG_LS),
        (EXPLICIT_LE, [EXPLICIT_LE], (data.JPEG_2000,), EXPLICIT_LE),
    ],
)
def test_move_in_what_the_destination_takes(
    tmp_path: Path, stored: str, syntaxes: list[str], prefer: tuple[str, ...], expected: str
) -> None:
    sent = list(contents(transfer_syntax=stored))
    with Destination(syntaxes) as viewer:
        peer = Peer("VIEWER", "127.0.0.1", viewer.port, prefer)
        with served(tmp_path / "archive", *sent, destinations=(peer,)) as (_, address):
            responses = move(address, identifier("STUDY", StudyInstanceUID=study_of(sent[0])))
    assert [status.Status for status, _ in responses] == [0xFF00] * (IMAGES - 1) + [0]
    assert responses[-1][0].NumberOfCompletedSuboperations == IMAGES
    assert {ds.file_meta.TransferSyntaxUID for ds in viewer.received} == {expected}
    assert viewer.originators == {("MOVER", 9)}
    same(viewer.received, samples(iter(sent)))


def test_move_to_unknown_or_unreachable_destinations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sent = list(contents())
    query = identifier("STUDY", StudyInstanceUID=study_of(sent[0]))
    gone = Peer("GONE", "127.0.0.1", free_port())
    with served(tmp_path / "archive", *sent, destinations=(gone,)) as (_, address):
        assert [status.Status for status, _ in move(address, query, "NOBODY")] == [0xA801]
        assert "leanpacs destination add" in caplog.text
        status, failed = move(address, query, "GONE")[-1]
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, IMAGES)
        assert failed is not None
        assert len(failed.FailedSOPInstanceUIDList) == IMAGES
        assert f"not all was sent: GONE at 127.0.0.1:{gone.port}" in caplog.text


def test_move_goes_on_after_an_association_broke(tmp_path: Path) -> None:
    sent = list(contents())
    query = identifier("STUDY", StudyInstanceUID=study_of(sent[0]))
    broken: list[str] = []

    def break_once(event: Any) -> int:
        if not broken:
            broken.append(event.request.AffectedSOPInstanceUID)
            event.assoc.abort()
        return 0

    with Destination([EXPLICIT_LE], break_once) as viewer:
        peer = Peer("VIEWER", "127.0.0.1", viewer.port)
        with served(tmp_path / "archive", *sent, destinations=(peer,)) as (_, address):
            status, failed = move(address, query)[-1]
    assert (status.Status, status.NumberOfCompletedSuboperations) == (0xB000, IMAGES - 1)
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == broken[0]


def test_move_cancelled(tmp_path: Path) -> None:
    sent = list(contents(8))
    first, go_on = threading.Event(), threading.Event()
    model = StudyRootQueryRetrieveInformationModelMove
    wanted = command_set(
        AffectedSOPClassUID=model,
        CommandField=0x0021,
        MessageID=3,
        Priority=0,
        MoveDestination="VIEWER",
        CommandDataSetType=1,
    )
    query = data_set(QueryRetrieveLevel="STUDY", StudyInstanceUID=study_of(sent[0]))
    cancel = command_set(CommandField=0x0FFF, MessageIDBeingRespondedTo=3, CommandDataSetType=0x0101)

    def wait(_: Any) -> int:
        first.set()
        go_on.wait(60)
        return 0

    with Destination([EXPLICIT_LE], wait) as viewer:
        peer = Peer("VIEWER", "127.0.0.1", viewer.port)
        with served(tmp_path / "archive", *sent, destinations=(peer,)) as (_, address), Connection(address) as mover:
            mover.associate([(1, model, [IMPLICIT_LE])])
            mover.send(pdu(P_DATA, pdv(1, wanted, command=True)), pdu(P_DATA, pdv(1, query)))
            assert first.wait(60)
            mover.send(pdu(P_DATA, pdv(1, cancel, command=True)))  # it has arrived when this returns
            go_on.set()
            while (status := mover.response()).Status == 0xFF00:
                pass
            mover.release()
    assert (status.Status, status.NumberOfRemainingSuboperations) == (0xFE00, 7)


@contextmanager
def storescp(folder: Path, option: str) -> Iterator[int]:
    """dcmtk's storescp on a free port."""
    port = free_port()
    with listening([dcmtk("storescp"), option, "-od", folder, port], port, folder.with_suffix(".log")):
        yield port


@pytest.mark.external
@pytest.mark.parametrize(("option", "expected"), [("+xi", IMPLICIT_LE), ("+xa", EXPLICIT_LE)])
def test_movescu_to_storescp(tmp_path: Path, option: str, expected: str) -> None:
    sent = list(contents())
    folder = tmp_path / "got"
    folder.mkdir()
    with storescp(folder, option) as port:
        peer = Peer("STORESCP", "127.0.0.1", port)
        with served(tmp_path / "archive", *sent, destinations=(peer,)) as (_, address):
            done = subprocess.run(
                [
                    *(dcmtk("movescu"), "-v", "-S", "-aec", "LEANPACS", "-aem", "STORESCP"),
                    *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_of(sent[0])}"),
                    *map(str, address),
                ],
                capture_output=True,
                text=True,
                timeout=120,
            )
    assert done.returncode == 0, done.stdout + done.stderr
    received = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert {ds.file_meta.TransferSyntaxUID for ds in received} == {expected}
    same(received, samples(iter(sent)))
