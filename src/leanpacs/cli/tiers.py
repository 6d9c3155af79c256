"""Commands for tiers: what stands where, moving, bringing back."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.restoring import ask_for_study
from leanpacs.catalog import InstanceRow, Kind, RepresentationRow
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar
from leanpacs.errors import ConfigError, InstanceNotFound, LeanPACSError, StorageError
from leanpacs.refs import Tier
from leanpacs.storage.store import BlobStore

app = typer.Typer(no_args_is_help=True, help="Where stored forms stand: tiers, copies, archive classes.")

Uid = Annotated[str, typer.Argument(metavar="UID", help="Study, Series or SOP Instance UID.")]
TierName = Annotated[
    str, typer.Argument(metavar="TIER", help="Name of a tier, as in the settings; 'hot' is always there.")
]


@dataclass(frozen=True, slots=True)
class _Line:
    tier: str
    availability: str
    state: str
    blobs: int
    bytes: int
    free_bytes: int | None


@app.command("list")
def list_(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List the tiers: what stands on each, how soon it can be read, whether the store answers; exit code 6 if not."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        figures = archive.catalog.tier_figures()
        lines = [_line(store, *figures.pop(store.tier, (0, 0))) for store in archive.stores]
        lines += [_Line(tier, "UNAVAILABLE", "not in the settings", *sums, None) for tier, sums in figures.items()]
        wanted = archive.catalog.restores()
    waiting = sum(row.ready_at is None for row in wanted)
    if json:
        print_json({"tiers": [asdict(line) for line in lines], "waiting": waiting, "restored": len(wanted) - waiting})
    else:
        columns = [Column("tier"), Column("availability"), Column("state"), Column("blobs", True)]
        columns += [Column("size", True), Column("free", True)]
        print_table("Tiers", columns, [_shown(line) for line in lines])
        print(f"being brought back: {waiting}; brought back for a while: {len(wanted) - waiting}")
    if any(line.state != "answers" for line in lines):
        raise typer.Exit(6)


def _line(store: BlobStore, blobs: int, size: int) -> _Line:
    try:
        store.kept_names()
        free, state = store.free_bytes(), "answers"
    except StorageError as error:
        free, state = None, str(error)
    return _Line(store.tier, store.availability, state, blobs, size, free)


def _shown(line: _Line) -> list[str]:
    free = "-" if line.free_bytes is None else human_bytes(line.free_bytes)
    return [line.tier, line.availability, line.state, str(line.blobs), human_bytes(line.bytes), free]


@app.command()
def move(
    uid: Uid,
    tier: TierName,
    copy: Annotated[bool, typer.Option("--copy", help="Leave it where it is, too.")] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Move a study, a series or an instance to a tier.

    Each blob is written, read back and compared with its digest, and named in the catalog; then it may go where it
    was, after the grace period (delete.grace_seconds). What goes wrong is named and stays where it is; the exit code is
    then 1.
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        if tier not in archive.stores:
            raise ConfigError("TIER", tier, f"is none of {', '.join(archive.stores.tiers)}; add [tiers.{tier}]")
        forms = _packs(archive, uid)
        placer, problems, blobs, size = archive.placer(), [], 0, 0
        with progress_bar(quiet=quiet or json) as progress:
            task = progress.add_task(f"to {tier}", total=len(forms))
            for form in forms:
                try:
                    placed = (placer.copy if copy else placer.move)([form], Tier(tier))
                except (LeanPACSError, OSError) as error:
                    problems.append((form.blob.digest.hex, str(error)))
                else:
                    blobs, size = blobs + placed.blobs, size + placed.size_bytes
                progress.advance(task)
        archive.deleter().sweep(datetime.now(UTC))
    if json:
        record = [{"blob": blob, "problem": text} for blob, text in problems]
        print_json({"forms": len(forms), "blobs": blobs, "bytes": size, "problems": record})
    else:
        if problems:
            print_table("Not moved", [Column("blob"), Column("problem")], problems)
        print(f"{len(forms) - len(problems)} stored forms on {tier}: {blobs} blobs written ({human_bytes(size)})")
    if problems:
        raise typer.Exit(1)


@app.command()
def restore(
    uid: Uid,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until all of it can be read; without, a running server goes on.")
    ] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Bring a study back from an archive class: what a viewer's request does, ahead of time.

    The whole study is asked for, of which UID is a part. It stands on the hot tier for tiers.NAME.restore_days then.
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        for study in {row.study_uid for row in _instances(archive, uid)}:
            ask_for_study(archive.stores, archive.catalog, study, datetime.now(UTC))
        restorer = archive.restorer()
        done = restorer.round()
        brought = done.brought
        while wait and done.waiting:
            time.sleep(settings.delivery.restore_poll_seconds)
            done = restorer.round()
            brought += done.brought
    if json:
        print_json({"brought": brought, "waiting": done.waiting})
    else:
        print(f"brought back: {brought}; still waited for: {done.waiting}")


def _instances(archive: Archive, uid: str) -> list[InstanceRow]:
    catalog = archive.catalog
    found = catalog.instances(study_uid=uid) or catalog.instances(series_uid=uid) or catalog.instances(sop_uid=uid)
    if not found:
        raise InstanceNotFound(uid)
    return found


def _packs(archive: Archive, uid: str) -> list[RepresentationRow]:
    rows = _instances(archive, uid)
    held = archive.catalog.representations_of([row.id for row in rows])
    return [form for row in rows for form in held.get(row.id, []) if form.kind is Kind.PACK]
