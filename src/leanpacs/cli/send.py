"""``leanpacs send``: instances to another application entity over DIMSE."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leanpacs.catalog import Outbound
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, print_json, print_table, progress_bar
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, DicomError, InstanceNotFound

if TYPE_CHECKING:
    from leanpacs.archive.archive import Archive
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dimse import Peer
    from leanpacs.services.dimse.delivery import Parcel, Sent

PROBLEMS_SHOWN = 200
_PEER = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>\[[^\]]+\]|[^:@]+):(?P<port>\d{1,5})")


class _Tally:
    """What became of the instances."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.problems: list[tuple[str, str]] = []

    def add(self, parcel: Parcel, sent: Sent) -> None:
        if sent.is_success or sent.is_warning:
            self.sent[sent.transfer_syntax] += 1
            return
        status = "" if sent.status is None else f"status {sent.status:04X} "
        self.problems.append((parcel.sop_uid, status + sent.reason))


def send(
    to: Annotated[
        str,
        typer.Option("--to", metavar="AET@HOST:PORT", help="Where to; or the AE title of a known destination."),
    ],
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Files and folders, instead of an archive.")
    ] = None,
    data: Data = None,
    study: Annotated[str | None, typer.Option(metavar="UID", help="Only this Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Only this Series Instance UID.")] = None,
    instance: Annotated[str | None, typer.Option(metavar="UID", help="Only this SOP Instance UID.")] = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYNTAX", help="Transfer syntax that the receiver wants uncompressed images in; repeat it."
        ),
    ] = None,
    aet: Annotated[
        str | None, typer.Option("--aet", help="AE title of this side. [default: dimse.ae_title]", show_default=False)
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, max=100, help="How often an instance is tried.")] = 3,
    pause: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Before the next attempt; doubles each time.")
    ] = 5.0,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="Leave it to the running server, which tries for days if need be; see `outbox`."),
    ] = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send instances of an archive, or DICOM files, to another system (C-STORE).

    Each one goes as it is kept where the receiver can read that, else transcoded without loss to what it accepts. What
    fails for reasons that may pass (nobody there, a broken connection, no resources) is tried again. A running server
    may have the archive open at the same time.

    Exit code 1 if some could not be sent; the others are.
    """
    if paths and (study or series or instance):
        raise ConfigError("PATH", str(paths[0]), "cannot be used with --study, --series or --instance")
    settings = settings_of(data, config, {"dimse": {"ae_title": aet}})
    if queue:
        _queue(to, paths, (study, series, instance), settings, json=json)
        return
    peer = peer_named("--to", to, prefer or (), settings)
    tally = _Tally()
    with _parcels(settings, peer, paths, (study, series, instance), tally) as parcels:
        _send(peer, settings, parcels, tally, attempts=attempts, pause=pause, quiet=quiet or json)
    _report(tally, peer, json=json)
    if tally.problems:
        raise typer.Exit(1)


def _queue(
    to: str,
    paths: list[Path] | None,
    uids: tuple[str | None, str | None, str | None],
    settings: Settings,
    *,
    json: bool,
) -> None:
    """Put instances of the archive into its outbox."""
    from leanpacs.archive.archive import open_archive

    if paths:
        raise ConfigError("PATH", str(paths[0]), "--queue sends what an archive holds; import the files first")
    with open_archive(settings.storage.data, settings) as archive:
        outgoing = archive.catalog.outgoing
        if to not in settings.dimse.destinations and outgoing.destination(to) is None:
            raise ConfigError("--to", to, "--queue needs a known destination; see 'destination add'")
        entries = [
            Outbound(to, held.study_uid, held.series_uid, held.sop_uid, "send --queue")
            for held in _held(archive, *uids)
        ]
        count = outgoing.enqueue(entries, datetime.now(UTC))
    if json:
        print_json({"queued": count, "waiting_already": len(entries) - count})
    else:
        print(f"{count} instances queued for {to}, {len(entries) - count} were waiting already")


def _send(
    peer: Peer,
    settings: Settings,
    parcels: Sequence[Parcel],
    tally: _Tally,
    *,
    attempts: int,
    pause: float,
    quiet: bool,
) -> None:
    from leanpacs.services.dimse.sending import deliver_with_retries

    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("sending", total=len(parcels))
        for parcel, sent in deliver_with_retries(
            peer,
            settings.dimse.ae_title,
            parcels,
            attempts=attempts,
            pause_seconds=pause,
            timeout_seconds=settings.dimse.network_timeout_seconds,
        ):
            tally.add(parcel, sent)
            progress.advance(task)


def peer_named(option: str, to: str, prefer: Iterable[str], settings: Settings) -> Peer:
    """The known destination of that AE title, or who is named as AET@HOST:PORT.

    Raises
    ------
    ConfigError
        It is neither; ``option`` is where it was given.
    """
    from leanpacs.cli.doors import peers
    from leanpacs.services.dimse import Peer
    from leanpacs.transcode.target import syntax_named

    preferred = tuple(syntax_named(name) for name in prefer)
    for known in (*peers(settings), *_added(to, settings)):
        if known.ae_title == to:
            return replace(known, prefer=preferred or known.prefer)
    match = _PEER.fullmatch(to)
    if match is None:
        raise ConfigError(option, to, "give it as AET@HOST:PORT, or name a known destination")
    return Peer(match["title"], match["host"].strip("[]"), int(match["port"]), preferred)


def _added(to: str, settings: Settings) -> Iterator[Peer]:
    """The destination of that AE title in the catalog, where there is an archive."""
    from leanpacs.archive.archive import open_archive
    from leanpacs.cli.doors import own_certificate
    from leanpacs.services.dimse.directory import peer_of

    if "@" in to or not settings.storage.data.exists():
        return
    with open_archive(settings.storage.data, settings) as archive:
        row = archive.catalog.outgoing.destination(to)
    if row is not None:
        yield peer_of(row, own_certificate(settings))


@contextmanager
def _parcels(
    settings: Settings,
    peer: Peer,
    paths: list[Path] | None,
    uids: tuple[str | None, str | None, str | None],
    tally: _Tally,
) -> Iterator[list[Parcel]]:
    """What is to be sent; of an archive, its ledger and its audit trail are told."""
    if paths:
        from leanpacs.transcode import transcoding

        with transcoding(os.cpu_count() or 1) as transcoder, tempfile.TemporaryDirectory() as spool:
            yield list(_of_files(paths, transcoder, Path(spool), tally))
        return
    from leanpacs.archive.archive import open_archive
    from leanpacs.cli.doors import ledger
    from leanpacs.services.dimse.counting import announce, counted
    from leanpacs.services.dimse.retrieve import parcel_of
    from leanpacs.services.ledger import Party

    with open_archive(settings.storage.data, settings) as archive:
        counting = ledger(settings, archive)
        with counting.running(settings.traffic.flush_seconds):
            receiver = Party("dimse", peer.ae_title, peer.host)
            giving = counted(archive.retriever, counting, receiver)
            held = list(_held(archive, *uids))
            announce(counting, receiver, held)
            yield [parcel_of(one, giving) for one in held]


def _held(archive: Archive, study: str | None, series: str | None, instance: str | None) -> Iterable[InstanceRow]:
    """The instances that are named, all when none is."""
    if not (study or series or instance):
        return archive.catalog.all_instances()
    found = archive.catalog.instances(study_uid=study, series_uid=series, sop_uid=instance)
    if not found:
        raise InstanceNotFound(instance or series or study or "")
    return found


def _of_files(paths: list[Path], transcoder: object, spool: Path, tally: _Tally) -> Iterator[Parcel]:
    from leanpacs.services.dimse.files import parcel_of
    from leanpacs.transcode import Transcoder

    assert isinstance(transcoder, Transcoder)
    for path in paths:
        if not path.exists():
            raise ConfigError("PATH", str(path), "there is no such file or folder")
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            try:
                yield parcel_of(file, transcoder, spool)
            except (DicomError, OSError) as error:
                tally.problems.append((str(file), str(error)))


def _report(tally: _Tally, peer: Peer, *, json: bool) -> None:
    from leanpacs.dicom.uids import transfer_syntax

    count = sum(tally.sent.values())
    if json:
        problems = [{"instance": uid, "reason": reason} for uid, reason in tally.problems]
        print_json({"sent": count, "transfer_syntaxes": dict(tally.sent), "failed": problems})
        return
    print(f"{count} instances sent to {peer.ae_title} at {peer.host}:{peer.port}")
    if count:
        rows = [(transfer_syntax(uid).name, str(number)) for uid, number in tally.sent.most_common()]
        print_table("Sent", [Column("transfer syntax"), Column("instances", True)], rows)
    if tally.problems:
        print_table("Not sent", [Column("instance"), Column("reason")], tally.problems[:PROBLEMS_SHOWN])
    if len(tally.problems) > PROBLEMS_SHOWN:
        print(f"... and {len(tally.problems) - PROBLEMS_SHOWN} more; --json lists all")
