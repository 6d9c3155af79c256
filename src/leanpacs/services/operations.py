"""What the HTTP door answers to, as a table: routes, rights and the OpenAPI description are all made from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from leanpacs.services.threads import Threads

Answer = Callable[[Request], Coroutine[Any, Any, Response]]
"""What answers a request."""

OPERATION: Final = "leanpacs.operation"
"""Key of the ASGI scope under which the operation of a request is found, once it is known."""


class Right(StrEnum):
    """What a client must be allowed to do."""

    NONE = "none"
    """Anybody may ask."""
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter, header field or part of the path.

    Attributes
    ----------
    name : str
        As in the request.
    meaning : str
        For people.
    schema : mapping
        JSON schema of the value.
    place : str
        ``query``, ``header`` or ``path``.
    required : bool
        Whether the request needs it.
    """

    name: str
    meaning: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one resource.

    Attributes
    ----------
    name : str
        Short, unique for a method and path together with the path; metrics and logs call it so.
    method : str
        ``GET`` (which answers to HEAD, too), ``POST``, ``DELETE`` ...
    path : str
        Template such as ``/studies/{study}``.
    answer : callable
        Answers the request.
    right : Right
        What the client must be allowed to do.
    summary : str
        One line for people.
    reference : str
        Where it is laid down, such as ``PS3.18 10.4``; '' where it is not.
    parameters : sequence of Parameter
        Beyond those in the path.
    takes : sequence of str
        Media types of the request body.
    gives : mapping
        Status of each answer to its media types; an empty sequence: no body.
    refuses : sequence of int
        Statuses that come with a problem body.
    body : mapping
        JSON schema of the request body; {} says nothing of it.
    schemas : mapping
        Status of an answer to the JSON schema of its body.
    threads : Threads, optional
        Where it is answered in one go: for what awaits nothing but calls in them; by default, on the event loop.
    """

    name: str
    method: str
    path: str
    answer: Answer
    right: Right
    summary: str
    reference: str = ""
    parameters: Sequence[Parameter] = ()
    takes: Sequence[str] = ()
    gives: Mapping[int, Sequence[str]] = field(default_factory=dict)
    refuses: Sequence[int] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    threads: Threads | None = None

    @property
    def path_names(self) -> list[str]:
        """Names of the variables in the path."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def template(self) -> str:
        """The path without converters, as OpenAPI writes it."""
        return re.sub(r"{(\w+):\w+}", r"{\1}", self.path)

    def below(self, root: str) -> Operation:
        """Return the same with its path below ``root``."""
        return replace(self, path=root + self.path)


Guard = Callable[[Request, Operation], Awaitable[None]]
"""Called before each answer; raises what the client is to be told when it may not have it."""


async def _open_door(_request: Request, _operation: Operation) -> None:
    """Let everybody in."""


