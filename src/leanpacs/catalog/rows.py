"""What goes into the catalog and what comes out of it: plain frozen values, no SQL.

All times are aware UTC. ``id`` fields are the catalog's own keys; they are never given out twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Self

from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
    native_bytes,
)
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.refs import BlobRef, Digest


class Kind(StrEnum):
    """What a representation is."""

    LANDED = "landed"
    """The file as it was received, waiting to be settled."""
    PACK = "pack"
    """A pack (docs/reference/pack-format.md)."""


class Fidelity(StrEnum):
    """What can be rebuilt from a representation."""

    BYTES = "bytes"
    """The data set as received, bit for bit."""
    PIXELS = "pixels"
    """Every sample and every element outside Pixel Data; the original code stream is not kept."""
    LOSSY = "lossy"
    """Declared to be different; never a replacement for an original."""


AVAILABILITY: Final = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
"""Values of Instance Availability (PS3.3 C.4.23.1.1), best first."""


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


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``[offset, offset + length)`` of a blob."""

    offset: int
    length: int


_ENTRY = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where the code stream of each frame is in a pack: offset and length as little-endian 64-bit numbers."""

    data: bytes = b""

    @classmethod
    def of(cls, spans: Iterable[Span]) -> Self:
        """Table of the spans of frame 1, 2, ..."""
        return cls(b"".join(_ENTRY.pack(span.offset, span.length) for span in spans))

    def __len__(self) -> int:
        return len(self.data) // _ENTRY.size

    def __getitem__(self, index: int) -> Span:
        """Span of frame ``index + 1``; IndexError outside ``range(len(self))``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Span(*_ENTRY.unpack_from(self.data, index * _ENTRY.size))

    def __iter__(self) -> Iterator[Span]:
        return (Span(*entry) for entry in _ENTRY.iter_unpack(self.data))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stored proof that a representation gives back what was received.

    Parameters
    ----------
    data_set_digest : Digest or None
        SHA-256 of the data set that was rebuilt and compared.
    samples_digest : Digest or None
        SHA-256 of the native samples that were decoded and compared; None without native pixel data.
    verified_at : datetime or None
        When the comparison was made.
    library, decoder : str
        What encoded, and what decoded for the comparison, with versions.
    seconds : float
        How long making and checking took.
    preset : str
        What the codec was chosen by; '' when nothing was encoded.
    encode_seconds : float
        How much of ``seconds`` went by until all was written; 0 when it is not known.
    """

    data_set_digest: Digest | None = None
    samples_digest: Digest | None = None
    verified_at: datetime | None = None
    library: str = ""
    decoder: str = ""
    seconds: float = 0.0
    preset: str = ""
    encode_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRepresentation:
    """One stored form of an instance, as it is committed.

    Parameters
    ----------
    blob : BlobRef
        Where it is; durable before it is committed.
    form : str
        How the data set is held (``whole``, ``frames``, ``streams``; ``received`` for what has landed).
    codec, effort, precision : str, int, int
        What the frames are encoded with; '' and 0 where there is nothing encoded.
    preface_length : int
        Bytes of preamble and file meta at the start of the unpacked head, or of the landed file.
    head, tail, skeleton : Span or None
        Where these entries are in the blob.
    frames : FrameTable
        Where the code streams of the frames are in the blob.
    dictionary_id : int or None
        Zstandard dictionary that the head needs.
    size_bytes : int or None
        Share of the blob that counts as this instance's; the whole blob when None.
    raw_head_bytes, raw_frame_bytes, stored_head_bytes, stored_frame_bytes : int
        Lengths before and after, of all that is not Pixel Data and of Pixel Data.
    reason : str
        Why the instance is held in this form and not in a smaller one.
    """

    blob: BlobRef
    form: str
    fidelity: Fidelity
    created_at: datetime
    codec: str = ""
    effort: int = 0
    precision: int = 0
    preface_length: int = 0
    head: Span | None = None
    tail: Span | None = None
    skeleton: Span | None = None
    frames: FrameTable = field(default_factory=FrameTable)
    dictionary_id: int | None = None
    size_bytes: int | None = None
    raw_head_bytes: int = 0
    raw_frame_bytes: int = 0
    stored_head_bytes: int = 0
    stored_frame_bytes: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepresentationRow(NewRepresentation):
    """A representation as the catalog holds it; ``attempts`` counts the claims of a landed one."""

    id: int
    instance_id: int
    kind: Kind
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class RestoreRow:
    """A stored form that is to be brought back from an archive class; ``ready_at`` is None until it can be read."""

    form: RepresentationRow
    requested_at: datetime
    ready_at: datetime | None


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
class Totals:
    """What is computed of the patient, study and series of something found, as far as it was asked for.

    Attributes
    ----------
    modalities, sop_classes : tuple of str
        Of the study, sorted.
    study_series, study_instances : int
        In the study.
    series_instances : int, optional
        In the series; None for a study.
    patient_studies, patient_series, patient_instances : int, optional
        Of the patient; None where there is no Patient ID.
    """

    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    study_series: int | None = None
    study_instances: int | None = None
    series_instances: int | None = None
    patient_studies: int | None = None
    patient_series: int | None = None
    patient_instances: int | None = None


NO_TOTALS: Final = Totals()


@dataclass(frozen=True, slots=True)
class PatientRow:
    """A patient that a query found: an ID of one issuer."""

    patient: PatientAttributes
    number_of_studies: int
    number_of_series: int
    number_of_instances: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study that a query found."""

    study_uid: str
    patient: PatientAttributes
    study: StudyAttributes
    modalities: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    received_at: datetime
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series that a query found."""

    study_uid: str
    series_uid: str
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    number_of_instances: int
    received_at: datetime
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance that a query found: its attributes, and in ``held`` what retrieving it needs."""

    held: InstanceRow
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes
    availability: str = "ONLINE"
    totals: Totals = NO_TOTALS


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
