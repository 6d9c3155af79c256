"""Searching: matching keys to SQL, rows to values (C-FIND and QIDO-RS share it).

References
----------
PS3.4 C.2.2.2 (matching), C.6.2.1 (Study Root), PS3.18 10.6 (search transaction).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from sqlalchemy import Column, ColumnElement, and_, exists, func, literal, or_, select

from leanpacs.catalog import engine, names
from leanpacs.catalog.matching import (
    CEILINGS,
    FLOORS,
    INTEGER_VRS,
    AnyOf,
    Between,
    Match,
    Universal,
    Wildcard,
)
from leanpacs.catalog.schema import WORDS, instances, person_names, series, studies
from leanpacs.catalog.statements import PERSON_NAMES
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES, Level, LevelAttribute
from leanpacs.errors import InvalidQuery

_TABLES: Final = MappingProxyType({"patient": studies, "study": studies, "series": series, "instance": instances})
_DEPTH: Final = MappingProxyType({"patient": 0, "study": 1, "series": 2, "instance": 3})
LEVELS: Final[tuple[Level, ...]] = ("patient", "study", "series", "instance")
MULTI_VALUED: Final = frozenset({"ImageType"})
FROM_BELOW: Final = frozenset({"ModalitiesInStudy", "SOPClassesInStudy"})
_FROM_ROW: Final = frozenset({"AvailableTransferSyntaxUID"})
"""Not of the data set, but known of each instance: the one in which it was received."""
WORKED_OUT: Final = FROM_BELOW | _FROM_ROW
_DATE_TIME_PAIRS: Final = (
    ("StudyDate", "StudyTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
)


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for.

    Parameters
    ----------
    level : 'patient', 'study', 'series' or 'instance'
        What to return, one row for each.
    filters : mapping of keyword to Match
        All of them must hold. Keywords of this level and of those above, see `matchable`.
    limit, offset : int or None, int
        How many rows to return, after leaving out how many; rows come in the order they were first received.
    fuzzy : bool
        Names match when each word of the key begins a word of the name, whatever case, accents and order.
    combined_datetime : bool
        A range of dates with a range of times is one span from the first date's first time to the last date's
        last time (C.2.2.2.5.4); without it, each of the days has its span of hours.
    totals : frozenset of str
        Fields of `Totals` that rows are to have.
    """

    level: Level
    filters: Mapping[str, Match] = field(default_factory=dict)
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    combined_datetime: bool = True
    totals: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, value in (("limit", self.limit), ("offset", self.offset)):
            if value is not None and not 0 <= value < 2**63:
                raise InvalidQuery(name, f"{value} is not a number of results")


def matchable(level: Level) -> Mapping[str, LevelAttribute]:
    """The attributes that a query of this level can match, by keyword."""
    depth = _DEPTH[level]
    return MappingProxyType(
        {
            attribute.keyword: attribute
            for attribute in LEVEL_ATTRIBUTES
            if _DEPTH[attribute.level] <= depth and (not attribute.computed or attribute.keyword in WORKED_OUT)
        }
    )


_MATCHABLE: Final = MappingProxyType({level: matchable(level) for level in LEVELS})


def conditions(query: Query, dialect: str) -> list[ColumnElement[bool]]:
    """The conditions that rows of the joined levels must meet.

    Raises
    ------
    InvalidQuery
        A keyword cannot be matched at this level, or not in this way.
    """
    if query.level not in _MATCHABLE:
        raise InvalidQuery("QueryRetrieveLevel", f"{query.level!r} cannot be searched")
    attributes = _MATCHABLE[query.level]
    found = [] if not query.combined_datetime else list(_combined(query.filters))
    for keyword, match in query.filters.items():
        if keyword not in attributes:
            raise InvalidQuery(keyword, f"cannot be matched at the level of the {query.level}")
        if not isinstance(match, Universal):
            found.append(_condition(attributes[keyword], match, query, dialect))
    return found


def _condition(attribute: LevelAttribute, match: Match, query: Query, dialect: str) -> ColumnElement[bool]:
    if attribute.keyword in FROM_BELOW:
        return _in_study(attribute.keyword, match, dialect)
    column = _TABLES[attribute.level].c[attribute.field]
    if attribute.field in PERSON_NAMES and match != AnyOf(("",)):
        return _name(attribute, match, query, dialect)
    if isinstance(match, Between):
        return _range(column, attribute, match, combined=query.combined_datetime and _is_paired(attribute, query))
    if attribute.vr in INTEGER_VRS:
        return _number(column, attribute.keyword, match)
    return _text(column, attribute.keyword, match, dialect)


def _text(column: Column[str], keyword: str, match: Match, dialect: str) -> ColumnElement[bool]:
    if keyword in MULTI_VALUED and match != AnyOf(("",)):
        padded = literal("\\") + column + "\\"
        patterns = match.values if isinstance(match, AnyOf) else _patterns(match, keyword)
        return or_(*(engine.like(dialect, padded, f"*\\{pattern}\\*") for pattern in patterns))
    if isinstance(match, AnyOf):
        return column.in_(match.values) if len(match.values) > 1 else column == match.values[0]
    return or_(*(engine.like(dialect, column, pattern) for pattern in _patterns(match, keyword)))


def _patterns(match: Match, keyword: str) -> tuple[str, ...]:
    if not isinstance(match, Wildcard):
        raise InvalidQuery(keyword, "cannot be matched by a range")
    return match.patterns


