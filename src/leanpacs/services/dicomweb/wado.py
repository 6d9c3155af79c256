"""WADO-RS: retrieve instances and their metadata.

References
----------
PS3.18 10.4 (retrieve transaction), PS3.18 F (DICOM JSON Model), PS3.19 A.1 (Native DICOM Model).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from leanpacs.dicom.jsonvalues import attribute_json
from leanpacs.errors import CodecError, DicomError
from leanpacs.services.dicomweb import caching, compression, dictionary, forms, media, multipart, readymade, zipped
from leanpacs.services.dicomweb.choosing import Chooser
from leanpacs.services.dicomweb.media import MediaRange
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.nativexml import native_xml
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.ranges import cut, wanted_range
from leanpacs.services.dicomweb.streaming import ChunkedResponse, afterwards, whole
from leanpacs.services.dicomweb.urls import Urls

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.archive import Archive
    from leanpacs.archive.giveback.retrieve import Part10, Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.forms import InstanceForm
    from leanpacs.services.threads import Threads

_log = logging.getLogger(__name__)

_SMALL_BYTES: Final = 64 << 10
"""Bodies of which a dictionary saves more than making them anew costs."""
_XML_BODY: Final = f'multipart/related; type="{media.DICOM_XML}"'


async def instances(
    request: Request,
    rows: Sequence[InstanceRow],
    retriever: Retriever,
    threads: Threads,
    urls: Urls,
    ranges: Sequence[MediaRange] | None = None,
) -> Response:
    """Answer GET of a study, a series or an instance: Part 10 files, or a ZIP of them.

    Parameters
    ----------
    request : Request
        Its Accept decides on the form.
    rows : sequence of InstanceRow
        At least one.
    ranges : sequence of MediaRange, optional
        What is accepted, the best first, when not what Accept says.

    Raises
    ------
    Problem
        406: none of the instances can be had in an acceptable form.
    """
    ranges = _accepted(request) if ranges is None else ranges
    preferred = next(
        (accepted for accepted in ranges if accepted.name == zipped.MEDIA_TYPE or accepted.covers(media.DICOM)), None
    )
    if preferred is not None and preferred.name == zipped.MEDIA_TYPE:
        return await _zip(request, rows, preferred, retriever, threads)
    alone = len(rows) == 1
    ranged = "range" in request.headers
    chooser = Chooser(request, retriever)

    def chosen_for(row: InstanceRow) -> InstanceForm | None:
        order = partial(chooser.order, row)
        return forms.instance_form(row.transfer_syntax, ranges, alone=alone, ranged=ranged, order=order)

    def all_chosen() -> list[tuple[InstanceRow, InstanceForm | None]]:
        """What is chosen for one instance holds for those of its series that came in the same transfer syntax."""
        known = {(row.series_uid, row.transfer_syntax): row for row in reversed(rows)}
        form_of = {key: chosen_for(row) for key, row in known.items()}
        return [(row, form_of[row.series_uid, row.transfer_syntax]) for row in rows]

    chosen = await threads.run(all_chosen)
    found = [(row, form) for row, form in chosen if form is not None]
    if not found:
        raise Problem(406, _no_form(rows))
    single = not found[0][1].multipart
    named = ("*" if form.any_will_do and form.multipart else form.transfer_syntax for _, form in found)
    as_received = all(form.transfer_syntax == row.transfer_syntax for row, form in found)
    etag = caching.entity_tag((row for row, _ in found), str(single), *named, weak=not (single and as_received))
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    if single:
        answer = await _single(request, *found[0], retriever, threads, etag)
    else:
        status = 200 if len(found) == len(rows) else 206
        answer = await _multipart(request, found, retriever, threads, urls, etag, status)
    if alone:
        row, form = found[0]
        afterwards(answer, partial(retriever.follow_instance, row, form.transfer_syntax))
    chooser.explain(answer)
    return answer


async def metadata(
    request: Request, rows: Sequence[InstanceRow], archive: Archive, threads: Threads, urls: Urls
) -> Response:
    """Answer GET of the metadata of a study, a series or an instance.

    Parameters
    ----------
    request : Request
        Its Accept decides between JSON and XML.
    rows : sequence of InstanceRow
        At least one.

    Raises
    ------
    Problem
        406: neither is acceptable.
    """
    form = media.choose(_accepted(request), (media.DICOM_JSON, media.JSON, media.DICOM_XML))
    if form is None:
        raise Problem(406, f"Metadata are {media.DICOM_JSON}, or {_XML_BODY}.")
    etag = caching.entity_tag(rows, form, urls.service)
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    if form != media.DICOM_XML and 1 < len(rows) <= readymade.MOST_INSTANCES:

        def kept() -> bytes:
            there = Urls(readymade.SERVICE)
            return readymade.compressed_metadata(
                rows, etag, lambda some: models(some, archive.retriever, there), archive.cache, urls.service
            )

        body = await threads.run(kept)
        if compression.takes_zstd(request) and not (len(body) < _SMALL_BYTES and dictionary.is_held(request.headers)):
            return whole(request, body, compression.encoded_fields(etag), form)
        return whole(request, await threads.run(readymade.expanded, body), caching.fields(etag), form)
    found = models(rows, archive.retriever, urls)
    if form != media.DICOM_XML:
        response = ChunkedResponse(_json_list(found), threads, headers=caching.fields(etag), media_type=form)
    else:
        boundary = multipart.new_boundary()
        parts = (BodyPart(media.DICOM_XML, iter([native_xml(model)])) for model in found)
        chunks, headers = compression.xml_parts(request, multipart.body(parts, boundary), caching.fields(etag))
        response = ChunkedResponse(
            chunks,
            threads,
            headers=headers,
            media_type=multipart.content_type(media.DICOM_XML, boundary),
        )
    return await response.primed(request)


def _accepted(request: Request) -> list[MediaRange]:
    return media.accepted(request.headers.get("accept"), request.query_params.get("accept"))


def _no_form(rows: Sequence[InstanceRow]) -> str:
    received = ", ".join(sorted({row.transfer_syntax for row in rows}))
    return (
        f'What is held was received in {received}; it can be had as multipart/related; type="{media.DICOM}", '
        f"one instance also as {media.DICOM}, with transfer-syntax=* as received, or with that of "
        "another one that is written here, where that is possible without loss."
    )


async def _single(
    request: Request,
    row: InstanceRow,
    form: InstanceForm,
    retriever: Retriever,
    threads: Threads,
    etag: str,
) -> Response:
    part = await threads.run(_open, retriever, row, form, alone=True)
    chunks, length, headers = part.chunks, part.length, caching.fields(etag)
    span = wanted_range(request, length, etag)
    if length is not None:
        headers["accept-ranges"] = "bytes"
    if span is not None:
        chunks, length, headers = cut(chunks, span.start, span.stop), span.stop - span.start, headers | span.fields
    elif level := compression.pixel_level(request, [part.transfer_syntax], length):
        chunks, length, headers = compression.in_zstd(chunks, level), None, compression.encoded_fields(etag)
    return await ChunkedResponse(
        chunks,
        threads,
        status=200 if span is None else 206,
        headers=headers,
        media_type=media.with_syntax(media.DICOM, part.transfer_syntax),
        length=length,
    ).primed(request)


async def _multipart(
    request: Request,
    found: Sequence[tuple[InstanceRow, InstanceForm]],
    retriever: Retriever,
    threads: Threads,
    urls: Urls,
    etag: str,
    status: int,
) -> Response:
    boundary = multipart.new_boundary()
    alone = len(found) == 1
    if alone:
        row, form = found[0]
        opened = await threads.run(_open, retriever, row, form, alone=True)
        part = _as_body_part(row, opened, urls)
        length = multipart.body_length(part, boundary)
        chunks = multipart.body([part], boundary)
        syntaxes = [opened.transfer_syntax]
    else:
        found, length = await threads.run(_as_received, retriever, found, urls, boundary)
        chunks = multipart.body(_body_parts(retriever, found, urls), boundary)
        # Of those that may come as they are held, some are compressed: such a body is not compressed again.
        syntaxes = [media.ANY_SYNTAX if form.any_will_do else form.transfer_syntax for _, form in found]
    headers = caching.fields(etag)
    if level := compression.pixel_level(request, syntaxes, length):
        chunks, length, headers = compression.in_zstd(chunks, level), None, compression.encoded_fields(etag)
    return await ChunkedResponse(
        chunks,
        threads,
        status=status,
        headers=headers,
        media_type=multipart.content_type(media.DICOM, boundary),
        length=length,
    ).primed(request)


async def _zip(
    request: Request, rows: Sequence[InstanceRow], wanted: MediaRange, retriever: Retriever, threads: Threads
) -> Response:
    """All instances that can be had as wanted, as files in one ZIP."""
    range_ = MediaRange(media.DICOM, False, wanted.transfer_syntax)
    chosen = [(row, forms.instance_form(row.transfer_syntax, [range_], alone=True)) for row in rows]
    found = [(row, form) for row, form in chosen if form is not None]
    if not found:
        raise Problem(406, _no_form(rows))
    etag = caching.entity_tag(
        (row for row, _ in found), zipped.MEDIA_TYPE, *(form.transfer_syntax for _, form in found)
    )
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    files = (
        (
            zipped.file_name(row.study_uid, row.series_uid, row.sop_uid),
            _open(retriever, row, form, alone=len(rows) == 1).chunks,
        )
        for row, form in found
    )
    name = zipped.file_name(
        request.path_params.get("instance") or request.path_params.get("series") or rows[0].study_uid
    )
    disposition = f'attachment; filename="{name.removesuffix(".dcm")}.zip"'
    return await ChunkedResponse(
        zipped.zipped(files),
        threads,
        status=200 if len(found) == len(rows) else 206,
        headers=caching.fields(etag) | {"content-disposition": disposition},
        media_type=zipped.MEDIA_TYPE,
    ).primed(request)


def _body_parts(
    retriever: Retriever, found: Sequence[tuple[InstanceRow, InstanceForm]], urls: Urls
) -> Iterator[BodyPart]:
    """Parts in order, those that have to be decoded or encoded some turns before they are needed."""
    retriever.expect([row for row, _ in found])

    def begun() -> Iterator[Callable[[], Part10]]:
        for row, form in found:
            if form.any_will_do:
                form = replace(form, transfer_syntax=retriever.syntax_at_hand(row))
            yield retriever.soon(row, form.transfer_syntax, partial(_open, retriever, row, form))

    parts = retriever.lookahead.in_turn(begun())
    for (row, _), part in zip(found, parts, strict=True):
        yield _as_body_part(row, part, urls)


def _as_received(
    retriever: Retriever, found: Sequence[tuple[InstanceRow, InstanceForm]], urls: Urls, boundary: str
) -> tuple[Sequence[tuple[InstanceRow, InstanceForm]], int | None]:
    """The same instances and forms, and the length of their body if all go out as they were received; else None.

    Who is told of it beforehand can read at once what otherwise comes in pieces, each with a length of its own.
    """
    retriever.expect([row for row, _ in found])
    said, length = [], 0
    for row, form in found:
        uid = retriever.syntax_at_hand(row) if form.any_will_do else form.transfer_syntax
        size = retriever.length_as_received(row) if uid == row.transfer_syntax else None
        if size is None:
            return found, None
        # Said now: it must not come in another form because it is settled meanwhile.
        said.append((row, replace(form, transfer_syntax=uid, any_will_do=False) if form.any_will_do else form))
        part = BodyPart(media.with_syntax(media.DICOM, uid), iter(()), _location(row, urls), size)
        length += multipart.part_length(part, size, boundary)
    return said, length + multipart.end_length(boundary)


def _as_body_part(row: InstanceRow, part: Part10, urls: Urls) -> BodyPart:
    return BodyPart(
        media.with_syntax(media.DICOM, part.transfer_syntax), part.chunks, _location(row, urls), part.length
    )


def _location(row: InstanceRow, urls: Urls) -> str:
    return urls.instance(row.study_uid, row.series_uid, row.sop_uid)


def _open(retriever: Retriever, row: InstanceRow, form: InstanceForm, *, alone: bool = False) -> Part10:
    """Open an instance in a transfer syntax; as received where that turns out to be impossible.

    A damaged instance must not make the others of its study unreadable, nor may it be missing: it goes out as
    it came, and the header fields of its part and its file meta information name its own transfer syntax. But
    if it is the only one, and was asked for in one transfer syntax by name, the answer is that it cannot be had so.
    """
    uid = form.transfer_syntax
    if uid == row.transfer_syntax:
        return retriever.part10(row)
    try:
        return retriever.part10(row, uid)
    except (CodecError, DicomError) as error:
        if alone and form.by_name:
            raise Problem(406, f"The instance cannot be had in {uid}: {error}.") from error
        _log.warning("sent as received: %s", error, extra={"action": "retrieve", "sop_uid": row.sop_uid, "wanted": uid})
        return retriever.part10(row)


def models(rows: Sequence[InstanceRow], retriever: Retriever, urls: Urls) -> Iterator[dict[str, Any]]:
    """DICOM JSON Model objects; of an instance among others that cannot be read, its UIDs."""
    retriever.expect(rows)
    for row in rows:
        try:
            yield retriever.metadata(row, _bulk_uri(row, urls))
        except DicomError as error:
            if len(rows) == 1:
                raise
            _log.warning("no metadata: %s", error, extra={"action": "retrieve", "sop_uid": row.sop_uid})
            yield _identification(row)


def _bulk_uri(row: InstanceRow, urls: Urls) -> Callable[[str], str]:
    instance = urls.instance(row.study_uid, row.series_uid, row.sop_uid)
    return lambda path: f"{instance}/bulkdata/{path}"


def _identification(row: InstanceRow) -> dict[str, Any]:
    return {
        "00080016": attribute_json("UI", row.sop_class),
        "00080018": attribute_json("UI", row.sop_uid),
        "0020000D": attribute_json("UI", row.study_uid),
        "0020000E": attribute_json("UI", row.series_uid),
    }


def _json_list(models: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    before = b"["
    for model in models:
        yield before + orjson.dumps(model)
        before = b","
    yield b"]"
