"""``leanpacs simulate``: what policies would make of years of studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from leanpacs.archive.archive import CATALOG_FILE
from leanpacs.catalog import DayOfArrivals, open_catalog
from leanpacs.cli.output import Column, human_bytes, print_table, ratio
from leanpacs.errors import ConfigError
from leanpacs.report import examples as shipped
from leanpacs.report import results, simulate_record, sources
from leanpacs.report.policies import Policy, Representation
from leanpacs.report.quantities import read_toml
from leanpacs.report.ratios import Ratios
from leanpacs.report.simulate import Assumptions
from leanpacs.report.simulate_compare import Compared, Comparison, compare
from leanpacs.report.simulate_ledger import COST_PARTS
from leanpacs.report.simulate_page import render
from leanpacs.report.workload import Workload


def simulate(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Policy: a TOML file, or one that comes with LeanPACS (leanpacs, leanpacs-tiers); may be repeated. "
            "Raw, zlib, JPEG-LS and JPEG 2000 are always compared with.",
        ),
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file with the workload. Beside --from-archive and --from-analysis: for reads, sites and growth.",
        ),
    ] = None,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="A workload that comes with LeanPACS; see --examples.")
    ] = None,
    examples: Annotated[bool, typer.Option("--examples", help="List the workloads that come with LeanPACS.")] = False,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print a TOML file that comes with LeanPACS, to change: prices, ratios, a policy, an example.",
        ),
    ] = None,
    from_archive: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the studies from what an archive has received so far.")
    ] = None,
    from_analysis: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take studies and ratios from the JSON of leanpacs analyze; needs --days."),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Days over which what is in the archive or the analysis came in.", show_default=False),
    ] = None,
    years: Annotated[int, typer.Option(min=1, max=30, help="Years to project.")] = 10,
    prices: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with your prices.")] = None,
    ratios: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Ratios: TOML, or the JSON of leanpacs analyze; default: those that come along."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with charts (one HTML file).")] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every month as CSV.")] = None,
) -> None:
    """Project storage, traffic, processor time and cost of policies over years.

    Takes a workload (studies by modality, growth, reads by age, remote sites) and policies (which form on which tier,
    from what age on), and compares them month by month with keeping everything raw, zlib, JPEG-LS and JPEG 2000.
    Nothing is stored or sent: it is arithmetic, described in docs/explanation/simulator.md.

    Try `leanpacs simulate --example clinic --out simulation.html`.
    """
    if examples:
        rows = [(one.key, one.workload.name, " ".join(one.workload.note.split())) for one in shipped.examples()]
        print_table("Examples", [Column("name"), Column("what"), Column("assumptions")], rows)
        return
    if show:
        print(shipped.text(show), end="")
        return
    taken = _taken(workload, example, from_archive, from_analysis, days, ratios)
    chosen = policy or list(shipped.OWN)
    policies = [*(shipped.policy(name) for name in (*shipped.BASELINES, *chosen))]
    if from_archive:
        policies.append(_AS_IT_IS)
    given = Assumptions(taken.workload, taken.ratios, shipped.prices(prices), years)
    comparison = compare(_distinct(policies), given)
    _print(comparison)
    for file, text in ((out, render), (json, simulate_record.to_json), (csv, simulate_record.to_csv)):
        if file:
            file.write_text(text(comparison), encoding="utf-8")


_AS_IT_IS = Policy(
    name="as it is",
    note="Everything as this archive holds it now, at the ratios that it has reached.",
    compute="own-core",
    representations=(Representation(preset=sources.HELD),),
)


def _taken(
    workload: Path | None,
    example: str | None,
    from_archive: Path | None,
    from_analysis: Path | None,
    days: int | None,
    ratios: Path | None,
) -> sources.Taken:
    """The workload and the ratios that the options name."""
    given = [name for name, one in (("--workload", workload), ("--example", example)) if one]
    taken_from = [name for name, one in (("--from-archive", from_archive), ("--from-analysis", from_analysis)) if one]
    if len(given) > 1 or len(taken_from) > 1 or not (given or taken_from):
        raise ConfigError(
            "simulate",
            ", ".join((*given, *taken_from)),
            "name one workload: --workload FILE, --example NAME (see --examples), --from-archive DIR, or "
            "--from-analysis FILE; with one of the last two, --workload or --example adds reads, sites and growth",
        )
    known = _ratios(ratios)
    rest = read_toml(Workload, workload) if workload else shipped.example(example) if example else None
    if from_archive:
        taken = sources.from_archive(_past(from_archive), known, days=days)
    elif from_analysis:
        if days is None:
            raise ConfigError("--days", "", "say over how many days the analysed studies came in")
        taken = sources.from_analysis(results.load(from_analysis), known, days=days)
    else:
        assert rest is not None
        return sources.Taken(rest, known)
    return sources.with_habits(taken, rest) if rest else taken


def _ratios(file: Path | None) -> Ratios:
    if file is None or file.suffix != ".json":
        return shipped.ratios(file)
    return sources.from_analysis(results.load(file), shipped.ratios(), days=1).ratios


def _past(folder: Path) -> Sequence[DayOfArrivals]:
    """Read the catalog only: the archive may be in use."""
    file = folder / CATALOG_FILE
    if not file.exists():
        raise ConfigError("--from-archive", str(folder), "there is no archive in this folder")
    catalog = open_catalog(file)
    try:
        return catalog.arrivals()
    finally:
        catalog.close()


def _distinct(policies: Sequence[Policy]) -> list[Policy]:
    found: dict[str, Policy] = {}
    for one in policies:
        if one.name in found and found[one.name] != one:
            raise ConfigError("--policy", one.name, "two policies have this name")
        found[one.name] = one
    return list(found.values())


def _print(comparison: Comparison) -> None:
    given, currency = comparison.given, comparison.given.prices.currency
    print(
        f"{given.workload.name}: {given.workload.studies_per_year:,.0f} studies and "
        f"{human_bytes(given.workload.bytes_per_year)} in the first year, {given.years} years"
    )
    raw = comparison.compared[0].projection
    number = [
        Column(text, True) for text in ("stored at the end", "of raw", "sent out", "CPU hours", currency, "of raw")
    ]
    print_table(
        f"After {given.years} years",
        [Column("policy"), *number],
        [_line(one, raw.cost_in_all.sum()) for one in comparison.compared],
    )
    parts = [part for part in COST_PARTS if any(one.projection.cost[part].any() for one in comparison.compared)]
    print_table(
        f"Cost of {given.years} years, {currency}",
        [Column("policy"), *(Column(part, True) for part in parts)],
        [
            [one.projection.policy.name, *(_money(one.projection.cost[part].sum()) for part in parts)]
            for one in comparison.compared
        ],
    )
    _print_waits(comparison)
    for whose, note in comparison.notes():
        print(f"{whose}: {note}" if whose else note)


def _line(one: Compared, raw_cost: float) -> list[str]:
    projection = one.projection
    stored, cost = projection.stored_in_all[-1], projection.cost_in_all.sum()
    return [
        projection.policy.name,
        human_bytes(stored),
        ratio(stored, projection.raw[-1]),
        human_bytes(projection.traffic_out.sum()),
        f"{projection.cpu_hours_in_all.sum():,.0f}",
        _money(cost),
        ratio(cost, raw_cost),
    ]


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 or not amount else f"{amount:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _print_waits(comparison: Comparison) -> None:
    for site, line in comparison.given.workload.sites.items():
        modalities = list(comparison.given.workload.modality)
        rows = [
            [one.projection.policy.name, *(_seconds(wait.seconds) for wait in one.waits if wait.site == site)]
            for one in comparison.compared
        ]
        columns = [Column("policy"), *(Column(name, True) for name in modalities)]
        print_table(f"A new study over the line of {site} ({line.link / 1e6:g} Mbps)", columns, rows)
