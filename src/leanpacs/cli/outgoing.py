"""``leanpacs destination`` and ``leanpacs outbox``: where instances may be sent to, and what waits to be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from leanpacs.archive.archive import open_archive
from leanpacs.catalog import DestinationRow, OutboxRow
from leanpacs.cli.audit import changed
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, print_json, print_table
from leanpacs.config import Settings
from leanpacs.config.section import AETitle
from leanpacs.errors import ConfigError

if TYPE_CHECKING:
    from leanpacs.catalog import Outgoing

SHOWN = 200

destination = typer.Typer(
    no_args_is_help=True,
    help="Other application entities that instances may be sent to. Those in the settings are listed, too; the others "
    "are kept in the catalog, and a running server knows them at once.",
)
outbox = typer.Typer(
    no_args_is_help=True,
    help="Instances that wait to be sent: after a forward rule of the settings (`[[forward]]`), or "
    "`leanpacs send --queue`. A running server sends them, and tries again for as long as that may help.",
)

Title = Annotated[str, typer.Argument(metavar="AET", help="AE title of the destination.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER", help="Numbers from the list.")]


@destination.command("add")
def destination_add(
    title: Title,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where it listens.")],
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYNTAX",
            help="Transfer syntax (UID or keyword) that it wants uncompressed images in; repeat it, the best first.",
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS; its certificate must be valid for the host.")] = False,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the authorities to trust. [default: the system's]")
    ] = None,
    reports_apart: Annotated[
        bool,
        typer.Option("--reports-apart", help="It wants reports of storage commitment on an association of their own."),
    ] = False,
    data: Data = None,
    config: Config = None,
) -> None:
    """Add a destination, or change the one of this AE title.

    For example `leanpacs destination add VIEWER 192.0.2.20:104 --prefer HTJ2KLossless --data archive`.
    """
    from leanpacs.services.dimse.directory import peer_of
    from leanpacs.transcode.target import syntax_named

    settings = settings_of(data, config)
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError("HOST:PORT", address, "give it as HOST:PORT, for example 192.0.2.20:104")
    if title in settings.dimse.destinations:
        raise ConfigError("AET", title, "is a destination in the settings; change it there")
    row = DestinationRow(
        _checked_title(title),
        host.strip("[]"),
        int(port),
        tuple(syntax_named(name) for name in prefer or ()),
        tls or tls_ca is not None,
        str(tls_ca.resolve()) if tls_ca else "",
        reports_apart,
    )
    peer_of(row)  # whether its authorities can be used
    with open_archive(settings.storage.data, settings) as archive:
        archive.catalog.outgoing.keep_destination(row, datetime.now(UTC))
        changed(archive, f"destination {row.ae_title} is {row.host}:{row.port}")
    print(f"{row.ae_title} at {row.host}:{row.port}")


@destination.command("list")
def destination_list(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List the destinations of settings and catalog."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        rows = _all(settings, archive.catalog.outgoing)
    if json:
        print_json([_destination_record(row, origin) for row, origin in rows])
        return
    columns = [Column("AE title"), Column("address"), Column("prefers"), Column("TLS"), Column("from")]
    print_table(
        "Destinations",
        columns,
        [
            (row.ae_title, f"{row.host}:{row.port}", ", ".join(_names(row)), "yes" if row.tls else "no", origin)
            for row, origin in rows
        ],
    )


@destination.command("remove")
def destination_remove(title: Title, data: Data = None, config: Config = None) -> None:
    """Remove a destination from the catalog. What waits for it stays in the outbox."""
    settings = settings_of(data, config)
    if title in settings.dimse.destinations:
        raise ConfigError("AET", title, "is a destination in the settings; remove it there")
    with open_archive(settings.storage.data, settings) as archive:
        if not archive.catalog.outgoing.forget_destination(title):
            raise ConfigError("AET", title, "is no destination; see 'destination list'")
        changed(archive, f"removed destination {title}")
    print(f"removed {title}")


@outbox.command("list")
def outbox_list(
    to: Annotated[str | None, typer.Option(metavar="AET", help="Only what is for this destination.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what has failed and waits for a decision.")] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List what waits to be sent and what could not be sent, oldest first."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        outgoing = archive.catalog.outgoing
        rows = outgoing.entries(destination=to, failed=failed or None, limit=None if json else SHOWN)
        totals = outgoing.totals()
        reports = outgoing.commitments()
    if json:
        print_json(
            {
                "entries": [_entry_record(row) for row in rows],
                "reports": [
                    {
                        "destination": one.destination,
                        "transaction": one.transaction_uid,
                        "instances": len(one.instances),
                        "attempts": one.attempts,
                        "reason": one.reason,
                    }
                    for one in reports
                ],
            }
        )
        return
    columns = [Column("number", True), Column("to"), Column("instance"), Column("because of"), Column("state")]
    columns += [Column("attempts", True), Column("next"), Column("last problem")]
    print_table("Outbox", columns, [_entry_cells(row) for row in rows])
    for title, has_failed, count in totals:
        print(f"{title}: {count} {'failed' if has_failed else 'waiting'}")
    if reports:
        print(f"{len(reports)} reports of storage commitment are owed")


@outbox.command("retry")
def outbox_retry(numbers: Numbers = None, data: Data = None, config: Config = None) -> None:
    """Try entries again at once: those named, or all that have failed. A running server sends them."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        count = archive.catalog.outgoing.retry(numbers or None, datetime.now(UTC))
        if count:
            changed(archive, f"outbox: {count} entries are tried again")
    _require_all(numbers, count)
    print(f"{count} to be tried again")


