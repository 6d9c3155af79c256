"""Ingest: the same load into each server, over DIMSE and STOW-RS, with one sender and with four.

Servers are measured in turns, several rounds, so that what slows the machine for a while slows all alike. A run
during which other programs took more than a tenth of the machine is repeated.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import senders
from benchmarks.load import Load
from benchmarks.meter import Disturbance, Peak, disk_of, own_cpu_seconds, wait_for_quiet
from benchmarks.servers import PEERS, CannotRun, Peer, Running, running

if TYPE_CHECKING:
    from rich.console import Console

GZIP: Final = "gzip -6 to disk"
SETTLE_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.1
QUIET_SHARE: Final = 0.10


@dataclass(frozen=True, slots=True)
class Door:
    """A way in: how it is called, how many send at once, and what sends."""

    key: str
    name: str
    senders: int
    send: Callable[[Running, Sequence[Sequence[Any]]], list[str]]


DOORS: Final = (
    Door("store1", "C-STORE, 1 association", 1, senders.c_store),
    Door("store4", "C-STORE, 4 associations", 4, senders.c_store),
    Door("stow1", "STOW-RS, 1 connection", 1, senders.stow),
    Door("stow4", "STOW-RS, 4 connections", 4, senders.stow),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One load into one server.

    ``acknowledged_seconds`` and ``settled_seconds`` count from the start of the senders; CPU seconds are the
    server's until everything is settled. ``disturbance`` is the share of the machine that went to others.
    """

    server: str
    door: str
    round: int
    native_bytes: int
    acknowledged_seconds: float
    settled_seconds: float
    cpu_seconds_acknowledged: float
    cpu_seconds: float
    sender_cpu_seconds: float
    disk_bytes: int
    allocated_bytes: int
    peak_rss_bytes: int
    instances: int
    stored: int
    disturbance: float
    problems: tuple[str, ...]

    @property
    def acknowledged(self) -> float:
        """MB/s of native bytes until the last acknowledgement."""
        return self.native_bytes / 1e6 / self.acknowledged_seconds

    @property
    def settled(self) -> float:
        """MB/s of native bytes until nothing is left to do."""
        return self.native_bytes / 1e6 / self.settled_seconds

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds of the server for each GB of native bytes."""
        return self.cpu_seconds / self.native_bytes * 1e9

    @property
    def on_disk(self) -> float:
        """Bytes on disk over native bytes, everything included."""
        return self.disk_bytes / self.native_bytes


def measure(
    load: Load,
    work: Path,
    *,
    rounds: int,
    doors: Sequence[Door] = DOORS,
    peers: Sequence[Peer] = PEERS,
    retries: int = 1,
    patience_seconds: float = 0.0,
    console: Console,
) -> Iterator[Run]:
    """Run all doors of all servers, ``rounds`` times in turns; servers that are not there are told of and left out.

    Parameters
    ----------
    load : Load
        What is sent.
    work : Path
        Folder for what the servers keep; emptied after each run.
    rounds, doors, peers
        What is measured.
    retries : int
        How often a disturbed run is repeated; the least disturbed one counts.
    patience_seconds : float
        How long to wait before each run for other programs to leave the machine alone.
    console : Console
        Told of each run.
    """
    able = [peer for peer in peers if _can_run(peer, console)]
    doors = [door for door in doors if door.send is not senders.c_store or _have_storescu(console)]
    _warm(load)
    for number in range(1, rounds + 1):
        for door in doors:
            for name, once in _contestants(able, door, load, work, number):
                run = _least_disturbed(once, retries, patience_seconds, name, console)
                if run is not None:
                    console.print(_line(run), highlight=False)
                    yield run


def _can_run(peer: Peer, console: Console) -> bool:
    missing = peer.missing()
    if missing:
        console.print(f"[yellow]left out: {peer.name}: {missing}[/yellow]")
    return not missing


def _have_storescu(console: Console) -> bool:
    if not senders.have_storescu():
        console.print("[yellow]left out: C-STORE: dcmtk is not installed[/yellow]")
    return senders.have_storescu()


def _warm(load: Load) -> None:
    """Read the load once, so that all find it in memory."""
    for instance in load.instances:
        instance.path.read_bytes()


def _contestants(
    peers: Sequence[Peer], door: Door, load: Load, work: Path, number: int
) -> Iterator[tuple[str, Callable[[], Run]]]:
    for peer in peers:
        yield peer.name, functools.partial(run_server, peer, door, load, work, number)
    if door.key.startswith("store"):
        yield GZIP, functools.partial(run_gzip, door, load, work, number)


def _least_disturbed(
    once: Callable[[], Run], retries: int, patience_seconds: float, name: str, console: Console
) -> Run | None:
    best: Run | None = None
    for _ in range(retries + 1):
        wait_for_quiet(patience_seconds, QUIET_SHARE)
        try:
            run = once()
        except CannotRun as error:
            console.print(f"[red]{name}: {error}[/red]")
            return best
        if best is None or run.disturbance < best.disturbance:
            best = run
        if best.disturbance <= QUIET_SHARE:
            break
    return best


def run_server(peer: Peer, door: Door, load: Load, work: Path, number: int) -> Run:
    """Start the server anew, send the load, wait until it is settled, stop it, and count what is on disk."""
    folder = _fresh(work)
    with running(peer, folder) as server:
        waiting = peer.waiting(folder)
        shares = load.shares(door.senders)
        time.sleep(1.0)
        disturbance, own, cpu = Disturbance(server.tree), own_cpu_seconds(), server.tree.cpu_seconds()
        with Peak(server.tree, seconds=0.2) as peak:
            started = time.monotonic()
            problems = door.send(server, shares)
            acknowledged = time.monotonic() - started
            cpu_acknowledged, sent = server.tree.cpu_seconds() - cpu, own_cpu_seconds() - own
            settled = _settled(waiting, started, acknowledged)
            cpu_settled, disturbed = server.tree.cpu_seconds() - cpu, disturbance.share()
        stored = senders.count_stored(server, load)
    disk = disk_of(folder)
    _clean(work)
    return Run(
        server=peer.name,
        door=door.key,
        round=number,
        native_bytes=load.size_bytes,
        acknowledged_seconds=acknowledged,
        settled_seconds=settled,
        cpu_seconds_acknowledged=cpu_acknowledged,
        cpu_seconds=cpu_settled,
        sender_cpu_seconds=sent,
        disk_bytes=disk.length,
        allocated_bytes=disk.allocated,
        peak_rss_bytes=peak.memory.rss,
        instances=len(load.instances),
        stored=stored,
        disturbance=disturbed,
        problems=tuple(problems[:3]),
    )


def _settled(waiting: Callable[[], int], started: float, acknowledged: float) -> float:
    """Seconds from ``started`` until nothing waits; those of the acknowledgement when nothing ever does."""
    if not waiting():
        return acknowledged
    while waiting():
        if time.monotonic() - started > SETTLE_SECONDS:
            raise CannotRun(f"not settled after {SETTLE_SECONDS:.0f} s, {waiting()} instances wait")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started


def run_gzip(door: Door, load: Load, work: Path, number: int) -> Run:
    """Compress and sync each file, as many at once as the door has senders."""
    folder = _fresh(work)
    disturbance, cpu, started = Disturbance(None), own_cpu_seconds(), time.monotonic()
    senders.gzip_to_disk(folder, load.shares(door.senders))
    seconds, cpu = time.monotonic() - started, own_cpu_seconds() - cpu
    disturbed, disk = disturbance.share(), disk_of(folder)
    stored = sum(1 for _ in folder.iterdir())
    _clean(work)
    return Run(
        GZIP, door.key, number, load.size_bytes, seconds, seconds, cpu, cpu, 0.0, disk.length, disk.allocated, 0,
        len(load.instances), stored, disturbed, (),
    )  # fmt: skip


def _fresh(work: Path) -> Path:
    """Return the path of a new folder, with nothing of the run before left to be written."""
    _clean(work)
    work.mkdir(parents=True)
    os.sync()
    return work / "data"


def _clean(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)


def _line(run: Run) -> str:
    lost = "" if run.stored == run.instances else f", [red]{run.stored} of {run.instances} stored[/red]"
    return (
        f"{run.round} {run.door:7} {run.server:18} {run.acknowledged:6.1f} MB/s acknowledged, "
        f"{run.settled:6.1f} settled, {run.cpu_per_gb:5.1f} CPU s/GB, {run.on_disk:.3f} on disk, "
        f"{run.peak_rss_bytes / 1e6:4.0f} MB, others {run.disturbance:.0%}{lost}"
        + "".join(f"\n    [red]{problem}[/red]" for problem in run.problems)
    )
