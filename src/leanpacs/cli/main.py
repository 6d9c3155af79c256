"""The command ``leanpacs``: all of its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from leanpacs import __version__
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
    policy,
    send,
    serving,
    simulate,
    tiers,
    traffic,
    transcode,
    worklist,
)
from leanpacs.cli.exits import run

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


def main() -> None:
    """Run the command line; errors raised on purpose become one line and an exit code."""
    run(app)
