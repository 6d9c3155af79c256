"""QIDO-RS: search for studies, series and instances.

References
----------
PS3.18 8.3.4 (search parameters), PS3.18 10.6 (search transaction), PS3.4 C.2.2.2 (attribute matching).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from starlette.responses import Response

from leanpacs.catalog import AnyOf, Match, Query, matchable, parse_match
from leanpacs.dicom import datadict
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, LevelAttribute
from leanpacs.errors import InvalidQuery
from leanpacs.services.dicomweb import media, multipart
from leanpacs.services.dicomweb.multipart import BodyPart
from leanpacs.services.dicomweb.nativexml import native_xml
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.searchresults import Found, Results, Selection

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.catalog import Catalog
    from leanpacs.services.dicomweb.urls import Urls
    from leanpacs.services.threads import Threads

Level = Literal["study", "series", "instance"]

_MORE: Final = (
    "The number of results exceeded the maximum supported by the server. Additional results can be requested."
)
_PATH_KEYS: Final = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
_OTHER_PARAMETERS: Final = frozenset({"accept", "charset", "_"})
_UNSUPPORTED_SWITCHES: Final = frozenset({"emptyvaluematching", "multiplevaluematching"})
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
    warnings : tuple of str
        What the answer has to say about the request.
    """

    query: Query
    limit: int
    included: frozenset[str]
    include_all: bool
    warnings: tuple[str, ...]


async def search(
    request: Request, level: Level, catalog: Catalog, threads: Threads, urls: Urls, *, max_results: int
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
    found = await threads.run(_find, catalog, wanted.query)
    warnings = list(wanted.warnings)
    if len(found) > wanted.limit:
        warnings.append(_MORE)
    selection = Selection(level, frozenset(path), wanted.included, wanted.include_all)
    results = await threads.run(_results, found[: wanted.limit], selection, urls)
    return _answer(results, form, urls, warnings)


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
    for name, value in parameters:
        if name == "includefield":
            included.update(_included(value))
        elif name in ("limit", "offset", "fuzzymatching", *_UNSUPPORTED_SWITCHES):
            switches[name] = value
        elif name not in _OTHER_PARAMETERS:
            keyword = _keyword(name)
            matched[keyword] = _joined(keyword, matched.get(keyword), value)
    limit = min(_unsigned(switches, "limit", max_results), max_results)
    query = Query(
        level,
        _filters(matched, level, path),
        limit=limit + 1,
        offset=_unsigned(switches, "offset", 0),
        fuzzy=_boolean(switches, "fuzzymatching"),
    )
    return Search(
        query,
        limit,
        frozenset(included - {"all"} | matched.keys()),
        "all" in included,
        tuple(
            f"The {name} parameter is not supported."
            for name in sorted(_UNSUPPORTED_SWITCHES)
            if _boolean(switches, name)
        ),
    )


def _find(catalog: Catalog, query: Query) -> Sequence[Found]:
    if query.level == "study":
        return catalog.find_studies(query)
    if query.level == "series":
        return catalog.find_series(query)
    return catalog.find_instances(query)


def _results(found: Sequence[Found], selection: Selection, urls: Urls) -> list[dict[str, Any]]:
    results = Results(selection, urls)
    return [results.json(row) for row in found]


def _answer(results: list[dict[str, Any]], form: str, urls: Urls, warnings: Sequence[str]) -> Response:
    headers = {"cache-control": "no-cache", "vary": "Accept"}
    if warnings:
        headers["warning"] = ", ".join(f'299 {urls.service} "{text}"' for text in warnings)
    if not results:
        return Response(status_code=204, headers=headers)
    if form != media.DICOM_XML:
        return Response(orjson.dumps(results), headers=headers, media_type=form)
    boundary = multipart.new_boundary()
    parts = (BodyPart(media.DICOM_XML, iter([native_xml(result)])) for result in results)
    body = b"".join(multipart.body(parts, boundary))
    return Response(body, headers=headers, media_type=multipart.content_type(media.DICOM_XML, boundary))


def _keyword(name: str) -> str:
    """Keyword of an attribute that is named by keyword or tag."""
    keyword = name
    if _TAG.fullmatch(name):
        keyword = datadict.keyword_of(int(name, 16)) or name.upper()
    elif name not in _BY_KEYWORD and datadict.tag_of(name) is None:
        text = "sequence matching is not supported" if "." in name else "is neither a parameter nor an attribute"
        raise InvalidQuery(name, text)
    return keyword


def _included(value: str) -> Iterable[str]:
    """Keywords in an includefield; those of attributes that nobody knows are passed over (PS3.18 10.6.3)."""
    for name in value.split(","):
        name = name.strip()
        yield datadict.keyword_of(int(name, 16)) if _TAG.fullmatch(name) else name


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
            raise InvalidQuery(keyword, f"cannot be matched in a search for a {level}")
        filters[keyword] = parse_match(keyword, known[keyword].vr, text)
    for keyword, uid in path.items():
        also = filters.get(keyword)
        if isinstance(also, AnyOf) and uid not in also.values:
            raise InvalidQuery(keyword, "is another one in the path")
        filters[keyword] = AnyOf((uid,))
    return filters


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
