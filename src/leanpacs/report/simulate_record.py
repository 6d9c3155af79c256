"""A comparison as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from leanpacs import __version__
from leanpacs.report.simulate_ageing import Curve
from leanpacs.report.simulate_compare import Compared, Comparison

SCHEMA = "leanpacs-simulation/1"


def to_json(comparison: Comparison, *, at: datetime | None = None) -> str:
    """Everything, month by month; read it with any JSON parser.

    ``raw``, ``stored`` and ``billed`` begin with the state before the first month, all other lists with the first
    month. Bytes, hours, seconds, and the currency of the prices.
    """
    given = comparison.given
    record = {
        "schema": SCHEMA,
        "leanpacs": __version__,
        "made_at": (at or datetime.now(UTC)).isoformat(timespec="seconds"),
        "years": given.years,
        "workload": given.workload.model_dump(),
        "ratios": given.ratios.model_dump(),
        "prices": given.prices.model_dump(),
        "policies": [_record(one) for one in comparison.compared],
    }
    return json.dumps(record, indent=1, ensure_ascii=False)


def _record(one: Compared) -> dict[str, Any]:
    projection = one.projection
    return {
        "policy": projection.policy.model_dump(),
        "raw_bytes": _list(projection.raw),
        "stored_bytes": _lists(projection.stored),
        "billed_bytes": _lists(projection.billed),
        "arrived_bytes": _list(projection.arrived),
        "traffic_in_bytes": _list(projection.traffic_in),
        "traffic_out_bytes": _list(projection.traffic_out),
        "line_bytes": _lists(projection.lines),
        "retrieved_bytes": _lists(projection.retrieved),
        "restores": _list(projection.restores),
        "cpu_hours": _lists(projection.cpu_hours),
        "cost": _lists(projection.cost),
        "line_use": one.line_use,
        "waits": [asdict(wait) for wait in one.waits],
        "notes": list(one.notes),
    }


def _list(curve: Curve) -> list[float]:
    return [round(float(value), 6) for value in curve]


def _lists(curves: dict[str, Curve]) -> dict[str, list[float]]:
    return {name: _list(curve) for name, curve in curves.items()}


def to_csv(comparison: Comparison) -> str:
    """One row for each policy, month and figure: policy, month, figure, part, value; levels are those at its end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("policy", "month", "figure", "part", "value"))
    for one in comparison.compared:
        record = _record(one)
        for figure, value in record.items():
            if figure.endswith(("_bytes", "hours")) or figure in ("cost", "restores"):
                parts = value if isinstance(value, dict) else {"": value}
                for part, values in parts.items():
                    for month, number in enumerate(values[-one.projection.months :], 1):
                        writer.writerow((record["policy"]["name"], month, figure, part, number))
    return text.getvalue()
