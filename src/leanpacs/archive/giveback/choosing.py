"""In which of the forms that a receiver takes an instance is soonest there: work here, and bytes over the line.

Sizes and speeds are those of one core, measured on CT, MR, CR and mammograms; only their order matters. What the
receiver needs to decode is its own business: it has said what it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from leanpacs.archive.giveback.passing import CODEC_OF
from leanpacs.dicom.uids import transfer_syntax

_MB: Final = 1e6

UNKNOWN_LINK: Final = 12.5 * _MB
"""Bytes a second (100 Mbit/s) of a line of which nothing is known."""

SHARE: Final[Mapping[str, float]] = MappingProxyType(
    {"jpegls": 0.23, "jpeg2000": 0.23, "htj2k": 0.25, "jpegxl": 0.25, "jpeg": 0.35, "rle": 0.6}
)
"""Bytes of code streams for each native byte; of codecs without loss."""
ENCODED_MB_A_SECOND: Final[Mapping[str, float]] = MappingProxyType(
    {"jpegls": 120, "jpeg2000": 25, "htj2k": 200, "jpegxl": 500, "jpeg": 60, "rle": 100}
)
"""Native megabytes that a codec encodes in a second."""
_OTHER_SHARE: Final = 0.5
_DOUBT: Final = 1.15
"""Guessed sizes are taken for so much larger: a few per cent are not worth decoding what may go as it is held."""
_OTHER_ENCODED: Final = 50.0


@dataclass(frozen=True, slots=True)
class Coding:
    """A content coding of native pixels: Zstandard of a level, 0 for none."""

    level: int
    share: float
    mb_a_second: float


CODINGS: Final = (
    Coding(0, 1.0, float("inf")),
    Coding(1, 0.50, 600),
    Coding(3, 0.46, 180),
    Coding(6, 0.444, 75),
)
USUAL_LEVEL: Final = 1
"""Of Zstandard, for lines of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What an instance is made from in one transfer syntax.

    Attributes
    ----------
    raw_bytes : int
        Native pixels.
    seconds_to_read : float
        Until it is there as it is held, or decoded where it has to be.
    size_bytes : int or None
        Of it in the transfer syntax wanted, where that is known; None where it has to be guessed.
    as_held : bool
        Whether nothing has to be encoded.
    """

    raw_bytes: int
    seconds_to_read: float
    size_bytes: int | None = None
    as_held: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it takes to give an instance in a transfer syntax."""

    transfer_syntax: str
    size_bytes: float
    work_seconds: float

    def seconds(self, bytes_a_second: float | None) -> float:
        """Until the last byte is there."""
        return self.work_seconds + self.size_bytes / (bytes_a_second or UNKNOWN_LINK)


def estimate(origin: Origin, uid: str, *, takes_zstd: bool = False, bytes_a_second: float | None = None) -> Estimate:
    """Estimate what it takes to give an instance in a transfer syntax.

    Parameters
    ----------
    origin : Origin
        What there is.
    uid : str
        Of the transfer syntax.
    takes_zstd : bool
        Whether native pixels may go in Zstandard.
    bytes_a_second : float, optional
        Of the line.
    """
    size, work = float(origin.size_bytes or origin.raw_bytes), origin.seconds_to_read
    if transfer_syntax(uid).encapsulated:
        codec = CODEC_OF.get(uid, "")
        if origin.size_bytes is None:
            size *= SHARE.get(codec, _OTHER_SHARE) * _DOUBT
        if not origin.as_held:
            work += origin.raw_bytes / _MB / ENCODED_MB_A_SECOND.get(codec, _OTHER_ENCODED)
    elif takes_zstd:
        coding = coding_for(bytes_a_second)
        size, work = size * coding.share, work + size / _MB / coding.mb_a_second
    return Estimate(uid, size, work)


def soonest(estimates: Iterable[Estimate], bytes_a_second: float | None) -> list[Estimate]:
    """The same, the one first that is there first; of equal ones in the order given."""
    return sorted(estimates, key=lambda one: one.seconds(bytes_a_second))


def coding_for(bytes_a_second: float | None) -> Coding:
    """The content coding in which native pixels are soonest over a line."""
    if bytes_a_second is None:
        return next(coding for coding in CODINGS if coding.level == USUAL_LEVEL)
    line = bytes_a_second / _MB
    return min(CODINGS, key=lambda coding: coding.share / line + 1 / coding.mb_a_second)
