"""What a process and all its children take: CPU seconds and memory; and how quiet the machine is meanwhile."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.05
_TREE_EVERY = 5
_PSS_EVERY = 10


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks in bytes over all processes of a tree together.

    ``rss`` counts shared pages once for each process, ``pss`` once in all (sampled less often, as it is costly).
    """

    rss: int
    pss: int


class Tree:
    """A process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """Those that are there now, the first one first; none when it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """User and system time of all, with that of children which have ended and been waited for."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


class Peak:
    """Samples the memory of a tree in a thread of its own for as long as the block lasts."""

    def __init__(self, tree: Tree, *, pss: bool = False, seconds: float = SAMPLE_SECONDS) -> None:
        self._tree = tree
        self._with_pss = pss
        self._seconds = seconds
        self._stop = threading.Event()
        self._rss = self._pss = 0
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def memory(self) -> Memory:
        """The peaks so far; ``pss`` is 0 when it was not asked for."""
        return Memory(self._rss, self._pss)

    def _run(self) -> None:
        processes: list[psutil.Process] = []
        step = 0
        while True:
            if step % _TREE_EVERY == 0:
                processes = self._tree.processes()
            self._rss = max(self._rss, _sum(processes, lambda process: process.memory_info().rss))
            if self._with_pss and step % _PSS_EVERY == 0:
                self._pss = max(self._pss, _sum(processes, lambda process: process.memory_full_info().pss))
            step += 1
            if self._stop.wait(self._seconds):
                return


def _sum(processes: list[psutil.Process], value: Callable[[psutil.Process], int]) -> int:
    total = 0
    for process in processes:
        try:
            total += value(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def own_cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended: the senders."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Disturbance:
    """How much of the machine went to neither the server nor the senders between two moments.

    Parameters
    ----------
    tree : Tree, optional
        The server.
    """

    def __init__(self, tree: Tree | None) -> None:
        self._tree = tree
        self._started = time.monotonic()
        self._before = self._other_seconds()

    def share(self) -> float:
        """Share of all cores since the beginning, 0 to 1. Interrupts and writing back to disk count here."""
        elapsed = time.monotonic() - self._started
        cores = psutil.cpu_count() or 1
        return max(0.0, (self._other_seconds() - self._before) / max(elapsed * cores, 1e-9))

    def _other_seconds(self) -> float:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        return float(busy) - own_cpu_seconds() - (self._tree.cpu_seconds() if self._tree else 0.0)


def wait_for_quiet(seconds: float, share: float) -> None:
    """Wait until less than ``share`` of the machine is busy for two seconds on end, but not longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and psutil.cpu_percent(interval=2.0) > 100 * share:
        pass


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of all files in a folder: their lengths, and the blocks they fill (folders included)."""

    length: int
    allocated: int


def disk_of(folder: Path, keep: Callable[[Path], bool] = lambda _: True) -> Disk:
    """Add up the files under ``folder`` that ``keep`` wants."""
    length = allocated = 0
    for path in [folder, *folder.rglob("*")]:
        stat = path.lstat()
        if not keep(path):
            continue
        allocated += stat.st_blocks * 512
        if path.is_file():
            length += stat.st_size
    return Disk(length, allocated)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    memory = psutil.virtual_memory().total
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
