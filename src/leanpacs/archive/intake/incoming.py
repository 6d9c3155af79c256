"""What is handed to the archive, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from leanpacs.refs import Digest

Door = Literal["dimse", "stow", "import", "derived"]


class Outcome(StrEnum):
    """What became of one received instance."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """The same data set was held already; nothing was stored."""
    REPLACED = "replaced"
    KEPT_BOTH = "kept both"
    """Other bytes under a UID that is held; kept aside in the quarantine."""
    REFUSED = "refused"
    """Other bytes under a UID that is held; not kept."""
    QUARANTINED = "quarantined"
    """Does not read as DICOM; kept aside."""


TAKEN: Final = frozenset({Outcome.STORED, Outcome.DUPLICATE, Outcome.REPLACED})
"""What was sent is held now."""


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of a whole file, and of what follows its first ``preface_length`` bytes: the data set."""

    preface_length: int
    file: Digest
    data_set: Digest


@dataclass(frozen=True, slots=True)
class Incoming:
    """One received file, complete and closed.

    Parameters
    ----------
    path : Path
        The file, in the archive's spool folder; the archive takes it over.
    sender : str
        AE title, address or folder it came from.
    door : str
        Which way it came.
    transfer_syntax : str, optional
        UID negotiated for it, when its bytes do not say so themselves.
    name : str
        What people know it by (a file name), for reports.
    sop_class, sop_uid : str
        By which the sender named the instance, for one that does not carry them.
    stays : bool
        The file belongs to somebody else, may be anywhere, and is copied instead of taken over.
    digests : Digests, optional
        Where the door has computed them while the bytes came in.
    """

    path: Path
    sender: str
    door: Door
    transfer_syntax: str | None = None
    name: str = ""
    sop_class: str = ""
    sop_uid: str = ""
    stays: bool = False
    digests: Digests | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to one :class:`Incoming`; UIDs are '' when it could not be read.

    ``raw_bytes`` is what it would have without compression; 0 when that is not known.
    """

    outcome: Outcome
    size_bytes: int
    sop_class: str = ""
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    reason: str = ""
    modality: str = ""
    transfer_syntax: str = ""
    raw_bytes: int = 0
