"""What the administration takes and gives, as models: their JSON schemas describe the interface."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.transcode.target import syntax_named

AE_TITLE = r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$"
"""1 to 16 characters of the default repertoire, no backslash, no space at its ends (PS3.5 6.2, VR AE)."""

RoleName = Literal["read", "write", "delete", "admin"]
Number = Annotated[int, Field(ge=1, le=2**53)]
Text = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]([ -~]*[!-~])?$")]


def _syntax(name: str) -> str:
    try:
        return syntax_named(name)
    except UnsupportedTransferSyntax as error:
        raise ValueError(str(error)) from error


class _Taken(BaseModel):
    """A request body; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewKey(_Taken):
    """A key to be made."""

    name: Text = Field(description="What or whom it is for.")
    roles: Annotated[list[RoleName], Field(min_length=1, max_length=4)] = Field(description="What its bearer may do.")
    days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None, description="It expires after so many days."
    )


class NewDestination(_Taken):
    """Where a destination is, and what it wants; its AE title is in the path."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[0-9A-Za-z.:_-]+$")]
    port: Annotated[int, Field(ge=1, le=65535)]
    prefer: Annotated[list[Annotated[str, AfterValidator(_syntax)]], Field(max_length=16)] = Field(
        default=[], description="Transfer syntaxes (UIDs or keywords) that it wants uncompressed images in."
    )
    tls: bool = Field(default=False, description="Whether to use TLS; the authorities of the system are trusted.")
    reports_apart: bool = Field(
        default=False, description="Whether it wants reports of storage commitment on an association of their own."
    )


class Numbers(_Taken):
    """Entries of a list."""

    ids: Annotated[list[Number], Field(min_length=1, max_length=1000)]


class Key(BaseModel):
    """An API key, without its secret."""

    id: str
    name: str
    roles: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    state: Literal["good", "expired", "revoked"]


class MadeKey(Key):
    """A new API key; the only time that it is shown."""

    key: str


class Destination(BaseModel):
    """Another application entity that instances may be sent to."""

    ae_title: str
    host: str
    port: int
    prefer: list[str]
    tls: bool
    reports_apart: bool
    origin: Literal["settings", "catalog"]


class Waiting(BaseModel):
    """An instance that waits to be sent, or that could not be sent."""

    id: int
    destination: str
    study_uid: str
    series_uid: str
    sop_uid: str
    cause: str
    queued_at: datetime
    due_at: datetime
    attempts: int
    failed: bool
    reason: str


class Quarantined(BaseModel):
    """A file in quarantine."""

    id: int
    name: str
    sender: str
    door: str
    reason: str
    size_bytes: int
    received_at: datetime
    attempts: int


class Tried(BaseModel):
    """What became of a file of the quarantine."""

    id: int
    outcome: str
    reason: str


class Count(BaseModel):
    """How many entries it was."""

    count: int


class Status(BaseModel):
    """What the archive holds."""

    version: str
    patients: int
    studies: int
    series: int
    instances: int
    raw_bytes: int
    stored_bytes: int
    backlog_instances: int
    backlog_bytes: int
    quarantined: int
    outbox_waiting: int
    outbox_failed: int
    free_bytes: int | None


class Traffic(BaseModel):
    """Sums of the traffic ledger; with the groups that were asked for."""

    hour: str | None = None
    day: str | None = None
    direction: str | None = None
    protocol: str | None = None
    client: str | None = None
    site: str | None = None
    modality: str | None = None
    transfer_syntax: str | None = None
    requests: int
    instances: int
    sent_bytes: int
    raw_bytes: int


def schema(model: type[BaseModel], *, listed: bool = False) -> dict[str, Any]:
    """JSON schema of a model, or of a list of it, without references."""
    one = model.model_json_schema()
    return {"type": "array", "items": one} if listed else one
