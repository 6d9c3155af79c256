"""``leanpacs analyze``: what each format would save on the files of some folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from leanpacs.cli.options import Quiet
from leanpacs.cli.output import Column, human_bytes, print_table
from leanpacs.errors import ReportError
from leanpacs.report import wording
from leanpacs.report.analysis import Request, analyze, sample_size
from leanpacs.report.example import compared, mammograms
from leanpacs.report.formats import chosen
from leanpacs.report.headline import DEFAULT_LINKS, headline, links, shown, transfers
from leanpacs.report.measuring import Measured, Options
from leanpacs.report.page import render
from leanpacs.report.results import Analysis, FormatResult
from leanpacs.report.rows import Rows

PROBLEMS_SHOWN = 20


def analyze_(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Folders, files or ZIP archives.", show_default=False)
    ] = None,
    codecs: Annotated[
        str, typer.Option("--codecs", help="Formats to compare: quick, standard, all, or names joined by commas.")
    ] = "standard",
    sample: Annotated[
        str,
        typer.Option("--sample", metavar="N|PERCENT|all", help="How many instances to measure, drawn from all found."),
    ] = "200",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that measure at the same time.")] = 1,
    link: Annotated[str, typer.Option("--link", help="Lines to readers, joined by commas.")] = DEFAULT_LINKS,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the report page here (HTML).")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here (JSON).")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write one line for each instance and format here.")
    ] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="Measure lossy settings, too, clearly marked.")] = False,
    example: Annotated[
        str | None,
        typer.Option(
            "--example", metavar="NAME", help="Analyze an example instead: mammography (needs leanpacs[example])."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show what each format would save on your files, in bytes and seconds. Nothing is stored or changed.

    Walks folders and ZIP archives, finds DICOM files by their content, draws a sample by modality, SOP class,
    manufacturer and transfer syntax, and measures it: every lossless figure is checked by decoding. Ctrl-C ends the
    measuring and reports what was measured till then.

    `--codecs all` adds the slow ones (Zstandard 19, Brotli 11, LZMA, JPEG XL e9, AVIF): minutes for a large image.
    """
    # A lost worker becomes a problem of its file, and is reported there.
    logging.getLogger("leanpacs.workers").setLevel(logging.ERROR)
    with ExitStack() as stack:
        if example is not None:
            if example != "mammography":
                raise ReportError(f"there is no example {example!r}; there is: mammography")
            paths = [*(paths or []), mammograms()]
        if not paths:
            raise typer.BadParameter("name a folder, a file or a ZIP archive, or an --example", param_hint="PATH")
        try:
            sample_size(sample, 1)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--sample") from error
        options = Options(chosen(codecs), lossy=lossy, progressive=codecs != "quick")
        request = Request(tuple(paths), options, sample, jobs, links(link))
        rows = Rows(stack.enter_context(csv.open("w", newline="", encoding="utf-8"))) if csv else None
        with _progress(quiet=quiet) as watcher:
            analysis = analyze(request, watcher, rows.write if rows else lambda _: None)
    if json is not None:
        json.write_text(analysis.to_json(), encoding="utf-8")
    if out is not None:
        out.write_text(render(analysis), encoding="utf-8")
    print_report(analysis)
    if example is not None:
        _print_article(analysis)
    if out is not None:
        print(f"The page: {out.resolve()}")


