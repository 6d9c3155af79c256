"""Searches of the same shape share one prepared statement.

Building and compiling a search through the toolkit takes ten times as long as running it. What is matched exactly
becomes a parameter; anything else is part of the shape, for people and worklists ask for the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam

from leanpacs.catalog.matching import INTEGER_VRS, AnyOf, Match, Wildcard
from leanpacs.catalog.prepared import Prepared
from leanpacs.catalog.query import MULTI_VALUED, WORKED_OUT, Query, conditions
from leanpacs.catalog.statements import PERSON_NAMES
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, Level

if TYPE_CHECKING:
    from sqlalchemy import Select

_MOST_KNOWN: Final = 256
_MOST_VALUES: Final = 8
"""Statements with more values than these are long, and hardly ever come again."""

_EXACT: Final = frozenset(
    attribute.keyword
    for attribute in LEVEL_ATTRIBUTES
    if attribute.vr not in INTEGER_VRS
    and attribute.field not in PERSON_NAMES
    and attribute.keyword not in WORKED_OUT | MULTI_VALUED
)
"""Attributes of which one value is compared as it is."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """A search without what is a parameter of its statement.

    Attributes
    ----------
    filters : tuple of (str, Match or None)
        None where the value is a parameter.
    """

    level: Level
    filters: tuple[tuple[str, Match | None], ...]
    is_limited: bool
    has_offset: bool
    fuzzy: bool
    combined_datetime: bool


def prepared(statement: Select[Any], query: Query, dialect: str) -> tuple[Prepared, dict[str, Any]]:
    """The statement with the conditions and the limits of a query, and the values of its parameters.

    Raises
    ------
    InvalidQuery
        As :func:`leanpacs.catalog.query.conditions` does.
    """
    filters: list[tuple[str, Match | None]] = []
    values: dict[str, Any] = {}
    is_long = False
    for keyword, match in query.filters.items():
        if isinstance(match, AnyOf) and len(match.values) == 1 and match.values[0] and keyword in _EXACT:
            values[keyword] = match.values[0]
            filters.append((keyword, None))
        else:
            filters.append((keyword, match))
            is_long = is_long or _number_of_values(match) > _MOST_VALUES
    if query.limit is not None:
        values["most"] = query.limit
    if query.offset:
        values["left_out"] = query.offset
    shape = _Shape(
        query.level,
        tuple(filters),
        query.limit is not None,
        query.offset > 0,
        query.fuzzy,
        query.combined_datetime,
    )
    return (_made(statement, shape, dialect) if is_long else _known(statement, shape, dialect)), values


def _number_of_values(match: Match) -> int:
    if isinstance(match, AnyOf):
        return len(match.values)
    return len(match.patterns) if isinstance(match, Wildcard) else 1


def _made(statement: Select[Any], shape: _Shape, dialect: str) -> Prepared:
    filters: dict[str, Any] = {
        keyword: AnyOf((bindparam(keyword, ""),)) if match is None else match  # type: ignore[arg-type]
        for keyword, match in shape.filters
    }
    query = Query(shape.level, filters, fuzzy=shape.fuzzy, combined_datetime=shape.combined_datetime)
    found = statement.where(*conditions(query, dialect))
    if shape.is_limited:
        found = found.limit(bindparam("most", 0))
    return Prepared(found.offset(bindparam("left_out", 0)) if shape.has_offset else found)


_known: Final = lru_cache(maxsize=_MOST_KNOWN)(_made)
