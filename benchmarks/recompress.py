"""Recompression: ``lifecycle run`` with one worker and with two, beside the bare codec on the same frames.

The bare codec chooses for each series as the archive does, encodes every frame and decodes it again, in memory, on one
thread. Two of them at once, on half of the series each, show what the machine gives to a second process: that is the
most that two workers can reach.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.load import Instance, Load, make_load
from benchmarks.meter import machine, own_cpu_seconds
from benchmarks.report import Sheet, of_machine
from leanpacs.archive.archive import open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.archive.settle.again import Again
from leanpacs.archive.settle.encode import SeriesChoice, attempts, frame_kind, measured_choice, measured_stream
from leanpacs.archive.settle.settling import warm_up
from leanpacs.codecs.choice import Choice
from leanpacs.codecs.presets import preset
from leanpacs.codecs.registry import decode_frame, encode_frame
from leanpacs.config import Settings, WorkerSettings
from leanpacs.dicom import uids
from leanpacs.errors import CodecError
from leanpacs.lifecycle.executor import local_pool
from leanpacs.lifecycle.policy import Policy
from leanpacs.lifecycle.runner import Lifecycle
from leanpacs.transcode.content import Content, Native, open_content, parts

if TYPE_CHECKING:
    from rich.console import Console

MOST_OVER_BARE: Final = 1.15
LEAST_OF_TWO: Final = 1.8
LOADS: Final = {
    "balanced": (240.0, ("CT", "MR", "CR", "US", "MG")),
    "dense": (20.0, ("CT", "MR")),
}
"""Megabytes and kinds of images for each preset: what takes the bare codec some fifteen seconds.

