"""``leanpacs worklist``: what modalities are told to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanpacs.archive.archive import WORKLIST_FOLDER
from leanpacs.archive.worklist import WorklistFolder
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, print_json, print_table
from leanpacs.config import Settings
from leanpacs.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Scheduled procedure steps that modalities find (Modality Worklist): files in a folder, one for each order, "
    "DICOM (.wl, .dcm) or DICOM JSON (.json). A running server sees changes at once.",
)
_STEP = ("ScheduledStationAETitle", "Modality", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
_ORDER = ("PatientID", "PatientName", "AccessionNumber")


@app.command("list")
def worklist_list(data: Data = None, config: Config = None, json: Json = False) -> None:
    """List what is scheduled."""
    files = _folder(settings_of(data, config)).names()
    rows = [
        (name, *(str(item.get(keyword, "")) for keyword in _ORDER), *(str(step.get(keyword, "")) for keyword in _STEP))
        for name, items in files
        for item in items
        for step in item.ScheduledProcedureStepSequence
    ]
    if json:
        print_json([dict(zip(("file", *_ORDER, *_STEP), row, strict=True)) for row in rows])
        return
    headings = ("file", "patient ID", "patient", "accession", "station", "modality", "date", "time")
    print_table("Worklist", [Column(heading) for heading in headings], rows)
    for name, items in files:
        if not items:
            print(f"{name} cannot be read: see the log")


@app.command("add")
def worklist_add(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE", help="Orders: DICOM (.wl, .dcm) or DICOM JSON.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Schedule orders. A file takes the place of one of the same name."""
    folder = _folder(settings_of(data, config))
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError("FILE", str(path), f"cannot be read: {error.strerror}") from error
        print(f"{path.name}: {folder.add(path.name, content)} scheduled")


@app.command("remove")
def worklist_remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="File names from the list.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Take orders out of the worklist."""
    folder = _folder(settings_of(data, config))
    for name in names:
        if not folder.remove(name):
            raise ConfigError("NAME", name, "is not in the worklist; see 'worklist list'")
    print(f"removed {len(names)}")


def _folder(settings: Settings) -> WorklistFolder:
    return WorklistFolder(settings.worklist.folder or settings.storage.data / WORKLIST_FOLDER)
