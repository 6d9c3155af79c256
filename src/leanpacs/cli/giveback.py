"""``leanpacs export``: write instances out as files."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.exporting import Exported
from leanpacs.archive.giveback.exporting import export as export_files
from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import InstanceRow
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, InstanceNotFound
from leanpacs.services.ledger import Party


def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to; made if there is none.")],
    study: Annotated[str | None, typer.Option(metavar="UID", help="Only this Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Only this Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option(metavar="UID", help="Only this SOP Instance UID.")] = None,
    as_received: Annotated[bool, typer.Option("--as-received", help="The exact bytes received (the default).")] = False,
    transfer_syntax: Annotated[
        str | None,
        typer.Option(metavar="UID", help="Convert to this transfer syntax, for example 1.2.840.10008.1.2.1 (native)."),
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write instances out as DICOM files: DIR/<study>/<series>/<instance>.dcm.

    Without --study, --series or --instance everything is written. By default every file is what was received, bit
    for bit. Exit code 1 if some could not be written; the others are.
    """
    if as_received and transfer_syntax:
        raise ConfigError("--transfer-syntax", transfer_syntax, "cannot be used with --as-received")
    settings = settings_of(data, config)
    failed, size, written = [], 0, 0
    with (
        open_archive(settings.storage.data, settings) as archive,
        _told(archive, settings) as journal,
        progress_bar(quiet=quiet or json) as progress,
    ):
        task = progress.add_task("writing", total=_count(archive, study, series, instance))
        for exported in export_files(
            archive.retriever, _wanted(archive, study, series, instance), out, transfer_syntax
        ):
            progress.advance(task)
            size += exported.size_bytes
            written += not exported.failed
            journal(exported)
            if exported.failed:
                failed.append((exported.instance.sop_uid, exported.failed))
    if json:
        problems = [{"instance": uid, "reason": reason} for uid, reason in failed]
        print_json({"written": written, "bytes": size, "failed": problems})
    else:
        print(f"{written} files written to {out} ({human_bytes(size)})")
        if failed:
            print_table("Not written", [Column("instance"), Column("reason")], failed)
    if failed:
        raise typer.Exit(1)


@contextmanager
def _told(archive: Archive, settings: Settings) -> Iterator[Callable[[Exported], None]]:
    """Tell the audit trail what is written out, study by study."""
    from leanpacs.cli.doors import ledger

    counting = ledger(settings, archive)
    party = Party("cli", getpass.getuser())

    def note(exported: Exported) -> None:
        outcome = AuditOutcome.FAILURE if exported.failed else AuditOutcome.SUCCESS
        count = int(not exported.failed)
        counting.tell(AuditAction.EXPORT, party, outcome, study_uid=exported.instance.study_uid, instances=count)

    with counting.running(settings.traffic.flush_seconds):
        yield note


def _wanted(archive: Archive, study: str | None, series: str | None, instance: str | None) -> Iterator[InstanceRow]:
    if not (study or series or instance):
        return archive.catalog.all_instances()
    found = archive.catalog.instances(study_uid=study, series_uid=series, sop_uid=instance)
    if not found:
        raise InstanceNotFound(instance or series or study or "")
    return iter(found)


def _count(archive: Archive, study: str | None, series: str | None, instance: str | None) -> int:
    if study or series or instance:
        return len(archive.catalog.instances(study_uid=study, series_uid=series, sop_uid=instance))
    return archive.catalog.summary().total.instances
