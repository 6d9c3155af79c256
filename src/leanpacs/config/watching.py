"""The audit trail and the log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from leanpacs.config.section import Section


class AuditSettings(Section):
    """The audit trail."""

    segment_bytes: int = Field(
        default=64 << 20,
        ge=4096,
        description="The trail is continued in a new file when the current one is this large.",
    )
    transfers: bool = Field(
        default=True,
        description="Whether queries and transfers are on it, too: one event for what one party does to one study "
        "within traffic.flush_seconds.",
    )
    messages: Path | None = Field(
        default=None, description="File to which each event is appended as a message of PS3.15 A.5, one on each line."
    )
    syslog: str = Field(
        default="",
        pattern=r"^((udp|tcp|tls)://[^/\s]+)?$",
        description="Collector of such messages: `udp://HOST:514`, `tcp://HOST:601` or `tls://HOST:6514`.",
    )
    syslog_ca: Path | None = Field(
        default=None,
        description="PEM file of the authorities to trust there; those of the system by default.",
    )
    syslog_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate that is shown to the collector, if it wants one."
    )
    syslog_key: Path | None = Field(default=None, description="PEM file with the private key of that certificate.")
    source: str = Field(default="LEANPACS", min_length=1, description="Name of this archive in messages.")
    site: str = Field(default="", description="Name of its site in messages.")


class LogSettings(Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity shown.")
    format: Literal["console", "json"] = Field(
        default="console", description="'console' for people, 'json' for one JSON object on each line."
    )
