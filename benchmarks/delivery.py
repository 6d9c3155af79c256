"""What receivers wait for: searches, metadata, studies, instances and frames, as stored and transcoded, beside Orthanc.

Each server gets the same instances over C-STORE, has time to settle them, and is then asked the same, one request at a
time, by the same clients on the same machine: plain HTTP connections, pynetdicom, and dcmtk's getscu and movescu.
"""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import senders
from benchmarks.load import Instance, Load
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import (
    ENVIRONMENT,
    HOST,
    CannotRun,
    LeanPACS,
    Orthanc,
    Peer,
    Running,
    free_ports,
    leanpacs_command,
    revive,
    running,
)

if TYPE_CHECKING:
    from rich.console import Console

RECEIVER: Final = "RECEIVER"
SETTLING_SECONDS: Final = 900.0
JSON: Final = "application/dicom+json"
ANY: Final = "*"
AGAIN: Final = "the second time"
NATIVE: Final = "1.2.840.10008.1.2.1"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "as stored": (ANY, "application/octet-stream"),
    "native": (NATIVE, "application/octet-stream"),
    "JPEG-LS": (JPEG_LS, "image/jls"),
    "JPEG 2000": (JPEG_2000, "image/jp2"),
}
"""Transfer syntax and media type of frames, by what the tables call them."""
COMPRESSED: Final = ("JPEG-LS", "JPEG 2000")
"""Of these a study takes seconds."""

_FAILURES: Final = (OSError, http.client.HTTPException, subprocess.CalledProcessError, RuntimeError)
_MOST_ENDS: Final = 12
"""In one case; then no more is asked for."""
_STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"


@dataclass(frozen=True, slots=True)
class Line:
    """One case on one server: seconds of each request, bytes of the last answer; with how many requests it ended."""

    case: str
    server: str
    seconds: tuple[float, ...]
    answer_bytes: int
    ends: int = 0

    @property
    def median_ms(self) -> float:
        """Median in milliseconds."""
        return statistics.median(self.seconds) * 1e3


Call = Callable[[int], int]
"""Makes the request of that number and returns the bytes of the answer."""


def measure(load: Load, work: Path, *, repeats: int, console: Console) -> list[Line]:
    """Ask every server that is installed for everything; see the module."""
    shutil.rmtree(work, ignore_errors=True)
    port = free_ports(1)[0]
    lines: list[Line] = []
    with ExitStack() as stack:
        servers = []
        for peer in _peers(port):
            if missing := peer.missing():
                console.print(f"[yellow]{missing}[/yellow]")
            else:
                servers.append(stack.enter_context(_filled(peer, work / peer.name, load, port, console)))
        stack.enter_context(_receiver(port))
        # Each case of all servers, one right after the other: a machine is not as fast in one minute as in the next.
        for of_servers in zip(*(_cases(server, load, repeats) for server in servers), strict=True):
            for server, (case, count, call) in zip(servers, of_servers, strict=True):
                name = server.peer.name
                try:
                    line = Line(case, name, *_timed(server, call, count))
                except _FAILURES as error:
                    console.print(f"  {case:52} {name:10} [yellow]failed: {error!r}[/yellow]", highlight=False)
                    continue
                taken = f"{line.median_ms:9.2f} ms {line.answer_bytes:12,} bytes"
                console.print(f"  {case:52} {name:10} {taken}", highlight=False)
                lines.append(line)
    return lines


def sheet(load: Load, lines: Sequence[Line]) -> Sheet:
    """One row for each case, one column for each server."""
    servers = list(dict.fromkeys(line.server for line in lines))
    found = {(line.case, line.server): line for line in lines}
    rows = []
    for case in dict.fromkeys(line.case for line in lines):
        of_case = [found.get((case, server)) for server in servers]
        times = [f"{line.median_ms:,.2f}{'*' if line.ends else ''}" if line else "-" for line in of_case]
        first, last = of_case[0], of_case[-1]
        ratio = f"{last.median_ms / first.median_ms:.1f}" if first and last and last is not first else "-"
        rows.append((case, *times, ratio))
    notes = (
        f"{len(load.instances):,} instances, {load.size_bytes / 1e6:,.0f} MB native; medians, one request at a time, "
        "client and server on the same cores.",
        "As stored: transfer-syntax=*; frames as application/octet-stream, which LeanPACS gives native.",
        "C-GET and C-MOVE by dcmtk, which takes uncompressed instances; the time of its processes is included.",
        "-: the server never gave an answer.",
        *(_ended(server, lines) for server in servers if any(line.ends for line in lines if line.server == server)),
        of_machine(machine()),
    )
    return Sheet("Delivery", ("what is asked for", *(f"{name}, ms" for name in servers), "ratio"), tuple(rows), notes)


