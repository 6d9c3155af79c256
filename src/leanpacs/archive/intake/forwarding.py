"""What is sent on when it has arrived: rules of the settings become entries of the outbox.

They are made in the transaction that takes the instance in, so that none is forgotten and none is made twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import translate
from types import MappingProxyType
from typing import Final

from leanpacs.catalog import Outbound
from leanpacs.config import ForwardRule
from leanpacs.dicom.attributes import InstanceIndex

_SERIES: Final = ("modality", "station_name", "institution_name", "body_part_examined", "series_description")
_STUDY: Final = ("study_description", "referring_physician_name")

Patterns = MappingProxyType[str, re.Pattern[str]]


class Forwarding:
    """The rules of an archive.

    Parameters
    ----------
    rules : sequence of ForwardRule
        All of them are looked at; the first one that names a destination says why it gets an instance.
    """

    def __init__(self, rules: Sequence[ForwardRule]) -> None:
        self._rules = [(rule, _patterns(rule)) for rule in rules]

    def __call__(self, index: InstanceIndex, *, sender: str, door: str) -> list[Outbound]:
        """Where an instance that has just arrived goes to."""
        if not self._rules:
            return []
        facts = _facts(index, sender, door)
        found: dict[str, Outbound] = {}
        for rule, patterns in self._rules:
            if all(pattern.match(facts[name]) for name, pattern in patterns.items()):
                for title in rule.to:
                    if title != sender:
                        found.setdefault(
                            title, Outbound(title, index.study_uid, index.series_uid, index.sop_uid, _cause(rule))
                        )
        return list(found.values())


def _cause(rule: ForwardRule) -> str:
    return rule.name or f"rule to {', '.join(rule.to)}"


def _facts(index: InstanceIndex, sender: str, door: str) -> dict[str, str]:
    return {
        "sender": sender,
        "door": door,
        "sop_class": index.sop_class,
        **{name: getattr(index.series, name) for name in _SERIES},
        **{name: getattr(index.study, name) for name in _STUDY},
    }


def _patterns(rule: ForwardRule) -> Patterns:
    return MappingProxyType(
        {name: pattern for name, wanted in _named(rule) if (pattern := _any_of(wanted)) is not None}
    )


def _named(rule: ForwardRule) -> Iterator[tuple[str, Sequence[str]]]:
    for name in ("sender", "door", "sop_class", *_SERIES, *_STUDY):
        yield name, getattr(rule, name)


def _any_of(wanted: Sequence[str]) -> re.Pattern[str] | None:
    if not wanted:
        return None
    # A bracket is a character like others in DICOM patterns (PS3.4 C.2.2.2.4).
    return re.compile("|".join(translate(one.replace("[", "[[]")) for one in wanted), re.IGNORECASE)
