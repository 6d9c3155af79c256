"""The comparison as one self-contained HTML page: no network, prints well, readable without knowing the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import jinja2

from leanpacs import __version__
from leanpacs.report import wording
from leanpacs.report.examples import BASELINES, policy
from leanpacs.report.headline import GIVES_UP_SECONDS
from leanpacs.report.ratios import OTHER
from leanpacs.report.simulate_ageing import Curve
from leanpacs.report.simulate_compare import Compared, Comparison
from leanpacs.report.simulate_flows import month_lengths
from leanpacs.report.simulate_ledger import COST_PARTS, CPU_PARTS, by_year

_HOURS_PER_YEAR: Final = 8766


@dataclass(frozen=True, slots=True)
class Row:
    """One policy in the table."""

    name: str
    note: str
    is_baseline: bool
    colour: str
    stored: str
    of_raw: str
    bar: float
    sent: str
    hours: str
    cores: str
    cost: str
    cost_of_raw: str


def render(comparison: Comparison, *, at: datetime | None = None) -> str:
    """Make the page.

    Parameters
    ----------
    at : datetime, optional
        When it was made; now.
    """
    rows = list(_rows(comparison))
    best = next((row for row in rows if not row.is_baseline), rows[0])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"size": wording.size, "percent": wording.percent, "number": _number}
    return environment.from_string(_part("simulation.html")).render(
        given=comparison.given,
        workload=comparison.given.workload,
        rows=rows,
        raw=rows[0],
        best=best,
        notes=list(comparison.notes()),
        presets=_presets(comparison),
        used=_used(comparison),
        style=_part("simulation.css"),
        plot=_part("plot.js").replace("</script", "<\\/script"),
        script=_part("simulation.js"),
        data=json.dumps(_data(comparison, rows)).replace("<", "\\u003c"),
        version=__version__,
        made=(at or datetime.now(UTC)).date().isoformat(),
    )


def _part(name: str) -> str:
    return resources.files("leanpacs.report.page").joinpath(name).read_text(encoding="utf-8")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.2g}"


def _rows(comparison: Comparison) -> Iterator[Row]:
    first = comparison.compared[0].projection
    baselines = {policy(name).name for name in BASELINES}
    number = dict.fromkeys((True, False), 0)
    most = max(one.projection.stored_in_all[-1] for one in comparison.compared)
    for one in comparison.compared:
        projection = one.projection
        is_baseline = projection.policy.name in baselines
        number[is_baseline] += 1
        stored, cost = projection.stored_in_all[-1], projection.cost_in_all.sum()
        last_year = by_year(projection.cpu_hours_in_all)[-1]
        yield Row(
            name=projection.policy.name,
            note=" ".join(projection.policy.note.split()),
            is_baseline=is_baseline,
            colour=f"var(--{'baseline' if is_baseline else 'own'}-{(number[is_baseline] - 1) % 4 + 1})",
            stored=wording.size(stored),
            of_raw=wording.percent(stored / projection.raw[-1] if projection.raw[-1] else 0),
            bar=100 * stored / most if most else 0,
            sent=wording.size(projection.traffic_out.sum()),
            hours=_number(projection.cpu_hours_in_all.sum()),
            cores=f"{last_year / _HOURS_PER_YEAR:.2g}",
            cost=f"{cost:,.0f}" if cost >= 100 else f"{cost:.2f}",
            cost_of_raw=wording.percent(cost / first.cost_in_all.sum() if first.cost_in_all.sum() else 0),
        )


def _presets(comparison: Comparison) -> list[str]:
    """The presets that the policies name, in the order of the table of ratios."""
    named = {preset for one in comparison.compared for preset in one.projection.policy.presets}
    return [preset for preset in comparison.given.ratios.modality[OTHER] if preset in named]


def _used(comparison: Comparison) -> list[Any]:
    """The prices that the policies use."""
    prices = comparison.given.prices
    policies = [one.projection.policy for one in comparison.compared]
    stores = [prices.storage[name] for name in dict.fromkeys(name for one in policies for name in one.tiers.values())]
    cores = [prices.core[name] for name in dict.fromkeys(one.compute for one in policies)]
    places = {entry.place for entry in (*stores, *cores)}
    return [*stores, *cores, *(entry for place, entry in prices.egress.items() if place in places)]


def _data(comparison: Comparison, rows: list[Row]) -> dict[str, Any]:
    """What the charts are drawn from."""
    return {
        "years": comparison.given.years,
        "currency": comparison.given.prices.currency,
        "givesUpSeconds": GIVES_UP_SECONDS,
        "costParts": list(COST_PARTS),
        "cpuParts": list(CPU_PARTS),
        "policies": [
            {"name": row.name, "colour": row.colour, "baseline": row.is_baseline, **_curves(one)}
            for row, one in zip(rows, comparison.compared, strict=True)
        ],
    }


def _curves(one: Compared) -> dict[str, Any]:
    projection = one.projection
    return {
        "stored": _rounded(projection.stored_in_all),
        "tiers": {tier: _rounded(levels) for tier, levels in projection.stored.items() if levels.any()},
        "sent": _rounded(projection.traffic_out / month_lengths(projection.months)),
        "lines": {name: _rounded(curve) for name, curve in projection.lines.items()},
        "cost": {part: _rounded(by_year(curve)) for part, curve in projection.cost.items() if curve.any()},
        "hours": {part: _rounded(by_year(curve)) for part, curve in projection.cpu_hours.items() if curve.any()},
        "waits": [
            {"site": wait.site, "modality": wait.modality, "seconds": round(wait.seconds, 3)} for wait in one.waits
        ],
    }


def _rounded(curve: Curve) -> list[float]:
    return [float(f"{value:.6g}") for value in curve]
