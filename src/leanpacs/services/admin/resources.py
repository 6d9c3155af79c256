"""The resources of the administration as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from leanpacs.services.admin import models
from leanpacs.services.admin.reading import JSON
from leanpacs.services.operations import Answer, Operation, Parameter, Right
from leanpacs.services.traffic import Group

if TYPE_CHECKING:
    from pydantic import BaseModel

    from leanpacs.services.admin.app import Admin

_ROOT: Final = "/admin"
_TIME: Final = {"type": "string", "format": "date-time"}
_TITLE: Final = Parameter("ae_title", "AE title.", {"type": "string", "pattern": models.AE_TITLE}, "path")
_KEY: Final = Parameter("key_id", "ID of a key.", {"type": "string", "pattern": "^[0-9a-f]{12}$"}, "path")
_NUMBER: Final = Parameter(
    "number", "Number of an entry.", {"type": "integer", "minimum": 1, "maximum": 10**15 - 1}, "path"
)
_SUMMED: Final = (
    Parameter(
        "by",
        "What to sum by; direction and client when it is not given.",
        {"type": "array", "items": {"type": "string", "enum": [group.value for group in Group]}},
    ),
    Parameter("since", "From this time on.", _TIME),
    Parameter("until", "Until before this time.", _TIME),
)
_CHOSEN: Final = (
    Parameter("destination", "Only what is for this AE title."),
    Parameter("failed", "Only what has failed, or only what has not.", {"type": "string", "enum": ["true", "false"]}),
    Parameter("limit", "Most entries in the answer.", {"type": "integer", "minimum": 1, "maximum": 1000}),
)


def operations(admin: Admin) -> list[Operation]:
    """Return all operations."""
    return [
        _shown("status", "/status", admin.status, "What is held and what waits.", models.Status, listed=False),
        _shown("traffic", "/traffic", admin.traffic, "Sums of the traffic ledger.", models.Traffic, _SUMMED),
        _shown("keys", "/keys", admin.keys, "All API keys, without their secrets.", models.Key),
        _taken("make-key", "POST", "/keys", admin.make_key, "Make an API key.", models.NewKey, 201, models.MadeKey),
        _ended("revoke-key", "/keys/{key_id}", admin.revoke_key, "Take an API key back, for good.", _KEY),
        _shown("destinations", "/destinations", admin.destinations, "Where may be sent to.", models.Destination),
        _taken(
            "keep-destination",
            "PUT",
            "/destinations/{ae_title:path}",
            admin.keep_destination,
            "Add a destination, or change it.",
            models.NewDestination,
            200,
            models.Destination,
            parameters=(_TITLE,),
            refuses=(404, 409),
        ),
        _ended(
            "forget-destination",
            "/destinations/{ae_title:path}",
            admin.forget_destination,
            "Remove a destination; what waits for it stays.",
            _TITLE,
            refuses=(409,),
        ),
        _shown("outbox", "/outbox", admin.outbox, "What waits to be sent, oldest first.", models.Waiting, _CHOSEN),
        _taken(
            "retry-outbox",
            "POST",
            "/outbox/retry",
            admin.retry_outbox,
            "Try entries again at once.",
            models.Numbers,
            200,
            models.Count,
        ),
        _ended("drop-outbox", "/outbox/{number}", admin.drop_outbox, "Give up an entry.", _NUMBER),
        _shown(
            "quarantine",
            "/quarantine",
            admin.quarantine,
            "What does not read as DICOM.",
            models.Quarantined,
        ),
        _taken(
            "retry-quarantine",
            "POST",
            "/quarantine/retry",
            admin.retry_quarantine,
            "Try to take files in again.",
            models.Numbers,
            200,
            models.Tried,
            listed=True,
        ),
        _ended("drop-quarantine", "/quarantine/{number}", admin.drop_quarantine, "Drop a file for good.", _NUMBER),
    ]


def _shown(
    name: str,
    path: str,
    answer: Answer,
    summary: str,
    model: type[BaseModel],
    parameters: Sequence[Parameter] = (),
    *,
    listed: bool = True,
) -> Operation:
    return Operation(
        f"admin-{name}",
        "GET",
        _ROOT + path,
        answer,
        Right.ADMIN,
        summary,
        parameters=parameters,
        gives={200: (JSON,)},
        schemas={200: models.schema(model, listed=listed)},
        refuses=(*((400,) if parameters else ()), 503),
    )


def _taken(
    name: str,
    method: str,
    path: str,
    answer: Answer,
    summary: str,
    body: type[BaseModel],
    status: int,
    model: type[BaseModel],
    *,
    listed: bool = False,
    parameters: Sequence[Parameter] = (),
    refuses: Sequence[int] = (),
) -> Operation:
    schemas: dict[int, dict[str, Any]] = {status: models.schema(model, listed=listed)}
    return Operation(
        f"admin-{name}",
        method,
        _ROOT + path,
        answer,
        Right.ADMIN,
        summary,
        parameters=parameters,
        takes=(JSON,),
        body=models.schema(body),
        gives={status: (JSON,)},
        schemas=schemas,
        refuses=(400, *refuses, 413, 415, 503),
    )


def _ended(
    name: str, path: str, answer: Answer, summary: str, parameter: Parameter, *, refuses: Sequence[int] = ()
) -> Operation:
    return Operation(
        f"admin-{name}",
        "DELETE",
        _ROOT + path,
        answer,
        Right.ADMIN,
        summary,
        parameters=(parameter,),
        gives={204: ()},
        refuses=(404, *refuses, 503),
    )
