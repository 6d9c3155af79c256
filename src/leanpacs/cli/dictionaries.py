"""``leanpacs dictionary``: trained Zstandard dictionaries for heads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.archive.care.training import train_dictionaries
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table
from leanpacs.storage.dictionary import load_all

app = typer.Typer(no_args_is_help=True, help="Zstandard dictionaries trained on heads.")


@app.command("train")
def train(
    sop_class: Annotated[
        str | None,
        typer.Option(metavar="UID", help="Only for this SOP class; default: every one with enough instances."),
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Train dictionaries from the heads of what the archive holds, and use those that save at least 2 % from now on.

    Each is judged on heads that it was not trained on. Dictionaries are kept in the store beside the packs, under a
    version, and are never changed or removed: packs need them to be read.
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        trained = list(train_dictionaries(archive, scope=sop_class))
    if json:
        print_json([asdict(one) for one in trained])
        return
    columns = [
        Column("SOP class"),
        Column("heads", True),
        Column("before", True),
        Column("after", True),
        Column("dictionary", True),
        Column("outcome"),
    ]
    print_table(
        "Trained",
        columns,
        [
            (
                one.scope,
                str(one.samples),
                human_bytes(one.before_bytes),
                human_bytes(one.after_bytes),
                str(one.dictionary_id or "-"),
                "kept" if one.kept else one.reason,
            )
            for one in trained
        ],
    )


@app.command("list")
def list_(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List the dictionaries in the store."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        known = load_all(archive.store)
    rows = [
        {
            "id": entry.id,
            "scope": entry.scope,
            "version": entry.version,
            "bytes": len(entry.data),
            "samples": entry.samples,
            "trained_at": entry.trained_at.isoformat(),
        }
        for entry in known
    ]
    if json:
        print_json(rows)
        return
    columns = [
        Column(name, name not in ("scope", "trained_at"))
        for name in ("id", "scope", "version", "bytes", "samples", "trained_at")
    ]
    print_table("Dictionaries", columns, [[str(value) for value in row.values()] for row in rows])
