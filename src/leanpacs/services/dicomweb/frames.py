"""WADO-RS: retrieve frames and bulk data.

References
----------
PS3.18 10.4.1.1.6 (frames), PS3.18 10.4.1.1.5 (bulk data), PS3.18 8.7.3.3 (bulk data media types).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from leanpacs.dicom.uids import EXPLICIT_LE, JPEG_XL_LOSSLESS, transfer_syntax
from leanpacs.errors import (
    DecodeError,
    FrameNotFound,
    MissingAttribute,
    UnsupportedFrame,
    UnsupportedTransferSyntax,
)
from leanpacs.services.dicomweb import caching, compression, forms, media, multipart
from leanpacs.services.dicomweb.choosing import Chooser
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.ranges import cut, wanted_range
from leanpacs.services.dicomweb.streaming import ChunkedResponse, afterwards, whole

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.archive.giveback.given import Bytes
    from leanpacs.archive.giveback.retrieve import FrameBytes, Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.forms import FrameForm
    from leanpacs.services.dicomweb.media import MediaRange
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

_MOST_FRAMES: Final = 10_000
PIXEL_DATA: Final = frozenset({"7FE00008", "7FE00009", "7FE00010"})
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
    chooser = Chooser(request, source.retriever)
    found = await source.threads.run(_forms, request, source, chooser)
    accepted = [form for form in found if form.multipart or len(numbers) == 1]
    begun = await _begin(request, source, accepted, numbers, ",".join(map(str, numbers)), chooser)
    answer = begun if isinstance(begun, Response) else await _frames(request, source, begun, numbers)
    chooser.explain(answer)
    return answer


async def _frames(request: Request, source: Source, begun: _Begun, numbers: Sequence[int]) -> Response:
    form = begun.form
    if form.multipart:
        parts = (
            BodyPart(_content_type(form), iter([data]), f"{source.url}/frames/{number}", len(data))
            for number, data in zip(numbers, begun.data(), strict=True)
        )
        answer = await begun.multipart(request, source, parts)
    else:
        answer = await begun.single(request, source, len(begun.first))
    return answer if begun.follow is None else afterwards(answer, begun.follow)


async def bulk_data(request: Request, source: Source, path: str) -> Response:
    """Answer GET of a BulkDataURI.

    Raises
    ------
    Problem
        404: nothing is there; 406: it cannot be had in an acceptable form; 416: it has no such range.
    """
    path = path.upper()
    if not _PATH.fullmatch(path):
        raise Problem(404, f"{path} is not the path of an element, such as 7FE00010.")
    if path in PIXEL_DATA:
        return await _pixel_data(request, source, path)
    taken = next((a for a in accepted(request) if a.covers(media.OCTETS)), None)
    if taken is None:
        raise Problem(406, f'This value can be had as multipart/related; type="{media.OCTETS}".')
    form = forms.FrameForm(media.OCTETS, EXPLICIT_LE, _is_multipart(request, taken))
    etag = _etag(source, form, path)
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    try:
        value = await source.threads.run(source.retriever.bulk_value, source.row, path)
    except MissingAttribute as error:
        raise Problem(404, f"The instance has no value at {path}.") from error
    begun = _Begun(form, etag, value, iter(()))
    if form.multipart:
        return await begun.multipart(request, source, begun.one_part(source, path, len(value)))
    return await begun.single(request, source, len(value))


def is_video(row: InstanceRow) -> bool:
    """Whether frames are no code streams of their own, but one together."""
    return transfer_syntax(row.transfer_syntax).media_type.startswith("video/")


async def video(request: Request, source: Source) -> Response:
    """Answer with the video that an instance holds, as it was received (PS3.18 8.7.3.3, 8.7.4).

    Raises
    ------
    Problem
        406: it is not acceptable so.
    """
    received = source.row.transfer_syntax
    form = next((form for form in _forms(request, source) if form.transfer_syntax == received), None)
    if form is None:
        kind = transfer_syntax(received).media_type
        raise Problem(406, f"The instance is a video; it can be had as {kind}, also in multipart/related.")
    etag = _etag(source, form, "video")
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    part = await source.threads.run(source.retriever.video, source.row)
    chunks, length, headers = part.chunks, part.length, caching.fields(etag)
    if form.multipart:
        boundary = multipart.new_boundary()
        body = BodyPart(_content_type(form), chunks, f"{source.url}/bulkdata/7FE00010", length)
        chunks, length = multipart.body([body], boundary), multipart.body_length(body, boundary)
        kind, span = multipart.content_type(form.media_type, boundary), None
    else:
        headers["accept-ranges"] = "bytes"
        kind, span = _content_type(form), wanted_range(request, length, etag)
        if span is not None:
            chunks, length, headers = cut(chunks, span.start, span.stop), span.stop - span.start, headers | span.fields
    return await ChunkedResponse(
        chunks,
        source.threads,
        status=200 if span is None else 206,
        headers=headers,
        media_type=kind,
        length=length,
    ).primed(request)


async def _pixel_data(request: Request, source: Source, path: str) -> Response:
    """Answer with all frames: native ones as one value, compressed ones each in a part of its own; or with a video."""
    if is_video(source.row):
        return await video(request, source)
    accepted = [
        form
        for form in _forms(request, source)
        if form.multipart or form.transfer_syntax == EXPLICIT_LE or source.number_of_frames == 1
    ]
    chooser = Chooser(request, source.retriever)
    begun = await _begin(request, source, accepted, range(1, source.number_of_frames + 1), path, chooser)
    if isinstance(begun, Response):
        return begun
    form = begun.form
    whole = _length_of_all(begun.first, source)
    if not form.multipart:
        return await begun.single(request, source, whole)
    if form.transfer_syntax == EXPLICIT_LE:
        return await begun.multipart(request, source, begun.one_part(source, path, whole))
    location = f"{source.url}/bulkdata/{path}"
    parts = (BodyPart(_content_type(form), iter([data]), location, len(data)) for data in begun.data())
    return await begun.multipart(request, source, parts)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer whose form is found, with the first of its frames."""

    form: FrameForm
    etag: str
    first: Bytes
    others: Iterator[FrameBytes]
    has_ranges: bool = True
    follow: Callable[[], object] | None = None
    """What is to be called when the answer has gone, so that the next ones are at hand."""

    def data(self) -> Iterator[Bytes]:
        try:
            yield self.first
            yield from (frame.data for frame in self.others)
        finally:
            multipart.close(self.others)

    def one_part(self, source: Source, path: str, length: int | None) -> Iterator[BodyPart]:
        yield BodyPart(_content_type(self.form), self.data(), f"{source.url}/bulkdata/{path}", length)

    async def single(self, request: Request, source: Source, length: int | None) -> Response:
        """All bytes, or those of the range asked for, as a single part."""
        span = wanted_range(request, length, self.etag)
        headers = caching.fields(self.etag)
        level = compression.pixel_level(request, [self.form.transfer_syntax], length)
        if length == len(self.first) and span is None and not level:  # all is at hand: no thread has to make it
            await source.threads.run(multipart.close, self.others)
            ranges = {"accept-ranges": "bytes"} if self.has_ranges else {}
            return whole(request, bytes(self.first), headers | ranges, _content_type(self.form))
        chunks = self.data()
        if length is not None and self.has_ranges:
            headers["accept-ranges"] = "bytes"
        if span is not None:
            chunks, headers, length = (
                cut(chunks, span.start, span.stop),
                {**headers, **span.fields},
                span.stop - span.start,
            )
        elif level:
            chunks, headers, length = compression.in_zstd(chunks, level), compression.encoded_fields(self.etag), None
        return await ChunkedResponse(
            chunks,
            source.threads,
            status=200 if span is None else 206,
            headers=headers,
            media_type=_content_type(self.form),
            length=length,
        ).primed(request)

    async def multipart(self, request: Request, source: Source, parts: Iterator[BodyPart]) -> Response:
        boundary = multipart.new_boundary()
        chunks, headers = multipart.body(parts, boundary), caching.fields(self.etag)
        if level := compression.pixel_level(request, [self.form.transfer_syntax], len(self.first)):
            chunks, headers = compression.in_zstd(chunks, level), compression.encoded_fields(self.etag)
        return await ChunkedResponse(
            chunks,
            source.threads,
            headers=headers,
            media_type=multipart.content_type(self.form.media_type, boundary),
        ).primed(request)


