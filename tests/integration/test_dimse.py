"""The DIMSE door on loopback: dcmtk and pynetdicom as peers, and peers that misbehave."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts
from pynetdicom.sop_class import CTImageStorage, Verification

import data
from dimse_peer import (
    ABORT,
    CT,
    EXPLICIT_LE,
    P_DATA,
    FakeArchive,
    Peer,
    dcmtk,
    door,
    pdu,
    pdv,
    request,
    serve_process,
    store_command,
)
from leanpacs import errors
from leanpacs.archive.intake.incoming import Incoming, Receipt
from leanpacs.services.dimse import DimseOptions, Timeouts, bind, scp, serve
from leanpacs.telemetry import Metrics

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
# Option of storescu that proposes a transfer syntax, by UID.
PROPOSE = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    folder = tmp_path / "spool"
    folder.mkdir()
    return FakeArchive(folder)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of dcmtk to its end."""
    return subprocess.run(
        [dcmtk(program), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def storescu(address: tuple[str, int], *arguments: object) -> str:
    """Send with storescu; what it said, when it went well."""
    done = run("storescu", "-aet", "SENDER", "-aec", "LEANPACS", *arguments[:-1], *address, arguments[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for something that another thread or process is about to do."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def read(kept: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(kept))


# ------------------------------------------------------------------------------------------------- dcmtk


@pytest.mark.external
def test_echoscu(archive: FakeArchive) -> None:
    with door(archive) as address:
        done = run("echoscu", "-v", "-aec", "LEANPACS", *address)
    assert done.returncode == 0, done.stderr
    assert "Received Echo Response (Success)" in done.stdout + done.stderr


def identity(ds: pydicom.Dataset) -> tuple[str, bytes]:
    return ds.SOPInstanceUID, ds.get("PixelData", b"")


def bundled(syntax: str) -> list[Path]:
    """pydicom's own files in a transfer syntax, those that storescu is able to read."""
    found = []
    for path in sorted(BUNDLED.glob("*.dcm")):
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        whole = ds.get("SOPInstanceUID") and "PatientName" in ds and "truncated" not in path.name
        if whole and ds.file_meta.get("TransferSyntaxUID") == syntax:
            found.append(path)
    return found


@pytest.mark.external
@pytest.mark.parametrize("syntax", PROPOSE)
def test_storescu_in_the_syntax_of_the_file(archive: FakeArchive, syntax: str, tmp_path: Path) -> None:
    files = bundled(syntax)[:6]
    if not files:
        pytest.skip(f"pydicom brings no file in {syntax}")
    folder = tmp_path / "files"
    folder.mkdir()
    for path in files:
        shutil.copy(path, folder)
    with door(archive) as address:
        said = storescu(address, "-nh", "+sd", "-R", PROPOSE[syntax], folder)
    assert {kept.incoming.transfer_syntax for kept in archive.kept} == {syntax}, said
    assert {kept.incoming.sender for kept in archive.kept} == {"SENDER"}
    received = [read(kept.file) for kept in archive.kept]
    for copy in received:
        assert copy.file_meta.TransferSyntaxUID == syntax
        assert copy.file_meta.MediaStorageSOPClassUID == copy.SOPClassUID
        assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    # Several of the files have the same UID.
    assert {identity(ds) for ds in received} == {identity(pydicom.dcmread(path)) for path in files}
    assert archive.spooled == []


@pytest.mark.external
@pytest.mark.parametrize("option", ["-xi", "-xe", "-xb", "-x="])
def test_storescu_re_encodes_to_what_was_agreed(archive: FakeArchive, option: str) -> None:
    file = BUNDLED / "CT_small.dcm"
    with door(archive) as address:
        storescu(address, option, file)
    (kept,) = archive.kept
    agreed = "1.2.840.10008.1.2" if option == "-xi" else EXPLICIT_LE
    assert kept.incoming.transfer_syntax == agreed
    assert (read(kept.file).pixel_array == pydicom.dcmread(file).pixel_array).all()


@pytest.mark.external
def test_associations_at_the_same_time(archive: FakeArchive, tmp_path: Path) -> None:
    folders = []
    for number in range(4):
        folders.append(tmp_path / f"study{number}")
        folders[-1].mkdir()
        for instance in range(12):
            recipe = data.Recipe(rows=128 + instance, columns=128, study=number, instance=instance)
            (folders[-1] / f"{instance}.dcm").write_bytes(data.make_instance(recipe))
    with door(archive) as address, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda folder: storescu(address, "+sd", "-R", folder), folders))
    sent = {ds.SOPInstanceUID: ds.PixelData for folder in folders for ds in map(pydicom.dcmread, folder.iterdir())}
    assert {(ds := read(kept.file)).SOPInstanceUID: ds.PixelData for kept in archive.kept} == sent
    assert len(sent) == 48


@pytest.mark.external
def test_storescu_killed_in_the_middle(archive: FakeArchive, tmp_path: Path) -> None:
    file = tmp_path / "large.dcm"
    ds = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    ds.Rows, ds.Columns, ds.NumberOfFrames = 4096, 4096, 2
    ds.PixelData = bytes(4096 * 4096 * 2 * 2)
    ds.save_as(file)
    with door(archive) as address:
        sender = subprocess.Popen([dcmtk("storescu"), "-aec", "LEANPACS", *map(str, address), str(file)])
        try:
            assert eventually(lambda: bool(archive.spooled))
        finally:
            sender.kill()
            sender.wait()
        assert eventually(lambda: not archive.spooled)
        with Peer(address) as peer:
            peer.associate()
            assert peer.echo().Status == 0
    # Killed too late, it has sent everything; a part is never kept.
    assert all(len(kept.data) > 4096 * 4096 * 2 * 2 for kept in archive.kept)


@pytest.mark.external
@pytest.mark.parametrize(
    ("calling", "called", "options", "reason"),
    [
        ("OTHER", "LEANPACS", {"allowed_calling": frozenset({"CT1"})}, "Calling AE Title Not Recognized"),
        ("CT1", "ELSEWHERE", {"check_called": True}, "Called AE Title Not Recognized"),
        ("CT1", "ELSEWHERE", {"allowed_calling": frozenset({"CT1"})}, ""),
    ],
)
def test_ae_titles(archive: FakeArchive, calling: str, called: str, options: dict[str, object], reason: str) -> None:
    with door(archive, **options) as address:
        done = run("echoscu", "-aet", calling, "-aec", called, *address)
    assert (done.returncode != 0) is bool(reason)
    assert reason in done.stdout + done.stderr


@pytest.mark.external
def test_storescu_is_told_of_a_failure(archive: FakeArchive) -> None:
    def full(incoming: Incoming) -> Receipt:
        raise errors.StoreFull("the disk is full")

    archive.answer = full
    with door(archive) as address:
        done = run("storescu", "-v", "-aec", "LEANPACS", *address, BUNDLED / "CT_small.dcm")
    assert done.returncode != 0
    assert "Refused: OutOfResources" in done.stdout + done.stderr
    assert archive.spooled == []


# -------------------------------------------------------------------------------------------- pynetdicom


def test_pynetdicom_as_sender(archive: FakeArchive) -> None:
    ds = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    ae = AE("PYNETDICOM")
    ae.requested_contexts = AllStoragePresentationContexts[:127]
    ae.add_requested_context(Verification)
    with door(archive) as (host, port):
        association = ae.associate(host, port, ae_title="LEANPACS")
        assert association.is_established
        assert len(association.accepted_contexts) == 128
        assert association.send_c_echo().Status == 0
        response = association.send_c_store(ds)
        association.release()
    assert response.Status == 0
    copy = read(archive.kept[0].file)
    assert copy == ds
    assert copy.file_meta.SourceApplicationEntityTitle == "PYNETDICOM"


def test_pynetdicom_offers_every_syntax_at_once(archive: FakeArchive) -> None:
    ae = AE()
    ae.add_requested_context(CTImageStorage, list(AllTransferSyntaxes))
    with door(archive) as (host, port):
        association = ae.associate(host, port)
        (accepted,) = association.accepted_contexts
        association.release()
    assert accepted.transfer_syntax == [EXPLICIT_LE]


# ------------------------------------------------------------------------------------- a peer of our own


@pytest.mark.parametrize("syntax", data.NATIVE)
def test_bytes_of_the_data_set_are_not_touched(archive: FakeArchive, syntax: str) -> None:
    sent = data.make_data_set_bytes(data.Recipe(transfer_syntax=syntax, undefined_lengths=True, private_bytes=500))
    with door(archive) as address, Peer(address) as peer:
        peer.associate([(3, CT, [syntax])])
        for size in (1, 7, 4096):
            assert peer.store(sent, size=size).Status == 0
        peer.release()
    for kept in archive.kept:
        assert kept.incoming.digests is not None
        assert kept.data[kept.incoming.digests.preface_length :] == sent
        assert read(kept.file).file_meta.TransferSyntaxUID == syntax


def test_pdus_larger_than_asked_for(archive: FakeArchive) -> None:
    """A peer that does not keep to the maximum length does no harm: no PDU is held in memory."""
    sent = os.urandom(5_000_000)
    with door(archive, max_pdu_bytes=16384) as address, Peer(address) as peer:
        peer.associate()
        assert peer.store(sent, size=len(sent)).Status == 0
        peer.release()
    assert archive.kept[0].data.endswith(sent)


@pytest.mark.parametrize("how", ["reset", "close", "abort", "garbage", "silence"])
def test_peer_that_fails_in_the_middle(archive: FakeArchive, how: str) -> None:
    timeouts = Timeouts(request=5, idle=5, network=0.3 if how == "silence" else 5, linger=0.2)
    with door(archive, timeouts=timeouts) as address, Peer(address) as peer:
        peer.associate()
        peer.send(pdu(P_DATA, pdv(3, store_command(), command=True)), pdu(P_DATA, pdv(3, bytes(9999), last=False)))
        if how != "silence":  # then what has come may be gone again before anybody looks
            assert eventually(lambda: [path.stat().st_size >= 9999 for path in archive.spooled] == [True])
        if how in ("reset", "close"):
            peer.close(reset=how == "reset")
        elif how != "silence":
            peer.send(pdu(ABORT, bytes(4)) if how == "abort" else b"\xee" * 100)
        if how in ("garbage", "silence"):
            answer = peer.read_pdu()
            assert answer is not None
            assert answer[0] == ABORT
        assert eventually(lambda: not archive.spooled)
        with Peer(address) as other:
            other.associate()
            assert other.store(b"x").Status == 0
            other.release()
    assert len(archive.kept) == 1


@pytest.mark.parametrize("begun", [b"", pdu(1, request())[:40]], ids=["silent", "half a request"])
def test_peer_that_never_asks(archive: FakeArchive, begun: bytes) -> None:
    with door(archive, timeouts=Timeouts(request=0.2, linger=0.1)) as address, Peer(address) as peer:
        peer.send(begun)
        assert peer.read_pdu() == (ABORT, bytes([0, 0, 2, 0]))
        assert peer.read_pdu() is None


def test_idle_association_is_aborted(archive: FakeArchive) -> None:
    with door(archive, timeouts=Timeouts(idle=1.0, linger=0.1)) as address, Peer(address) as peer:
        peer.associate()
        assert peer.echo().Status == 0
        assert peer.read_pdu() == (ABORT, bytes([0, 0, 2, 0]))


def test_failure_of_one_instance_does_not_end_the_association(archive: FakeArchive) -> None:
    land = archive.land
    answers = iter([errors.CatalogUnavailable("locked"), RuntimeError("a bug"), errors.NotDicom("not DICOM")])

    def fail_at_first(incoming: Incoming) -> Receipt:
        error = next(answers, None)
        if error:
            raise error
        archive.answer = None
        return land(incoming)

    archive.answer = fail_at_first
    with door(archive) as address, Peer(address) as peer:
        peer.associate()
        replies = [peer.store(b"x") for _ in range(4)]
        peer.release()
    assert [reply.Status for reply in replies] == [0x0110, 0x0110, 0xC000, 0]
    assert [reply.get("ErrorComment") for reply in replies] == ["locked", "internal error", "not DICOM", None]
    assert archive.spooled == []


def test_too_many_associations(archive: FakeArchive) -> None:
    with door(archive, max_associations=2) as address, Peer(address) as first, Peer(address) as second:
        first.associate()
        second.associate()
        with Peer(address) as third:
            assert third.associate() == (3, bytes([0, 2, 3, 2]))
        first.release()

        def room() -> bool:
            with Peer(address) as fourth:
                return fourth.associate()[0] == 2

        assert eventually(room)
        assert second.echo().Status == 0


def test_connections_wait_when_there_are_far_too_many(archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scp, "_NOT_ADMITTED_AT_ONCE", 0)
    with door(archive, max_associations=1) as address, Peer(address) as first, Peer(address) as second:
        first.associate()
        second.send(pdu(1, request()))
        assert first.echo().Status == 0
        first.release()
        answer = second.read_pdu()
        assert answer is not None
        assert answer[0] == 2
        assert second.echo().Status == 0


def test_stop_lets_the_current_message_finish(archive: FakeArchive) -> None:
    stop, landing, go_on = threading.Event(), threading.Event(), threading.Event()
    land = archive.land

    def slowly(incoming: Incoming) -> Receipt:
        landing.set()
        assert go_on.wait(60)
        archive.answer = None
        return land(incoming)

    archive.answer = slowly
    with bind("127.0.0.1", 0) as listener:
        options = DimseOptions(timeouts=Timeouts(linger=0.2))
        server = threading.Thread(target=serve, args=(listener.fileno(), archive, options, stop))
        server.start()
        with Peer(listener.getsockname()) as idle, Peer(listener.getsockname()) as busy:
            idle.associate()
            busy.associate()
            sender = threading.Thread(target=lambda: replies.append(busy.store(b"x").Status))
            replies: list[int] = []
            sender.start()
            assert landing.wait(60)
            stop.set()
            assert idle.read_pdu() == (ABORT, bytes(4))
            go_on.set()
            sender.join(60)
            assert replies == [0]
            assert busy.read_pdu() == (ABORT, bytes(4))
        server.join(60)
        assert not server.is_alive()
        # The socket belongs to the caller, and is as it was.
        assert listener.fileno() >= 0
    assert len(archive.kept) == 1


def test_metrics(archive: FakeArchive) -> None:
    metrics = Metrics()
    with door(archive, metrics=metrics) as address:
        with Peer(address) as peer:
            peer.associate()
            peer.echo()
            peer.store(b"x")
            peer.release()
        with Peer(address) as peer:
            peer.send(b"\xff" * 6)
            assert peer.read_pdu() is not None
    text = metrics.exposition().decode()
    assert 'leanpacs_dimse_associations_total{outcome="released"} 1.0' in text
    assert 'leanpacs_dimse_associations_total{outcome="violation"} 1.0' in text
    assert 'leanpacs_dimse_seconds_count{operation="C-STORE",status="0000"} 1.0' in text
    assert 'leanpacs_dimse_seconds_count{operation="C-ECHO",status="0000"} 1.0' in text


# --------------------------------------------------------------------------------------------- processes


class Doors:
    """Processes that serve one socket."""

    def __init__(self, listener: socket.socket, folder: Path, count: int) -> None:
        context = get_context("spawn")
        self.address = listener.getsockname()
        self.folder = folder
        self.processes: dict[int, tuple[BaseProcess, Connection]] = {}
        for name in ("spool", "kept"):
            (folder / name).mkdir()
        pipes = [context.Pipe() for _ in range(count)]
        started = [context.Process(target=serve_process, args=(listener, folder, theirs)) for _, theirs in pipes]
        for process in started:
            process.start()
        for process, (ours, theirs) in zip(started, pipes, strict=True):
            theirs.close()
            self.processes[ours.recv()] = (process, ours)

    def landed_in(self, name: str) -> int:
        """ID of the process that an instance came to."""
        (path,) = (self.folder / "kept").glob(f"{name}-*")
        return int(path.name.rpartition("-")[2])

    def close(self) -> None:
        for process, ours in self.processes.values():
            ours.close()
            process.join(60)
            assert not process.is_alive()
            process.close()


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with bind("127.0.0.1", 0) as listener:
        served = Doors(listener, tmp_path_factory.mktemp("doors"), 2)
        try:
            yield served
        finally:
            served.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory use from")
@pytest.mark.parametrize("pdu_bytes", [16_000, 64_000_000], ids=["small PDUs", "one huge PDU"])
def test_memory_does_not_depend_on_the_instance(doors: Doors, pdu_bytes: int) -> None:
    def peak_bytes(process_id: int) -> int:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    with Peer(doors.address) as peer:
        peer.associate()
        assert peer.store(b"x" * 1000, f"1.{pdu_bytes}").Status == 0
        process_id = doors.landed_in(f"1.{pdu_bytes}")
        before = peak_bytes(process_id)
        assert peer.store(bytes(64_000_000), f"2.{pdu_bytes}", size=pdu_bytes).Status == 0
        assert peak_bytes(process_id) - before < 4_000_000
        peer.release()


def test_a_process_that_dies_takes_only_its_associations_along(doors: Doors) -> None:
    peers = [Peer(doors.address) for _ in range(6)]
    for number, peer in enumerate(peers):
        peer.associate()
        assert peer.store(b"x", f"3.{number}").Status == 0
    victim = doors.landed_in("3.0")
    process, _ = doors.processes[victim]
    process.kill()
    process.join()
    for number, peer in enumerate(peers):
        if doors.landed_in(f"3.{number}") != victim:
            assert peer.echo().Status == 0
        peer.close()
    for number in range(3):
        with Peer(doors.address) as peer:
            peer.associate()
            assert peer.store(b"x", f"4.{number}").Status == 0
            peer.release()
        assert doors.landed_in(f"4.{number}") != victim
