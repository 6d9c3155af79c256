"""What to make of an instance: the transfer syntax wanted, how frames are written, how they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from leanpacs.codecs.writing import WriteOptions, is_lossy, writable
from leanpacs.dicom import uids
from leanpacs.dicom.reencode import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from leanpacs.dicom.tree import Encoding
from leanpacs.errors import UnsupportedTransferSyntax

NATIVE_ENCODINGS: Final[Mapping[str, Encoding]] = MappingProxyType(
    {
        uids.IMPLICIT_LE: IMPLICIT_LITTLE,
        uids.EXPLICIT_LE: EXPLICIT_LITTLE,
        uids.EXPLICIT_BE: EXPLICIT_BIG,
        uids.DEFLATED_LE: EXPLICIT_LITTLE,
    }
)
"""How the elements of a data set are encoded in each transfer syntax with native Pixel Data."""

REFINED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        uids.JPEG_LS_NEAR_LOSSLESS: frozenset({uids.JPEG_LS_LOSSLESS}),
        uids.JPEG_2000: frozenset({uids.JPEG_2000_LOSSLESS}),
        uids.HTJ2K_LOSSLESS: frozenset({uids.HTJ2K_LOSSLESS_RPCL}),
        uids.HTJ2K: frozenset({uids.HTJ2K_LOSSLESS, uids.HTJ2K_LOSSLESS_RPCL}),
        uids.JPEG_XL: frozenset({uids.JPEG_XL_LOSSLESS}),
    }
)
"""Transfer syntaxes whose code streams are, as they are, code streams of the more general one (PS3.5 A.4)."""


class Verify(StrEnum):
    """How a written frame is checked: decoded again and compared with the samples that were written."""

    NONE = "none"
    FIRST = "first"
    """By the decoder that reads everything else here."""
    SECOND = "second"
    """By another library, too, where there is one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a lossy copy is called, so that a second one is not made: study as before, series and instance of its own.

    ``note`` is added to the Series Description.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    note: str


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted.

    Parameters
    ----------
    transfer_syntax : str
        UID; see :func:`targets`.
    options : WriteOptions
        Effort, and how much may be lost: nothing by default.
    verify : Verify
        How written frames are checked.
    anew : bool
        Write again what is in this transfer syntax already, instead of passing it on as it is.
    identity : Identity, optional
        What a lossy copy is called; by default a new SOP Instance UID in the same series.

    Raises
    ------
    UnsupportedTransferSyntax
        If it is not written here.
    """

    transfer_syntax: str
    options: WriteOptions = field(default_factory=WriteOptions)
    verify: Verify = Verify.FIRST
    anew: bool = False
    identity: Identity | None = None

    def __post_init__(self) -> None:
        if self.transfer_syntax not in targets():
            raise UnsupportedTransferSyntax(self.transfer_syntax, f"{name_of(self.transfer_syntax)} is not written")

    @property
    def is_native(self) -> bool:
        """Whether Pixel Data stands there without encapsulation."""
        return self.transfer_syntax in NATIVE_ENCODINGS

    @property
    def encoding(self) -> Encoding:
        """How elements are encoded; explicit little endian beside encapsulated Pixel Data (PS3.5 A.4)."""
        return NATIVE_ENCODINGS.get(self.transfer_syntax, EXPLICIT_LITTLE)

    @property
    def is_lossy(self) -> bool:
        """Whether samples may differ from what they were."""
        return is_lossy(self.transfer_syntax, self.options)


def targets() -> tuple[str, ...]:
    """UIDs of the transfer syntaxes that can be written."""
    return (*NATIVE_ENCODINGS, *dict.fromkeys((*writable(), uids.JPEG_XL_RECOMPRESSION)))


def syntax_named(name: str) -> str:
    """UID of a transfer syntax by its keyword (PS3.6, any case), or by itself.

    Raises
    ------
    UnsupportedTransferSyntax
        If there is none of this name, or it is not written here.
    """
    known = {uid: uids.transfer_syntax(uid) for uid in targets()}
    for uid, syntax in known.items():
        if name.strip() == uid or name.strip().lower() == syntax.keyword.lower():
            return uid
    written = ", ".join(syntax.keyword for syntax in known.values())
    raise UnsupportedTransferSyntax(name, f"{name} is no transfer syntax that is written here; these are: {written}")


def name_of(transfer_syntax: str) -> str:
    """What people call a transfer syntax: its name, and its UID when that is all there is."""
    return uids.transfer_syntax(transfer_syntax).name
