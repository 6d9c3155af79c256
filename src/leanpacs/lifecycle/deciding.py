"""What a policy wants for one instance at one moment: a pure function, fast enough for millions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from leanpacs.catalog.ageing import Held
from leanpacs.lifecycle.lossy import LossyCopy
from leanpacs.lifecycle.policy import Policy, Rule, When, days

_HOT: Final = "hot"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted for an instance; ``because`` names the rule behind each part that a rule has set."""

    preset: str = "fast"
    fidelity: str = "bytes"
    tier: str = _HOT
    copies: tuple[str, ...] = ()
    pack: str = "instance"
    keep_fast: bool = False
    newest_dictionary: bool = False
    made_since: Any = None
    minimum_copies: int = 1
    keep_days: float = 0.0
    delete_after_days: float | None = None
    lossy_copy: LossyCopy | None = None
    because: Mapping[str, str] = field(default_factory=dict)

    def rule_for(self, part: str) -> str:
        """The rule that a part is due to, '' for what holds without any."""
        return self.because.get(part, "")

    def is_due_for_deletion(self, age_days: float) -> bool:
        """Whether the instance may be deleted at this age, and is to be."""
        return self.delete_after_days is not None and age_days >= max(self.delete_after_days, self.keep_days)


class Decider:
    """Applies a policy.

    Conditions on what never changes of an instance are looked at once for each combination that occurs; those on
    time, size and reads for each instance.

    Parameters
    ----------
    policy : Policy
        Its rules.
    now : datetime
        The moment that ages are reckoned from.

    Attributes
    ----------
    wants_copies : bool
        Whether some rule wants more than one copy.
    """

    def __init__(self, policy: Policy, now: datetime) -> None:
        self._rules = policy.rules
        self._now = int(now.timestamp() * 1_000_000)
        self._changing = [_changing_conditions(rule.when) for rule in policy.rules]
        self.wants_copies = any((rule.then.minimum_copies or 1) > 1 for rule in policy.rules)
        self._matching: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._merged: dict[tuple[int, ...], Wanted] = {}

    def wanted(self, held: Held) -> Wanted:
        """What is wanted for an instance now."""
        numbers = self._numbers(held)
        found = self._merged.get(numbers)
        if found is None:
            found = self._merged[numbers] = merged([self._rules[number] for number in numbers])
        return found

    def wanted_throughout(self, low: Held, high: Held) -> Wanted | None:
        """What is wanted for all instances between two that differ in numbers only; None when it is not the same.

        Each condition on what changes depends on one number and holds from some value on, or up to one.
        """
        for number in self._candidates(low):
            when = self._rules[number].when
            for holds in self._changing[number]:
                if holds(when, low, self._now) != holds(when, high, self._now):
                    return None
        return self.wanted(low)

    def rules(self, held: Held) -> list[tuple[Rule, list[str]]]:
        """Every rule with the conditions that do not hold for an instance (none: the rule holds)."""
        return [(rule, _failing(rule.when, held, self._now)) for rule in self._rules]

    def age_days(self, held: Held) -> float:
        """Days since an instance came."""
        return days(self._now - held.received_at)

    def _numbers(self, held: Held) -> tuple[int, ...]:
        """Numbers of the rules that hold now."""
        found, now = [], self._now
        for number in self._candidates(held):
            when = self._rules[number].when
            for holds in self._changing[number]:
                if not holds(when, held, now):
                    break
            else:
                found.append(number)
        return tuple(found)

    def _candidates(self, held: Held) -> tuple[int, ...]:
        key = (
            held.modality,
            held.sop_class,
            held.transfer_syntax,
            held.source,
            held.body_part,
            held.institution,
        )
        found = self._matching.get(key)
        if found is None:
            found = tuple(
                number
                for number, rule in enumerate(self._rules)
                if all(_matches(getattr(rule.when, name), text) for name, text in zip(_FIXED, key, strict=True))
            )
            if len(self._matching) > _MOST_REMEMBERED:
                self._matching.clear()
            self._matching[key] = found
        return found


_FIXED: Final = ("modality", "sop_class", "transfer_syntax", "source", "body_part", "institution")
_MOST_REMEMBERED: Final = 50_000

_GROWING: Final = ("keep_days", "minimum_copies")


def merged(rules: list[Rule]) -> Wanted:
    """What rules that hold want together, in the order in which they stand in the policy."""
    values: dict[str, Any] = {}
    because: dict[str, str] = {}
    for rule in rules:
        for part, value in rule.then:
            if value is None or (part in _GROWING and value < values.get(part, 0)):
                continue
            values[part], because[part] = value, rule.name
    return Wanted(**values, because=because)


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(_fits(pattern, text) for pattern in patterns)


@lru_cache(maxsize=4096)
def _fits(pattern: str, text: str) -> bool:
    return fnmatchcase(text.upper(), pattern.upper())


def _changing_conditions(when: When) -> tuple[_Condition, ...]:
    return tuple(holds for name, holds in _CHANGING if getattr(when, name) is not None)


def _failing(when: When, held: Held, now: int) -> list[str]:
    values = (held.modality, held.sop_class, held.transfer_syntax, held.source, held.body_part, held.institution)
    fixed = [
        f"{name} {value!r} is none of {', '.join(getattr(when, name))}"
        for name, value in zip(_FIXED, values, strict=True)
        if not _matches(getattr(when, name), value)
    ]
    changing = [
        f"not {name} {_said(getattr(when, name))}"
        for name, holds in _CHANGING
        if getattr(when, name) is not None and not holds(when, held, now)
    ]
    return fixed + changing


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _last_used(held: Held) -> int:
    return max(held.last_read_at, held.received_at)


_Condition = Callable[[Any, Held, int], bool]
_CHANGING: Final[tuple[tuple[str, _Condition], ...]] = (
    ("larger_than_bytes", lambda when, held, now: held.length >= when.larger_than_bytes),
    ("smaller_than_bytes", lambda when, held, now: held.length < when.smaller_than_bytes),
    ("older_than_days", lambda when, held, now: days(now - held.received_at) >= when.older_than_days),
    ("unread_days", lambda when, held, now: days(now - _last_used(held)) >= when.unread_days),
    (
        "read_within_days",
        lambda when, held, now: held.reads > 0 and days(now - held.last_read_at) <= when.read_within_days,
    ),
    ("read_at_least", lambda when, held, now: held.reads >= when.read_at_least),
    ("read_at_most", lambda when, held, now: held.reads <= when.read_at_most),
    ("derived", lambda when, held, now: held.is_derived == when.derived),
)