async def _begin(
    request: Request,
    source: Source,
    accepted: Sequence[FrameForm],
    numbers: Sequence[int],
    what: str,
    chooser: Chooser,
) -> _Begun | Response:
    """Find the best form in which frames can really be had; 304 when the client has them in it."""
    reason = "Nothing that is accepted fits"
    for form in accepted:
        etag = _etag(source, form, what)
        if unchanged := caching.not_modified(request, etag):
            return unchanged
        syntax, effort = form.transfer_syntax, 0
        # Parts of what is made must be parts of the same, whatever the line was when each was asked for.
        if syntax == JPEG_XL_LOSSLESS and "range" not in request.headers:
            effort = await source.threads.run(chooser.effort, source.row, syntax)
        found: Iterator[FrameBytes] = source.retriever.frames(source.row, numbers, syntax, effort)
        try:
            first = await source.threads.run(next, found)
        except (UnsupportedTransferSyntax, UnsupportedFrame) as error:
            reason = str(error)
        except DecodeError as error:
            if not transfer_syntax(source.row.transfer_syntax).encapsulated:
                raise  # then it is not the sender's code stream that does not decode, but ours
            reason = str(error)
        else:
            alone = len(numbers) == 1
            follow = partial(source.retriever.follow_frame, source.row, numbers[0], syntax, effort) if alone else None
            return _Begun(form, etag, first.data, found, has_ranges=not effort, follow=follow)
    raise Problem(
        406,
        f"{reason}. The instance was received in {source.row.transfer_syntax}; frames come as they are with "
        f'multipart/related; type="{media.OCTETS}"; transfer-syntax=*, one of them also as a single part, '
        "decoded without transfer-syntax, and in the transfer syntaxes that are written here, where that is possible.",
    )


def _forms(request: Request, source: Source, chooser: Chooser | None = None) -> list[FrameForm]:
    order = partial(chooser.order, source.row) if chooser else None
    ranged = "range" in request.headers
    return forms.frame_forms(source.row.transfer_syntax, accepted(request), ranged=ranged, order=order)


def accepted(request: Request) -> list[MediaRange]:
    return media.accepted(request.headers.get("accept"), request.query_params.get("accept"))


def _is_multipart(request: Request, accepted: MediaRange) -> bool:
    return forms.is_multipart(accepted, ranged="range" in request.headers)


def _length_of_all(first: Bytes, source: Source) -> int | None:
    """Bytes of all frames; None where they need not end with a byte, so that their lengths do not add up."""
    pixels = (source.row.rows or 0) * (source.row.columns or 0)
    count = source.number_of_frames
    return len(first) * count if count == 1 or (pixels and len(first) % pixels == 0) else None


def _content_type(form: FrameForm) -> str:
    return media.with_syntax(form.media_type, form.transfer_syntax)


def _etag(source: Source, form: FrameForm, what: str) -> str:
    made = form.transfer_syntax not in (EXPLICIT_LE, source.row.transfer_syntax)
    return caching.entity_tag([source.row], form.media_type, form.transfer_syntax, what, weak=form.multipart or made)
