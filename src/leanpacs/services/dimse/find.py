"""C-FIND: queries of the catalog (PS3.4 C.4.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Protocol

from leanpacs.catalog import FoundInstance, Match, PatientRow, Query, SeriesRow, StudyRow, matchable, parse_match
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, Level
from leanpacs.errors import InvalidQuery, LeanPACSError
from leanpacs.services import places
from leanpacs.services.dimse import status
from leanpacs.services.dimse.association import Association
from leanpacs.services.dimse.headers import HeaderKeys, InHeaders
from leanpacs.services.dimse.identifiers import (
    Identifier,
    Writer,
    collected,
    encode_data_set,
    read_data_set,
    read_identifier,
)
from leanpacs.services.dimse.message import Command
from leanpacs.services.dimse.models import LEVELS, MODELS, UNIQUE_KEYS, Extended, Model, QueryLevel
from leanpacs.services.dimse.status import Reply, Status

log = logging.getLogger(__name__)

Found = PatientRow | StudyRow | SeriesRow | FoundInstance
Column = tuple[int, str, Callable[[Any], Any]]
"""Tag and VR of a key in answers, and what takes its value from a row."""

PAGE: Final = 1000
"""Matches that are held at a time."""

_QUERY_LEVEL: Final = 0x00080052
_RETRIEVE_AE_TITLE: Final = 0x00080054
_INSTANCE_AVAILABILITY: Final = 0x00080056
_NOT_MATCHED: Final = frozenset({_QUERY_LEVEL, _RETRIEVE_AE_TITLE, _INSTANCE_AVAILABILITY})

CATALOG_LEVELS: Final[MappingProxyType[QueryLevel, Level]] = MappingProxyType(
    {"PATIENT": "patient", "STUDY": "study", "SERIES": "series", "IMAGE": "instance"}
)


class Finding(Protocol):
    """What queries need of a catalog."""

    def find_patients(self, query: Query) -> Sequence[PatientRow]:
        """Patients that match."""
        ...

    def find_studies(self, query: Query) -> Sequence[StudyRow]:
        """Studies that match."""
        ...

    def find_series(self, query: Query) -> Sequence[SeriesRow]:
        """Series that match."""
        ...

    def find_instances(self, query: Query) -> Sequence[FoundInstance]:
        """Instances that match."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """What an identifier asks for.

    Attributes
    ----------
    level : str
        Query/Retrieve Level.
    query : Query
        For the catalog.
    columns : tuple of Column
        What each answer holds, in ascending order of tags.
    is_partial : bool
        Some keys of the catalog cannot be matched, or not be returned.
    unheld : frozenset of int
        Tags of keys that the catalog does not hold.
    """

    level: QueryLevel
    query: Query
    columns: tuple[Column, ...]
    is_partial: bool
    unheld: frozenset[int]


class FindService:
    """Answers C-FIND requests.

    Parameters
    ----------
    catalog : Finding
        What is searched.
    ae_title : str
        By which what is found can be retrieved.
    relational : bool
        Whether a query may leave out the unique keys of higher levels.
    headers : InHeaders, optional
        Matches and returns keys that the catalog does not hold; without it they are left out.
    """

    def __init__(self, catalog: Finding, *, ae_title: str, relational: bool, headers: InHeaders | None = None) -> None:
        self._catalog = catalog
        self._ae_title = ae_title
        self._relational = relational
        self._headers = headers

    def __call__(self, association: Association, command: Command) -> Reply:
        """Answer each match with a pending response."""
        context = association.contexts[command.context_id]
        model = MODELS.get(context.abstract_syntax)
        if model is None or model.operation != "find":
            return Reply(Status.SOP_CLASS_NOT_SUPPORTED)
        try:
            encoded = collected(association.data_set())
            identifier = read_identifier((encoded,), context.transfer_syntax)
            search = read_search(identifier, model, context.extended, self._ae_title, relational=self._relational)
            is_at_hand = not self._reads_headers(search)
            for found, is_partial in self._answers(search, encoded, identifier, context.transfer_syntax):
                if association.is_cancelled(command):
                    return Reply(Status.CANCELLED)
                status_of = Status.PENDING_WITHOUT_SOME_KEYS if is_partial else Status.PENDING
                association.respond(command, Reply(status_of), found, hold=is_at_hand)
        except LeanPACSError as error:
            log.warning("query failed: %s", error, extra={"action": "query", "calling": association.calling})
            return status.of_error(error)
        return Reply(Status.SUCCESS)

    def _answers(
        self, search: Search, encoded: bytes, identifier: Identifier, syntax: str
    ) -> Iterator[tuple[bytes, bool]]:
        """Each match, encoded, and whether it lacks keys that were asked for."""
        if self._headers is None or not self._reads_headers(search):
            writer = Writer(syntax, identifier.character_set)
            for row in self._rows(search):
                yield writer.write(answer(search, row)), search.is_partial or bool(search.unheld)
            return
        keys = HeaderKeys(read_data_set((encoded,), syntax), search.unheld)
        rows, is_restricted = keys.restrict(self._headers, search.query, lambda: self._rows(search))
        for row in rows:
            completed = keys.completed(self._headers, row, answer(search, row))
            yield encode_data_set(completed, syntax, identifier.character_set), search.is_partial or not is_restricted

    def _reads_headers(self, search: Search) -> bool:
        """Whether answers need more than the catalog holds."""
        return self._headers is not None and bool(search.unheld) and search.level != "PATIENT"

    def _rows(self, search: Search) -> Iterator[Found]:
        finders: Mapping[QueryLevel, Callable[[Query], Sequence[Found]]] = {
            "PATIENT": self._catalog.find_patients,
            "STUDY": self._catalog.find_studies,
            "SERIES": self._catalog.find_series,
            "IMAGE": self._catalog.find_instances,
        }
        find = finders[search.level]
        offset = 0
        while True:
            page = find(replace(search.query, limit=PAGE, offset=offset))
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE


def answer(search: Search, row: Found) -> Iterator[tuple[int, str, str]]:
    """Tag, VR and text of each element of one answer."""
    for tag, vr, value_of in search.columns:
        yield tag, vr, as_text(value_of(row))


def as_text(value: object) -> str:
    """A value of a row as text; several are separated by backslashes."""
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_level(identifier: Identifier, model: Model) -> QueryLevel:
    """The level that a request is about.

    Raises
    ------
    InvalidQuery
        It names none of its information model.
    """
    named = identifier.text(_QUERY_LEVEL).upper()
    for level in model.levels:
        if level == named:
            return level
    raise InvalidQuery("QueryRetrieveLevel", f"{named!r} is none of {', '.join(model.levels)}")


def read_search(identifier: Identifier, model: Model, extended: Extended, ae_title: str, *, relational: bool) -> Search:
    """Make a search of an identifier.

    Raises
    ------
    InvalidQuery
        It lacks what it needs, or a key's value is not understood.
    """
    level = read_level(identifier, model)
    filters, columns, is_partial, unheld = _keys(identifier, level, ae_title)
    if not relational:
        require_above(identifier, model, level)
    query = Query(
        CATALOG_LEVELS[level],
        filters,
        fuzzy=extended.fuzzy,
        combined_datetime=extended.combined_datetime,
        totals=places.totals(_PLACES[level][tag] for tag, _, _ in columns if tag in _PLACES[level]),
    )
    return Search(level, query, columns, is_partial, unheld)


def require_above(identifier: Identifier, model: Model, level: QueryLevel) -> None:
    """Require one value of the unique key of each higher level (PS3.4 C.4.1.2.1).

    Raises
    ------
    InvalidQuery
        One is missing, or is a list or pattern.
    """
    for above in model.above(level):
        keyword = UNIQUE_KEYS[above]
        values = {key.text or "" for key in identifier.keys.values() if key.keyword == keyword}
        value = values.pop() if values else ""
        if not value.strip() or any(special in value for special in "\\*?"):
            raise InvalidQuery(keyword, f"one value is needed in a query at the level {level}")


def _keys(
    identifier: Identifier, level: QueryLevel, ae_title: str
) -> tuple[dict[str, Match], tuple[Column, ...], bool, frozenset[int]]:
    can_match = matchable(CATALOG_LEVELS[level])
    filters: dict[str, Match] = {}
    columns: list[Column] = []
    unheld: set[int] = set()
    is_partial = False
    for tag, key in sorted(identifier.keys.items()):
        value_of = _value_of(tag, level, ae_title)
        attribute = can_match.get(key.keyword)
        if value_of is not None:
            columns.append((tag, key.vr if attribute is None else attribute.vr, value_of))
        if attribute is not None and key.text is not None:
            filters[key.keyword] = parse_match(key.keyword, attribute.vr, key.text)
        if attribute is None and value_of is None:
            unheld.add(tag)
        else:
            is_matched = attribute is not None or tag in _NOT_MATCHED or key.text == ""
            is_partial = is_partial or value_of is None or not is_matched
    return filters, tuple(columns), is_partial, frozenset(unheld)


def _value_of(tag: int, level: QueryLevel, ae_title: str) -> Callable[[Any], Any] | None:
    """Return what takes the value of a key from a row; None when answers do not have it."""
    if tag == _QUERY_LEVEL:
        return lambda _: level
    if tag == _RETRIEVE_AE_TITLE:
        return lambda _: ae_title
    place = _PLACES[level].get(tag)
    return None if place is None else attrgetter(place)


def _places(level: QueryLevel) -> dict[int, str]:
    """Where rows of a level have the value of each tag."""
    found = ((attribute.tag, places.place(attribute, CATALOG_LEVELS[level])) for attribute in LEVEL_ATTRIBUTES)
    return {tag: place for tag, place in found if place is not None}


_PLACES: Final = MappingProxyType({level: _places(level) for level in LEVELS})


def returned(level: QueryLevel) -> frozenset[int]:
    """Tags of the keys that answers at a level can have."""
    return frozenset(_PLACES[level]) | {_QUERY_LEVEL, _RETRIEVE_AE_TITLE}
