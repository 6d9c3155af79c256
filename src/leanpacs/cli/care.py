"""Commands that look after what is held: status, verify, delete, quarantine, rebuild-catalog."""

from __future__ import annotations

import getpass
import os
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from leanpacs.archive.archive import CATALOG_FILE, catalog_of, open_archive
from leanpacs.archive.care.delete import NAMES, WHOLE
from leanpacs.archive.care.rescue import WAITING, Finding, Rescued
from leanpacs.archive.care.rescue import rebuild_catalog as rebuild
from leanpacs.archive.intake.quarantine import drop, retry
from leanpacs.archive.status import ArchiveStatus
from leanpacs.catalog import QuarantineRow, Share
from leanpacs.cli.audit import changed
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar, ratio
from leanpacs.config import Settings
from leanpacs.errors import ConfigError

quarantine = typer.Typer(no_args_is_help=True, help="What was received and does not read as DICOM.")


def status(data: Data = None, config: Config = None, json: Json = False) -> None:
    """Show what the archive holds: raw against stored, by modality and by codec, heads apart from frames."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        found = archive.status()
        names = archive.catalog.ageing.state(NAMES) or WHOLE
    if json:
        print_json({**_status_record(found), "catalog": names})
        return
    if names != WHOLE:
        print(f"the catalog {names}; run 'leanpacs rebuild-catalog --continue'")
    summary, total = found.summary, found.summary.total
    print(
        f"{summary.patients} patients, {summary.studies} studies, {summary.series} series, {total.instances} instances"
    )
    print(
        f"{human_bytes(total.raw_bytes)} as received, {human_bytes(total.stored_bytes)} stored "
        f"({ratio(total.stored_bytes, total.raw_bytes)}), dictionaries {human_bytes(found.dictionary_bytes)}"
    )
    print(
        f"waiting to be settled: {found.backlog.count} ({human_bytes(found.backlog.size_bytes)}); "
        f"in quarantine: {found.quarantined}"
    )
    if found.damaged:
        print(f"damaged blobs: {found.damaged}; see 'leanpacs lifecycle status'")
    if len(found.tiers) > 1:
        print("tiers: " + ", ".join(f"{tier} {human_bytes(size)} ({blobs})" for tier, blobs, size in found.tiers))
    saved = sum(one.bytes_before - one.bytes_after for one in found.lifecycle if one.outcome == "done")
    if found.lifecycle:
        print(f"saved by the lifecycle so far: {human_bytes(saved)}; see 'leanpacs lifecycle status'")
    if found.left:
        tasks, more = sum(one.tasks for one in found.left), sum(one.saved_bytes for one in found.left)
        print(f"left to do by its last plan: {tasks} tasks, expected to save {human_bytes(more)}")
    for heading, shares in (("modality", summary.by_modality), ("codec", summary.by_codec)):
        columns = [Column(heading), *(Column(text, True) for text in _SHARE_HEADINGS)]
        print_table(f"By {heading}", columns, [_share_row(share) for share in [*shares, total]])


_SHARE_HEADINGS = ("instances", "received", "stored", "ratio", "heads: raw", "stored", "frames: raw", "stored")


def _share_row(share: Share) -> list[str]:
    sizes = (share.raw_head_bytes, share.stored_head_bytes, share.raw_frame_bytes, share.stored_frame_bytes)
    return [
        share.name or "-",
        str(share.instances),
        human_bytes(share.raw_bytes),
        human_bytes(share.stored_bytes),
        ratio(share.stored_bytes, share.raw_bytes),
        *map(human_bytes, sizes),
    ]


def _status_record(found: ArchiveStatus) -> dict[str, object]:
    summary = found.summary
    return {
        "patients": summary.patients,
        "studies": summary.studies,
        "series": summary.series,
        "total": asdict(summary.total),
        "by_modality": [asdict(share) for share in summary.by_modality],
        "by_codec": [asdict(share) for share in summary.by_codec],
        "backlog": {"instances": found.backlog.count, "bytes": found.backlog.size_bytes},
        "quarantined": found.quarantined,
        "tiers": [{"tier": tier, "blobs": blobs, "bytes": size} for tier, blobs, size in found.tiers],
        "forms": [
            dict(zip(("preset", "tier", "forms", "raw_bytes", "bytes"), row, strict=True)) for row in found.forms
        ],
        "lifecycle": [asdict(one) for one in found.lifecycle],
        "lifecycle_left": [asdict(one) for one in found.left],
        "damaged_blobs": found.damaged,
        "dictionary_bytes": found.dictionary_bytes,
        "free_bytes": found.free_bytes,
    }


def verify(
    data: Data = None,
    sample: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Check this part of the instances, at random."),
    ] = 100.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that check. [default: one for each core]", show_default=False)
    ] = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read back, decode and compare what is held with what was received.

    Every blob is compared with its digest, then decoded, and the data set rebuilt from it is compared with the
    digest taken when it was received. What does not agree is named with its blob and its instance; the exit code
    is then 1.
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        verifier = archive.verifier()
        checks = verifier.checks(sample)
        problems, size = [], 0
        with progress_bar(quiet=quiet or json) as progress:
            task = progress.add_task("verifying", total=len(checks))
            for outcome in verifier.run(checks, jobs or os.cpu_count() or 1):
                size += outcome.size_bytes
                if outcome.problem:
                    problems.append(outcome)
                progress.advance(task)
    rows = [(one.check.blob.hex, one.check.holder, one.problem) for one in problems]
    if json:
        record = [{"blob": blob, "instance": uid, "problem": text} for blob, uid, text in rows]
        print_json({"checked": len(checks), "bytes": size, "problems": record})
    else:
        if rows:
            print_table("Damaged", [Column("blob"), Column("instance"), Column("problem")], rows)
        print(f"{len(checks)} stored forms checked ({human_bytes(size)}), {len(problems)} with problems")
    if problems:
        raise typer.Exit(1)


def delete(
    study: Annotated[str | None, typer.Option(metavar="UID", help="Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option(metavar="UID", help="SOP Instance UID.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the tombstone.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Delete a study, a series or an instance.

    It disappears at once; its bytes stay on disk for the grace period (delete.grace_seconds) and are then swept. A
    tombstone keeps who deleted what, when and why.
    """
    if not (study or series or instance):
        raise ConfigError("delete", "", "name what to delete with --study, --series or --instance")
    settings = settings_of(data, config)
    if not yes:
        typer.confirm(f"Delete {instance or series or study}?", abort=True)
    with open_archive(settings.storage.data, settings) as archive:
        deleted = archive.deleter().delete(
            study_uid=study, series_uid=series, sop_uid=instance, actor=f"cli:{getpass.getuser()}", reason=reason
        )
        archive.deleter().sweep(datetime.now(UTC))
    if json:
        print_json(asdict(deleted))
    else:
        print(f"deleted {deleted.instances} instances ({deleted.series} series, {deleted.studies} studies)")


