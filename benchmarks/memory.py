"""Memory: one very large multi-frame instance over each door, and the peak of all processes together.

Samples the resident memory of the whole process tree every 50 ms, from before the first byte is sent until the
instance is settled; then once more while it is given back. The sender is no part of it, except for
``leanpacs import``, where there is no other process.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from benchmarks import senders
from benchmarks.ingest import SETTLE_SECONDS
from benchmarks.load import Instance
from benchmarks.meter import Memory, Peak, Tree, machine
from benchmarks.report import Sheet, mega, of_machine
from benchmarks.servers import CannotRun, LeanPACS, Running, environment, leanpacs_command, running

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

FRAMES: Final = 4096
SIDE: Final = 512
TARGET_BYTES: Final = 600_000_000
_CHUNK: Final = 1 << 20
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Taken:
    """What one way in took; times in seconds until acknowledged and until settled."""

    door: str
    native_bytes: int
    acknowledged_seconds: float
    settled_seconds: float
    taking_in: Memory
    giving_back: Memory | None
    back_seconds: float
    same_bytes: bool | None
    problem: str = ""


def write_large_instance(path: Path, frames: int = FRAMES, *, seed: int = 1) -> Instance:
    """Write a multi-frame instance of 512 x 512 x 16 bit frames, one frame at a time.

    Each frame is a smooth structure with noise in its low bits, rolled and offset from the one before: no two
    are the same, and they compress about as CT does.
    """
    ds = _attributes(frames)
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
    length = frames * SIDE * SIDE * 2
    with path.open("ab") as file:
        # Pixel Data by hand (PS3.5 7.1.2): the library would want all of it in memory.
        file.write(b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little"))
        _write_frames(file, frames, seed)
    return Instance(
        path,
        str(ds.StudyInstanceUID),
        str(ds.SeriesInstanceUID),
        str(ds.SOPInstanceUID),
        str(ds.SOPClassUID),
        "OT",
        path.stat().st_size,
    )


def _attributes(frames: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    ds.SOPInstanceUID = _uid("instance", frames)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = _uid("study", frames), _uid("series", frames)
    ds.Modality, ds.PatientID, ds.PatientName = "OT", "BENCH-LARGE", "Benchmark^Large"
    ds.StudyDate, ds.StudyTime, ds.SeriesNumber, ds.InstanceNumber = "20260101", "120000", 1, 1
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.NumberOfFrames = frames
    return ds


def _uid(name: str, frames: int) -> str:
    digest = hashlib.sha256(f"leanpacs benchmark large {name} {frames}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def _write_frames(file: BinaryIO, frames: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    structure = 1500 + 900 * np.sin(9 * rows) * np.cos(7 * columns) + 300 * (np.hypot(rows - 0.5, columns - 0.5) < 0.3)
    noise: NDArray[Any] = random.normal(0, 6, (SIDE, SIDE))
    for number in range(frames):
        frame = np.roll(structure, number, axis=0) + np.roll(noise, (7 * number, 3 * number + number // SIDE), (0, 1))
        file.write(np.clip(frame + number % 64, 0, 4095).astype("<u2").tobytes())


def measure(work: Path, frames: int = FRAMES, *, console: Console) -> list[Taken]:
    """Send the instance over C-STORE, STOW-RS and ``leanpacs import``, each into a new archive."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    instance = write_large_instance(work / "large.dcm", frames)
    console.print(f"one instance of {mega(instance.size_bytes)} MB, {frames} frames")
    ways: list[Callable[[], Taken]] = [
        lambda: _served("STOW-RS", instance, work, _stow),
        lambda: _imported(instance, work),
    ]
    if senders.have_storescu():
        ways.insert(0, lambda: _served("C-STORE", instance, work, _c_store))
    taken = []
    for way in ways:
        found = way()
        taken.append(found)
        console.print(f"{found.door}: {mega(found.taking_in.rss)} MB {found.problem}", highlight=False)
    shutil.rmtree(work)
    return taken


def _c_store(server: Running, instance: Instance) -> str:
    return "; ".join(senders.c_store(server, [[instance]]))


def _stow(server: Running, instance: Instance) -> str:
    return "; ".join(senders.stow(server, [[instance]]))


