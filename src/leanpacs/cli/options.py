"""Options that several commands share, and the settings made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from leanpacs import telemetry
from leanpacs.codecs import presets
from leanpacs.config import Settings
from leanpacs.config.loading import load_settings

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder of the archive. [default: storage.data of the settings]",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with settings (docs/reference/settings.md)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def settings_of(
    data: Path | None, config: Path | None, flags: Mapping[str, Mapping[str, object]] | None = None
) -> Settings:
    """Settings from file, environment and flags; starts the log of this process."""
    given = {section: dict(keys) for section, keys in (flags or {}).items()}
    given.setdefault("storage", {})["data"] = data
    settings = load_settings(file=config, flags=given)
    presets.preset(settings.settle.preset)  # one that is unknown is told of now, not when something has landed
    telemetry.configure_logging(level=settings.log.level, format=settings.log.format)
    return settings