def rebuild_catalog(
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Take into the catalog that is there what it does not name: after a run that was stopped, for what "
            "waits in quarantine since one, or when an older copy of the catalog was put back.",
        ),
    ] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a new catalog from the packs alone, after the old one was lost.

    The catalog must be gone or moved away first; what is there is never overwritten. Every pack is decoded and
    compared on the way. What is damaged, or must first be restored from an archive class, waits in quarantine;
    with it wait lossy copies that may be made of it. Deletions, quarantine reasons and the change feed are not in the
    packs and are lost.
    """
    settings = settings_of(data, config)
    if not go_on:
        _refuse_catalog_in_use(settings)
    findings: list[Finding] = []
    with (
        open_archive(settings.storage.data, settings) as archive,
        progress_bar(quiet=quiet or json) as progress,
    ):
        task = progress.add_task("blobs", total=None)

        def told(finding: Finding) -> None:
            findings.append(finding)
            progress.advance(task)

        rebuild(archive, told)
        archive.settler().drain()
    counts = {str(kind): sum(1 for finding in findings if finding.kind is kind) for kind in Rescued}
    damaged = [finding for finding in findings if finding.kind is Rescued.DAMAGED]
    waiting = [finding for finding in findings if finding.kind in WAITING]
    if json:
        print_json({"blobs": counts, "damaged": _named(damaged), "waiting": _named(waiting)})
    else:
        print_table(
            "Catalog rebuilt",
            [Column("blob"), Column("number", True)],
            [(k, str(n)) for k, n in counts.items()],
        )
        for finding in waiting:
            print(f"{finding.kind}: {finding.blob.hex}: {finding.reason}")
        if waiting:
            print(f"{len(waiting)} wait in quarantine; 'leanpacs rebuild-catalog --continue' tries them again")
    if damaged:
        raise typer.Exit(1)


def _named(findings: list[Finding]) -> list[dict[str, str]]:
    return [{"blob": one.blob.hex, "kind": str(one.kind), "problem": one.reason} for one in findings]


Keys = Annotated[list[int] | None, typer.Argument(metavar="NUMBER", help="Numbers from the list; all if none.")]


@quarantine.command("list")
def quarantine_list(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List what is in quarantine, and why."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        rows = archive.catalog.quarantined()
    if json:
        print_json([_quarantine_record(row) for row in rows])
        return
    columns = [
        Column("number", True),
        Column("received"),
        Column("from"),
        Column("name"),
        Column("size", True),
        Column("reason"),
    ]
    print_table(
        "Quarantine",
        columns,
        [
            (
                str(row.id),
                f"{row.received_at:%Y-%m-%d %H:%M}",
                row.sender,
                row.name,
                human_bytes(row.blob.size_bytes),
                row.reason,
            )
            for row in rows
        ],
    )


@quarantine.command("retry")
def quarantine_retry(numbers: Keys = None, data: Data = None, config: Config = None, json: Json = False) -> None:
    """Try to take in what is in quarantine again; exit code 1 if some of it still cannot be read."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        receipts = {row.id: retry(archive, row) for row in _chosen(archive.catalog.quarantined(), numbers)}
        archive.settler().drain()
        left = len(archive.catalog.quarantined())
    rows = [(str(number), str(receipt.outcome), receipt.reason) for number, receipt in receipts.items()]
    if json:
        print_json([{"number": int(n), "outcome": outcome, "reason": reason} for n, outcome, reason in rows])
    else:
        print_table("Tried again", [Column("number", True), Column("outcome"), Column("reason")], rows)
    if left:
        raise typer.Exit(1)


