"""The command ``leanpacs``: commands, and the exit code of each kind of failure."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from leanpacs import __version__, errors
from leanpacs.cli import (
    analyze,
    audit,
    care,
    codecs,
    dictionaries,
    evidence,
    fetch,
    giveback,
    holds,
    intake,
    keys,
    lifecycle,
    outgoing,
    output,
    policy,
    send,
    serving,
    simulate,
    tiers,
    traffic,
    transcode,
    worklist,
)

OK: Final = 0
PROBLEMS_FOUND: Final = 1
USAGE: Final = 2

EXIT_CODES: Final[dict[type[errors.LeanPACSError], int]] = {
    errors.LeanPACSError: PROBLEMS_FOUND,
    errors.ConfigError: 3,
    errors.DicomError: 4,
    errors.CodecError: 5,
    errors.StorageError: 6,
    errors.StoreFull: 7,
    errors.CatalogError: 8,
    errors.InstanceNotFound: 9,
    errors.RefusedByPolicy: 10,
    errors.WorkerError: 11,
    errors.ReportError: 12,
}
"""Exit codes by kind of error; the nearest class counts. 0 is success, 1 problems were found, 2 wrong usage."""

app = typer.Typer(
    name="leanpacs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""
A DICOM archive that keeps every study in the smallest form that is provably lossless.

Start with `leanpacs serve --data DIR`, send it images over DICOM or DICOMweb (or `leanpacs import FOLDER --data DIR`),
and look at `leanpacs status --data DIR`.

**Exit codes**: 0 success; 1 problems were found (a failed verification, files that could not be taken); 2 wrong
usage; 3 settings; 4 DICOM; 5 codecs; 6 storage; 7 storage full; 8 catalog; 9 not in the archive; 10 refused by policy;
11 a worker process was lost; 12 a file for a report is not usable.
""",
)

app.command("serve")(serving.serve)
app.command("import")(intake.import_)
app.command("export")(giveback.export)
app.command("send")(send.send)
app.command("fetch")(fetch.fetch)
app.command("transcode")(transcode.transcode)
app.command("codecs")(codecs.codecs)
app.command("status")(care.status)
app.command("traffic")(traffic.traffic)
app.command("audit")(audit.audit)
app.command("verify")(care.verify)
app.command("evidence")(evidence.evidence)
app.command("delete")(care.delete)
app.command("rebuild-catalog")(care.rebuild_catalog)
app.command("analyze")(analyze.analyze_)
app.command("simulate")(simulate.simulate)
app.add_typer(care.quarantine, name="quarantine")
app.add_typer(tiers.app, name="tier")
app.add_typer(worklist.app, name="worklist")
app.add_typer(outgoing.destination, name="destination")
app.add_typer(outgoing.outbox, name="outbox")
app.add_typer(dictionaries.app, name="dictionary")
app.add_typer(keys.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(lifecycle.app, name="lifecycle")
app.add_typer(holds.app, name="hold")
app.command("worker")(lifecycle.worker)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"leanpacs {__version__}")
        raise typer.Exit


@app.callback()
def _leanpacs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def exit_code(error: errors.LeanPACSError) -> int:
    """The exit code of an error: that of its nearest class in `EXIT_CODES`."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def main() -> None:
    """Run the command line; errors raised on purpose become one line and an exit code."""
    try:
        app()
    except errors.LeanPACSError as error:
        output.print_error(error)
        sys.exit(exit_code(error))
