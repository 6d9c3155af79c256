"""Stored forms of instances: what they are, where their parts stand, and what proves them. Plain frozen values."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

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
