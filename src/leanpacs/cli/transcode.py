"""``leanpacs transcode``: files from one transfer syntax to another, no archive needed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from leanpacs.cli.options import Json, Quiet
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar, ratio
from leanpacs.errors import ConfigError
from leanpacs.transcode import (
    FileTranscoder,
    Lossy,
    Outcome,
    Status,
    Target,
    Verify,
    WriteOptions,
    outputs,
    syntax_named,
    transcode_files,
    transcoding,
)
from leanpacs.transcode.target import name_of

WRITTEN = (Status.EXACT, Status.UNCHANGED, Status.LOSSY)


@dataclass(slots=True)
class _Group:
    """Files of which the same became, for the same reason; the first of them by name."""

    files: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    first: str = ""


@dataclass(slots=True)
class _Tally:
    """What became of the files."""

    groups: dict[tuple[Status, str], _Group] = field(default_factory=dict)
    frames: int = 0
    checked_by: set[str] = field(default_factory=set)
    unwritten: list[dict[str, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        account = outcome.account
        reason = outcome.reason if account is None else "; ".join(account.notes)
        group = self.groups.setdefault((outcome.status, reason), _Group(first=str(outcome.path)))
        group.files += 1
        if account is None:
            self.unwritten.append({"file": str(outcome.path), "outcome": str(outcome.status), "reason": reason})
            return
        group.bytes_in += outcome.bytes_in
        group.bytes_out += outcome.bytes_out
        self.frames += account.frames
        self.checked_by.update(account.checked_by)

    def count(self, *statuses: Status) -> int:
        return sum(group.files for (status, _), group in self.groups.items() if status in statuses)

    @property
    def bytes_in(self) -> int:
        return sum(group.bytes_in for group in self.groups.values())

    @property
    def bytes_out(self) -> int:
        return sum(group.bytes_out for group in self.groups.values())


def transcode(
    paths: Annotated[list[Path], typer.Argument(metavar="IN", help="Files and folders.")],
    to: Annotated[
        str, typer.Option("--to", metavar="SYNTAX", help="Transfer syntax: keyword, such as JPEGXLLossless, or UID.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to; made if there is none.")],
    lossy: Annotated[
        str | None,
        typer.Option(
            metavar="KIND=NUMBER",
            help="How much may be lost: quality=1..100 (JPEG, JPEG XL), distance=0..25 (JPEG XL), "
            "near=1..255 (JPEG-LS), ratio=N (JPEG 2000, HTJ2K). Each instance gets a SOP Instance UID of its own.",
        ),
    ] = None,
    effort: Annotated[
        int | None, typer.Option(min=1, max=9, help="1 fast to 9 small, for JPEG XL and Deflated Image Frame.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Worker processes. [default: one for each CPU core]", show_default=False),
    ] = None,
    verify: Annotated[
        Verify, typer.Option(help="Read each written frame back: not, by the first decoder, or by a second one, too.")
    ] = Verify.FIRST,
    anew: Annotated[bool, typer.Option("--anew", help="Write again what is in this transfer syntax already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write DICOM files in another transfer syntax; no archive is needed.

    Folders are walked, and their tree is repeated below DIR. Nothing is lost unless --lossy says so: what cannot be
    held exactly is refused, with the reason, and every written frame is read back and compared. Image codecs run in
    processes of their own; a file that makes one crash does not stop the others.

    Exit code 1 if a file was refused or failed; the others are written.
    """
    target = Target(syntax_named(to), WriteOptions(effort=effort, lossy=_lossy(lossy)), verify, anew)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ConfigError("IN", str(missing[0]), "there is no such file or folder")
    jobs = jobs or os.cpu_count() or 1
    tally = _Tally()
    found = list(outputs(paths, out))
    with transcoding(jobs) as transcoder, progress_bar(quiet=quiet or json) as progress:
        task = progress.add_task("transcoding", total=len(found))
        for outcome in transcode_files(found, FileTranscoder(transcoder, target, overwrite), jobs):
            tally.add(outcome)
            progress.advance(task)
    _report(tally, target, out, json=json)
    if tally.count(Status.REFUSED, Status.FAILED):
        raise typer.Exit(1)


def _lossy(text: str | None) -> Lossy | None:
    if text is None:
        return None
    kind, _, number = text.partition("=")
    makers = {
        "quality": lambda: Lossy(quality=float(number)),
        "near": lambda: Lossy(near=int(number)),
        "ratio": lambda: Lossy(ratio=float(number)),
        "distance": lambda: Lossy(distance=float(number)),
    }
    if kind not in makers:
        raise ConfigError("--lossy", text, f"is one of {', '.join(makers)}, an equals sign and a number")
    try:
        return makers[kind]()
    except ValueError as error:
        raise ConfigError("--lossy", text, str(error)) from error


def _report(tally: _Tally, target: Target, out: Path, *, json: bool) -> None:
    if json:
        print_json(
            {
                "transfer_syntax": target.transfer_syntax,
                "files": {str(status): tally.count(status) for status in Status},
                "frames": tally.frames,
                "bytes_in": tally.bytes_in,
                "bytes_out": tally.bytes_out,
                "verify": str(target.verify),
                "checked_by": sorted(tally.checked_by),
                "not_written": tally.unwritten,
            }
        )
        return
    headings = [
        Column("outcome"),
        Column("files", True),
        Column("in", True),
        Column("out", True),
        Column("ratio", True),
    ]
    print_table(
        f"To {name_of(target.transfer_syntax)}",
        [*headings, Column("reason or note"), Column("first file")],
        _rows(tally),
    )
    print(
        f"{tally.count(*WRITTEN)} files with {tally.frames} frames written to {out}: {human_bytes(tally.bytes_in)} in, "
        f"{human_bytes(tally.bytes_out)} out ({ratio(tally.bytes_out, tally.bytes_in)})."
    )
    if tally.checked_by:
        print(f"Frames that were written anew were read back by {' and '.join(sorted(tally.checked_by))}.")


def _rows(tally: _Tally) -> list[tuple[str, ...]]:
    order = list(Status)
    groups = sorted(tally.groups.items(), key=lambda one: (order.index(one[0][0]), -one[1].files))
    return [
        (
            str(status),
            str(group.files),
            *((human_bytes(group.bytes_in), human_bytes(group.bytes_out)) if status in WRITTEN else ("", "")),
            ratio(group.bytes_out, group.bytes_in) if status in WRITTEN else "",
            reason,
            group.first if reason else "",
        )
        for (status, reason), group in groups
    ]