def _served(door: str, instance: Instance, work: Path, send: Callable[[Running, Instance], str]) -> Taken:
    folder = work / "archive"
    with running(LeanPACS(), folder) as server:
        waiting = server.peer.waiting(folder)
        with Peak(server.tree, pss=True) as peak:
            started = time.monotonic()
            problem = send(server, instance)
            acknowledged = time.monotonic() - started
            settled = _until_settled(waiting, started)
        with Peak(server.tree, pss=True) as back:
            started = time.monotonic()
            same, answer = (None, "") if problem else _give_back(server, instance)
            back_seconds = time.monotonic() - started
    shutil.rmtree(folder)
    return Taken(
        door,
        instance.size_bytes,
        acknowledged,
        settled,
        peak.memory,
        back.memory,
        back_seconds,
        same,
        problem or answer,
    )


def _until_settled(waiting: Callable[[], int], started: float) -> float:
    while waiting():
        if time.monotonic() - started > SETTLE_SECONDS:
            raise CannotRun("the large instance is not settled")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


def _give_back(server: Running, instance: Instance) -> tuple[bool | None, str]:
    """Retrieve it as received over WADO-RS, and compare the data sets by their digests."""
    url = urllib.parse.urlsplit(server.web)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
    path = f"{url.path}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={ExplicitVRLittleEndian}'  # as it was sent
    connection.request("GET", path, headers={"Accept": accept})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        return False, f"WADO-RS answered {answer.status}"
    with instance.path.open("rb") as file:
        expected = _pixel_digest(iter(lambda: file.read(_CHUNK), b""), instance)
    found = _pixel_digest(iter(lambda: answer.read(_CHUNK), b""), instance)
    return found == expected, "" if found == expected else "what came back differs"


def _pixel_digest(chunks: Iterator[bytes], instance: Instance) -> bytes:
    """Digest of the Pixel Data, found by its header in the first chunk; what follows it is left out."""
    digest = hashlib.sha256()
    first = next(chunks, b"")
    start = first.find(b"\xe0\x7f\x10\x00OW\x00\x00")
    length = int.from_bytes(first[start + 8 : start + 12], "little")
    left, chunk = length, first[start + 12 :]
    while chunk and start >= 0:
        digest.update(chunk[:left])
        left -= min(left, len(chunk))
        chunk = next(chunks, b"")
    return digest.digest() + left.to_bytes(8, "big")


def _imported(instance: Instance, work: Path) -> Taken:
    folder = work / "archive"
    command = [*leanpacs_command(), "import", str(instance.path), "--data", str(folder), "--quiet"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
    with Peak(Tree(process.pid), pss=True) as peak:
        problem = process.communicate()[1].decode(errors="replace").strip()[-500:]
    seconds = time.monotonic() - started
    shutil.rmtree(folder)
    return Taken(
        "leanpacs import", instance.size_bytes, seconds, seconds, peak.memory, None, 0.0, None,
        problem if process.returncode else "",
    )  # fmt: skip


def sheet(taken: list[Taken]) -> Sheet:
    """The table."""
    headings = (
        "way in",
        "acknowledged, s",
        "settled, s",
        "peak RSS, MB",
        "peak PSS, MB",
        "giving back: s",
        "peak RSS, MB",
        "same bytes",
    )
    size = taken[0].native_bytes if taken else 0
    notes = (
        of_machine(machine()),
        f"One instance of {size / 1e9:.2f} GB; all processes of LeanPACS together, sampled every 50 ms, from the first "
        "byte until it is settled. RSS counts pages that processes share once for each of them, PSS once in all. "
        f"Target: RSS below {mega(TARGET_BYTES)} MB on the way in.",
    )
    return Sheet("Memory with one very large instance", headings, tuple(map(_row, taken)), notes)


def _row(taken: Taken) -> tuple[str, ...]:
    back = taken.giving_back
    same = {None: "", True: "yes", False: "no"}[taken.same_bytes]
    return (
        taken.door + (" (failed)" if taken.problem else ""),
        f"{taken.acknowledged_seconds:.0f}",
        f"{taken.settled_seconds:.0f}",
        mega(taken.taking_in.rss),
        mega(taken.taking_in.pss),
        f"{taken.back_seconds:.0f}" if back else "",
        mega(back.rss) if back else "",
        same,
    )


def record(taken: list[Taken]) -> Mapping[str, Any]:
    """Everything that was measured."""
    return {"machine": machine(), "version": LeanPACS().version(), "taken": [asdict(one) for one in taken]}