@quarantine.command("drop")
def quarantine_drop(
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER", help="Numbers from the list.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Give up what is in quarantine; its bytes are swept after the grace period."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        rows = _chosen(archive.catalog.quarantined(), numbers)
        for row in rows:
            drop(archive, row)
            changed(archive, f"quarantine: dropped file {row.id}")
    print(f"dropped {len(rows)}")


def _chosen(rows: list[QuarantineRow], numbers: list[int] | None) -> list[QuarantineRow]:
    known = {row.id for row in rows}
    for number in numbers or ():
        if number not in known:
            raise ConfigError("NUMBER", number, "nothing in quarantine has this number; see 'quarantine list'")
    return [row for row in rows if not numbers or row.id in numbers]


def _quarantine_record(row: QuarantineRow) -> dict[str, object]:
    return {
        "number": row.id,
        "blob": row.blob.digest.hex,
        "bytes": row.blob.size_bytes,
        "name": row.name,
        "sender": row.sender,
        "door": row.door,
        "reason": row.reason,
        "received_at": row.received_at.isoformat(),
        "attempts": row.attempts,
    }


def _refuse_catalog_in_use(settings: Settings) -> None:
    path = settings.storage.data / CATALOG_FILE
    if not settings.catalog.url.get_secret_value():
        if path.exists():
            raise ConfigError(
                "storage.data", str(path), "there is a catalog already; move it away first, or go on with --continue"
            )
        return
    with closing(catalog_of(settings.storage.data, settings)) as catalog:
        if next(catalog.all_instances(), None) is not None:
            raise ConfigError(
                "catalog.url",
                settings.catalog.url,
                "it holds instances; name an empty database, or go on with --continue",
            )
