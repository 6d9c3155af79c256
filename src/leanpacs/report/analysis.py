"""Run an analysis: look at every file, draw a sample, measure it in worker processes, add up."""

from __future__ import annotations

import multiprocessing
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from leanpacs import __version__
from leanpacs.archive.intake.importing import Found, Imported, find
from leanpacs.dicom import uids
from leanpacs.errors import WorkerError
from leanpacs.report import disk, packing, sums
from leanpacs.report.census import Census, Count, Drawn
from leanpacs.report.formats import found, frame_formats, raw
from leanpacs.report.looks import Looks
from leanpacs.report.measuring import Measured, Options, measure, prepare
from leanpacs.report.opening import Looked, look
from leanpacs.report.results import (
    FOUND,
    RAW,
    VERSION,
    Analysis,
    Format,
    Group,
    HeadResult,
    Link,
    Machine,
    OnDisk,
    Problem,
    Run,
)
from leanpacs.report.sums import Book, Side
from leanpacs.workers import WorkerPool

LOOKED_AT_ONCE: Final = 64
MOST_PROBLEMS: Final = 500
"""Problems that are kept with their files' names; all are counted."""

MEMORY_LIMIT: Final = 6 << 30
TIME_LIMIT: Final = 3600.0
"""Of measuring one instance: what takes more is a problem of that file."""

LOSSY_OF_A_MODALITY: Final = 6
PROGRESSIVE_OF_A_MODALITY: Final = 2
"""Instances of each modality on which lossy settings and progressive code streams are tried."""

BESIDE_OF_A_MODALITY: Final = 24
"""Instances of each modality whose heads and files are measured by themselves: syncing takes longer than codecs."""

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class Request:
    """What to analyze and how; ``sample`` as in :func:`sample_size`."""

    paths: tuple[Path, ...]
    options: Options
    sample: str = "200"
    jobs: int = 1
    links: tuple[Link, ...] = ()


class Watcher(Protocol):
    """Is told how far it is."""

    def looking(self, files: int) -> None:
        """So many files were looked at."""
        ...

    def measuring(self, instances: int, raw_bytes: int) -> None:
        """So many instances, of so many bytes, are going to be measured."""
        ...

    def measured(self, one: Measured) -> None:
        """One more was measured."""
        ...


@dataclass(slots=True)
class _Notes:
    """What could not be measured."""

    kept: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, file: str, reason: str) -> None:
        self.count += 1
        if len(self.kept) < MOST_PROBLEMS:
            self.kept.append(Problem(file, reason))


@dataclass(slots=True)
class _Tables:
    """Sums of everything that is not a format of an instance."""

    heads: dict[str, Side] = field(default_factory=dict)
    disk: dict[str, Side] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, one: Measured) -> None:
        self.seconds += one.seconds
        sums.add_all(
            self.heads,
            (
                (head.key, head.label, Side("", head.raw_bytes, head.compressed_bytes, head.seconds))
                for head in one.heads
            ),
        )
        labels = {compressor.key: compressor.label for compressor in disk.compressors()}
        sums.add_all(
            self.disk,
            (
                (
                    stored.key,
                    labels[stored.key],
                    Side(
                        "",
                        stored.raw_bytes,
                        stored.stored_bytes,
                        stored.encode_seconds,
                        stored.decode_seconds,
                        stored.store_seconds,
                    ),
                )
                for stored in one.disk
            ),
        )