def _ended(server: str, lines: Sequence[Line]) -> str:
    of_server = [line for line in lines if line.server == server]
    ends, answered = sum(line.ends for line in of_server), sum(len(line.seconds) for line in of_server if line.ends)
    return (
        f"*: the process of {server} ended at {ends} of these {ends + answered} requests, which do not count, "
        "and was started again."
    )


def record(lines: Sequence[Line]) -> Mapping[str, Any]:
    """All figures."""
    return {"machine": machine(), "lines": [asdict(line) for line in lines]}


def _peers(port: int) -> Sequence[Peer]:
    options = {
        "DicomModalities": {"receiver": [RECEIVER, HOST, port]},
        **{f"DicomAlwaysAllow{what}": True for what in ("Find", "Get", "Move", "Store")},
    }
    return LeanPACS(), Orthanc("Orthanc", options)


@contextmanager
def _filled(peer: Peer, folder: Path, load: Load, port: int, console: Console) -> Iterator[Running]:
    console.print(f"[bold]{peer.version()}[/bold]")
    with suppress(CannotRun), running(peer, folder) as server:
        if problems := senders.c_store(server, load.shares(2)):
            raise RuntimeError(f"{peer.name} did not take everything: {problems[0]}")
        waiting = peer.waiting(folder)
        deadline = time.monotonic() + SETTLING_SECONDS
        while waiting() and time.monotonic() < deadline:
            time.sleep(0.5)
        if isinstance(peer, LeanPACS):
            add = [*leanpacs_command(), "destination", "add", RECEIVER, f"{HOST}:{port}", "--data", str(folder)]
            subprocess.run(add, check=True, capture_output=True)
        yield server


