"""What the lifecycle reads from the catalog and writes to it: plain values, no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from leanpacs.catalog.forms import NewRepresentation
from leanpacs.catalog.rows import DERIVED
from leanpacs.refs import BlobRef, Digest, Tier


class Form(NamedTuple):
    """One stored form of an instance; a named tuple because a plan looks at millions.

    ``made_at`` is in microseconds since 1970. ``blob_bytes`` is larger than ``size_bytes`` where a blob holds more than
    one instance.
    """

    id: int
    kind: str
    form: str
    codec: str
    fidelity: str
    preset: str
    made_at: int
    size_bytes: int
    raw_frame_bytes: int
    dictionary_id: int
    tier: Tier
    sha256: bytes
    blob_bytes: int

    @property
    def digest(self) -> Digest:
        """Of the blob."""
        return Digest(self.sha256)

    @property
    def is_shared(self) -> bool:
        """Whether the blob holds other instances, too."""
        return self.size_bytes < self.blob_bytes


class Held(NamedTuple):
    """One instance with all its stored forms, oldest first. Times are microseconds since 1970."""

    instance_id: int
    series_id: int
    study_uid: str
    series_uid: str
    modality: str
    body_part: str
    institution: str
    sop_class: str
    transfer_syntax: str
    source: str
    door: str
    received_at: int
    length: int
    last_read_at: int
    reads: int
    forms: tuple[Form, ...]

    @property
    def is_derived(self) -> bool:
        """Whether it is a lossy copy that was made here."""
        return self.door == DERIVED


class Key(NamedTuple):
    """What names an instance: its key, its SOP Instance UID, the digest of the data set as received."""

    instance_id: int
    sop_uid: str
    digest: Digest


class Outcome(StrEnum):
    """What came of a task."""

    DONE = "done"
    KEPT = "kept"
    """What was there is as good: nothing was changed."""
    FAILED = "failed"
    """What was there is untouched; it is tried again later."""
    WAITING = "waiting"
    """What it needs is being brought back from an archive class."""
    OVERTAKEN = "overtaken"
    """Somebody else had changed the instance meanwhile."""


@dataclass(frozen=True, slots=True)
class Work:
    """A task on an instance, as it is claimed: ``goal`` names the task and what it leads to."""

    instance_id: int
    goal: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a goal before, and until when nobody tries again; a claim has the outcome ''."""

    outcome: str
    until: datetime
    attempts: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Swap:
    """One stored form in the place of another, which goes; or ``beside`` it and all others that an instance has."""

    instance_id: int
    old_id: int
    new: NewRepresentation
    beside: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Done:
    """What one task has done, for the sums."""

    task: str
    rule: str
    outcome: Outcome
    raw_bytes: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class Sums:
    """What tasks of one kind have done so far by one rule, with one outcome."""

    task: str
    rule: str
    outcome: str
    tasks: int
    raw_bytes: int
    bytes_before: int
    bytes_after: int
    seconds: float
    last_at: datetime


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold on a study, or on one series of it."""

    id: int
    study_uid: str
    series_uid: str
    actor: str
    reason: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class ScrubRow:
    """A blob, and when it was last read back whole (None: never)."""

    blob: BlobRef
    checked_at: datetime | None
    problem: str
