"""The catalog on PostgreSQL with many rows: searches, looking up, taking in and settling, planning; space.

Beside it the same on a catalog that was empty: what the rows cost. Searches are those that doors ask for, through the
catalog's own methods, each with other values every time, at most 100 results (the page of a viewer).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, islice
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, text

from benchmarks.catalogfill import DAYS, FIRST_DAY, STUDY_INSTANCES, UID, fill, names
from benchmarks.meter import Tree, machine
from benchmarks.report import Sheet, mega, of_machine
from leanpacs.catalog import (
    Arrival,
    Catalog,
    Evidence,
    Fidelity,
    FrameTable,
    Landing,
    NewRepresentation,
    Query,
    RepresentationRow,
    Span,
    matchable,
    open_catalog,
    parse_match,
)
from leanpacs.catalog import Swap as Settling
from leanpacs.catalog.ageing import Done, Outcome, Swap, Work
from leanpacs.catalog.query import Level
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    InstanceIndex,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.refs import HOT, BlobRef, Digest
from postgres_server import PostgresServer

if TYPE_CHECKING:
    from rich.console import Console

INSTANCES: Final = 200_000
ROUNDS: Final = 30
LIMIT: Final = 100
TAKEN: Final = 2_000
PLANNED: Final = 1_000_000
CLAIMED: Final = 16
MOST_MILLISECONDS: Final = 2.0
"""What an instance may cost: taking in, settling, and being encoded again once."""

SERVER: Final = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "1500MB",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "512MB",
}


class Draw(random.Random):
    """Values to ask for, out of a catalog with so many studies."""

    studies = 1

    def study(self) -> int:
        """Number of a study."""
        return self.randrange(1, self.studies + 1)

    def day(self) -> date:
        """A day within the ten years."""
        return date.fromisoformat(FIRST_DAY) + timedelta(days=self.randrange(DAYS - 40))

    def span(self, days: int) -> str:
        """So many days from a day on."""
        first = self.day()
        return f"{first:%Y%m%d}-{first + timedelta(days=days - 1):%Y%m%d}"

    def name(self) -> str:
        """A name of a patient."""
        return self.choice(names())


Ask = Callable[[Catalog, Draw], int]


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of question: how long it took, in milliseconds, and how many rows came at most."""

    name: str
    median_ms: float
    p95_ms: float
    rows: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds for each instance: landing one at a time, in batches of 16; settling in batches of 32; a swap.

    A swap is what the lifecycle does: claims, and forms put in the place of others, 16 at a time; it does up to 32.
    ``own_ms`` and ``server_ms`` are processor time for all three, of this process and of the server.
    """

    database: str
    held: int
    alone_ms: float
    together_ms: float
    settled_ms: float
    swapped_ms: float
    own_ms: float
    server_ms: float

    @property
    def all_ms(self) -> float:
        """Landing, settling and a swap."""
        return self.together_ms + self.settled_ms + self.swapped_ms


@dataclass(frozen=True, slots=True)
class Planned:
    """Reading all that a plan is made from: instances, seconds."""

    instances: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Table:
    """Bytes of a table and of its indexes."""

    name: str
    rows: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """All that was measured."""

    instances: int
    server: str
    asked: tuple[Asked, ...]
    taken: tuple[Taken, ...]
    planned: Planned
    tables: tuple[Table, ...]


def measure(url: str | None, instances: int, rounds: int, *, console: Console) -> Result:
    """Fill a database, unless ``url`` names one that is filled, and measure."""
    with _database(url, instances, console) as (filled, empty, server), closing(open_catalog(filled)) as catalog:
        held = _instances(filled)
        taken = [_take(catalog, "PostgreSQL", held, server, console)]
        with TemporaryDirectory() as folder:
            for name, place, of in (("PostgreSQL", empty, server), ("SQLite", f"{folder}/catalog.sqlite", None)):
                if place:
                    with closing(open_catalog(place)) as other:
                        taken.append(_take(other, name, 0, of, console))
        asked = tuple(_ask(catalog, held, name, rounds, console) for name in QUESTIONS)
        planned = _plan(catalog, console)
        return Result(held, _version(filled), asked, tuple(taken), planned, _tables(filled))


@contextmanager
def _database(url: str | None, instances: int, console: Console) -> Iterator[tuple[str, str, Tree | None]]:
    """URLs of a filled catalog and of an empty one, and the server where it is ours."""
    if url is not None:
        yield url, "", None
        return
    with PostgresServer(SERVER) as server:
        made = server.url.render_as_string(hide_password=False)
        fill(made, instances, lambda so_far: console.print(f"  {so_far:,} of {instances:,} instances made"))
        with closing(server.connect()) as connection:
            connection.execute("CREATE DATABASE empty")
        yield made, server.url.set(database="empty").render_as_string(hide_password=False), Tree(server.pid)


# -- searching


def _find(level: Level, **texts: str) -> Query:
    known = matchable(level)
    return Query(level, {key: parse_match(key, known[key].vr, value) for key, value in texts.items()}, limit=LIMIT)


def _study_by(**keys: Callable[[Draw], str]) -> Ask:
    def ask(catalog: Catalog, draw: Draw) -> int:
        return len(catalog.find_studies(_find("study", **{key: make(draw) for key, make in keys.items()})))

    return ask


def _fuzzy(catalog: Catalog, draw: Draw) -> int:
    words = {"PatientName": parse_match("PatientName", "PN", draw.name().replace("^", " "))}
    return len(catalog.find_studies(Query("study", words, limit=LIMIT, fuzzy=True)))


def _patients(catalog: Catalog, draw: Draw) -> int:
    return len(catalog.find_patients(_find("patient", PatientName=f"{draw.name()[:4]}*")))


def _series(catalog: Catalog, draw: Draw) -> int:
    return len(catalog.find_series(_find("series", StudyInstanceUID=f"{UID}.{draw.study()}")))


def _of_series(catalog: Catalog, draw: Draw) -> int:
    study = f"{UID}.{draw.study()}"
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.2"}
    return len(catalog.find_instances(_find("instance", **keys)))


def _instance(catalog: Catalog, draw: Draw) -> int:
    [row] = catalog.instances(sop_uid=f"{UID}.{draw.study()}.3.{draw.randrange(1, 26)}")
    return len(catalog.representations(row.id))


QUESTIONS: Final[dict[str, Ask]] = {
    "study by UID": _study_by(StudyInstanceUID=lambda draw: f"{UID}.{draw.study()}"),
    "study by accession number": _study_by(AccessionNumber=lambda draw: f"A{draw.study():010d}"),
    "studies of a patient ID": _study_by(PatientID=lambda draw: f"PID{(draw.study() + 1) // 2:09d}"),
    "studies by whole name": _study_by(PatientName=lambda draw: draw.name()),
    "studies by beginning of a name": _study_by(PatientName=lambda draw: f"{draw.name()[:4]}*"),
    "studies by part of a name": _study_by(PatientName=lambda draw: f"*{draw.name()[2:6]}*"),
    "studies by fuzzy name": _fuzzy,
    "studies of a day": _study_by(StudyDate=lambda draw: f"{draw.day():%Y%m%d}"),
    "studies of a day, a modality": _study_by(
        StudyDate=lambda draw: f"{draw.day():%Y%m%d}", ModalitiesInStudy=lambda _: "MR"
    ),
    "studies of a month, a name": _study_by(
        StudyDate=lambda draw: draw.span(30), PatientName=lambda draw: f"{draw.name()[:3]}*"
    ),
    "studies of the last days": _study_by(
        StudyDate=lambda _: f"{date.fromisoformat(FIRST_DAY) + timedelta(days=DAYS - 3):%Y%m%d}-"
    ),
    "studies of a rare modality": _study_by(ModalitiesInStudy=lambda _: "PT"),
    "studies, no key": _study_by(),
    "studies by words of a description": _study_by(StudyDescription=lambda draw: f"*ROUTINE {draw.randrange(50)}"),
    "patients by beginning of a name": _patients,
    "series of a study": _series,
    "instances of a series": _of_series,
    "an instance and its forms": _instance,
    "newest studies": lambda catalog, _: len(catalog.newest_studies(50)),
}


def _ask(catalog: Catalog, held: int, name: str, rounds: int, console: Console) -> Asked:
    draw = Draw(f"{name} {held}")
    draw.studies = held // STUDY_INSTANCES
    times, most = [], 0
    for number in range(rounds + 1):
        began = perf_counter()
        most = max(most, QUESTIONS[name](catalog, draw))
        if number:  # the first one compiles the statement
            times.append(1000 * (perf_counter() - began))
    found = Asked(name, median(times), quantiles(times, n=20)[-1], most)
    console.print(f"  {name}: {found.median_ms:.1f} ms")
    return found


# -- taking in and settling


def _take(catalog: Catalog, database: str, held: int, server: Tree | None, console: Console) -> Taken:
    """Land two times, settle all of it, and swap it; new instances of new studies, 25 to a series."""
    landings = _landings(f"{held}.{datetime.now(UTC).timestamp():.0f}")
    alone = _timed(lambda: [_land(catalog, [one]) for one in islice(landings, TAKEN // 4)], TAKEN // 4)
    keys: list[int] = []
    used, of_server = process_time(), server.cpu_seconds() if server else 0.0
    together = _timed(
        lambda: [keys.extend(_land(catalog, list(islice(landings, 16)))) for _ in range(TAKEN * 3 // 4 // 16)],
        TAKEN * 3 // 4,
    )
    settled = _settle(catalog)
    swapped = _swap(catalog, keys)
    own, of_server = process_time() - used, (server.cpu_seconds() if server else 0.0) - of_server
    per_instance = 1000 / (TAKEN * 3 // 4)
    taken = Taken(database, held, alone, together, settled, swapped, own * per_instance, of_server * per_instance)
    console.print(f"  {taken}")
    return taken


def _swap(catalog: Catalog, keys: Sequence[int]) -> float:
    """Put another form in the place of each that was settled, as the lifecycle does."""
    forms = [rows[-1] for rows in catalog.representations_of(keys).values()]

    def swap() -> None:
        for start in range(0, len(forms), CLAIMED):
            some = forms[start : start + CLAIMED]
            works = [Work(form.instance_id, "recompress dense") for form in some]
            now = datetime.now(UTC)
            with catalog.writing() as transaction:
                transaction.ageing.claim(works, "bench:1", now=now, until=now + timedelta(minutes=10))
            swaps = [Swap(form.instance_id, form.id, _smaller(form, now)) for form in some]
            done = Done("recompress dense", "dense", Outcome.DONE, 527_000, 130_000, 100_000, 0.5)
            with catalog.writing() as transaction:
                transaction.ageing.swap_all(swaps, now=now, due_at=now)
                transaction.ageing.finish(works, "bench:1")
                transaction.ageing.add_up(*[done] * len(works), now=now)

    return _timed(swap, len(forms))


def _smaller(form: RepresentationRow, now: datetime) -> NewRepresentation:
    blob = BlobRef(HOT, Digest.of(b"s" + form.blob.digest.raw), 100_000)
    return replace(_pack(form.blob.digest, now), blob=blob)


def _timed(work: Callable[[], object], number: int) -> float:
    began = perf_counter()
    work()
    return 1000 * (perf_counter() - began) / number


def _landings(tag: str) -> Iterator[tuple[InstanceIndex, Landing]]:
    for number in count():
        study, series = number // STUDY_INSTANCES, number // 25
        uids = f"{UID}.9.{tag}.{study}", f"{UID}.9.{tag}.{study}.{series}", f"{UID}.9.{tag}.{study}.{series}.{number}"
        index = InstanceIndex(
            *uids,
            "1.2.840.10008.5.1.4.1.1.2",
            (),
            PatientAttributes(patient_id=f"NEW{tag}-{study}", patient_name=f"New^{study}", patient_sex="F"),
            StudyAttributes(study_date="20250101", accession_number=f"N{study}"),
            SeriesAttributes(modality="CT", series_number=series),
            InstanceAttributes(instance_number=number, rows=512, columns=512, bits_allocated=16),
        )
        digest = Digest.of(uids[2].encode())
        arrival = Arrival("1.2.840.10008.1.2.1", 527_000, digest, datetime.now(UTC), sender="BENCH", door="dimse")
        yield index, Landing(arrival, BlobRef(HOT, Digest.of(b"l" + digest.raw), 527_300), 300, 2_700, 524_288)


def _land(catalog: Catalog, batch: Sequence[tuple[InstanceIndex, Landing]]) -> list[int]:
    """Land some in one transaction; their keys."""
    with catalog.writing() as transaction:
        return [landed.instance_id for landed in transaction.land_all(batch) if landed]


def _settle(catalog: Catalog) -> float:
    """Settle as the settler does: claim 64, commit 32 at a time with the sweep of what was dropped before."""
    number, began = 0, perf_counter()
    while True:
        now = datetime.now(UTC)
        with catalog.writing() as transaction:
            works = transaction.claim_landed(
                "bench:1", limit_count=64, limit_bytes=1 << 40, lease_seconds=600.0, now=now
            )
        if not works:
            return 1000 * (perf_counter() - began) / max(1, number)
        for start in range(0, len(works), 32):
            with catalog.writing() as transaction:
                packs = [_pack(work.instance.data_set_digest, now) for work in works[start : start + 32]]
                transaction.hold_blobs([pack.blob for pack in packs], now)
                transaction.forget_garbage(transaction.collect_garbage(now, 1000))
                transaction.settle_all(
                    [
                        Settling(work.instance.id, work.representation.id, pack, now, now)
                        for work, pack in zip(works[start : start + 32], packs, strict=True)
                    ]
                )
        number += len(works)
        if number >= TAKEN:
            return 1000 * (perf_counter() - began) / number


def _pack(data_set: Digest, now: datetime) -> NewRepresentation:
    return NewRepresentation(
        blob=BlobRef(HOT, Digest.of(b"p" + data_set.raw), 130_000),
        form="frames",
        fidelity=Fidelity.BYTES,
        created_at=now,
        codec="jpegxl",
        effort=1,
        precision=16,
        head=Span(34, 1800),
        frames=FrameTable.of([Span(1900, 128_000)]),
        raw_head_bytes=2_700,
        raw_frame_bytes=524_288,
        stored_head_bytes=1_860,
        stored_frame_bytes=128_000,
        evidence=Evidence(data_set_digest=data_set, verified_at=now, library="imagecodecs", decoder="leanpacs"),
    )


# -- planning, space


def _plan(catalog: Catalog, console: Console) -> Planned:
    began, number = perf_counter(), 0
    for page in catalog.ageing.outlines():
        number += sum(outline.instances for outline in page.outlines)
        number += sum(len(series) for series, _ in catalog.ageing.read(page.others))
        if number >= PLANNED:
            break
    planned = Planned(number, perf_counter() - began)
    console.print(f"  facts of {number:,} instances for a plan: {planned.seconds:.1f} s")
    return planned


def _instances(url: str) -> int:
    return int(_rows(url, "SELECT count(*) FROM instances")[0][0])


def _version(url: str) -> str:
    return str(_rows(url, "SHOW server_version")[0][0])


def _tables(url: str) -> tuple[Table, ...]:
    rows = _rows(
        url,
        "SELECT relname, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables "
        "WHERE n_live_tup > 100 ORDER BY pg_total_relation_size(relid) DESC",
    )
    return tuple(Table(*row) for row in rows)


def _rows(url: str, statement: str) -> Sequence[Any]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return connection.execute(text(statement)).all()
    finally:
        engine.dispose()


# -- telling


def record(result: Result) -> Mapping[str, Any]:
    """Everything, for JSON."""
    return {"machine": machine(), "result": asdict(result)}


def sheets(result: Result) -> list[Sheet]:
    """Three tables."""
    held = result.instances
    where = (
        f"PostgreSQL {result.server}, {held:,} instances, {held // STUDY_INSTANCES:,} studies. {of_machine(machine())}"
    )
    asked = tuple((one.name, f"{one.median_ms:.1f}", f"{one.p95_ms:.1f}", str(one.rows)) for one in result.asked)
    taken = tuple(
        (
            one.database,
            f"{one.held:,}",
            *(f"{value:.2f}" for value in (one.alone_ms, one.together_ms, one.settled_ms, one.swapped_ms)),
            f"**{one.all_ms:.2f}**",
            f"{one.own_ms:.2f}",
            f"{one.server_ms:.2f}" if one.server_ms else "-",
        )
        for one in result.taken
    )
    every = sum(table.table_bytes + table.index_bytes for table in result.tables)
    tables = tuple((one.name, f"{one.rows:,}", mega(one.table_bytes), mega(one.index_bytes)) for one in result.tables)
    planned = f"Facts of {result.planned.instances:,} instances, as a plan reads them: {result.planned.seconds:.1f} s."
    return [
        Sheet(
            "Catalog: searches, milliseconds",
            ("search", "median", "95 %", "rows"),
            asked,
            (where, f"At most {LIMIT} results, other values each time.", planned),
        ),
        Sheet(
            "Catalog: milliseconds for each instance",
            (
                "catalog",
                "held",
                "landed alone",
                "landed 16 together",
                "settled",
                "encoded again",
                "in all",
                "own CPU",
                "server CPU",
            ),
            taken,
            (
                "In all: landed 16 together, settled, and once encoded again later. Every commit is on disk (fsync). "
                f"Target: at most {MOST_MILLISECONDS} ms.",
            ),
        ),
        Sheet(
            "Catalog: space, MB",
            ("table", "rows", "table", "indexes"),
            tables,
            (f"{every / max(1, held):,.0f} bytes for each instance.",),
        ),
    ]
