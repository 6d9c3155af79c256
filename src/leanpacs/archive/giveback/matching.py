"""Matching of whole data sets, sequences included (PS3.4 C.2.2.2, K.6.1.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from leanpacs.catalog import AnyOf, Between, Match, Universal, Wildcard, parse_match
from leanpacs.catalog.matching import CEILINGS, FLOORS
from leanpacs.catalog.names import folded_groups
from leanpacs.dicom.datadict import keyword_of

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

Test = Callable[["Dataset"], bool]

_CHARACTER_SET: Final = 0x00080005
_NOT_TEXT: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT", "FL", "FD"})
_PAIRS: Final = ((0x00400002, 0x00400003), (0x00400004, 0x00400005))
"""Date and time that are one moment when both are ranges: start and end of a scheduled step (PS3.4 table K.6-1)."""


def matcher(keys: Dataset) -> Test:
    """A function that says whether a data set matches all keys; nested items must match as a whole.

    Raises
    ------
    InvalidQuery
        A key's value is not understood.
    """
    tests: list[Test] = []
    ranges: dict[int, Between] = {}
    for key in keys:
        if key.tag == _CHARACTER_SET or key.VR in _NOT_TEXT:
            continue
        if key.VR == "SQ":
            tests += [_item_test(key.tag, item) for item in key.value[:1] if item]
            continue
        match = parse_match(_name(key), key.VR, "\\".join(texts(key)))
        if isinstance(match, Between) and match.is_range:
            ranges[int(key.tag)] = match
        elif not isinstance(match, Universal):
            tests.append(_value_test(key.tag, key.VR, match))
    for date, time in _PAIRS:
        if date in ranges and time in ranges:
            tests.append(_moment_test(date, ranges.pop(date), time, ranges.pop(time)))
    tests += [_value_test(tag, keys[tag].VR, match) for tag, match in ranges.items()]
    return lambda ds: all(test(ds) for test in tests)


def texts(element: DataElement | None) -> tuple[str, ...]:
    """Values of an element as text, none when it is absent or empty."""
    if element is None or element.is_empty:
        return ()
    value = element.value
    several = value if element.VM > 1 else (value,)
    return tuple(str(one).strip(" \0") for one in several)


def answer(keys: Dataset, found: Dataset) -> Dataset:
    """What a match is answered with: the keys with its values, empty where it has none (PS3.4 C.4.1.1.3.2).

    A sequence that is asked for without keys comes with all that it holds.
    """
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

    made = Dataset()
    for key in keys:
        if key.tag == _CHARACTER_SET or key.tag.element == 0:
            continue
        held = _element(found, key.tag)
        if key.VR == "SQ":
            items = [] if held is None or held.VR != "SQ" else list(held.value)
            asked = key.value[0] if len(key.value) else None
            made.add(DataElement(key.tag, "SQ", [answer(asked, one) if asked else one for one in items]))
        else:
            made.add(DataElement(key.tag, key.VR, None) if held is None else held)
    return made


def _item_test(tag: int, keys: Dataset) -> Test:
    """Whether one of the items of a sequence matches all keys of the item asked for (C.2.2.2.6)."""
    matches = matcher(keys)

    from pydicom import Dataset

    # An item with empty keys only restricts nothing: what has no such sequence matches, too.
    without = matches(Dataset())

    def test(ds: Dataset) -> bool:
        held = _element(ds, tag)
        if held is None or held.VR != "SQ" or not held.value:
            return without
        return any(matches(item) for item in held.value)

    return test


def _value_test(tag: int, vr: str, match: Match) -> Test:
    matches = _matches(vr, match)
    return lambda ds: matches(texts(_element(ds, tag)))


def _moment_test(date: int, days: Between, time: int, hours: Between) -> Test:
    """Whether date and time together are in a span from the first to the last moment."""
    first = days.first and days.first + (hours.first or FLOORS["TM"])
    last = days.last and days.last + (hours.last or CEILINGS["TM"])

    def test(ds: Dataset) -> bool:
        day, hour = texts(_element(ds, date)), texts(_element(ds, time))
        if not day:
            return False
        moment = day[0] + _in_full(hour[0] if hour else "", "TM")
        return first <= moment and (not last or moment <= last)

    return test


def _matches(vr: str, match: Match) -> Callable[[Sequence[str]], bool]:
    """Whether one of an element's values matches."""
    if match == AnyOf(("",)):
        return lambda values: not any(values)
    if isinstance(match, Between):
        first, last = match.first, match.last
        return lambda values: any(
            first <= _in_full(value, vr) and (not last or _in_full(value, vr) <= last) for value in values if value
        )
    if vr == "PN":
        return _names(match)
    if isinstance(match, Wildcard):
        patterns = [_pattern(one) for one in match.patterns]
        return lambda values: any(pattern.fullmatch(value) for value in values for pattern in patterns)
    wanted = frozenset(match.values) if isinstance(match, AnyOf) else frozenset()
    return lambda values: not wanted.isdisjoint(values)


def _names(match: Match) -> Callable[[Sequence[str]], bool]:
    """Names match whatever the case; a key without component groups may match any of them (C.2.2.2.1.1)."""
    keys = match.values if isinstance(match, AnyOf) else match.patterns if isinstance(match, Wildcard) else ()
    wanted = [[_pattern(group) if group else None for group in folded_groups(key)] for key in keys]

    def is_one(key: list[re.Pattern[str] | None], name: str) -> bool:
        groups = folded_groups(name)
        if key[1] is None and key[2] is None:
            return key[0] is None or any(_is_group(key[0], group) for group in groups if group)
        return all(asked is None or _is_group(asked, group) for asked, group in zip(key, groups, strict=True))

    return lambda values: any(is_one(key, value) for value in values for key in wanted)


def _is_group(pattern: re.Pattern[str], group: str) -> bool:
    # 'DOE^*' is also meant to find DOE without a given name.
    return pattern.fullmatch(group) is not None or pattern.fullmatch(group + "^") is not None


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _in_full(text: str, vr: str) -> str:
    """A time with what it leaves out filled in; dates as they are."""
    if vr == "DA":
        return text.replace(".", "")
    plain, floor = text.replace(":", ""), FLOORS[vr]
    return (plain + floor[len(plain) :])[: len(floor)]


def _element(ds: Dataset, tag: int) -> DataElement | None:
    return ds[tag] if tag in ds else None  # noqa: SIM401 - get() gives the value of a keyword, too


def _name(key: DataElement) -> str:
    return keyword_of(int(key.tag)) or str(key.tag)
