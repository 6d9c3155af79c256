"""The command that tells which transfer syntaxes can be read and written, and by what."""

from __future__ import annotations

from dataclasses import asdict

from leanpacs.cli.options import Json
from leanpacs.cli.output import Column, print_json, print_table
from leanpacs.codecs.matrix import MatrixRow, MatrixSecond, matrix

_PREFIX = "1.2.840.10008.1.2"
_HEADINGS = ("UID", "keyword", "decodes, bits", "encodes, bits", "written", "decoder", "second decoders")


def codecs(json: Json = False) -> None:
    """Show which transfer syntaxes are decoded and encoded, with how many bits, by which libraries.

    *Decodes*: bits of a sample in code streams. *Encodes*: Bits Allocated that can be written. *Second decoders* are
    other libraries that checks compare the first one with; only installed ones are listed.
    """
    rows = matrix()
    if json:
        print_json([asdict(row) for row in rows])
        return
    title = f"Transfer syntaxes of still images; UIDs begin with {_PREFIX}"
    print_table(title, [Column(heading) for heading in _HEADINGS], [_cells(row) for row in rows])
    libraries = {row.library for row in rows} | {_library(decoder) for row in rows for decoder in row.second}
    print_table("Libraries", [Column("package / library")], [[name] for name in sorted(libraries - {"", "-"})])
    notes = [[row.uid.removeprefix(_PREFIX), row.note] for row in rows if row.note]
    print_table("Notes", [Column("UID"), Column("note")], notes)


def _cells(row: MatrixRow) -> list[str]:
    return [
        row.uid.removeprefix(_PREFIX),
        f"{row.keyword} (retired)" if row.retired else row.keyword,
        row.decodes or "no",
        row.encodes or "no",
        ", ".join(row.writes),
        row.engine,
        ", ".join(f"{decoder.engine} ({decoder.package})" for decoder in row.second),
    ]


def _library(decoder: MatrixSecond) -> str:
    return f"{decoder.package} {decoder.version} / {decoder.engine}"
