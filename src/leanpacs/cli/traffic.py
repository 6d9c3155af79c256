"""``leanpacs traffic``: what went over the lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, ratio
from leanpacs.services.traffic import Group, TrafficSum, traffic_sums

_BAR = 24


def traffic(
    by: Annotated[
        list[Group] | None,
        typer.Option(help="What to sum by; may be given several times. [default: direction, client]"),
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Until before this time (UTC).")] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show what came in and went out, and what it would have been without compression.

    Sums are kept by hour; running servers write them every few seconds (`traffic.flush_seconds`). Places are named by
    the settings (`traffic.sites`). Headers of the protocols are not counted.
    """
    settings = settings_of(data, config)
    groups = tuple(by or (Group.DIRECTION, Group.CLIENT))
    with open_archive(settings.storage.data, settings) as archive:
        found = traffic_sums(archive.catalog, groups, since=_utc(since), until=_utc(until))
    if json:
        print_json([one.record() for one in found])
        return
    columns = [
        *(Column(group.value) for group in groups),
        *(Column(text, True) for text in ("requests", "instances", "sent", "raw", "ratio")),
        Column("sent of raw"),
    ]
    longest = max((max(one.volume.raw_bytes, one.volume.sent_bytes) for one in found), default=0)
    print_table("Traffic", columns, [_row(one, longest) for one in found])


def _row(one: TrafficSum, longest: int) -> Sequence[str]:
    volume = one.volume
    return (
        *(value or "-" for value in one.group.values()),
        str(volume.requests),
        str(volume.instances),
        human_bytes(volume.sent_bytes),
        human_bytes(volume.raw_bytes),
        ratio(volume.sent_bytes, volume.raw_bytes),
        _bar(volume.sent_bytes, volume.raw_bytes, longest),
    )


def _bar(sent_bytes: int, raw_bytes: int, longest: int) -> str:
    """What was sent, dark, on what it would have been, light."""
    sent, raw = (round(_BAR * size / longest) if longest else 0 for size in (sent_bytes, raw_bytes))
    return "█" * sent + "░" * max(raw - sent, 0)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
