"""Bulk data and pixels of whole studies, series and instances.

References
----------
PS3.18 10.4.1.1.5 (bulk data resources), 10.4.1.1.7 (pixel data resources), 10.4.3.3.5 (their payload).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.errors import CodecError, DicomError
from leanpacs.services.dicomweb import caching, forms, frames, media, multipart
from leanpacs.services.dicomweb.media import MediaRange
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.streaming import ChunkedResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

_log = logging.getLogger(__name__)

_PIXEL_DATA: Final = "7FE00010"


async def bulk_data(
    request: Request,
    rows: Sequence[InstanceRow],
    retriever: Retriever,
    threads: Threads,
    urls: Urls,
    *,
    pixels_only: bool,
) -> Response:
    """Answer GET of all bulk data, or of all pixels, of some instances: each value, or frame, is a part.

    An instance that cannot be read leaves out what cannot be had of it; Content-Location tells what each part is.

    Raises
    ------
    Problem
        404: there is nothing of the kind; 406: it cannot be had in an acceptable form.
    """
    accepted = [one for one in frames.accepted(request) if one.multipart is not False]
    if not accepted:
        raise Problem(406, f'Bulk data come as multipart/related; type="{media.OCTETS}".')
    etag = caching.entity_tag(rows, "bulk", str(pixels_only), repr(accepted), urls.service)
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    parts = _parts(rows, accepted, retriever, urls, pixels_only=pixels_only)
    first = await threads.run(next, parts, None)
    if first is None:
        raise Problem(404, "There are no pixels." if pixels_only else "There are no bulk data in an acceptable form.")
    boundary = multipart.new_boundary()
    name = media.parse_media_type(first.content_type)
    return await ChunkedResponse(
        multipart.body(_joined(first, parts), boundary),
        threads,
        headers=caching.fields(etag),
        media_type=multipart.content_type(name.name if name else media.OCTETS, boundary),
    ).primed(request)


def _joined(first: BodyPart, others: Iterator[BodyPart]) -> Iterator[BodyPart]:
    try:
        yield first
        yield from others
    finally:
        multipart.close(others)


def _parts(
    rows: Sequence[InstanceRow], accepted: Sequence[MediaRange], retriever: Retriever, urls: Urls, *, pixels_only: bool
) -> Iterator[BodyPart]:
    takes_octets = any(one.covers(media.OCTETS) for one in accepted)
    for row in rows:
        url = urls.instance(row.study_uid, row.series_uid, row.sop_uid)
        try:
            if not pixels_only and takes_octets:
                yield from _values(row, retriever, url)
            if row.rows is not None:
                yield from _pixels(row, accepted, retriever, url)
        except (CodecError, DicomError) as error:
            _log.warning("bulk data left out: %s", error, extra={"action": "retrieve", "sop_uid": row.sop_uid})


def _values(row: InstanceRow, retriever: Retriever, url: str) -> Iterator[BodyPart]:
    """All values that metadata refer to, but for Pixel Data."""
    paths: list[str] = []

    def remember(path: str) -> str:
        paths.append(path)
        return path

    retriever.metadata(row, remember)
    for path in paths:
        if path not in frames.PIXEL_DATA:
            value = retriever.bulk_value(row, path)
            content_type = media.with_syntax(media.OCTETS, EXPLICIT_LE)
            yield BodyPart(content_type, iter([value]), f"{url}/bulkdata/{path}", len(value))


def _pixels(row: InstanceRow, accepted: Sequence[MediaRange], retriever: Retriever, url: str) -> Iterator[BodyPart]:
    """Frames, or the video, in the best form in which they can be had; from one that cannot, in the next one on."""
    reason: Exception | None = None
    left = range(1, max(row.number_of_frames or 1, 1) + 1)
    for form in forms.frame_forms(row.transfer_syntax, accepted):
        content_type = media.with_syntax(form.media_type, form.transfer_syntax)
        if frames.is_video(row):
            if form.transfer_syntax == row.transfer_syntax:
                part = retriever.video(row)
                yield BodyPart(content_type, part.chunks, f"{url}/bulkdata/{_PIXEL_DATA}", part.length)
                return
            continue
        made = retriever.frames(row, left, form.transfer_syntax)
        try:
            for number, frame in zip(left, made, strict=True):
                yield BodyPart(content_type, iter([frame.data]), f"{url}/frames/{number}", len(frame.data))
                left = range(number + 1, left.stop)
        except (CodecError, DicomError) as error:
            reason = error
        else:
            return
        finally:
            multipart.close(made)
    if reason is not None:
        raise reason
