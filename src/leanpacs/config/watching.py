"""The audit trail and the log."""

from __future__ import annotations

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


class LogSettings(Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity shown.")
    format: Literal["console", "json"] = Field(
        default="console", description="'console' for people, 'json' for one JSON object on each line."
    )
