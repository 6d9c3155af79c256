"""``leanpacs import``: take in folders, files and ZIP archives."""

from __future__ import annotations

import getpass
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.importing import Imported, Importer, find
from leanpacs.archive.intake.incoming import TAKEN
from leanpacs.audit import AuditAction
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar, ratio
from leanpacs.config import DuplicatePolicy
from leanpacs.services.ledger import Party

NOTES_SHOWN = 200
PATIENT = {"backlog_wait_seconds": 1e9}
"""Files wait for the backlog as long as it takes: there is no sender who gives up."""
THOROUGH = {"pressed_backlog_bytes": 1 << 62}
"""Nobody waits for an acknowledgement either, so every codec may be tried."""


class _Tally:
    """What became of the files; also keeps those that people want to be told of."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.size_bytes = 0
        self.notes: list[dict[str, str]] = []

    def add(self, imported: Imported) -> None:
        receipt = imported.receipt
        outcome = str(receipt.outcome) if receipt else "skipped" if imported.skipped else "failed"
        self.counts[outcome] += 1
        if receipt:
            self.size_bytes += receipt.size_bytes
        reason = receipt.reason if receipt else imported.skipped or imported.failed
        if reason:
            self.notes.append({"file": imported.found.name, "outcome": outcome, "reason": reason})

    @property
    def failed(self) -> bool:
        return bool(self.counts["failed"])


def import_(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders, files or ZIP archives.")],
    data: Data = None,
    config: Config = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Files taken in at the same time.")] = 4,
    duplicates: Annotated[
        DuplicatePolicy | None,
        typer.Option(help="Other bytes under a SOP Instance UID that is held. [default: ingest.duplicates, refuse]"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What frames are encoded with: fast, balanced, dense, or one codec, such as jpegxl:7 or htj2k. "
            "[default: settle.preset, fast]",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take in DICOM files from folders, single files and ZIP archives.

    Files stay where they are; the archive keeps its own copy. Run it again after an interruption: what is held
    already is noticed and not stored twice. Files that call themselves DICOM and cannot be read are kept in the
    quarantine (`leanpacs quarantine list`). A running server may have the archive open at the same time.

    Exit code 1 when a file could not be read from disk or taken in.
    """
    ingest, settle = {"duplicates": duplicates, **PATIENT}, {"preset": preset, **THOROUGH}
    from leanpacs.cli.doors import ledger

    settings = settings_of(data, config, {"ingest": ingest, "settle": settle})
    with open_archive(settings.storage.data, settings) as archive:
        tally = _Tally()
        counting, party = ledger(settings, archive), Party("cli", getpass.getuser())

        def told(imported: Imported) -> None:
            tally.add(imported)
            receipt = imported.receipt
            if receipt is not None and receipt.outcome in TAKEN:
                counting.tell(AuditAction.STORE, party, study_uid=receipt.study_uid, instances=1)

        with counting.running(settings.traffic.flush_seconds):
            _take_in(archive, paths, told, jobs, quiet=quiet or json)
        _report(archive, tally, json=json)
    if tally.failed:
        raise typer.Exit(1)


def _take_in(archive: Archive, paths: list[Path], tell: Callable[[Imported], None], jobs: int, *, quiet: bool) -> None:
    """Land on threads while the settler works; ``tell`` is told of each file."""
    with progress_bar(quiet=quiet) as progress:
        taking = progress.add_task("taking in", total=sum(1 for _ in find(paths, lambda _: None)))

        def told(imported: Imported) -> None:
            tell(imported)
            progress.advance(taking)

        with settling(archive, progress):
            Importer(archive, told, jobs).run(paths)


@contextmanager
def settling(archive: Archive, progress: Progress) -> Iterator[None]:
    """Settle what lands in the block on a thread; then wait until all that landed has settled."""
    landed = threading.Event()
    settler = archive.settler()
    background = threading.Thread(target=settler.run, args=(landed,), name="settler")
    background.start()
    try:
        yield
    finally:
        landed.set()
        background.join()
    waiting = archive.catalog.backlog().count
    task = progress.add_task("settling", total=waiting)

    def show() -> bool:
        progress.update(task, completed=waiting - archive.catalog.backlog().count)
        return False

    settler.drain(show)
    show()


def _report(archive: Archive, tally: _Tally, *, json: bool) -> None:
    total = archive.catalog.summary().total
    if json:
        print_json(
            {
                "files": dict(tally.counts),
                "bytes": tally.size_bytes,
                "notes": tally.notes,
                "archive": {
                    "instances": total.instances,
                    "raw_bytes": total.raw_bytes,
                    "stored_bytes": total.stored_bytes,
                },
            }
        )
        return
    print_table(
        "Import",
        [Column("outcome"), Column("files", True)],
        [(outcome, str(count)) for outcome, count in sorted(tally.counts.items())],
    )
    for note in tally.notes[:NOTES_SHOWN]:
        print(f"{note['outcome']}: {note['file']}: {note['reason']}")
    if len(tally.notes) > NOTES_SHOWN:
        print(f"... and {len(tally.notes) - NOTES_SHOWN} more; --json lists all")
    print(
        f"The archive holds {total.instances} instances: {human_bytes(total.raw_bytes)} as received, "
        f"{human_bytes(total.stored_bytes)} stored ({ratio(total.stored_bytes, total.raw_bytes)})."
    )
