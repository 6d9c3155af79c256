"""The report as one HTML file that needs nothing else: no network, no server."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any, Final

import jinja2

from leanpacs.report import wording
from leanpacs.report.headline import GIVES_UP_SECONDS, NEARLY_ALL, headline, pareto, shown, transfers
from leanpacs.report.results import FOUND, RAW, Analysis, Group

_GROUPS_SHOWN: Final = 40


def render(analysis: Analysis) -> str:
    """Make the page.

    Parameters
    ----------
    analysis : Analysis
        What was measured.

    Returns
    -------
    str
        HTML with style, figures and scripts in it.
    """
    folder = resources.files("leanpacs.report.page")

    def part(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        size=wording.size,
        percent=wording.percent,
        duration=wording.duration,
        speed=wording.speed,
        interval=wording.interval,
    )
    top = headline(analysis)
    return environment.from_string(part("page.html")).render(
        a=analysis,
        top=top,
        best=top.best.format if top.best else "",
        formats={one.key: one for one in analysis.formats},
        results=sorted(analysis.total.formats, key=lambda one: -one.total_bytes.value),
        front=pareto(analysis.total.formats),
        times=_times(analysis),
        dimensions=_dimensions(analysis),
        families=sorted({point.family for point in analysis.lossy}),
        gives_up=GIVES_UP_SECONDS,
        style=part("page.css"),
        plot=part("plot.js").replace("</script", "<\\/script"),
        script=part("page.js"),
        data=_data(analysis),
    )


def _times(analysis: Analysis) -> list[tuple[str, list[tuple[float, float]]]]:
    """Rows of the transfer table: label, then (seconds in all, of which decoding) for each link."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in transfers(analysis):
        found.setdefault(one.label, []).append((one.total_seconds, one.decode_seconds))
    return list(found.items())


def _dimensions(analysis: Analysis) -> list[tuple[str, list[Group], int]]:
    """Heading, the largest groups, and how many more there are."""
    named = (
        ("Modality", analysis.by_modality),
        ("SOP class", analysis.by_sop_class),
        ("Manufacturer", analysis.by_manufacturer),
        ("Transfer syntax as found", analysis.by_transfer_syntax),
    )
    return [(name, groups[:_GROUPS_SHOWN], max(0, len(groups) - _GROUPS_SHOWN)) for name, groups in named]


def _data(analysis: Analysis) -> str:
    """What the charts are drawn from, as JSON that may stand inside a script element."""
    family = {one.key: (one.label, one.family) for one in analysis.formats}
    front = {
        "encode": pareto(analysis.total.formats, "encode_seconds_per_gb"),
        "decode": pareto(analysis.total.formats, "decode_seconds_per_gb"),
    }
    compared = [one.format for one in shown(analysis)]
    top = headline(analysis)
    data: dict[str, Any] = {
        "raw": analysis.total.raw_bytes,
        "formats": [
            {
                "key": one.format,
                "label": family[one.format][0],
                "family": family[one.format][1],
                "bytes": one.total_bytes.value,
                "ratio": one.ratio.value,
                "low": one.ratio.low,
                "high": one.ratio.high,
                "held": one.held,
                "encode": _speed(one.encode_seconds_per_gb),
                "decode": _speed(one.decode_seconds_per_gb),
                "front": [kind for kind, keys in front.items() if one.format in keys],
            }
            for one in analysis.total.formats
        ],
        "transfers": [{**dataclasses.asdict(one), "total": one.total_seconds} for one in transfers(analysis)],
        "links": [link.name for link in analysis.links],
        "gives_up": GIVES_UP_SECONDS,
        "nearly_all": NEARLY_ALL,
        "modalities": [
            {"name": group.name, "raw": group.raw_bytes, "label": family[one.format][0], "ratio": one.ratio.value}
            for group in analysis.by_modality[:16]
            for one in group.formats
            if one.format in {FOUND, "gzip-6", "jpegls", "htj2k", top.best.format if top.best else RAW}
            and one.format in compared
        ],
        "best": top.best_label,
        "lossy": [dataclasses.asdict(one) for one in analysis.lossy],
        "progressive": [dataclasses.asdict(one) for one in analysis.progressive],
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _speed(seconds_per_gb: float | None) -> float | None:
    return 1000 / seconds_per_gb if seconds_per_gb else None
