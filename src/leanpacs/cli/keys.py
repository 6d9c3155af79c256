"""``leanpacs key``: API keys of the HTTP door."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.catalog import KeyRow
from leanpacs.cli.audit import changed
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, print_json, print_table
from leanpacs.config import Role
from leanpacs.errors import CatalogError
from leanpacs.services.access.keys import make_key

app = typer.Typer(no_args_is_help=True, help="API keys: who may come in at the HTTP door.")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What or whom it is for, such as the name of a viewer.")],
    role: Annotated[list[Role], typer.Option("--role", help="What its bearer may do; to be given for each role.")],
    days: Annotated[int | None, typer.Option(min=1, help="It expires after so many days. [default: never]")] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make an API key and print it, once: only a digest of it is kept.

    It is shown in the header field `Authorization: Bearer KEY`, or as the password of basic authentication under
    any user name. Running servers take it at once.
    """
    settings = settings_of(data, config)
    now = datetime.now(UTC)
    expires_at = now + timedelta(days=days) if days else None
    text, key = make_key(name, role, f"cli:{getpass.getuser()}", now=now, expires_at=expires_at)
    with open_archive(settings.storage.data, settings) as archive:
        with archive.catalog.writing() as transaction:
            transaction.add_key(key)
        changed(archive, f"made key {key.key_id} ({key.name}): {' '.join(key.roles)}")
    if json:
        print_json({"key": text, **_record(key)})
    else:
        print(text)


@app.command("list")
def list_(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List all API keys, also those that are revoked or expired."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        keys = archive.catalog.api_keys()
    records = [_record(key) for key in keys]
    if json:
        print_json(records)
        return
    columns = [Column(name) for name in ("id", "name", "roles", "created_at", "created_by", "expires_at", "state")]
    rows = [[_cell(record[column.heading]) for column in columns] for record in records]
    print_table("API keys", columns, rows)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `leanpacs key list` shows it.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Take an API key back, for good. Running servers refuse it within `access.key_seconds`."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        with archive.catalog.writing() as transaction:
            if not transaction.revoke_key(key_id, datetime.now(UTC)):
                raise CatalogError(f"no key {key_id} is in use; `leanpacs key list` shows all")
        changed(archive, f"revoked key {key_id}")
    print(f"{key_id} is revoked")


def _record(key: KeyRow) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": key.key_id,
        "name": key.name,
        "roles": list(key.roles),
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "created_by": key.created_by,
        "expires_at": key.expires_at.isoformat(timespec="seconds") if key.expires_at else None,
        "state": "revoked" if key.revoked_at else "good" if key.is_good(now) else "expired",
    }


def _cell(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "-")
