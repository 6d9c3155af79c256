"""Policies: rules from what is known of an instance to what the archive is to hold of it.

A policy is a TOML file (docs/reference/policy.md). Its rules are read from the first to the last: each one whose
conditions all hold says what it wants, and what a later rule says stands above what an earlier one said. Two things
only grow: how long an instance is kept at least, and how many copies there must be.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, time
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from leanpacs.codecs import presets
from leanpacs.errors import ConfigError
from leanpacs.lifecycle.lossy import MAMMOGRAMS, LossyCopy

DEFAULT: Final = "default"
"""The policy that holds when none is given: nothing lossy, nothing deleted."""

_DAY: Final = 86_400_000_000
"""Microseconds."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _known_preset(text: str) -> str:
    try:
        presets.preset(text)
    except ConfigError as error:
        raise ValueError(f"{text!r} {str(error).rpartition(': ')[2]}") from error
    return text


def _offered(value: Any) -> Any:
    if value in ("pixels", "lossy"):
        raise ValueError(f"{value!r} is not offered: every stored form gives the received bytes back; write 'bytes'")
    return value


Fidelity = Annotated[Literal["bytes"], BeforeValidator(_offered)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_listed)]
PresetName = Annotated[str, BeforeValidator(_known_preset)]
Days = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TierName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class When(_Checked):
    """Conditions; a rule holds for an instance when all of them do. Patterns know ``*`` and ``?``; one must match."""

    modality: Patterns = Field(default=(), description="Modalities, such as CT.")
    sop_class: Patterns = Field(default=(), description="SOP Class UIDs.")
    transfer_syntax: Patterns = Field(default=(), description="Transfer Syntax UIDs, as received.")
    source: Patterns = Field(default=(), description="AE titles, users or paths that it came from.")
    body_part: Patterns = Field(default=(), description="Body Part Examined of the series.")
    institution: Patterns = Field(default=(), description="Institution Name of the series.")
    larger_than_bytes: int | None = Field(default=None, ge=0, description="Length as received, at least.")
    smaller_than_bytes: int | None = Field(default=None, ge=1, description="Length as received, less than this.")
    older_than_days: Days | None = Field(default=None, description="Days since it came, at least.")
    unread_days: Days | None = Field(
        default=None, description="Days since its series was read, or since it came when nobody has read it, at least."
    )
    read_within_days: Days | None = Field(default=None, description="Its series was read within so many days.")
    read_at_least: int | None = Field(default=None, ge=1, description="So many reads of its series.")
    read_at_most: int | None = Field(default=None, ge=0, description="No more reads of its series.")
    derived: bool | None = Field(default=None, description="It is, or is not, a lossy copy that a rule has made.")


class Then(_Checked):
    """What is wanted; what a rule does not name it leaves to the rules before it."""

    preset: PresetName | None = Field(
        default=None,
        description="At least as small as this preset makes it: 'fast' < 'balanced' < 'dense'; or one codec, such as "
        "'jpegxl:9'. Nothing is ever made larger again.",
    )
    fidelity: Fidelity | None = Field(
        default=None,
        description="What every stored form must give back, at least. Only 'bytes' is offered: the data set as "
        "received, bit for bit, which is what holds without any rule. (Lossy copies are other instances.)",
    )
    made_since: date | None = Field(
        default=None, description="What was encoded before this day is encoded again; smaller results are kept."
    )
    newest_dictionary: bool | None = Field(
        default=None, description="Heads are compressed again when a newer dictionary of their SOP class has come."
    )
    tier: TierName | None = Field(default=None, description="Tier that it is held on.")
    copies: Annotated[tuple[TierName, ...], BeforeValidator(_listed)] | None = Field(
        default=None, description="Further tiers that hold a copy each."
    )
    pack: Literal["instance", "series"] | None = Field(
        default=None, description="What one stored object holds: an instance, or its series."
    )
    keep_fast: bool | None = Field(
        default=None, description="Whether a form of the preset 'fast' is held on the hot tier as well, for readers."
    )
    minimum_copies: int | None = Field(
        default=None,
        ge=1,
        le=9,
        description="Tiers that must hold it, verified: no copy is given up below this. The tiers are those of 'tier' "
        "and 'copies'; where these are too few, copies elsewhere stay, and `lifecycle status` says what is missing.",
    )
    keep_days: Days | None = Field(default=None, description="Days for which it is not deleted by any rule.")
    delete_after_days: Days | None = Field(
        default=None,
        description="Days after which its study is deleted, once this holds for all its instances that were received; "
        "of lossy copies, their series.",
    )
    lossy_copy: LossyCopy | None = Field(
        default=None,
        description="A lossy copy is made beside it, once: a new instance in a new series of its study, marked as "
        "lossy and derived. The original stays as it is. None is made of what is lossy already, of images for "
        "processing, segmentations, parametric maps and doses, nor where it would not be smaller than what is held.",
    )


