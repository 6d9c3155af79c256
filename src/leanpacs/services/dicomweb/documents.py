"""Rendered resources that are no images: structured reports as text, documents as they were put in.

References
----------
PS3.18 8.7.4 (rendered media types), 10.4.1.1.3 (rendered resources); PS3.3 C.24.2 (encapsulated document).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from leanpacs.dicom.datadict import name_of_uid
from leanpacs.dicom.structured import Reference, read_report
from leanpacs.errors import MissingAttribute
from leanpacs.services.dicomweb import caching, media, multipart, reportpages
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.nativexml import native_xml
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.ranges import wanted_range
from leanpacs.services.dicomweb.streaming import ChunkedResponse, whole

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.media import MediaRange
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

HTML: Final = "text/html"
PLAIN: Final = "text/plain"
XML: Final = "text/xml"

_REPORT: Final = (HTML, PLAIN, XML)
_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
"""What the UIDs of the SOP classes of structured reports, key objects among them, begin with (PS3.4 B.5)."""
_ENCAPSULATED: Final = MappingProxyType(
    {
        "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
        "1.2.840.10008.5.1.4.1.1.104.2": XML,  # CDA
        "1.2.840.10008.5.1.4.1.1.104.3": "model/stl",
        "1.2.840.10008.5.1.4.1.1.104.4": "model/obj",
        "1.2.840.10008.5.1.4.1.1.104.5": "model/mtl",
    }
)
"""Media types of documents by SOP class (PS3.3 table C.24-2); what a data set says of its own is not trusted."""
FORMS: Final = tuple(dict.fromkeys((*_REPORT, *_ENCAPSULATED.values())))
"""All media types of documents."""
_VALUE: Final = "00420011"
_LENGTH: Final = "00420015"
_FOLLOWED: Final = "image/jpeg,text/html,application/pdf,video/*"
"""What a browser that follows a link can show, the first frame of several."""
_RUNS_NOTHING: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@dataclass(frozen=True, slots=True)
class Document:
    """An instance, and the media type in which it is to be had."""

    row: InstanceRow
    form: str


def forms_of(row: InstanceRow) -> Sequence[str]:
    """Media types in which an instance can be read, the default first; none when it is no document."""
    if row.rows is not None:
        return ()
    if row.sop_class.startswith(_REPORTS):
        return _REPORT
    return (_ENCAPSULATED[row.sop_class],) if row.sop_class in _ENCAPSULATED else ()


def wanted(request: Request, rows: Sequence[InstanceRow], images: Sequence[str]) -> bool:
    """Whether documents are the answer: the best that is accepted is none of the images that are there, either."""
    has_images = any(row.rows is not None for row in rows)
    for accepted in _accepted(request):
        if has_images and any(accepted.covers(form) for form in images):
            return False
        if _found(rows, accepted):
            return True
    return not has_images


async def documents(
    request: Request, rows: Sequence[InstanceRow], retriever: Retriever, threads: Threads, urls: Urls
) -> Response:
    """Answer with documents: one as a single part, or all of them in multipart/related.

    Raises
    ------
    Problem
        406: there is none, or not in an acceptable form.
    """
    for accepted in _accepted(request):
        found = _found(rows, accepted)
        if found and (accepted.multipart or (accepted.multipart is None and len(found) > 1)):
            return await _several(request, found, retriever, threads, urls)
        if found:
            return await document(request, found[0], retriever, threads, urls)
    raise Problem(406, not_shown(rows))


async def document(
    request: Request,
    shown: Document,
    retriever: Retriever,
    threads: Threads,
    urls: Urls,
) -> Response:
    """Answer with one document, or the part of it that is asked for.

    Raises
    ------
    Problem
        406: the instance holds no document, though it should; 416: it has no such range.
    """
    etag = _etag([shown], urls, "single")
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    body = await threads.run(_body, shown, retriever, urls)
    headers = caching.fields(etag) | _safety(shown.form) | {"accept-ranges": "bytes"}
    span = wanted_range(request, len(body), etag)
    content_type = _content_type(shown.form)
    if span is None:
        return whole(request, body, headers, content_type)
    answer = whole(request, body[span.start : span.stop], headers | span.fields, content_type)
    answer.status_code = 206
    return answer


def not_shown(rows: Sequence[InstanceRow]) -> str:
    """Why none of these instances can be shown as was asked, and what can be asked for instead."""
    forms = dict.fromkeys(form for row in rows for form in forms_of(row))
    if forms:
        return f"What is held here can be shown as {', '.join(forms)}, also in multipart/related."
    kinds = ", ".join(sorted({name_of_uid(row.sop_class) or row.sop_class for row in rows}))
    return (
        f"{kinds}: there is nothing in it that could be shown as an image or a text. "
        f"It can be had as {media.DICOM} without /rendered, and as {media.DICOM_JSON} at /metadata."
    )


async def _several(
    request: Request, found: Sequence[Document], retriever: Retriever, threads: Threads, urls: Urls
) -> Response:
    etag = _etag(found, urls, "multipart")
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    boundary = multipart.new_boundary()

    def parts() -> Iterator[BodyPart]:
        refused: Problem | None = None
        is_any = False
        for one in found:
            try:
                body = _body(one, retriever, urls)
            except Problem as problem:
                refused = problem
                continue
            location = f"{urls.instance(one.row.study_uid, one.row.series_uid, one.row.sop_uid)}/rendered"
            yield BodyPart(_content_type(one.form), iter([body]), location, len(body))
            is_any = True
        if refused is not None and not is_any:
            raise refused

    return await ChunkedResponse(
        multipart.body(parts(), boundary),
        threads,
        headers=caching.fields(etag),
        media_type=multipart.content_type(found[0].form, boundary),
    ).primed(request)


def _found(rows: Sequence[InstanceRow], accepted: MediaRange) -> list[Document]:
    """Instances that one range covers, each in the first of its media types that is covered."""
    covered = ((row, next((form for form in forms_of(row) if accepted.covers(form)), None)) for row in rows)
    return [Document(row, form) for row, form in covered if form is not None]


def _body(shown: Document, retriever: Retriever, urls: Urls) -> bytes:
    row = shown.row
    url = urls.instance(row.study_uid, row.series_uid, row.sop_uid)
    model = retriever.metadata(row, lambda path: f"{url}/bulkdata/{path}")
    if row.sop_class in _ENCAPSULATED:
        return _encapsulated(row, retriever, model.get(_LENGTH, {}).get("Value", ()))
    if shown.form == XML:
        return native_xml(model)
    report = read_report(model, name_of_uid(row.sop_class).removesuffix(" Storage") or "Report")
    write = reportpages.html if shown.form == HTML else reportpages.plain
    return write(report, lambda reference: _link(reference, urls))


def _encapsulated(row: InstanceRow, retriever: Retriever, length: Sequence[int]) -> bytes:
    """The document, without what made its length even (C.24.2: Encapsulated Document Length)."""
    try:
        value = retriever.bulk_value(row, _VALUE)
    except MissingAttribute as error:
        raise Problem(406, "The instance holds no document, though its SOP class says so.") from error
    is_padded = len(length) == 1 and length[0] == len(value) - 1
    return value[:-1] if is_padded or (not length and value.endswith(b"\0")) else value


def _link(reference: Reference, urls: Urls) -> str:
    """Where an instance is shown, as far as the report says to which series it belongs."""
    if not (reference.study_uid and reference.series_uid and reference.sop_uid):
        return ""
    instance = urls.instance(reference.study_uid, reference.series_uid, reference.sop_uid)
    frames = ",".join(map(str, reference.frames()))
    return f"{instance}{f'/frames/{frames}' if frames else ''}/rendered?accept={_FOLLOWED}"


def _etag(found: Sequence[Document], urls: Urls, how: str) -> str:
    # A document that was put in is the same each time; what is written here is compressed on its way.
    weak = how != "single" or found[0].form in _REPORT
    forms = (one.form for one in found)
    return caching.entity_tag((one.row for one in found), "document", how, urls.service, *forms, weak=weak)


def _safety(form: str) -> dict[str, str]:
    """Header fields that keep a browser from running what a sender may have put in."""
    if form in (HTML, XML):
        return {"content-security-policy": reportpages.policy() if form == HTML else _RUNS_NOTHING}
    return {}


def _content_type(form: str) -> str:
    return f"{form}; charset=utf-8" if form in (HTML, PLAIN) else form


def _accepted(request: Request) -> list[MediaRange]:
    return media.accepted(request.headers.get("accept"), request.query_params.get("accept"))
