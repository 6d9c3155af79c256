"""WADO-RS: rendered resources and thumbnails.

References
----------
PS3.18 10.4.1.1.3 (rendered resources), 10.4.1.1.4 (thumbnails), 8.3.5 (their parameters).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from leanpacs.errors import FrameNotFound, UnsupportedTransferSyntax
from leanpacs.services.dicomweb import caching, media, multipart
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.streaming import ChunkedResponse, afterwards, whole
from leanpacs.transcode.annotating import KINDS
from leanpacs.transcode.colour import OWN, SPACES
from leanpacs.transcode.greyscale import Window
from leanpacs.transcode.pictures import PROFILED, WRITERS, animated
from leanpacs.transcode.rendering import View, Viewport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

IMAGES: Final = tuple(WRITERS)
GIF: Final = "image/gif"
_THUMBNAIL_SIDE: Final = 128
_LARGEST_SIDE: Final = 16_384
_INTEGER: Final = re.compile(r"-?\d{1,6}")
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_IGNORED: Final = ("charset",)
WITHOUT_PLACE: Final = {"image/jxl": (OWN, "srgb")}
"""Values of iccprofile that a media type answers to without a profile, as its files say that they are sRGB."""
_MILLISECONDS: Final = 100.0
"""For which a frame is shown where the data set does not say."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Frames of one instance that are to be shown, and where the instance is found.

    Nothing is made of them beforehand: a data set may say that it has thousands of millions.
    """

    row: InstanceRow
    url: str
    numbers: Sequence[int]

    def url_of(self, number: int) -> str:
        """Where a frame is found as an image."""
        return f"{self.url}/frames/{number}/rendered"

    def __str__(self) -> str:
        """The numbers, those of all frames in a few characters."""
        numbers = self.numbers
        return f"1-{len(numbers)}" if isinstance(numbers, range) else ",".join(map(str, numbers))


def pictures(rows: Sequence[InstanceRow], urls: Urls, numbers: Sequence[int] | None = None) -> list[Pictures]:
    """All frames of instances, or those with ``numbers``; instances without frames have none.

    Raises
    ------
    FrameNotFound
        There are fewer.
    """
    found = []
    for row in rows:
        if row.rows is None:
            continue
        count = max(row.number_of_frames or 1, 1)
        if numbers and max(numbers) > count:
            raise FrameNotFound(next(number for number in numbers if number > count), count)
        url = urls.instance(row.study_uid, row.series_uid, row.sop_uid)
        found.append(Pictures(row, url, numbers or range(1, count + 1)))
    return found


async def rendered(request: Request, shown: Sequence[Pictures], retriever: Retriever, threads: Threads) -> Response:
    """Answer with images of frames: one as a single part, or all of them in multipart/related.

    Who takes a single part only gets the first one; as a GIF, all frames of an instance in one that moves.

    Raises
    ------
    Problem
        400: a parameter is not understood; 404: there is nothing to be shown; 406: it cannot be shown so.
    """
    form, is_multipart = _form(request, _count(shown))
    view = replace(_view(request.query_params, form), profile=_profile(request))
    ignored = [name for name in _IGNORED if name in request.query_params]
    if "annotation" in request.query_params and not view.annotation:
        ignored.append("annotation")
    if form == GIF and not is_multipart and len(shown) == 1 < _count(shown):
        return await _moving(request, shown, view, retriever, threads, ignored)
    return await images(request, shown, view, retriever, threads, is_multipart=is_multipart, ignored=ignored)


async def images(
    request: Request,
    shown: Sequence[Pictures],
    view: View,
    retriever: Retriever,
    threads: Threads,
    *,
    is_multipart: bool = False,
    ignored: Sequence[str] = (),
) -> Response:
    """Answer with images of frames in one view; ``ignored`` names the parameters that nothing came of.

    Raises
    ------
    Problem
        404: there is nothing to be shown; 406: it cannot be shown so.
    """
    if not shown:
        raise Problem(404, "There are no frames.")
    if not is_multipart:
        shown = [replace(shown[0], numbers=shown[0].numbers[:1])]
    etag = _entity_tag(shown, view, str(is_multipart))
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    headers = caching.fields(etag) | _warning(ignored)
    if not is_multipart:
        row, number = shown[0].row, shown[0].numbers[0]
        image = await threads.run(_image, retriever, row, number, view)
        answer = whole(request, image, headers, view.media_type)
        return afterwards(answer, partial(retriever.follow_picture, row, number, view))
    boundary = multipart.new_boundary()
    return await ChunkedResponse(
        multipart.body(_parts(shown, retriever, view), boundary),
        threads,
        headers=headers,
        media_type=multipart.content_type(view.media_type, boundary),
    ).primed(request)


async def _moving(
    request: Request,
    shown: Sequence[Pictures],
    view: View,
    retriever: Retriever,
    threads: Threads,
    ignored: Sequence[str],
) -> Response:
    """Answer with frames of one instance as a GIF that shows them in turn."""
    etag = _entity_tag(shown, view, "moving")
    if unchanged := caching.not_modified(request, etag):
        return unchanged

    def made() -> Iterator[bytes]:
        milliseconds = _frame_milliseconds(retriever, shown[0].row)
        yield from animated((image for _, image in _images(shown, retriever, view)), milliseconds)

    headers = caching.fields(etag) | _warning(ignored)
    return await ChunkedResponse(made(), threads, headers=headers, media_type=GIF).primed(request)


def _frame_milliseconds(retriever: Retriever, row: InstanceRow) -> float:
    """How long a frame is shown (PS3.3 C.7.6.5, C.7.6.16.1)."""
    header = retriever.header(row)
    try:
        if header.get("FrameTime"):
            return float(header.FrameTime)
        rate = header.get("RecommendedDisplayFrameRate") or header.get("CineRate")
        return 1000 / float(rate) if rate else _MILLISECONDS
    except (TypeError, ValueError, ZeroDivisionError):
        return _MILLISECONDS


async def thumbnail(request: Request, shown: Sequence[Pictures], retriever: Retriever, threads: Threads) -> Response:
    """Answer with a small image of the middle one of some frames.

    Raises
    ------
    Problem
        As :func:`rendered`.
    """
    form = media.choose(_accepted(request), _able(_profile(request)))
    if form is None:
        raise _not_acceptable(_profile(request))
    view = _view(request.query_params, form, Viewport(_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    # It shall not tell who the patient is (10.4.1.1.4).
    view = replace(view, profile=_profile(request), annotation=())
    if not shown:
        raise Problem(404, "There are no frames of which a small image could be made.")
    middle, number = _at(shown, _count(shown) // 2)
    etag = caching.entity_tag([middle.row], "thumbnail", repr(view), str(number))
    if unchanged := caching.not_modified(request, etag):
        return unchanged
    image = await threads.run(_image, retriever, middle.row, number, view)
    ignored = [name for name in ("annotation", *_IGNORED) if name in request.query_params]
    headers = caching.fields(etag) | _warning(ignored) | {"content-location": middle.url_of(number)}
    return whole(request, image, headers, form)


def _count(shown: Sequence[Pictures]) -> int:
    return sum(len(one.numbers) for one in shown)


def _at(shown: Sequence[Pictures], place: int) -> tuple[Pictures, int]:
    """The instance and number of the frame at a place, counted from 0 over all of them."""
    for one in shown:
        if place < len(one.numbers):
            return one, one.numbers[place]
        place -= len(one.numbers)
    raise IndexError(place)


def _parts(shown: Sequence[Pictures], retriever: Retriever, view: View) -> Iterator[BodyPart]:
    for url, image in _images(shown, retriever, view):
        yield BodyPart(view.media_type, iter([image]), url, len(image))


def _images(shown: Sequence[Pictures], retriever: Retriever, view: View) -> Iterator[tuple[str, bytes]]:
    """An image of each frame, and its URL; of instances that cannot be shown so there is none, if of another one.

    Raises
    ------
    Problem
        406: none of them can.
    """
    refused: Problem | None = None
    is_any = False
    for one in shown:
        try:
            for number in one.numbers:
                yield one.url_of(number), _image(retriever, one.row, number, view)
                is_any = True
        except Problem as problem:  # what holds for one frame of an instance holds for the others
            refused = problem
    if refused is not None and not is_any:
        raise refused


def _image(retriever: Retriever, row: InstanceRow, number: int, view: View) -> bytes:
    try:
        return retriever.rendered(row, number, view)
    except UnsupportedTransferSyntax as error:
        raise Problem(406, f"Frame {number} cannot be shown: {error}.") from error


def _accepted(request: Request) -> list[media.MediaRange]:
    return media.accepted(request.headers.get("accept"), request.query_params.get("accept"))


def _form(request: Request, count: int) -> tuple[str, bool]:
    """Media type, and whether it is to be multipart: by the best range that covers an image."""
    able = _able(_profile(request))
    for accepted in _accepted(request):
        for form in able:
            if accepted.covers(form):
                several = count > 1 and accepted.multipart is None
                return form, accepted.multipart or several
    raise _not_acceptable(_profile(request))


def _able(profile: str) -> Sequence[str]:
    """Media types of images that can be had with a value of iccprofile."""
    return [form for form in IMAGES if form in PROFILED or profile in ("", *WITHOUT_PLACE.get(form, ()))]


def _not_acceptable(profile: str) -> Problem:
    wanted = f" with iccprofile={profile}" if profile else ""
    return Problem(
        406, f"Images{wanted} are {' or '.join(_able(profile))}, one for each frame also in multipart/related."
    )


def _profile(request: Request) -> str:
    """Colour space that is asked for, '' for the numbers as they are (PS3.18 8.3.5.1.5)."""
    asked = request.query_params.get("iccprofile", "no")
    if asked not in ("no", OWN, *SPACES):
        raise Problem(400, f"iccprofile is no, {OWN}, {', '.join(SPACES[:-1])} or {SPACES[-1]}.")
    return "" if asked == "no" else asked


def _entity_tag(shown: Sequence[Pictures], view: View, how: str) -> str:
    return caching.entity_tag((one.row for one in shown), repr(view), how, *map(str, shown))


def _warning(ignored: Sequence[str]) -> dict[str, str]:
    return {"warning": f'299 - "not supported: {", ".join(ignored)}"'} if ignored else {}


def _view(parameters: Mapping[str, str], form: str, viewport: Viewport | None = None) -> View:
    quality = parameters.get("quality", "90")
    if not re.fullmatch(r"0*([1-9]\d?|100)", quality):
        raise Problem(400, "quality is a number from 1 to 100.")
    if "viewport" in parameters:
        viewport = _viewport(parameters["viewport"])
    asked = window(parameters["window"]) if "window" in parameters else None
    return View(form, int(quality), asked, viewport, annotation(parameters.get("annotation", "")))


def window(text: str) -> Window:
    """Read ``center,width,function``.

    Raises
    ------
    Problem
        400: it is not understood.
    """
    center, width, function = (*text.split(","), "linear", "")[:3]
    try:
        found = Window(float(center), float(width), _FUNCTIONS[function.strip().lower()])
    except (ValueError, LookupError):
        found = Window(0, -1)
    least = 1 if found.function == "LINEAR" else 0
    if text.count(",") > 2 or not (math.isfinite(found.center) and least <= found.width < math.inf):
        raise Problem(400, f"window is center,width,function; functions are {', '.join(_FUNCTIONS)}.")
    return found


def annotation(text: str) -> tuple[str, ...]:
    """What is to be written in the image; values that nobody knows are passed over (PS3.18 8.3.5.1.1)."""
    asked = {kind.strip().lower() for kind in text.split(",")}
    return tuple(kind for kind in KINDS if kind in asked)


def _viewport(text: str) -> Viewport:
    numbers = text.split(",")
    if len(numbers) not in (2, 4, 6) or not all(
        _INTEGER.fullmatch(n) or (i > 1 and n == "") for i, n in enumerate(numbers)
    ):
        raise Problem(400, "viewport is width,height or width,height,left,top,region width,region height.")
    port = Viewport(*(int(number or 0) for number in numbers))
    if not (0 < port.width <= _LARGEST_SIDE and 0 < port.height <= _LARGEST_SIDE):
        raise Problem(400, f"A viewport has 1 to {_LARGEST_SIDE} columns and rows.")
    return port
