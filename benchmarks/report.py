"""Tables for the terminal and for Markdown from one description; results as JSON; the page of the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

BEGIN: Final = "<!-- results begin: written by `make bench` -->"
END: Final = "<!-- results end -->"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: its title, what it was measured on, and its cells. The first column is text, others are figures."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def print(self, console: Console) -> None:
        """Show it in a terminal."""
        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if number else "left")
        for first, *others in self.rows:
            # What Markdown shows in bold type by its asterisks is shown so by its style here.
            table.add_row(first.strip("*"), *others, style="bold" if first.startswith("**") else None)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)

    def markdown(self) -> str:
        """Return it as Markdown."""
        rules = ["---", *("---:" for _ in self.headings[1:])]
        lines = [f"### {self.title}", ""]
        lines += [f"| {' | '.join(cells)} |" for cells in (self.headings, rules, *self.rows)]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def write_results(folder: Path, name: str, record: Mapping[str, Any], sheets: Sequence[Sheet]) -> None:
    """Write ``NAME.json`` and ``NAME.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = "\n".join(sheet.markdown() for sheet in sheets)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def update_page(page: Path, results: Path, names: Sequence[str]) -> None:
    """Put the Markdown of those results that are there between the marks of a page; other tables stay."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    held, _, after = rest.partition(END)
    parts = re.split(r"<!-- of ([a-z]+) -->\n", held)
    texts = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    texts |= {name: path.read_text("utf-8").strip() for name in names if (path := results / f"{name}.md").is_file()}
    tables = "\n".join(f"<!-- of {name} -->\n\n{text}\n" for name, text in texts.items())
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")


def mega(size_bytes: float) -> str:
    """Return bytes as MB (10**6)."""
    return f"{size_bytes / 1e6:,.0f}"


def of_machine(machine: Mapping[str, str]) -> str:
    """One line about the machine."""
    return (
        f"Measured {machine['date']} on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}, Python {machine['python']}."
    )
