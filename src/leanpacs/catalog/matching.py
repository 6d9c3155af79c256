"""Matching keys: from the text in a C-FIND identifier or a QIDO parameter to what it means.

References
----------
PS3.4 C.2.2.2 (attribute matching), PS3.18 8.3.4.1 (the same for query parameters).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from leanpacs.errors import InvalidQuery

_MOST_VALUES: Final = 10_000
_MOST_PATTERNS: Final = 100
_LONGEST_PATTERN: Final = 512


@dataclass(frozen=True, slots=True)
class Universal:
    """Anything, also nothing (C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these values (C.2.2.2.1 single value, C.2.2.2.2 list of UIDs); '' matches what is absent."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """One of these patterns: ``*`` is any characters, ``?`` is one character (C.2.2.2.4)."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A range, both ends included and written in full; '' where it is open (C.2.2.2.5).

    A single time becomes one, too: ``10`` stands for all times from 10:00:00 to 10:59:59.999999. ``is_range``
    is False then, and it is never combined with a range of dates.
    """

    first: str
    last: str
    is_range: bool = True


Match = Universal | AnyOf | Wildcard | Between

INTEGER_VRS: Final = frozenset({"IS", "US", "SS", "UL", "SL"})
WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})

FLOORS: Final = MappingProxyType({"TM": "000000.000000", "DT": "00000101000000.000000"})
CEILINGS: Final = MappingProxyType({"TM": "235959.999999", "DT": "99991231235959.999999"})
"""What fills up a time of less than full precision, to its first and to its last microsecond."""

_DATE: Final = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})", re.ASCII)
_TIME: Final = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?", re.ASCII)
_DATE_TIME: Final = re.compile(r"\d{4}(\d{2}(\d{2}(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?)?)?", re.ASCII)
_UID: Final = re.compile(r"[0-9.]{1,64}", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?\d{1,12}", re.ASCII)


def parse_match(keyword: str, vr: str, text: str) -> Match:
    r"""What a matching key asks for.

    Several values are separated by a backslash, UIDs also by a comma; one of them must match. ``""`` (two
    quotation marks) matches an attribute that is absent or empty (C.2.2.2.7).

    Raises
    ------
    InvalidQuery
        The text cannot be a value, list, range or pattern of this VR.
    """
    text = text.replace("\0", "").strip()
    if not _is_unicode(text):
        raise InvalidQuery(keyword, "holds characters that are none")
    if text.strip("*") == "":
        return Universal()
    if text == '""':
        return AnyOf(("",))
    if vr == "DA":
        return _dates(keyword, text)
    if vr in FLOORS:
        return _times(keyword, vr, text)
    values = _values(keyword, re.split(r"[\\,]" if vr == "UI" else r"\\", text))
    if vr == "UI":
        return _checked(keyword, values, _UID, "is not a UID")
    if vr in INTEGER_VRS:
        numbers = _checked(keyword, values, _INTEGER, "is not an integer")
        return AnyOf(tuple(str(int(number)) for number in numbers.values))
    if vr in WILDCARD_VRS and ("*" in text or "?" in text):
        return _patterns(keyword, values)
    return AnyOf(values)


def _is_unicode(text: str) -> bool:
    """Whether no part of the text is half a character (a lone surrogate), which no database takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _values(keyword: str, parts: list[str]) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(stripped for part in parts if (stripped := part.strip())))
    if not values:
        raise InvalidQuery(keyword, "holds separators but no value")
    if len(values) > _MOST_VALUES:
        raise InvalidQuery(keyword, f"lists more than {_MOST_VALUES} values")
    return values


def _checked(keyword: str, values: tuple[str, ...], form: re.Pattern[str], fault: str) -> AnyOf:
    for value in values:
        if not form.fullmatch(value):
            raise InvalidQuery(keyword, f"{value!r} {fault}")
    return AnyOf(values)


def _patterns(keyword: str, values: tuple[str, ...]) -> Match:
    if len(values) > _MOST_PATTERNS or max(map(len, values)) > _LONGEST_PATTERN:
        raise InvalidQuery(keyword, "is too long for a pattern")
    patterns = tuple(re.sub(r"\*+", "*", value) for value in values)
    return Universal() if "*" in patterns else Wildcard(patterns)


def _dates(keyword: str, text: str) -> Match:
    if "-" in text:
        first, last = _ends(keyword, text)
        return Between(first and _date(keyword, first), last and _date(keyword, last))
    return AnyOf(tuple(_date(keyword, value) for value in _values(keyword, text.split("\\"))))


def _date(keyword: str, text: str) -> str:
    match = _DATE.fullmatch(text)
    if match is None or not ("01" <= match[2] <= "12" and "01" <= match[3] <= "31"):
        raise InvalidQuery(keyword, f"{text!r} is not a date (YYYYMMDD)")
    return "".join(match.groups())


def _times(keyword: str, vr: str, text: str) -> Match:
    if "-" not in text:
        time = _time(keyword, vr, text)
        return Between(_filled(time, FLOORS[vr]), _filled(time, CEILINGS[vr]), is_range=False)
    first, last = (end and _time(keyword, vr, end) for end in _ends(keyword, text))
    return Between(first and _filled(first, FLOORS[vr]), last and _filled(last, CEILINGS[vr]))


def _time(keyword: str, vr: str, text: str) -> str:
    form, shape = (_TIME, "HHMMSS.FFFFFF") if vr == "TM" else (_DATE_TIME, "YYYYMMDDHHMMSS.FFFFFF")
    if not form.fullmatch(text):
        raise InvalidQuery(keyword, f"{text!r} is not a time ({shape}, without offset from UTC)")
    return text.replace(":", "")


def _filled(text: str, template: str) -> str:
    return text + template[len(text) :]


def _ends(keyword: str, text: str) -> tuple[str, str]:
    first, last = (end.strip() for end in text.split("-", 1))
    if not first and not last:
        raise InvalidQuery(keyword, "is a range without ends")
    return first, last