class _Bars:
    """Progress on standard error: files looked at, then bytes measured with the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._looking = progress.add_task("looking", total=None, what="")
        self._measuring = progress.add_task("measuring", total=None, what="", visible=False)
        self._count = 0
        self._done = 0

    def looking(self, files: int) -> None:
        self._progress.update(self._looking, what=f"{files} files")

    def measuring(self, instances: int, raw_bytes: int) -> None:
        self._count = instances
        self._progress.update(self._looking, total=1, completed=1)
        # A small instance costs more than its bytes: reading and heads.
        self._progress.update(self._measuring, total=raw_bytes + instances * _EACH, visible=True)

    def measured(self, one: Measured) -> None:
        self._done += 1
        self._progress.update(
            self._measuring, advance=one.drawn.raw_bytes + _EACH, what=f"{self._done} of {self._count} instances"
        )


_EACH = 50_000


@contextmanager
def _progress(*, quiet: bool) -> Iterator[_Bars]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    ) as progress:
        yield _Bars(progress)


def print_report(analysis: Analysis) -> None:
    """Print the headline, as the page has it."""
    total, top = analysis.total, headline(analysis)
    print(
        f"{total.instances} instances of {total.studies} studies in {analysis.files} files: "
        f"{human_bytes(total.found_bytes)} as found, {human_bytes(total.raw_bytes)} raw; {total.measured} measured"
        f"{'' if analysis.run.finished else ' before it was stopped'}."
    )
    if top.best is not None:
        print(
            f"{top.best_label} would take {human_bytes(top.best.total_bytes.value)}: "
            f"{wording.percent(top.best.ratio.value)} of raw {wording.interval(top.best.ratio)}".rstrip()
            + f", {human_bytes(abs(top.saved_bytes))} {'less' if top.saved_bytes >= 0 else 'more'} than now."
        )
    print_table("What each format would take", _columns(), [_row(analysis, one) for one in _sorted(analysis)])
    best = top.best.format if top.best else ""
    print_table(
        "By modality",
        [Column("modality"), *(Column(text, True) for text in ("instances", "raw", "as found", top.best_label))],
        [
            (
                group.name,
                str(group.instances),
                human_bytes(group.raw_bytes),
                wording.percent(group.found_bytes / max(group.raw_bytes, 1)),
                wording.percent(group.format(best).ratio.value) if best else "-",
            )
            for group in analysis.by_modality
        ],
    )
    _print_transfers(analysis)
    for problem in analysis.problems[:PROBLEMS_SHOWN]:
        print(f"{problem.file}: {problem.reason}")
    if analysis.problem_count > PROBLEMS_SHOWN:
        print(f"... and {analysis.problem_count - PROBLEMS_SHOWN} more problems; --json and --out list them")


def _sorted(analysis: Analysis) -> list[FormatResult]:
    return sorted(analysis.total.formats, key=lambda one: -one.total_bytes.value)


def _columns() -> list[Column]:
    headings = ("bytes", "of raw", "95 %", "holds", "encode MB/s", "decode MB/s", "checked", "not exact")
    return [Column("format"), *(Column(text, True) for text in headings)]


def _row(analysis: Analysis, one: FormatResult) -> tuple[str, ...]:
    return (
        analysis.format(one.format).label,
        human_bytes(one.total_bytes.value),
        wording.percent(one.ratio.value),
        wording.interval(one.ratio),
        wording.percent(one.held),
        wording.speed(one.encode_seconds_per_gb),
        wording.speed(one.decode_seconds_per_gb),
        str(one.instances),
        str(one.not_exact) if one.not_exact else "",
    )


def _print_transfers(analysis: Analysis) -> None:
    top = headline(analysis)
    if top.study is None or not analysis.links:
        return
    times = {(one.format, one.link): one.total_seconds for one in transfers(analysis)}
    formats = [one for one in shown(analysis, top.study) if (one.format, analysis.links[0].name) in times]
    print_table(
        f"An average study of {top.study.name} ({human_bytes(top.study_bytes)} raw): sent and decoded in",
        [Column("format"), *(Column(link.name, True) for link in analysis.links)],
        [
            (
                analysis.format(one.format).label,
                *(wording.duration(times[one.format, link.name]) for link in analysis.links),
            )
            for one in formats
        ],
    )


def _print_article(analysis: Analysis) -> None:
    """The table that started this project, and the same from what was just measured."""
    print_table(
        "The article's figures beside these",
        [Column("figure"), Column("the article"), Column("here")],
        [(one.what, one.article, one.here) for one in compared(analysis)],
    )
