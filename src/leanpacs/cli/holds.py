"""``leanpacs hold``: studies and series that nothing may be deleted of."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.archive.care.holds import place
from leanpacs.archive.care.holds import release as end
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, print_json, print_table
from leanpacs.errors import ConfigError, InstanceNotFound

app = typer.Typer(
    no_args_is_help=True,
    help="Holds: while there is one on a study or series, nothing of it is deleted or replaced, by whomever.",
)


@app.command("add")
def add(
    study: Annotated[str | None, typer.Option(metavar="UID", help="Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(metavar="UID", help="Only this series of it.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
    data: Data = None,
    config: Config = None,
) -> None:
    """Place a hold."""
    if not (study or series):
        raise ConfigError("hold", "", "name what to hold with --study or --series")
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        found = archive.catalog.instances(study_uid=study, series_uid=series)
        if not found:
            raise InstanceNotFound(series or study or "")
        number = place(archive, found[0].study_uid, series or "", actor=f"cli:{getpass.getuser()}", reason=reason)
    print(f"hold {number} on {series or study}")


@app.command("list")
def list_(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List all holds."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        rows = archive.catalog.ageing.holds()
    if json:
        print_json([asdict(row) for row in rows])
        return
    columns = [
        Column("number", True),
        Column("study"),
        Column("series"),
        Column("since"),
        Column("by"),
        Column("reason"),
    ]
    print_table(
        "Holds",
        columns,
        [
            (
                str(row.id),
                row.study_uid,
                row.series_uid or "all",
                f"{row.placed_at:%Y-%m-%d %H:%M}",
                row.actor,
                row.reason,
            )
            for row in rows
        ],
    )


@app.command("release")
def release(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="From the list.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """End a hold."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        if not end(archive, number, actor=f"cli:{getpass.getuser()}"):
            raise ConfigError("NUMBER", number, "there is no such hold; see 'hold list'")
    print(f"released hold {number}")