class Rule(_Checked):
    """One rule."""

    name: str = Field(min_length=1, max_length=120, description="What it is called in plans and figures.")
    when: When = Field(default_factory=When, description="Conditions; without any it holds for all instances.")
    then: Then = Field(description="What is wanted.")


class Policy(_Checked):
    """A policy file."""

    name: str = Field(min_length=1, description="What it is called.")
    note: str = Field(default="", description="What it does, for readers.")
    rules: tuple[Rule, ...] = Field(description="In rising order of weight.")

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if not self.rules:
            raise ValueError("rules: there is none")
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rules: more than one is called {', '.join(map(repr, twice))}")
        for rule in self.rules:
            if not rule.then.model_dump(exclude_none=True):
                raise ValueError(f"rule {rule.name!r} wants nothing; say what in its table 'then'")
        return self

    @property
    def tiers(self) -> frozenset[str]:
        """All tiers that rules name."""
        named = {rule.then.tier for rule in self.rules} | {
            tier for rule in self.rules for tier in rule.then.copies or ()
        }
        return frozenset(tier for tier in named if tier)

    @property
    def lossy_rules(self) -> tuple[Rule, ...]:
        """The rules that make lossy copies."""
        return tuple(rule for rule in self.rules if rule.then.lossy_copy)

    def warnings(self) -> list[str]:
        """What whoever puts this policy into force should know."""
        said = []
        for rule in self.rules:
            there = len({"hot", *self.tiers})
            if (rule.then.minimum_copies or 0) > there:
                said.append(
                    f"rule {rule.name!r} wants {rule.then.minimum_copies} copies, and all rules together name {there} "
                    "tiers: add 'copies'"
                )
        for rule in self.lossy_rules:
            said.append(
                f"rule {rule.name!r} makes lossy copies ({rule.then.lossy_copy}): new instances in new series, marked "
                "as lossy; the originals stay as they are"
            )
            if _may_match(rule.when.modality, MAMMOGRAMS):
                said.append(
                    f"rule {rule.name!r} may make lossy copies of mammograms: in many places these are not to be read, "
                    "nor kept as the record"
                )
        return said


def load_policy(place: Path | str | None, *, tiers: frozenset[str] | None = None) -> Policy:
    """Read a policy.

    Parameters
    ----------
    place : Path or str, optional
        A TOML file, or the name of a policy that comes with LeanPACS; the default policy when absent.
    tiers : frozenset of str, optional
        Tiers that there are; a rule that names another one is a fault.

    Raises
    ------
    ConfigError
        It cannot be read, or something is unknown, missing or out of range; lists every fault.
    """
    name = str(place or DEFAULT)
    policy = _parsed(name, _text(name))
    unknown = sorted(policy.tiers - tiers) if tiers is not None else []
    if unknown:
        known = ", ".join(sorted(tiers or ()))
        raise ConfigError(
            "policy", name, f"names tiers that are not in the settings: {', '.join(unknown)}; there are {known}"
        )
    return policy


def shipped() -> dict[str, str]:
    """The policies that come with LeanPACS, as TOML, by name."""
    folder = resources.files("leanpacs.lifecycle") / "shipped"
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in found if file.name.endswith(".toml")}


def _text(name: str) -> str:
    ours = shipped()
    if name in ours:
        return ours[name]
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "policy", name, f"cannot be read ({error}); those that come along are {', '.join(ours)}"
        ) from error


def _parsed(name: str, text: str) -> Policy:
    try:
        return Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("policy", name, f"is not TOML: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'policy'}: "
            + ("no such key" if fault["type"] == "extra_forbidden" else fault["msg"])
            for fault in error.errors(include_url=False)
        ]
        raise ConfigError("policy", name, "\n".join(faults)) from error


def _may_match(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern.upper()) for pattern in patterns)


def begin_of(day: date) -> int:
    """First microsecond of a day (UTC) since 1970."""
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000


def days(microseconds: int) -> float:
    """Length of a time in days."""
    return microseconds / _DAY
