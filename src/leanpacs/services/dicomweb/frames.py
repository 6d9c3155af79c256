"""WADO-RS: retrieve frames and bulk data.

References
----------
PS3.18 10.4.1.1.6 (frames), PS3.18 10.4.1.1.5 (bulk data), PS3.18 8.7.3.3 (bulk data media types).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from leanpacs.dicom.uids import EXPLICIT_LE, transfer_syntax
from leanpacs.errors import (
    DecodeError,
    FrameNotFound,
    MissingAttribute,
    UnsupportedFrame,
    UnsupportedTransferSyntax,
)
from leanpacs.services.dicomweb import caching, forms, media, multipart
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.streaming import ChunkedResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.retrieve import FrameBytes, Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.forms import FrameForm
    from leanpacs.services.dicomweb.media import MediaRange
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

_MOST_FRAMES: Final = 10_000
_PIXEL_DATA: Final = frozenset({"7FE00008", "7FE00009", "7FE00010"})
_PATH: Final = re.compile(r"[0-9A-F]{8}(/[0-9]{1,6}/[0-9A-F]{8}){0,16}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where frames come from: an instance, and the archive it is in."""

    row: InstanceRow
    retriever: Retriever
    threads: Threads
    urls: Urls

    @property
    def url(self) -> str:
        """Retrieve URL of the instance."""
        return self.urls.instance(self.row.study_uid, self.row.series_uid, self.row.sop_uid)

    @property
    def number_of_frames(self) -> int:
        """Frames that the instance says it has."""
        return max(self.row.number_of_frames or 1, 1)


def frame_numbers(text: str) -> list[int]:
    """Read a frame list such as ``1,3,2``.

    Raises
    ------
    Problem
        400: not a list of numbers from 1.
    """
    numbers = text.split(",")
    if len(numbers) > _MOST_FRAMES or not all(re.fullmatch(r"0*[1-9][0-9]{0,8}", n) for n in numbers):
        raise Problem(400, "A frame list is one or more numbers from 1, separated by commas.")
    return [int(number) for number in numbers]


async def frames(request: Request, source: Source, numbers: Sequence[int]) -> Response:
    """Answer GET of frames.

    Raises
    ------
    FrameNotFound
        The instance does not have one of them.
    Problem
        404: it has none at all; 406: they cannot be had in an acceptable form.
    """
    if source.row.rows is None:
        raise Problem(404, "The instance has no frames.")
    for number in numbers:
        if number > source.number_of_frames:
            raise FrameNotFound(number, source.number_of_frames)
    accepted = [form for form in _forms(request, source) if form.multipart or len(numbers) == 1]
    form, first = await _first(source, accepted, numbers[0])
    etag = _etag(source, form, ",".join(map(str, numbers)))
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    found = chain([first], (_frame(source, number, form) for number in numbers[1:]))
    if not form.multipart:
        return await _single(request, source, form, (frame.data for frame in found), etag)
    parts = (
        BodyPart(_content_type(form), iter([frame.data]), f"{source.url}/frames/{number}", len(frame.data))
        for number, frame in zip(numbers, found, strict=True)
    )
    return await _multipart(request, source, form, parts, etag)


async def bulk_data(request: Request, source: Source, path: str) -> Response:
    """Answer GET of a BulkDataURI.

    Raises
    ------
    Problem
        404: nothing is there; 406: it cannot be had in an acceptable form.
    """
    path = path.upper()
    if not _PATH.fullmatch(path):
        raise Problem(404, f"{path} is not the path of an element, such as 7FE00010.")
    if path in _PIXEL_DATA:
        return await _pixel_data(request, source, path)
    accepted = next((a for a in _accepted(request) if a.covers(media.OCTETS)), None)
    if accepted is None:
        raise Problem(406, f'This value can be had as multipart/related; type="{media.OCTETS}".')
    form = forms.FrameForm(media.OCTETS, EXPLICIT_LE, accepted.multipart is not False)
    etag = _etag(source, form, path)
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    try:
        value = await source.threads.run(source.retriever.bulk_value, source.row, path)
    except MissingAttribute as error:
        raise Problem(404, f"The instance has no value at {path}.") from error
    return await _one_value(request, source, form, path, iter([value]), etag)


