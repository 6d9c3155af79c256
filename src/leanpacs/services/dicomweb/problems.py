"""Errors as HTTP: one table from our errors to status codes, and problem bodies.

References
----------
RFC 9457 (problem details), PS3.18 8.5 (status codes).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from leanpacs import errors

if TYPE_CHECKING:
    from starlette.requests import Request

_log = logging.getLogger(__name__)

_NOT_IN_THIS_FORM: Final = 406
RETRY_AFTER_SECONDS: Final = 5

STATUS: Final[Mapping[type[errors.LeanPACSError], int]] = MappingProxyType(
    {
        errors.LeanPACSError: 500,
        errors.ConfigError: 500,
        errors.AlreadyServed: 500,
        # The instance is held, but is such that it has no representation of the kind asked for. As it was
        # received it can always be had.
        errors.DicomError: _NOT_IN_THIS_FORM,
        errors.NotDicom: _NOT_IN_THIS_FORM,
        errors.MissingAttribute: _NOT_IN_THIS_FORM,
        errors.Truncated: _NOT_IN_THIS_FORM,
        errors.EncapsulationError: _NOT_IN_THIS_FORM,
        errors.InflateError: _NOT_IN_THIS_FORM,
        errors.UnsupportedTransferSyntax: _NOT_IN_THIS_FORM,
        errors.UnsupportedFrame: _NOT_IN_THIS_FORM,
        errors.InvalidWorklistItem: 400,
        errors.CodecError: 500,
        errors.DecodeError: 500,
        errors.EncodeError: 500,
        errors.VerificationError: 500,
        errors.StorageError: 500,
        errors.BlobNotFound: 500,
        errors.BlobCorrupt: 500,
        errors.PackError: 500,
        errors.DictionaryMissing: 500,
        errors.NameTaken: 500,
        errors.StoreFull: 507,
        errors.StoreUnavailable: 503,
        errors.BeingRestored: 503,
        errors.CatalogError: 500,
        errors.InstanceNotFound: 404,
        errors.FrameNotFound: 404,
        errors.InvalidQuery: 400,
        errors.CatalogUnavailable: 503,
        errors.CatalogConflict: 503,
        errors.WorkerError: 500,
        errors.WorkerCrashed: 500,
        errors.WorkerTimeout: 500,
        errors.WorkerOutOfMemory: 500,
        errors.RefusedByPolicy: 403,
        errors.ReportError: 500,
    }
)
"""HTTP status for every error that LeanPACS raises on purpose."""


class Problem(HTTPException):
    """A request that cannot be served as it stands; becomes a problem body.

    Parameters
    ----------
    status : int
        HTTP status code.
    detail : str
        What is wrong, and what would be right, for people.
    headers : mapping, optional
        Further header fields of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)


def status_of(error: errors.LeanPACSError) -> int:
    """HTTP status for an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem body (RFC 9457)."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(
        orjson.dumps(body),
        status,
        {"cache-control": "no-store", **(headers or {})},
        "application/problem+json",
    )


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer for an `HTTPException`, ours or the framework's."""
    assert isinstance(error, HTTPException)
    detail = error.detail if isinstance(error, Problem) else _what_there_is(request, error)
    return problem_response(error.status_code, detail, error.headers)


def _what_there_is(request: Request, error: HTTPException) -> str:
    """In place of the framework's words, which only repeat the status."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "Nothing is at this path. What there is, /openapi.json tells."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        return f"{request.method} is no method of this resource; it has {methods}."
    return error.detail


async def answer_known_error(request: Request, error: Exception) -> Response:
    """Answer for an error raised on purpose."""
    assert isinstance(error, errors.LeanPACSError)
    status = status_of(error)
    if status >= 500 and not isinstance(error, errors.BeingRestored):
        # What will pass by itself is told in one line: where it came about in the code says nothing of it.
        trace = None if error.transient else error
        where = {"action": request.method, "path": request.url.path}
        _log.error("request failed: %s", error, exc_info=trace, extra=where)
    headers = {"retry-after": str(_retry_after(error))} if error.transient else None
    return problem_response(status, str(error), headers)


def _retry_after(error: errors.LeanPACSError) -> int:
    """Seconds until it may be tried again (RFC 9110 10.2.3)."""
    if isinstance(error, errors.BeingRestored) and error.seconds is not None:
        return max(1, ceil(error.seconds))
    return RETRY_AFTER_SECONDS


async def answer_unknown_error(_request: Request, _error: Exception) -> Response:
    """Answer for a fault of ours; the text tells nothing of the inside, the log does."""
    return problem_response(500, "The server failed on this request; its log tells why.")