def analyze(request: Request, watcher: Watcher, row: Callable[[Measured], None] = lambda _: None) -> Analysis:
    """Measure what every format would save for the DICOM files in some folders.

    Ctrl-C (KeyboardInterrupt) ends the measuring, and what was measured till then is the result; while files are still
    being looked at, it is raised.

    Parameters
    ----------
    request : Request
        What and how.
    watcher : Watcher
        Told of progress.
    row : callable
        Given each measured instance, such as to write it down: they are not kept.
    """
    begin = time.perf_counter()
    notes, book, tables, looks = _Notes(), Book(), _Tables(), Looks()
    finished = True
    with Census() as census, _pool(request) as pool:
        for looked in _looked(request, pool, notes):
            census.add(looked)
            watcher.looking(census.files)
            if looked.problem and looked.stratum is None:
                notes.add(looked.found.name, looked.problem)
        wanted = sample_size(request.sample, census.instances)
        drawn = list(census.draw(wanted)) if wanted < 10_000 else None
        watcher.measuring(census.quota(wanted), sum(one.raw_bytes for one in drawn or census.draw(wanted)))
        try:
            tasks = _tasks(drawn or census.draw(wanted), request.options)
            for (one, _), outcome in _unordered(pool, measure, tasks, 2 * request.jobs):
                measured = Measured(one, problem=str(outcome)) if isinstance(outcome, WorkerError) else outcome
                book.add(measured)
                looks.add(measured)
                tables.add(measured)
                if measured.problem:
                    notes.add(measured.drawn.found.name, measured.problem)
                row(measured)
                watcher.measured(measured)
        except KeyboardInterrupt:
            finished = False
        run = Run(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            paths=[str(path) for path in request.paths],
            sample=request.sample,
            jobs=request.jobs,
            finished=finished,
            wall_seconds=time.perf_counter() - begin,
            measuring_seconds=tables.seconds,
        )
        return _result(request, run, census, book, tables, looks, notes)


