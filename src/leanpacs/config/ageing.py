"""What happens to instances after they have settled, and where that work runs."""

from __future__ import annotations

import re
from datetime import time
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from leanpacs.config.section import Bytes, Seconds, Section

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _window(text: str) -> str:
    if not _WINDOW.fullmatch(text):
        raise ValueError("write a window as HH:MM-HH:MM in local time, such as 19:00-06:30")
    return text


Window = Annotated[str, AfterValidator(_window)]


class LifecycleSettings(Section):
    """What a running archive does by itself with what it holds; the policy says what is wanted."""

    enabled: bool = Field(default=True, description="Whether `leanpacs serve` follows the policy in the background.")
    policy: str = Field(
        default="default", min_length=1, description="TOML file of the policy, or the name of one that comes along."
    )
    workers: int = Field(default=0, ge=0, le=1024, description="Worker processes; 0 means one for each CPU core.")
    windows: tuple[Window, ...] = Field(
        default=(), description="When work may be begun, local time, such as 19:00-06:30; an empty list: always."
    )
    cpu_share: float = Field(
        default=1.0, gt=0, le=1, description="Part of the workers' time that may be used; the rest they rest."
    )
    io_bytes_per_second: Bytes = Field(
        default=0, description="Bytes that work may read and write in a second, on average; 0 sets no limit."
    )
    busy_backlog_bytes: Bytes = Field(
        default=64 << 20, description="Nothing is begun while more than this has landed and is not settled."
    )
    busy_load: float = Field(
        default=1.5,
        gt=0,
        description="Nothing is begun by `serve` while the load of the machine for each core is higher.",
    )
    interval_seconds: Seconds = Field(
        default=600.0, gt=0, description="How long `serve` waits before it plans again when there was nothing to do."
    )
    retry_seconds: Seconds = Field(
        default=86_400.0, description="What failed is tried again after this time, longer each time."
    )
    replaced_grace_seconds: Seconds = Field(
        default=3600.0, description="How long the blob of a form that was replaced stays, for those who read it."
    )
    retrain_after_instances: int = Field(
        default=5000,
        ge=0,
        description="A dictionary for heads is trained again when so many instances of its SOP class have come since; "
        "it is kept if it saves at least 2 %. 0: never. Rules with newest_dictionary compress what is held again.",
    )
    scrub_days: float = Field(
        default=90.0, ge=0, description="Every blob is read back and compared with its digest so often; 0: never."
    )
    scrub_decode_percent: float = Field(
        default=2.0,
        ge=0,
        le=100,
        description="Part of those that is decoded as well, by a second decoder if there is one.",
    )

    @property
    def spans(self) -> tuple[tuple[time, time], ...]:
        """The windows as times; one whose end is before its begin goes over midnight."""
        return tuple(
            (time.fromisoformat(begin), time.fromisoformat(end))
            for begin, _, end in (window.partition("-") for window in self.windows)
        )


class ExecutorKind(StrEnum):
    """Where lifecycle work runs."""

    LOCAL = "local"
    DASK = "dask"


class ExecutorSettings(Section):
    """Where lifecycle work runs: in processes here, or on a Dask cluster."""

    kind: ExecutorKind = Field(default=ExecutorKind.LOCAL, description="'local' or 'dask'.")
    address: str = Field(
        default="", description="Address of the Dask scheduler (tcp://HOST:PORT); empty: a cluster on this machine."
    )
    retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a task is given to a worker again when one stops, or a store does not answer it.",
    )
