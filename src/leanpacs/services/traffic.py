"""Sums of the traffic ledger, as the command line and the administration show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from leanpacs.catalog import Volume


class Group(StrEnum):
    """What sums can be made by."""

    HOUR = "hour"
    DAY = "day"
    DIRECTION = "direction"
    PROTOCOL = "protocol"
    CLIENT = "client"
    SITE = "site"
    MODALITY = "modality"
    TRANSFER_SYNTAX = "transfer_syntax"


class Summing(Protocol):
    """What is needed of a catalog."""

    def traffic(
        self, by: Sequence[str], *, since: datetime | None = None, until: datetime | None = None
    ) -> list[tuple[tuple[Any, ...], Volume]]:
        """Sums by fields."""


@dataclass(frozen=True, slots=True)
class TrafficSum:
    """How much it was of one kind."""

    group: Mapping[str, str]
    volume: Volume

    def record(self) -> dict[str, str | int]:
        """Both as one flat object."""
        return {**self.group, **asdict(self.volume)}


def traffic_sums(
    catalog: Summing, by: Sequence[Group], *, since: datetime | None = None, until: datetime | None = None
) -> list[TrafficSum]:
    """Sum up the ledger; in the order of the groups.

    Parameters
    ----------
    by : sequence of Group
        What to sum by.
    since, until : datetime, optional
        Aware; hours that begin from ``since`` on and before ``until``.
    """
    columns = ["hour" if group is Group.DAY else group.value for group in by]
    summed: dict[tuple[str, ...], Volume] = {}
    for key, volume in catalog.traffic(list(dict.fromkeys(columns)), since=since, until=until):
        found = dict(zip(dict.fromkeys(columns), key, strict=True))
        texts = tuple(_text(group, found[column]) for group, column in zip(by, columns, strict=True))
        summed[texts] = summed.get(texts, Volume()) + volume
    return [TrafficSum(dict(zip(by, texts, strict=True)), volume) for texts, volume in summed.items()]


def _text(group: Group, value: str | datetime) -> str:
    if isinstance(value, str):
        return value
    return value.date().isoformat() if group is Group.DAY else value.isoformat(timespec="minutes")