async def _pixel_data(request: Request, source: Source, path: str) -> Response:
    """Answer with all frames: native ones as one value, compressed ones each in a part of its own."""
    native = (EXPLICIT_LE,)
    accepted = [
        form
        for form in _forms(request, source)
        if form.multipart or form.transfer_syntax in native or source.number_of_frames == 1
    ]
    form, first = await _first(source, accepted, 1)
    etag = _etag(source, form, path)
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    found = chain([first], (_frame(source, n, form) for n in range(2, source.number_of_frames + 1)))
    if form.transfer_syntax in native:
        return await _one_value(request, source, form, path, (frame.data for frame in found), etag)
    if not form.multipart:
        return await _single(request, source, form, (frame.data for frame in found), etag)
    location = f"{source.url}/bulkdata/{path}"
    parts = (BodyPart(_content_type(form), iter([frame.data]), location, len(frame.data)) for frame in found)
    return await _multipart(request, source, form, parts, etag)


async def _one_value(
    request: Request, source: Source, form: FrameForm, path: str, chunks: Iterator[bytes], etag: str
) -> Response:
    if not form.multipart:
        return await _single(request, source, form, chunks, etag)
    part = BodyPart(_content_type(form), chunks, f"{source.url}/bulkdata/{path}")
    return await _multipart(request, source, form, iter([part]), etag)


async def _single(request: Request, source: Source, form: FrameForm, chunks: Iterator[bytes], etag: str) -> Response:
    return await ChunkedResponse(
        chunks, source.threads, headers=caching.fields(etag), media_type=_content_type(form)
    ).primed(request)


async def _multipart(
    request: Request, source: Source, form: FrameForm, parts: Iterator[BodyPart], etag: str
) -> Response:
    boundary = multipart.new_boundary()
    return await ChunkedResponse(
        multipart.body(parts, boundary),
        source.threads,
        headers=caching.fields(etag),
        media_type=multipart.content_type(form.media_type, boundary),
    ).primed(request)


async def _first(source: Source, accepted: Sequence[FrameForm], number: int) -> tuple[FrameForm, FrameBytes]:
    """Return the best form in which a frame can really be had, and that frame."""
    reason = "Nothing that is accepted fits"
    for form in accepted:
        try:
            return form, await source.threads.run(_frame, source, number, form)
        except (UnsupportedTransferSyntax, UnsupportedFrame) as error:
            reason = str(error)
        except DecodeError as error:
            if not transfer_syntax(source.row.transfer_syntax).encapsulated:
                raise  # then it is not the sender's code stream that does not decode, but ours
            reason = str(error)
    raise Problem(
        406,
        f"{reason}. The instance was received in {source.row.transfer_syntax}; frames come as they are with "
        f'multipart/related; type="{media.OCTETS}"; transfer-syntax=*, one of them also as a single part, and '
        "decoded without transfer-syntax, where either is possible.",
    )


def _frame(source: Source, number: int, form: FrameForm) -> FrameBytes:
    return source.retriever.frame(source.row, number, form.transfer_syntax)


def _forms(request: Request, source: Source) -> list[FrameForm]:
    return forms.frame_forms(source.row.transfer_syntax, _accepted(request))


def _accepted(request: Request) -> list[MediaRange]:
    return media.accepted(request.headers.get("accept"), request.query_params.get("accept"))


def _content_type(form: FrameForm) -> str:
    return media.with_syntax(form.media_type, form.transfer_syntax)


def _etag(source: Source, form: FrameForm, what: str) -> str:
    return caching.entity_tag([source.row], form.media_type, form.transfer_syntax, what, weak=form.multipart)
