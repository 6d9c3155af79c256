"""QIDO-RS: search for studies, series and instances.

References
----------
PS3.18 8.3.4 (search parameters), PS3.18 10.6 (search transaction), PS3.4 C.2.2.2 (attribute matching).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import orjson
from starlette.responses import Response

from leanpacs.catalog import AnyOf, Match, Query, matchable, parse_match
from leanpacs.dicom import datadict
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, LevelAttribute
from leanpacs.dicom.levels import level_of
from leanpacs.errors import InvalidQuery
from leanpacs.services.dicomweb import compression, media, multipart
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.nativexml import native_xml
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.searchresults import Results, Selection

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from starlette.requests import Request

    from leanpacs.archive.giveback.searching import Found, Searcher
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

Level = Literal["study", "series", "instance"]

_MORE: Final = (
    "The number of results exceeded the maximum supported by the server. Additional results can be requested."
)
_PATH_KEYS: Final = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
_OTHER_PARAMETERS: Final = frozenset({"accept", "charset", "_"})
_SWITCHES: Final = frozenset({"limit", "offset", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_DEEPEST: Final = 8
_NOT_MATCHED: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "AT", "FL", "FD"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_UNSIGNED: Final = re.compile(r"[0-9]{1,9}")
_BY_KEYWORD: Final = {attribute.keyword: attribute for attribute in LEVEL_ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class Search:
    """What a search request asks for.

    Attributes
    ----------
    query : Query
        For the catalog; its limit is one above `limit`, so that it shows whether there is more.
    limit : int
        Most results in the answer.
    included : frozenset of str
        Keywords asked for beyond those that are always returned.
    include_all : bool
        All attributes are asked for.
    read : Dataset or None
        Keys of attributes that the catalog does not hold, if there are any.
    tags : frozenset of str
        Tags of attributes asked for that the catalog does not hold.
    """

    query: Query
    limit: int
    included: frozenset[str]
    include_all: bool
    read: Dataset | None
    tags: frozenset[str]


async def search(
    request: Request, level: Level, searcher: Searcher, threads: Threads, urls: Urls, *, max_results: int
) -> Response:
    """Answer a search.

    Raises
    ------
    InvalidQuery
        A parameter is not understood.
    Problem
        406: neither JSON nor XML is acceptable.
    """
    accept = media.accepted(request.headers.get("accept"), request.query_params.get("accept"))
    form = media.choose(accept, (media.DICOM_JSON, media.JSON, media.DICOM_XML))
    if form is None:
        raise Problem(406, f'Results are {media.DICOM_JSON}, or multipart/related; type="{media.DICOM_XML}".')
    path = {key: request.path_params[name] for name, key in _PATH_KEYS.items() if name in request.path_params}
    wanted = parse_search(request.query_params.multi_items(), level, path, max_results=max_results)
    selection = Selection(level, frozenset(path), wanted.included, wanted.include_all)
    made = Results(selection, urls)
    found = await threads.run(searcher.find, replace(wanted.query, totals=made.totals), wanted.read)
    warnings = [_MORE] if len(found) > wanted.limit else []
    results = await threads.run(_results, found[: wanted.limit], selection, made, searcher, wanted.tags)
    return _answer(request, results, form, urls, warnings)


def parse_search(
    parameters: Iterable[tuple[str, str]], level: Level, path: Mapping[str, str], *, max_results: int
) -> Search:
    """Read the parameters of a search.

    Parameters
    ----------
    parameters : iterable of (str, str)
        Names and values, decoded.
    level : str
        What is searched for.
    path : mapping
        Keyword to UID for what the path names.
    max_results : int
        Most results of one search, whatever its limit.

    Raises
    ------
    InvalidQuery
        A parameter is not understood.
    """
    matched: dict[str, str] = {}
    switches: dict[str, str] = {}
    included: set[str] = set()
    read: dict[tuple[int, ...], str] = {}
    for name, value in parameters:
        if name == "includefield":
            included.update(_included(value))
        elif name in _SWITCHES:
            switches[name] = value
        elif name not in _OTHER_PARAMETERS:
            keyword = _keyword(name)
            if keyword is None:
                read[_path(name)] = value
            else:
                matched[keyword] = _joined(keyword, matched.get(keyword), value)
    for name in ("emptyvaluematching", "multiplevaluematching"):
        _boolean(switches, name)  # these kinds of matching are always there
    limit = min(_unsigned(switches, "limit", max_results), max_results)
    query = Query(
        level,
        _filters(matched, level, path),
        limit=limit + 1,
        offset=_unsigned(switches, "offset", 0),
        fuzzy=_boolean(switches, "fuzzymatching"),
    )
    tags = {f"{path[0]:08X}" for path in read}
    tags |= {tag for name in included if (tag := _tag_to_read(name))}
    return Search(
        query, limit, frozenset(included - {"all"} | matched.keys()), "all" in included, _keys(read), frozenset(tags)
    )


def _results(
    found: Sequence[Found], selection: Selection, results: Results, searcher: Searcher, tags: frozenset[str]
) -> list[dict[str, Any]]:
    if not tags and not selection.include_all:
        return [results.json(row) for row in found]
    return [
        dict(sorted((read | results.json(row)).items()))
        for row, read in zip(found, _read(searcher, found, selection, tags), strict=True)
    ]


def _read(
    searcher: Searcher, found: Sequence[Found], selection: Selection, tags: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """What is asked for and the catalog does not hold, of each that was found, from headers."""
    if not selection.include_all:
        yield from searcher.common(found, tags)
        return
    levels = selection.levels()
    for read in searcher.common(found):
        yield {tag: value for tag, value in read.items() if tag in tags or level_of(int(tag, 16)) in levels}


def _answer(
    request: Request, results: list[dict[str, Any]], form: str, urls: Urls, warnings: Sequence[str]
) -> Response:
    headers = {"cache-control": "no-cache", "vary": "Accept"}
    if warnings:
        headers["warning"] = ", ".join(f'299 {urls.service} "{text}"' for text in warnings)
    if not results:
        return Response(status_code=204, headers=headers)
    if form != media.DICOM_XML:
        return Response(orjson.dumps(results), headers=headers, media_type=form)
    boundary = multipart.new_boundary()
    parts = (BodyPart(media.DICOM_XML, iter([native_xml(result)])) for result in results)
    chunks, headers = compression.xml_parts(request, multipart.body(parts, boundary), headers)
    return Response(b"".join(chunks), headers=headers, media_type=multipart.content_type(media.DICOM_XML, boundary))


def _keyword(name: str) -> str | None:
    """Keyword of an attribute that the catalog knows; None for all others."""
    keyword = datadict.keyword_of(int(name, 16)) if _TAG.fullmatch(name) else name
    return keyword if keyword in _BY_KEYWORD else None


def _path(name: str) -> tuple[int, ...]:
    """Tags of an attribute that is named by keywords or tags, those of items behind dots (8.3.4.1).

    Raises
    ------
    InvalidQuery
        It is none.
    """
    path = tuple(_tag(name, part) for part in name.split("."))
    for tag in path[:-1]:
        if datadict.vr_of(tag) not in ("SQ", "UN"):
            raise InvalidQuery(name, "has items of an attribute that is no sequence")
    if len(path) > _DEEPEST:
        raise InvalidQuery(name, f"is more than {_DEEPEST} deep")
    return path


def _tag(name: str, part: str) -> int:
    tag = int(part, 16) if _TAG.fullmatch(part) else datadict.tag_of(part)
    if tag is None:
        raise InvalidQuery(name, "is neither a parameter nor an attribute")
    return tag


def _keys(read: Mapping[tuple[int, ...], str]) -> Dataset | None:
    """Matching keys as a data set: keys of one sequence stand in one item, which has to match as a whole."""
    if not read:
        return None
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    keys = Dataset()
    for path, text in read.items():
        level = keys
        for tag in path[:-1]:
            if tag not in level:
                level.add(DataElement(tag, "SQ", Items([Dataset()])))
            level = level[tag].value[0]
        vr = datadict.vr_of(path[-1])
        if vr == "SQ":
            if text.strip("*"):
                raise InvalidQuery(datadict.keyword_of(path[-1]), "is a sequence: match the attributes of its items")
            continue
        if vr in _NOT_MATCHED:
            raise InvalidQuery(datadict.keyword_of(path[-1]) or f"{path[-1]:08X}", f"has VR {vr}, which is not matched")
        try:
            level.add(DataElement(path[-1], "LO" if vr == "UN" else vr, text or None, validation_mode=0))
        except (TypeError, ValueError) as error:
            raise InvalidQuery(datadict.keyword_of(path[-1]), f"{text!r} is no value of VR {vr}") from error
    return keys


def _tag_to_read(name: str) -> str:
    """Tag of an attribute that is asked for, when the catalog does not hold it; '' for what nobody knows."""
    first = name.split(".")[0]
    if name == "all" or first in _BY_KEYWORD:
        return ""
    if _TAG.fullmatch(first):
        return first.upper()
    tag = datadict.tag_of(first)
    return f"{tag:08X}" if tag is not None else ""


def _included(value: str) -> Iterable[str]:
    """Keywords in an includefield, tags of what has none; those that nobody knows are passed over (PS3.18 10.6.3)."""
    for name in value.split(","):
        name = name.strip()
        yield datadict.keyword_of(int(name, 16)) or name if _TAG.fullmatch(name) else name


def _joined(keyword: str, before: str | None, value: str) -> str:
    if before is None:
        return value
    if _BY_KEYWORD.get(keyword) is not None and _BY_KEYWORD[keyword].vr == "UI":
        return f"{before},{value}"
    raise InvalidQuery(keyword, "is given more than once")


def _filters(matched: Mapping[str, str], level: Level, path: Mapping[str, str]) -> dict[str, Match]:
    known: Mapping[str, LevelAttribute] = matchable(level)
    filters: dict[str, Match] = {}
    for keyword, text in matched.items():
        if keyword not in known:
            raise InvalidQuery(keyword, _why_not_matched(keyword, level))
        filters[keyword] = parse_match(keyword, known[keyword].vr, text)
    for keyword, uid in path.items():
        also = filters.get(keyword)
        if isinstance(also, AnyOf) and uid not in also.values:
            raise InvalidQuery(keyword, "is another one in the path")
        filters[keyword] = AnyOf((uid,))
    return filters


def _why_not_matched(keyword: str, level: Level) -> str:
    if any(keyword in matchable(other) for other in get_args(Level)):
        instead = " (or match ModalitiesInStudy)" if keyword == "Modality" else ""
        below = _BY_KEYWORD[keyword].level
        plural = below if below == "series" else f"{below}s"
        return f"is an attribute of {plural}, not matched in a search for a {level}: search /{plural} by it{instead}"
    return "is worked out for each answer, and not matched"


def _unsigned(switches: Mapping[str, str], name: str, otherwise: int) -> int:
    text = switches.get(name, "")
    if text and not _UNSIGNED.fullmatch(text):
        raise InvalidQuery(name, f"{text!r} is not a number from 0")
    return int(text) if text else otherwise


def _boolean(switches: Mapping[str, str], name: str) -> bool:
    text = switches.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidQuery(name, "is true or false")
    return text == "true"