@outbox.command("drop")
def outbox_drop(
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER", help="Numbers from the list.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Give up entries: they are not sent. The archive keeps the instances."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        count = archive.catalog.outgoing.drop(numbers)
        if count:
            changed(archive, f"outbox: dropped {count} entries")
    _require_all(numbers, count)
    print(f"dropped {count}")


def _require_all(numbers: list[int] | None, count: int) -> None:
    if numbers and count < len(set(numbers)):
        missing = len(set(numbers)) - count
        raise ConfigError("NUMBER", numbers, f"{missing} of these are not in the outbox; see 'outbox list'")


def _checked_title(title: str) -> str:
    try:
        return TypeAdapter(AETitle).validate_python(title)
    except ValidationError as error:
        raise ConfigError("AET", title, error.errors()[0]["msg"]) from None


def _all(settings: Settings, outgoing: Outgoing) -> list[tuple[DestinationRow, str]]:
    from leanpacs.transcode.target import syntax_named

    fixed = [
        DestinationRow(
            title,
            known.host,
            known.port,
            tuple(syntax_named(name) for name in known.prefer),
            known.tls,
            str(known.tls_ca or ""),
            known.reports_apart,
        )
        for title, known in settings.dimse.destinations.items()
    ]
    added = [row for row in outgoing.destinations() if row.ae_title not in settings.dimse.destinations]
    return [*((row, "settings") for row in fixed), *((row, "catalog") for row in added)]


def _names(row: DestinationRow) -> list[str]:
    from leanpacs.dicom.uids import transfer_syntax

    return [transfer_syntax(uid).keyword for uid in row.prefer]


def _destination_record(row: DestinationRow, origin: str) -> dict[str, object]:
    return {
        "ae_title": row.ae_title,
        "host": row.host,
        "port": row.port,
        "prefer": list(row.prefer),
        "tls": row.tls,
        "tls_ca": row.tls_ca,
        "reports_apart": row.reports_apart,
        "from": origin,
    }


def _entry_record(row: OutboxRow) -> dict[str, object]:
    return {
        "number": row.id,
        "destination": row.destination,
        "study": row.study_uid,
        "series": row.series_uid,
        "instance": row.sop_uid,
        "cause": row.cause,
        "state": "failed" if row.failed else "waiting",
        "attempts": row.attempts,
        "queued_at": row.queued_at.isoformat(),
        "due_at": row.due_at.isoformat(),
        "reason": row.reason,
    }


def _entry_cells(row: OutboxRow) -> tuple[str, ...]:
    state, then = ("failed", "") if row.failed else ("waiting", f"{row.due_at:%Y-%m-%d %H:%M:%S}")
    return (str(row.id), row.destination, row.sop_uid, row.cause, state, str(row.attempts), then, row.reason)