def _number(column: Column[int], keyword: str, match: Match) -> ColumnElement[bool]:
    if not isinstance(match, AnyOf):
        raise InvalidQuery(keyword, "is a number and cannot be matched by a pattern")
    if match.values == ("",):
        return column.is_(None)
    return column.in_([int(value) for value in match.values])


def _in_study(keyword: str, match: Match, dialect: str) -> ColumnElement[bool]:
    """Whether the study has a series of such a modality, or an instance of such a SOP class."""
    one_series = series.alias("series_of_study")
    below = exists().where(one_series.c.study_key == studies.c.id)
    if keyword == "ModalitiesInStudy":
        return below.where(_text(one_series.c.modality, keyword, match, dialect))
    instance = instances.alias("instance_of_study")
    below = below.where(instance.c.series_key == one_series.c.id)
    return below.where(_text(instance.c.sop_class, keyword, match, dialect))


def _name(attribute: LevelAttribute, match: Match, query: Query, dialect: str) -> ColumnElement[bool]:
    keys = match.values if isinstance(match, AnyOf) else _patterns(match, attribute.keyword)
    if query.fuzzy:
        return or_(*(_begins_words(attribute, key, dialect) for key in keys))
    return or_(*(_is_name(attribute.field, key, dialect) for key in keys))


def _begins_words(attribute: LevelAttribute, key: str, dialect: str) -> ColumnElement[bool]:
    begun = names.words(re.sub(r"[*?]", " ", key))
    if not begun:
        raise InvalidQuery(attribute.keyword, "holds no word to look for")
    return and_(*(_has_part(attribute.field, (names.WORD,), f"{word}*", dialect) for word in begun))


def _is_name(attribute: str, key: str, dialect: str) -> ColumnElement[bool]:
    """Whether each component group of the key matches; a key without groups may match any of them."""
    groups = names.folded_groups(key)
    if "=" not in key:
        return _is_group(attribute, tuple(range(names.GROUPS)), groups[0], dialect)
    asked = [(part, group) for part, group in enumerate(groups) if group.strip("*")]
    return and_(True, *(_is_group(attribute, (part,), group, dialect) for part, group in asked))


def _is_group(attribute: str, parts: tuple[int, ...], key: str, dialect: str) -> ColumnElement[bool]:
    # 'DOE^*' is also meant to find DOE without a given name: empty components at the end are not kept.
    keys = [key]
    while keys[-1].endswith("^*"):
        keys.append(keys[-1][:-2].rstrip("^"))
    return or_(*(_has_part(attribute, parts, one, dialect) for one in keys))


def _has_part(attribute: str, parts: tuple[int, ...], pattern: str, dialect: str) -> ColumnElement[bool]:
    if "*" in pattern or "?" in pattern:
        matches = engine.like(dialect, person_names.c.folded, pattern)
    else:
        matches = person_names.c.folded == pattern
    return studies.c.id.in_(
        select(person_names.c.study_key).where(
            person_names.c.attribute == attribute, person_names.c.part.in_(parts), matches
        )
    )


def _range(column: Column[str], attribute: LevelAttribute, match: Between, *, combined: bool) -> ColumnElement[bool]:
    if attribute.vr not in ("DA", "TM", "DT"):
        raise InvalidQuery(attribute.keyword, "cannot be matched by a range")
    if attribute.vr == "TM" and combined:
        return and_(True)  # the date's condition has it all
    value = column if attribute.vr == "DA" else _in_full(column, FLOORS[attribute.vr])
    return and_(column != "", *_bounds(value, match.first, match.last))


def _bounds(value: ColumnElement[str], first: str, last: str) -> list[ColumnElement[bool]]:
    lower = [value >= first] if first else []
    return [*lower, value <= last] if last else lower


def _in_full(column: ColumnElement[str], floor: str) -> ColumnElement[str]:
    """A time with what it leaves out filled in, so that times of any precision compare as text."""
    plain = func.replace(column, ":", "", type_=WORDS)
    rest = func.substr(floor, func.length(plain) + 1, type_=WORDS)
    return func.substr(plain + rest, 1, len(floor), type_=WORDS)


def _pair(filters: Mapping[str, Match], date: str, time: str) -> tuple[Between, Between] | None:
    days, hours = filters.get(date), filters.get(time)
    if isinstance(days, Between) and isinstance(hours, Between) and hours.is_range:
        return days, hours
    return None


def _is_paired(attribute: LevelAttribute, query: Query) -> bool:
    return any(attribute.keyword == time and _pair(query.filters, date, time) for date, time in _DATE_TIME_PAIRS)


def _combined(filters: Mapping[str, Match]) -> list[ColumnElement[bool]]:
    """Conditions on date and time together; those on the date alone stand beside them, for its index."""
    found = []
    attributes = _MATCHABLE["instance"]
    for date, time in _DATE_TIME_PAIRS:
        pair = _pair(filters, date, time)
        if pair is not None:
            days, hours = pair
            table = _TABLES[attributes[date].level]
            moment = table.c[attributes[date].field] + _in_full(table.c[attributes[time].field], FLOORS["TM"])
            first = days.first and days.first + (hours.first or FLOORS["TM"])
            last = days.last and days.last + (hours.last or CEILINGS["TM"])
            found.extend(_bounds(moment, first, last))
    return found