def sample_size(sample: str, instances: int) -> int:
    """How many instances ``--sample`` asks for: a number, a percentage such as ``5%``, or ``all``.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    text = sample.strip()
    if text == "all":
        return instances
    if text.endswith("%"):
        share = float(text[:-1]) / 100
        if not 0 < share <= 1:
            raise ValueError(f"{sample} is no part of all")
        return max(1, round(share * instances))
    if int(text) < 1:
        raise ValueError("at least one instance must be measured")
    return int(text)


@contextmanager
def _pool(request: Request) -> Iterator[WorkerPool]:
    """Processes that may crash without harm; what they still do when this is left is not waited for."""
    others = {child.pid for child in multiprocessing.active_children()}
    pool = WorkerPool(
        request.jobs,
        memory_limit_bytes=MEMORY_LIMIT,
        time_limit_seconds=TIME_LIMIT,
        initializer=partial(prepare, request.options),
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            if child.pid not in others:
                child.kill()


def _looked(request: Request, pool: WorkerPool, notes: _Notes) -> Iterator[Looked]:
    def told(imported: Imported) -> None:
        notes.add(imported.found.name, imported.failed)

    batches = _batches(find(request.paths, told), LOOKED_AT_ONCE)
    for (batch,), results in _unordered(pool, _look_all, ((batch,) for batch in batches), 2 * request.jobs):
        if isinstance(results, WorkerError):
            yield from (Looked(one, problem=str(results)) for one in batch)
        else:
            yield from results


def _look_all(batch: Sequence[Found]) -> list[Looked]:
    return [look(one) for one in batch]


def _batches(items: Iterable[A], size: int) -> Iterator[list[A]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _unordered(
    pool: WorkerPool, work: Callable[..., R], tasks: Iterable[T], ahead: int
) -> Iterator[tuple[T, R | WorkerError]]:
    """Tasks and their results as they come; never more than ``ahead`` tasks are on their way."""
    source = iter(tasks)
    waiting: dict[Future[R], T] = {pool.submit(work, *task): task for task in islice(source, ahead)}
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for one in done:
            task = waiting.pop(one)
            waiting.update({pool.submit(work, *more): more for more in islice(source, 1)})
            try:
                yield task, one.result()
            except WorkerError as error:
                yield task, error


def _tasks(drawn: Iterable[Drawn], options: Options) -> Iterator[tuple[Drawn, Options]]:
    """What is measured; what takes long only on some of each modality."""
    looked_at: Counter[str] = Counter()
    for one in drawn:
        looked_at[one.stratum.modality] += 1
        place = looked_at[one.stratum.modality]
        yield (
            one,
            replace(
                options,
                lossy=options.lossy and place <= LOSSY_OF_A_MODALITY,
                progressive=options.progressive and place <= PROGRESSIVE_OF_A_MODALITY,
                beside=options.beside and place <= BESIDE_OF_A_MODALITY,
            ),
        )


# ------------------------------------------------------------------------------------------ results


def _result(
    request: Request, run: Run, census: Census, book: Book, tables: _Tables, looks: Looks, notes: _Notes
) -> Analysis:
    keys = (RAW, FOUND, *request.options.formats)
    formats = _described(request.options.formats)

    def grouped(dimension: str) -> list[Group]:
        values = dict.fromkeys(getattr(stratum, dimension) for stratum in census.strata)
        groups = [_group(census, book, keys, dimension, value) for value in values]
        return sorted(groups, key=lambda group: -group.raw_bytes)

    return Analysis(
        version=VERSION,
        run=run,
        machine=machine(formats),
        links=list(request.links),
        formats=formats,
        total=_group(census, book, keys, "", ""),
        by_modality=grouped("modality"),
        by_sop_class=grouped("sop_class"),
        by_manufacturer=grouped("manufacturer"),
        by_transfer_syntax=grouped("transfer_syntax"),
        heads=[HeadResult(key, side.label, side.ratio, side.rate(side.encode)) for key, side in tables.heads.items()],
        on_disk=[
            OnDisk(key, side.label, side.ratio, side.rate(side.encode), side.rate(side.decode), side.rate(side.store))
            for key, side in tables.disk.items()
        ],
        lossy=looks.lossy_points(),
        progressive=looks.progressives(),
        files=census.files,
        skipped=census.skipped,
        problems=notes.kept,
        problem_count=notes.count,
    )


def _described(keys: Sequence[str]) -> list[Format]:
    described = {one.key: one.describe() for one in frame_formats(keys)}
    described.update({key: packing.describe(key) for key in packing.presets(keys)})
    return [raw(), found(), *(described[key] for key in keys)]


def _group(census: Census, book: Book, keys: Sequence[str], dimension: str, value: str) -> Group:
    counts = {
        stratum: count
        for stratum, count in census.strata.items()
        if not dimension or getattr(stratum, dimension) == value
    }
    everything = _sum(counts.values())
    distinct = census.studies.get((dimension, value))
    return Group(
        key=value,
        name=_name(dimension, value),
        instances=everything.instances,
        measured=sum(book.measured[stratum] for stratum in counts),
        studies=distinct.count() if distinct else 0,
        found_bytes=everything.found_bytes,
        raw_bytes=everything.raw_bytes,
        raw_pixel_bytes=everything.raw_pixel_bytes,
        formats=[sums.result(key, book, counts) for key in keys],
    )


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total.instances += count.instances
        total.found_bytes += count.found_bytes
        total.raw_bytes += count.raw_bytes
        total.raw_pixel_bytes += count.raw_pixel_bytes
    return total


def _name(dimension: str, value: str) -> str:
    if not dimension:
        return "everything"
    if dimension == "transfer_syntax":
        return uids.transfer_syntax(value).name
    if dimension == "sop_class" and value:
        from pydicom.uid import UID

        return UID(value).name
    return value or "(none)"


def machine(formats: Iterable[Format]) -> Machine:
    """This machine, and the libraries of the formats."""
    from importlib.metadata import PackageNotFoundError, version

    libraries: dict[str, str] = {one.label: one.library for one in formats if one.library not in ("", "-")}
    for package in ("imagecodecs", "zstandard", "numpy"):
        try:
            libraries[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        processor=_processor(),
        cores=multiprocessing.cpu_count(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        leanpacs=__version__,
        libraries=libraries,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = Counter(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return names.most_common(1)[0][0] if names else platform.processor() or platform.machine()
