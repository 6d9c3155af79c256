"""The URI service: one instance, as a file or as an image, by query parameters.

References
----------
PS3.18 9 (URI service and resources), 9.4 (retrieve DICOM instance), 9.5 (retrieve rendered instance).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from leanpacs.services.dicomweb import documents, media, rendered, wado
from leanpacs.services.dicomweb.media import MediaRange
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.operations import Parameter
from leanpacs.transcode.greyscale import Window
from leanpacs.transcode.rendering import View, Viewport

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

UIDS: Final = {"studyUID": "study", "seriesUID": "series", "objectUID": "instance"}
"""Parameters that name the instance, and what they stand for."""

PARAMETERS: Final = (
    Parameter("requestType", "WADO.", {"type": "string", "const": "WADO"}, required=True),
    *(Parameter(name, f"UID of the {level}.", required=True) for name, level in UIDS.items()),
    Parameter("contentType", "Media types, the best first."),
    Parameter("transferSyntax", "UID of the transfer syntax, for application/dicom."),
    Parameter("frameNumber", "Frame to be shown, from 1.", {"type": "integer", "minimum": 1}),
    Parameter("rows", "Largest height of the image.", {"type": "integer", "minimum": 1}),
    Parameter("columns", "Largest width of the image.", {"type": "integer", "minimum": 1}),
    Parameter("region", "left,top,right,bottom, each from 0 to 1."),
    Parameter("windowCenter", "With windowWidth.", {"type": "number"}),
    Parameter("windowWidth", "With windowCenter.", {"type": "number"}),
    Parameter("imageQuality", "Of JPEG, from 1 to 100.", {"type": "integer", "minimum": 1, "maximum": 100}),
)
_REFUSED: Final = ("anonymize", "presentationUID", "presentationSeriesUID")
"""Who asks for these must not get an image without them."""
_IGNORED: Final = ("imageAnnotation", "charset")
_FOR_IMAGES: Final = frozenset(
    {"frameNumber", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "annotation"}
)
_NUMBER: Final = re.compile(r"0*[1-9]\d{0,5}")
_LARGEST: Final = 16_384


def named(request: Request) -> dict[str, str]:
    """UIDs in the request, by what they stand for.

    Raises
    ------
    Problem
        400: one is missing, or it is no WADO request; 501: it asks for what must not be left out, and is not made here.
    """
    parameters = request.query_params
    if parameters.get("requestType") != "WADO":
        raise Problem(400, "requestType is WADO (PS3.18 9.1.2.1).")
    missing = [name for name in UIDS if not parameters.get(name)]
    if missing:
        raise Problem(400, f"The request needs {', '.join(missing)}.")
    refused = [name for name in _REFUSED if name in parameters]
    if refused:
        raise Problem(501, f"{', '.join(refused)}: nothing is made anonymous or shown by a presentation state here.")
    return {level: parameters[name] for name, level in UIDS.items()}


async def retrieve(request: Request, row: InstanceRow, retriever: Retriever, threads: Threads, urls: Urls) -> Response:
    """Answer a request of the URI service.

    Raises
    ------
    Problem
        400: a parameter is not understood; 404: it has no such frame; 406: it cannot be had as asked.
    """
    parameters = request.query_params
    form = _form(request, row)
    if form == media.DICOM:
        if mixed := _FOR_IMAGES & parameters.keys():
            raise Problem(400, f"{', '.join(sorted(mixed))}: for images only, not for {media.DICOM}.")
        accepted = [MediaRange(media.DICOM, False, parameters.get("transferSyntax"))]
        return await wado.instances(request, [row], retriever, threads, urls, accepted)
    if "transferSyntax" in parameters:
        raise Problem(400, f"transferSyntax: for {media.DICOM} only.")
    if row.rows is None:
        return await documents.document(request, documents.Document(row, form), retriever, threads, urls)
    number = _number(parameters, "frameNumber", 1)
    shown = rendered.pictures([row], urls, [number])
    ignored = [name for name in _IGNORED if name in parameters]
    return await rendered.images(request, shown, _view(parameters, form, row), retriever, threads, ignored=ignored)


def _form(request: Request, row: InstanceRow) -> str:
    """Media type of the answer: of images JPEG, of documents their own, else the instance itself (PS3.18 9.5.4)."""
    offers: Sequence[str] = (
        *(rendered.IMAGES if row.rows is not None else documents.forms_of(row)),
        media.DICOM,
    )
    form = media.choose(media.accepted(request.headers.get("accept"), request.query_params.get("contentType")), offers)
    if form is None:
        raise Problem(406, f"This instance can be had as {', '.join(offers)}.")
    return form


def _view(parameters: Mapping[str, str], form: str, row: InstanceRow) -> View:
    quality = _number(parameters, "imageQuality", 90)
    if quality > 100:
        raise Problem(400, "imageQuality is a number from 1 to 100.")
    drawn = rendered.annotation(parameters.get("annotation", ""))
    return View(form, quality, _window(parameters), _viewport(parameters, row), drawn)


def _window(parameters: Mapping[str, str]) -> Window | None:
    given = [parameters.get("windowCenter"), parameters.get("windowWidth")]
    if given == [None, None]:
        return None
    if None in given:
        raise Problem(400, "windowCenter and windowWidth go together (9.5.1).")
    return rendered.window(",".join(text or "" for text in given))


def _viewport(parameters: Mapping[str, str], row: InstanceRow) -> Viewport | None:
    """Size and region; where only one of rows and columns is given, the other follows from the proportions."""
    if not {"rows", "columns", "region"} & parameters.keys():
        return None
    rows, columns = row.rows or 1, row.columns or 1
    left, top, right, bottom = _region(parameters.get("region", "0,0,1,1"))
    region = (
        int(left * columns),
        int(top * rows),
        max(1, round((right - left) * columns)),
        max(1, round((bottom - top) * rows)),
    )
    height = _number(parameters, "rows", _LARGEST if "columns" in parameters else region[3])
    width = _number(parameters, "columns", _LARGEST if "rows" in parameters else region[2])
    if max(height, width) > _LARGEST:
        raise Problem(400, f"rows and columns are at most {_LARGEST}.")
    return Viewport(width, height, *region)


def _region(text: str) -> tuple[float, float, float, float]:
    numbers = text.split(",")
    if len(numbers) == 4 and all(re.fullmatch(r"\d?\.?\d{1,9}", number) for number in numbers):
        left, top, right, bottom = map(float, numbers)
        if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return left, top, right, bottom
    raise Problem(400, "region is left,top,right,bottom, each from 0 to 1.")


def _number(parameters: Mapping[str, str], name: str, otherwise: int) -> int:
    text = parameters.get(name)
    if text is not None and not _NUMBER.fullmatch(text):
        raise Problem(400, f"{name} is a number from 1.")
    return otherwise if text is None else int(text)
