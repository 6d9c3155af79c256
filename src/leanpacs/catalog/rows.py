"""Instances as they come and as they are held, and what the catalog tells of itself: plain frozen values, no SQL.

All times are aware UTC. ``id`` fields are the catalog's own keys; they are never given out twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from leanpacs.catalog.forms import RepresentationRow
from leanpacs.dicom.attributes import native_bytes
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.refs import BlobRef, Digest


class Action(StrEnum):
    """What a change record tells."""

    LANDED = "landed"
    SETTLED = "settled"
    REPLACED = "replaced"
    DELETED = "deleted"
    RESTORED = "restored"
    MOVED = "moved"
    """Stored on another tier than before."""
    RECODED = "recoded"
    """Held in another form now, or in one more or less."""


DERIVED: Final = "derived"
"""In place of a door: a lossy copy that was made here."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Facts of what was received, whatever form it is kept in.

    Parameters
    ----------
    transfer_syntax : str
        UID as received.
    data_set_length, data_set_digest : int, Digest
        Of the data set as received, without preamble and file meta.
    sender, door : str
        Who sent it (AE title, user or path) and over what.
    warning : str
        What is wrong with it, for people; '' when nothing is known to be.
    """

    transfer_syntax: str
    data_set_length: int
    data_set_digest: Digest
    received_at: datetime
    sender: str = ""
    door: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Landing:
    """An instance that has landed: its facts and the durable blob that holds it as received."""

    arrival: Arrival
    blob: BlobRef
    preface_length: int = 0
    raw_head_bytes: int = 0
    raw_frame_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Landed:
    """Keys of what was committed for one instance."""

    instance_id: int
    representation_id: int
    series_id: int


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance, with what is needed to give it back."""

    id: int
    series_id: int
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    transfer_syntax: str
    number_of_frames: int | None
    rows: int | None
    columns: int | None
    data_set_length: int
    data_set_digest: Digest
    received_at: datetime
    sender: str
    door: str
    warning: str
    assigned: tuple[str, ...]
    modality: str = ""
    bits_allocated: int | None = None
    photometric_interpretation: str = ""

    @property
    def raw_bytes(self) -> int:
        """Bytes of the data set without compression: as received, or of the samples where it came compressed."""
        if not transfer_syntax(self.transfer_syntax).encapsulated:
            return self.data_set_length
        native = native_bytes(
            self.rows, self.columns, self.number_of_frames, self.bits_allocated, self.photometric_interpretation
        )
        return native or self.data_set_length


class DuplicateInstance(Exception):
    """The SOP Instance UID is held already; ``existing`` is what is held.

    Not an error of the archive: whoever takes instances in decides what becomes of it.
    """

    def __init__(self, existing: InstanceRow) -> None:
        super().__init__(f"instance {existing.sop_uid} is held already")
        self.existing = existing


@dataclass(frozen=True, slots=True)
class LandedWork:
    """A landed instance that a settler has claimed, and the codec choice remembered for its series (JSON)."""

    instance: InstanceRow
    representation: RepresentationRow
    series_choice: str | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has landed and is not settled: number, bytes, and when the oldest of it landed."""

    count: int
    size_bytes: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Share:
    """What one modality or codec takes; ``raw_bytes`` is the length of the data sets as received.

    The head and frame figures cover what has settled; what has landed only is in ``stored_bytes`` alone.
    """

    name: str
    instances: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    raw_head_bytes: int = 0
    raw_frame_bytes: int = 0
    stored_head_bytes: int = 0
    stored_frame_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DayOfArrivals:
    """What came in on one day (UTC) of one modality.

    ``raw_bytes`` is the length of the data sets as received, ``stored_bytes`` that of all their stored forms now. A
    study counts on the day on which its first instance of the modality came.
    """

    day: date
    modality: str
    studies: int
    series: int
    instances: int
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What the archive holds. ``by_codec`` names what is not settled yet ``landed``."""

    patients: int
    studies: int
    series: int
    total: Share
    by_modality: tuple[Share, ...]
    by_codec: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion removed; studies and series count when nothing of them is left."""

    studies: int
    series: int
    instances: int


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """A deleted instance: who deleted it, when and why."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    data_set_digest: Digest
    actor: str
    reason: str
    deleted_at: datetime


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something received that does not read as DICOM, and how often reading it was tried."""

    id: int
    blob: BlobRef
    name: str
    sender: str
    door: str
    reason: str
    received_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class DictionaryRow:
    """A Zstandard dictionary; ``id`` is the one in the frames, the bytes are in the stores."""

    id: int
    scope: str
    version: int
    digest: Digest
    size_bytes: int
    samples: int
    trained_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change feed."""

    sequence: int
    at: datetime
    action: Action
    study_uid: str
    series_uid: str
    sop_uid: str