def routes(operations: Iterable[Operation], guard: Guard = _open_door) -> list[Route]:
    """Return one route for each path, with all of its methods; OPTIONS tells which these are.

    Parameters
    ----------
    operations : iterable of Operation
        In the order in which paths are tried.
    guard : callable, optional
        Called with the request and its operation before the answer.
    """
    paths: dict[str, list[Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, []).append(operation)
    return [_route(path, methods, guard) for path, methods in paths.items()]


def _route(path: str, operations: Sequence[Operation], guard: Guard) -> Route:
    resource = _Resource(operations, guard)
    return Route(path, resource, methods=resource.methods, name=operations[0].name)


class _Resource:
    """Answers what is asked of one path (ASGI)."""

    def __init__(self, operations: Sequence[Operation], guard: Guard) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._guard = guard

    @property
    def methods(self) -> list[str]:
        """Those that are answered; OPTIONS tells the others."""
        return sorted({*self._by_method, "OPTIONS"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        operation = self._by_method.get(request.method)
        if operation is None:
            await Response(status_code=204, headers={"allow": ", ".join(self.methods)})(scope, receive, send)
            return
        scope[OPERATION] = operation
        await self._guard(request, operation)
        if operation.threads is None:
            left: Response | None = await operation.answer(request)
        else:
            left = await operation.threads.whole(partial(_sent, operation, request, send))
        if left is not None:
            await left(scope, receive, send)


async def _sent(operation: Operation, request: Request, send: Send) -> Response | None:
    """Answer, and send the answer if its body is at hand: that awaits nothing. Another one is returned."""
    response = await operation.answer(request)
    if not hasattr(response, "body"):  # Starlette's that are streamed have none, nor do ours
        return response
    await response(request.scope, request.receive, send)
    return None


_PROBLEM: Final = "application/problem+json"


def openapi(operations: Iterable[Operation], *, title: str, version: str, server: str) -> dict[str, Any]:
    """Describe operations as an OpenAPI 3.1 document.

    Parameters
    ----------
    operations : iterable of Operation
        All of them.
    title, version : str
        Of what is described.
    server : str
        URL that the paths are below.
    """
    listed = sorted(operations, key=lambda operation: operation.template)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": server}],
        "paths": {path: _path_item(list(group)) for path, group in groupby(listed, key=lambda one: one.template)},
        "components": {"schemas": {"Problem": _PROBLEM_SCHEMA}, "securitySchemes": _SCHEMES},
    }


def _path_item(operations: Sequence[Operation]) -> dict[str, Any]:
    return {operation.method.lower(): _described(operation) for operation in operations}


def _described(operation: Operation) -> dict[str, Any]:
    named = {parameter.name: parameter for parameter in operation.parameters if parameter.place == "path"}
    parameters = [
        replace(named.get(name, Parameter(name, "")), place="path", required=True) for name in operation.path_names
    ]
    parameters += [parameter for parameter in operation.parameters if parameter.place != "path"]
    described: dict[str, Any] = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "x-right": str(operation.right),
        "parameters": [_parameter(parameter) for parameter in parameters],
        "responses": _responses(operation),
    }
    if operation.right is not Right.NONE:
        described["security"] = [{"bearer": []}, {"basic": []}]
    if operation.reference:
        described["description"] = operation.reference
    if operation.takes:
        content: dict[str, Any] = {name: {"schema": dict(operation.body)} for name in operation.takes}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _identifier(operation: Operation) -> str:
    return operation.method.lower() + re.sub(r"\W+", "-", operation.template)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }
    return made | ({"description": parameter.meaning} if parameter.meaning else {})


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, names in operation.gives.items():
        found[str(status)] = {"description": _MEANING.get(status, "")}
        if names:
            shown = {"schema": operation.schemas[status]} if status in operation.schemas else {}
            found[str(status)]["content"] = dict.fromkeys(names, shown)
    problem = {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    credentials = () if operation.right is Right.NONE else (401, 403)
    for status in (*operation.refuses, *credentials):
        told = found.setdefault(str(status), {"description": _MEANING.get(status, "")})
        told["content"] = told.get("content", {}) | problem
    return found


_MEANING: Final[Mapping[int, str]] = {
    200: "It is all there.",
    201: "It is made.",
    202: "Some of it is done, or there is something to be said about it.",
    204: "There is nothing.",
    206: "A part of it.",
    304: "The client has it already.",
    400: "Something in the request is not understood.",
    401: "Credentials are needed.",
    403: "The client may not do this.",
    404: "It is not held.",
    406: "It cannot be had in any form that is accepted.",
    408: "Nothing came for too long.",
    409: "Nothing was done, because of what is held or was sent.",
    413: "The body is too long.",
    415: "The body is of another media type.",
    416: "There is no such range.",
    501: "It asks for what is not made here.",
    500: "A fault of the archive.",
    503: "Something does not answer; come again.",
    507: "There is no room; come again.",
}

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the identity provider."},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the password, under any name."},
}

_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}
