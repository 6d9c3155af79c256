"""STOW-RS: store instances.

References
----------
PS3.18 10.5 (store transaction), PS3.18 I (Store Instances Response Module).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from leanpacs.services.dicomweb import media, storeresponse
from leanpacs.services.dicomweb.described import METADATA_TYPES, DescribedReceiver
from leanpacs.services.dicomweb.nativexml import native_xml
from leanpacs.services.dicomweb.problems import RETRY_AFTER_SECONDS, Problem
from leanpacs.services.dicomweb.receive import BrokenBody, MultipartReceiver, Receiver, SingleReceiver
from leanpacs.services.dicomweb.storeresponse import PartReport
from leanpacs.services.dicomweb.transfer import Lander, Transfer
from leanpacs.services.dicomweb.urls import Urls
from leanpacs.services.threads import Threads

if TYPE_CHECKING:
    from leanpacs.telemetry import Metrics

_log = logging.getLogger(__name__)

_GULP_BYTES: Final = 1 << 19
_DRAINED_BYTES: Final = 64 << 20
_LONGEST_WARNING: Final = 200
_EXPECTED: Final = (
    f'A store request is multipart/related; type="{media.DICOM}" with a boundary, or one instance as {media.DICOM}; or '
    f'metadata and bulk data as multipart/related; type="{media.DICOM_JSON}" or "{media.DICOM_XML}".'
)


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a sender may ask of the archive.

    Attributes
    ----------
    largest_instance_bytes : int
        Larger instances are refused.
    idle_seconds : float
        A request of which nothing comes for longer is given up.
    """

    largest_instance_bytes: int = 64 << 30
    idle_seconds: float = 120.0


async def store(
    request: Request,
    archive: Lander,
    threads: Threads,
    urls: Urls,
    *,
    limits: StoreLimits,
    metrics: Metrics | None = None,
) -> Response:
    """Answer POST /studies and POST /studies/{study}.

    Parameters
    ----------
    request : Request
        Path parameter ``study``, if any: all instances have to be of this study.
    archive : Lander
        Where they go.
    threads : Threads
        Where the archive is called.
    urls : Urls
        For the retrieve URLs of the answer.
    limits : StoreLimits
        What a sender may ask of the archive.
    metrics : Metrics, optional
        Where received instances are counted.

    Raises
    ------
    Problem
        The request is none that can be understood, or it holds nothing.
    """
    try:
        form = _form(request)
        receiver = _receiver(request, archive.spool_folder, limits.largest_instance_bytes)
    except Problem:
        await _drain(request)
        raise
    sender = request.client.host if request.client else ""
    transfer = Transfer(archive, receiver, sender, request.path_params.get("study", ""), metrics)
    try:
        async for piece in _gulps(request, limits.idle_seconds):
            await threads.run(transfer.take, piece)
        reports = await threads.run(transfer.end)
    except ClientDisconnect:
        _log.info("store request broken off", extra={"action": "store", "sender": sender})
        return Response(status_code=400)  # nobody is there to read it
    except TimeoutError as error:
        text = f"Nothing came for {limits.idle_seconds:g} seconds; what came before may have been stored."
        raise Problem(408, text, {"connection": "close"}) from error
    finally:
        transfer.discard()
    if not reports:
        raise Problem(400, f"The request holds no instance. {_EXPECTED}")
    return _answer(reports, urls, form)


def _form(request: Request) -> str:
    offers = (media.DICOM_JSON, media.JSON, media.DICOM_XML)
    form = media.choose(media.accepted(request.headers.get("accept")), offers)
    if form is None:
        raise Problem(406, f"The answer to a store request is {media.DICOM_JSON} or {media.DICOM_XML}.")
    return form


def _receiver(request: Request, folder: Path, largest_bytes: int) -> Receiver:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Request bodies are taken without content encoding.", {"accept-encoding": "identity"})
    content_type = media.parse_media_type(request.headers.get("content-type", ""))
    if content_type is not None and content_type.name == media.DICOM:
        return SingleReceiver(folder, largest_bytes)
    if content_type is not None and content_type.name in METADATA_TYPES:
        single = SingleReceiver(folder, largest_bytes, content_type.name)
        return DescribedReceiver(single, folder, largest_bytes)
    if content_type is None or content_type.name != "multipart/related":
        raise Problem(415, _EXPECTED)
    part_type = (content_type.get("type") or media.DICOM).lower()
    if part_type not in (media.DICOM, *METADATA_TYPES):
        raise Problem(415, f"Parts of type {part_type} are not taken. {_EXPECTED}")
    boundary = content_type.get("boundary")
    if not boundary:
        raise Problem(400, f"The Content-Type names no boundary. {_EXPECTED}")
    try:
        if part_type == media.DICOM:
            return MultipartReceiver(boundary, folder, largest_bytes)
        parts = MultipartReceiver(boundary, folder, largest_bytes, any_type=True)
        return DescribedReceiver(parts, folder, largest_bytes)
    except BrokenBody as error:
        raise Problem(400, str(error)) from error


def _answer(reports: Sequence[PartReport], urls: Urls, form: str) -> Response:
    status = storeresponse.status_of(reports)
    module = storeresponse.response_module(reports, urls)
    headers = {"cache-control": "no-store"}
    told = [report.text for report in reports if report.reason]
    if told:
        headers["warning"] = f'299 {urls.service} "{_header_text(told)}"'
    if status in (503, 507):
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    body = native_xml(module) if form == media.DICOM_XML else orjson.dumps(module)
    return Response(body, status, headers, form)


def _header_text(reasons: Sequence[str]) -> str:
    """Return the first reason, fit for a header field; and the number of others, if any."""
    text = reasons[0].encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    text = "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_WARNING]
    return text if len(reasons) == 1 else f"{text} (and {len(reasons) - 1} more)"


async def _gulps(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    """Yield the body in pieces that are worth a thread's while; TimeoutError when it does not come."""
    pieces = request.stream()
    while gulp := await _gulp(pieces, idle_seconds):
        yield gulp


async def _gulp(pieces: AsyncIterator[bytes], idle_seconds: float) -> bytes:
    """The next pieces together; b'' at the end."""
    held: list[bytes] = []
    size, now = 0, asyncio.get_running_loop().time
    async with asyncio.timeout(idle_seconds) as limit:
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _GULP_BYTES:
                break
            limit.reschedule(now() + idle_seconds)
    return b"".join(held)


async def _drain(request: Request) -> None:
    """Read what a client is still sending, so that it comes to read the answer; within reason."""
    received = 0
    try:
        async for piece in request.stream():
            received += len(piece)
            if received > _DRAINED_BYTES:
                return
    except ClientDisconnect:
        return
