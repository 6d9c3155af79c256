"""Compression dictionary transport: DICOM JSON goes out as dcz to clients that hold our dictionary.

The dictionary is one file that ships with the release. It was trained on invented metadata, so it may be given to
everybody and kept for ever. Answers never become dictionaries: one patient's data cannot be guessed from the size of
another's.

References
----------
RFC 9842 (compression dictionary transport): 2.1 (Use-As-Dictionary), 2.2 (Available-Dictionary), 5 (dcz), 6.2 (Vary),
9 (security); RFC 8941 3.3.5 (byte sequences).
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from leanpacs.services.dicomweb import media
from leanpacs.services.operations import Operation, Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FILE: Final = "dicom-json.dict"
_MAGIC: Final = b"\x5e\x2a\x4d\x18\x20\x00\x00\x00"
"""A skippable frame of Zstandard; the SHA-256 of the dictionary is its content (RFC 9842 5)."""
_CODED: Final = frozenset({media.DICOM_JSON, media.JSON})
_LEAST_BYTES: Final = 200
_LEVEL: Final = 9
_LARGE_BYTES: Final = 256 << 10
_LEVEL_OF_LARGE: Final = 3
"""In large bodies the dictionary matters less than the time."""
_DCZ: Final = re.compile(r"\s*dcz\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*", re.IGNORECASE)


@cache
def content() -> bytes:
    """Return the dictionary."""
    return resources.files("leanpacs.services.dicomweb").joinpath(_FILE).read_bytes()


@cache
def digest() -> bytes:
    """SHA-256 of the dictionary."""
    return hashlib.sha256(content()).digest()


@cache
def _prepared(level: int) -> zstandard.ZstdCompressionDict:
    """The dictionary digested for a level: milliseconds once."""
    prepared = zstandard.ZstdCompressionDict(content(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    prepared.precompute_compress(level=level)
    return prepared


def path() -> str:
    """Path of the dictionary below the root of the service; another content has another path."""
    return f"/dictionaries/{digest().hex()[:16]}"


def operation(root: str) -> Operation:
    """Return the operation that gives the dictionary, to everybody.

    Parameters
    ----------
    root : str
        Root of the service, for whose answers the dictionary is.
    """

    async def give(_request: Request) -> Response:
        headers = {
            "use-as-dictionary": f'match="{root}/*"',
            "cache-control": "public, max-age=31536000, immutable",
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
        }
        return Response(content(), headers=headers, media_type=media.OCTETS)

    return Operation(
        "dictionary",
        "GET",
        root + path(),
        give,
        Right.NONE,
        "The dictionary that DICOM JSON is compressed with.",
        "RFC 9842",
        gives={200: (media.OCTETS,)},
    )


def is_held(headers: Headers) -> bool:
    """Whether a client has the dictionary, and takes dcz."""
    found = (_DCZ.fullmatch(item) for item in headers.get("accept-encoding", "").split(","))
    takes = any(match is not None and float(match[1] or 1) > 0 for match in found)
    return takes and headers.get("available-dictionary", "").strip() == _held_field()


@cache
def _held_field() -> str:
    """Value of Available-Dictionary when it is ours: a byte sequence of RFC 8941."""
    return f":{base64.b64encode(digest()).decode()}:"


def encoded(body: bytes) -> bytes:
    """Return a body as dcz."""
    return _MAGIC + digest() + _compressor(len(body)).compress(body)


def _compressor(size: int) -> zstandard.ZstdCompressor:
    level = _LEVEL if size <= _LARGE_BYTES else _LEVEL_OF_LARGE
    return zstandard.ZstdCompressor(level=level, dict_data=_prepared(level))


class DictionaryMiddleware:
    """Encodes JSON below a root as dcz for clients that hold the dictionary, and tells others where it is.

    Browsers look for that in pages, so these say it, too. Stands inside of the middleware for other content codings,
    which leaves alone what is encoded already.

    Parameters
    ----------
    app : ASGI application
        Whose answers are encoded.
    root : str
        Only below this path.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_below = scope["path"].startswith(self._root)
        link = f'<{self._root}{path()}>; rel="compression-dictionary"'
        encoder = _Encoder(send, Headers(scope=scope), _CODED if is_below else frozenset(), link)
        await self._app(scope, receive, encoder.send)


class _Encoder:
    """One answer on its way."""

    def __init__(self, send: Send, request: Headers, coded: frozenset[str], link: str) -> None:
        self._send = send
        self._coded_types = coded
        self._is_held = is_held(request)
        self._link = link
        self._start: Message = {}
        self._compressor: zstandard.ZstdCompressionObj | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._start:
            start, self._start = self._start, {}
            await self._first(start, message)
        elif self._compressor is not None and message["type"] == "http.response.body":
            await self._send({**message, "body": self._coded(message)})
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = MutableHeaders(raw=message["headers"])
        media_type = headers.get("content-type", "").partition(";")[0]
        if media_type == "text/html" and not self._is_held:
            headers.append("link", self._link)
        if media_type in self._coded_types:
            headers.add_vary_header("Accept-Encoding, Available-Dictionary")
            if not self._is_held:
                headers.append("link", self._link)
            elif "content-encoding" not in headers and message["status"] != 206:
                self._start = {**message, "headers": headers.raw}  # the length decides: it comes with the first body
                return
        await self._send({**message, "headers": headers.raw})

    async def _first(self, start: Message, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if not more and len(body) < _LEAST_BYTES:
            await self._send(start)
            await self._send(message)
            return
        headers = MutableHeaders(raw=start["headers"])
        headers["content-encoding"] = "dcz"
        etag = headers.get("etag")
        if etag is not None and not etag.startswith("W/"):
            headers["etag"] = f"W/{etag}"
        if more:
            del headers["content-length"]
            self._compressor = _compressor(_LARGE_BYTES + 1).compressobj()
            body = _MAGIC + digest() + self._coded(message)
        else:
            body = encoded(body)
            headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({**message, "body": body})

    def _coded(self, message: Message) -> bytes:
        assert self._compressor is not None
        made = self._compressor.compress(message.get("body", b""))
        return made if message.get("more_body", False) else made + self._compressor.flush()