A mammogram takes ``dense`` half a minute by itself, so that one of two workers would be left alone.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of one preset: the bare codec alone and two at once, a run with one worker and with two.

    ``start_seconds`` and ``start_cpu`` are what starting a worker process takes, once in a run.
    """

    preset: str
    instances: int
    native_bytes: int
    bare_seconds: float
    bare_cpu: float
    two_bare_seconds: float
    one_seconds: float
    one_cpu: float
    two_seconds: float
    two_cpu: float
    start_seconds: float
    start_cpu: float

    @property
    def over_bare(self) -> float:
        """CPU time of a run with one worker, once it has started, to that of the bare codec."""
        return (self.one_cpu - self.start_cpu) / self.bare_cpu

    @property
    def of_two(self) -> float:
        """Throughput with two workers to that with one, once they have started."""
        return (self.one_seconds - self.start_seconds) / (self.two_seconds - self.start_seconds)

    @property
    def most_of_two(self) -> float:
        """The same of the bare codec."""
        return self.bare_seconds / self.two_bare_seconds


def measure(folders: Sequence[Path], work: Path, *, console: Console) -> list[Result]:
    """Make loads and archives, and measure each preset."""
    found = []
    for name in LOADS:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        load = prepare(folders, work, name)
        found.append(measure_prepared(load, work, name))
        console.print(f"  {found[-1]}")
    shutil.rmtree(work)
    return found


def prepare(folders: Sequence[Path], work: Path, name: str) -> Load:
    """A load for a preset, and two archives that hold it as it is after arrival."""
    megabytes, kinds = LOADS[name]
    load = make_load(folders, work / "load", megabytes, only=kinds)
    with open_archive(work / "1", _settings(1)) as archive:
        for instance in load.instances:
            copy = archive.spool_folder / f"{instance.sop_uid}.dcm"
            shutil.copyfile(instance.path, copy)
            archive.land(Incoming(copy, "benchmark", "import"))
        archive.settler().drain()
    shutil.copytree(work / "1", work / "2")
    return load


def measure_prepared(load: Load, work: Path, name: str) -> Result:
    """Measure one preset on what :func:`prepare` made."""
    studies = sorted(load.studies().values(), key=_size, reverse=True)
    with ProcessPoolExecutor(2, get_context("spawn")) as processes:
        list(processes.map(bare, [[], []], [name, name]))
        began = time.perf_counter()
        cpu = processes.submit(bare, list(load.instances), name).result()
        alone = time.perf_counter() - began
        began = time.perf_counter()
        list(processes.map(bare, _halves(studies), [name, name]))
        together = time.perf_counter() - began
    one, one_cpu = _run(work / "1", name, 1)
    two, two_cpu = _run(work / "2", name, 2)
    runs = (alone, cpu, together, one, one_cpu, two, two_cpu)
    return Result(name, len(load.instances), load.size_bytes, *runs, *start())


def start() -> tuple[float, float]:
    """Wall and CPU seconds of starting a worker process, which imports what it is to run, and of ending it."""
    began, cpu = time.perf_counter(), own_cpu_seconds()
    with local_pool(WorkerSettings(), 1) as pool:
        pool.submit(isinstance, None, Again).result()
        pool.submit(warm_up).result()
    return time.perf_counter() - began, own_cpu_seconds() - cpu


def bare(instances: Sequence[Instance], name: str) -> float:
    """Choose for each series, encode and decode all frames; CPU seconds of this process."""
    cpu = time.process_time()
    choices: dict[tuple[str, str], SeriesChoice] = {}
    for instance in instances:
        with (
            instance.path.open("rb") as file,
            open_content(file, uids.EXPLICIT_LE, spool=instance.path.parent, limit_bytes=1 << 30) as content,
        ):
            form = parts(content)
            assert isinstance(form, Native)
            key = (instance.series_uid, frame_kind(form.spec))
            best = None
            if key not in choices:
                choices[key], best = measured_choice(form, content, preset(name), preset(name).seconds_per_gb)
            _code(form, content, choices[key], best)
    return time.process_time() - cpu


def _code(form: Native, content: Content, choice: SeriesChoice, best: Choice | None) -> None:
    for codec, options in attempts(choice, form, content):
        made = measured_stream(best, form, codec, options)
        try:
            for index in range(form.frames.count):
                stream = made(index + 1) if made else None
                if stream is None:
                    stream = encode_frame(codec, form.frames.read(content.reader, index), form.spec, options)
                decode_frame(codec, stream, form.spec, options)
        except CodecError:
            continue
        return


def _run(folder: Path, name: str, workers: int) -> tuple[float, float]:
    """Wall and CPU seconds of a run, its worker processes included."""
    policy = Policy.model_validate({"name": "benchmark", "rules": [{"name": name, "then": {"preset": name}}]})
    settings = _settings(workers)
    with open_archive(folder, settings) as archive:
        later = datetime.now(UTC) + timedelta(days=40)
        lifecycle = Lifecycle(archive, policy, settings, now=lambda: later)
        began, cpu = time.perf_counter(), own_cpu_seconds()
        report = lifecycle.run()
        assert not report.failed, report
        return time.perf_counter() - began, own_cpu_seconds() - cpu


def _settings(workers: int) -> Settings:
    return Settings(storage={"minimum_free_bytes": 0}, lifecycle={"workers": workers})


def _halves(studies: list[list[Instance]]) -> list[list[Instance]]:
    """All series in two parts that take about as long."""
    halves: list[list[Instance]] = [[], []]
    for study in studies:
        min(halves, key=_size).extend(study)
    return halves


def _size(instances: Sequence[Instance]) -> int:
    return sum(instance.size_bytes for instance in instances)


def sheet(results: Sequence[Result]) -> Sheet:
    """One line for each preset."""
    rows = tuple(
        (
            one.preset,
            f"{one.instances}",
            f"{one.native_bytes / 1e6:.0f}",
            f"{one.bare_cpu:.1f}",
            f"{one.one_cpu:.1f}",
            f"{one.start_cpu:.1f}",
            f"**{one.over_bare:.2f}**",
            f"{one.one_seconds:.1f}",
            f"{one.two_seconds:.1f}",
            f"**{one.of_two:.2f}**",
            f"{one.most_of_two:.2f}",
        )
        for one in results
    )
    return Sheet(
        "Recompression",
        (
            "preset",
            "images",
            "MB",
            "bare codec, CPU s",
            "one worker, CPU s",
            "of it starting",
            "over the bare codec",
            "one worker, s",
            "two workers, s",
            "two to one",
            "two bare codecs to one",
        ),
        rows,
        (
            of_machine(machine()),
            "A run of the lifecycle over what was stored under fast: read, rebuilt, codecs chosen for each series, "
            "encoded, read back, decoded, compared, committed; CPU of all processes. Both ratios leave out what "
            "starting a worker takes, once in a run. The bare codec: the same choice, each frame encoded and decoded "
            "once in memory, on one thread; two at once show what this machine gives to a second process.",
            f"Targets: at most {MOST_OVER_BARE} of the bare codec's CPU time, two workers at least {LEAST_OF_TWO} "
            "times one.",
        ),
    )


def record(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was measured, with the machine."""
    return {"machine": machine(), "presets": [asdict(one) for one in results]}