def _cases(server: Running, load: Load, repeats: int) -> Iterator[tuple[str, int, Call]]:
    by_study = load.studies()
    study = max(by_study.values(), key=len)
    few = max(3, repeats // 10)
    web = _Web(server)
    uids = list(by_study)
    at = f"/studies/{study[0].study_uid}"
    yield "QIDO: one study", repeats, lambda n: web.get(f"/studies?StudyInstanceUID={uids[n % len(uids)]}")
    yield "QIDO: all studies", few, lambda _: web.get("/studies?limit=1000")
    yield f"QIDO: the {len(study)} instances of a study", few, lambda _: web.get(f"{at}/instances")
    yield f"metadata of a study of {len(study)}", few, lambda _: web.get(f"{at}/metadata")
    yield "metadata of an instance", repeats, lambda n: web.get(f"{_path(study, n)}/metadata")
    for name, (syntax, frame_type) in FORMS.items():
        files = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        frames = f'multipart/related; type="{frame_type}"; transfer-syntax={syntax}'
        yield f"frame, {name}", repeats, lambda n, a=frames: web.get(f"{_path(study, n)}/frames/1", a)
        yield f"frame, {name}, {AGAIN}", repeats, lambda n, a=frames: web.get(f"{_path(study, n)}/frames/1", a)
        yield f"instance, {name}", repeats, lambda n, a=files: web.get(_path(study, n), a)
        studies = 3 if name in COMPRESSED else max(3, repeats // 3)
        yield f"study of {len(study)}, {name}", studies, lambda _, a=files: web.get(at, a)
        if name == "as stored":
            following = len(study) // 2
            yield "frame, one after the other", following, lambda n, a=frames: web.get(f"{_at(study[n])}/frames/1", a)
            yield "frame, rendered", repeats, lambda n: web.get(f"{_path(study, n)}/rendered", "image/jpeg")
        if name == "native":  # before what a server may not survive
            yield from _dimse_cases(server, study, uids, repeats)
    if large := [one for one in load.instances if one.modality in ("CR", "DX")]:
        for name in ("JPEG-LS", "JPEG 2000"):
            frames = 'multipart/related; type="{1}"; transfer-syntax={0}'.format(*FORMS[name])
            for again in ("", f", {AGAIN}"):
                case = f"frame of CR or DX ({large[0].size_bytes / 1e6:.0f} MB), {name}{again}"
                yield case, len(large), lambda n, a=frames: web.get(f"{_at(large[n])}/frames/1", a)
    web.close()


def _dimse_cases(
    server: Running, study: Sequence[Instance], uids: Sequence[str], repeats: int
) -> Iterator[tuple[str, int, Call]]:
    with _finding(server) as find:
        yield "C-FIND: one study", repeats, lambda n: find(StudyInstanceUID=uids[n % len(uids)])
        yield "C-FIND: all studies", max(3, repeats // 10), lambda _: find(StudyInstanceUID="")
    if shutil.which("getscu") is None:
        return
    at = [HOST, str(server.ports.dimse)]
    common = ["-S", "-aec", server.peer.ae_title, "-k", "QueryRetrieveLevel=STUDY"]
    keys = ["-k", f"StudyInstanceUID={study[0].study_uid}"]
    get = ["getscu", *common, *keys, "--ignore", *at]
    move = ["movescu", *common, *keys, "-aem", RECEIVER, "-aet", RECEIVER, *at]
    yield f"C-GET: a study of {len(study)}", 5, lambda _: _run(get)
    yield f"C-MOVE: a study of {len(study)}", 5, lambda _: _run(move)


class _Web:
    """One HTTP connection that stays open."""

    def __init__(self, server: Running) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.ports.http, timeout=300)

    def get(self, path: str, accept: str = JSON) -> int:
        """Bytes of the answer."""
        try:
            self._connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
            answer = self._connection.getresponse()
            size = 0
            while piece := answer.read(1 << 20):
                size += len(piece)
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens another one
            raise
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path} as {accept}: {answer.status}")
        return size

    def close(self) -> None:
        self._connection.close()


def _path(study: Sequence[Instance], number: int) -> str:
    """Of an instance that nobody can foresee: in no order, which is always the same."""
    order = random.Random(7).sample(range(len(study)), len(study))
    return _at(study[order[number % len(study)]])


def _at(one: Instance) -> str:
    return f"/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}"


@contextmanager
def _finding(server: Running) -> Iterator[Callable[..., int]]:
    from pydicom.dataset import Dataset
    from pynetdicom import AE

    entity = AE("BENCH")
    entity.add_requested_context(_STUDY_ROOT_FIND)
    association = entity.associate(HOST, server.ports.dimse, ae_title=server.peer.ae_title)
    if not association.is_established:
        raise RuntimeError(f"{server.peer.name} takes no association")
    association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def find(**keys: str) -> int:
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        for keyword in ("PatientID", "PatientName", "StudyDate", "AccessionNumber"):
            setattr(wanted, keyword, "")
        for keyword, value in keys.items():
            setattr(wanted, keyword, value)
        answers = association.send_c_find(wanted, _STUDY_ROOT_FIND)
        return sum(1 for status, _ in answers if status and status.Status in (0xFF00, 0xFF01))

    try:
        yield find
    finally:
        association.release()


@contextmanager
def _receiver(port: int) -> Iterator[None]:
    """dcmtk's storescp, which forgets what it is sent."""
    if shutil.which("storescp") is None:
        yield
        return
    command = ["storescp", "--fork", "--ignore", "-aet", RECEIVER, str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | ENVIRONMENT
    )
    try:
        for _ in range(50):
            with closing(socket.socket()) as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _run(command: Sequence[str]) -> int:
    subprocess.run(command, check=True, capture_output=True, env=os.environ | ENVIRONMENT)
    return 0


def _timed(server: Running, call: Call, count: int) -> tuple[tuple[float, ...], int, int]:
    """A server that ends is started again: what it was asked for then does not count, but is told of."""
    taken, size, ends = [], 0, 0
    for number in range(count):
        started = time.perf_counter()
        try:
            size = call(number)
        except _FAILURES:
            ends += 1
            if not revive(server) or (ends == _MOST_ENDS and not taken):
                raise
            if ends == _MOST_ENDS:
                break
        else:
            taken.append(time.perf_counter() - started)
    if not taken:
        raise RuntimeError(f"the server ended with each of {ends} requests")
    return tuple(taken), size, ends
