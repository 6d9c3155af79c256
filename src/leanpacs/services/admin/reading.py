"""Reading what the administration is asked: bodies, numbers in paths, parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ValidationError

from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.traffic import Group

if TYPE_CHECKING:
    from starlette.requests import Request

_LARGEST_BODY: Final = 1 << 18
JSON: Final = "application/json"

M = TypeVar("M", bound=BaseModel)


async def body_of(request: Request, model: type[M]) -> M:
    """The body of a request.

    Only as ``application/json``: a page of somebody else cannot make a browser send that unasked (Fetch, CORS).

    Raises
    ------
    Problem
        400: it is not what the model says; 413: it is too long; 415: it is of another media type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Problem(415, f"The body has to be {JSON}.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise Problem(413, f"The body is longer than {_LARGEST_BODY} bytes.", {"connection": "close"})
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in error.errors()[:5]]
        raise Problem(400, "; ".join(faults)) from error


def number_of(request: Request) -> int:
    """The number in the path; 404 when it is none."""
    text = request.path_params["number"]
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 15):
        raise Problem(404, f"{text[:64]} is not the number of an entry.")
    return int(text)


def groups_of(request: Request) -> list[Group]:
    """What to sum by; direction and client when nothing is said."""
    named = request.query_params.getlist("by")
    try:
        return [Group(name) for name in dict.fromkeys(named)] or [Group.DIRECTION, Group.CLIENT]
    except ValueError as error:
        raise Problem(400, f"by is one of {', '.join(Group)}.") from error


def moment_of(request: Request, name: str) -> datetime | None:
    """A time among the parameters (ISO 8601; UTC unless it says otherwise)."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(400, f"{name} is a time such as 2026-01-31T12:00Z.") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def switch_of(request: Request, name: str) -> bool | None:
    """A switch among the parameters; None when it is not given."""
    text = request.query_params.get(name)
    if text not in (None, "true", "false"):
        raise Problem(400, f"{name} is true or false.")
    return None if text is None else text == "true"


def limit_of(request: Request, most: int) -> int:
    """How many entries at most."""
    text = request.query_params.get("limit", str(most))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most and len(text) <= 9):
        raise Problem(400, f"limit is a number from 1 to {most}.")
    return int(text)
