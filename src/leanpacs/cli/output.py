"""How commands print: tables and progress for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

WIDE = 160
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: heading, and whether it holds numbers."""

    heading: str
    number: bool = False


def human_bytes(count: float) -> str:
    """A number of bytes with three digits and a unit (powers of 1000)."""
    for unit in _UNITS:
        if abs(count) < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"


def ratio(part: float, whole: float) -> str:
    """``part`` as a fraction of ``whole``, or a dash."""
    return f"{part / whole:.3f}" if whole else "-"


def print_table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output; nothing is cut off when that is no terminal."""
    console = Console()
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_plain, row))
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(table)


def _plain(cell: str) -> Text:
    """What senders called something is shown as it is: it neither marks up nor steers the terminal."""
    return Text("".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in cell))


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def progress_bar(*, quiet: bool) -> Progress:
    """A progress bar on standard error; ``quiet`` shows nothing."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


def print_error(error: Exception) -> None:
    """Print an error as one line to standard error."""
    Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(str(error))}", emoji=False)
