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
from leanpacs.dicom.uids import JPEG_XL_LOSSLESS, transfer_syntax

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
class Effort:
    """What JPEG XL takes at one effort, beside native bytes, and leaves of them."""

    effort: int
    share: float
    mb_a_second: float


EFFORTS: Final = (Effort(1, 0.26, 350), Effort(2, 0.24, 75), Effort(3, 0.232, 40), Effort(5, 0.226, 8))
EFFORTS_OF_FEW_VALUES: Final = (Effort(1, 0.27, 800), Effort(2, 0.162, 90), Effort(3, 0.161, 45))
"""Of frames that use few of the values in their range, as films and detectors that are stretched to 16 bits do: from
effort 2 on, JPEG XL notices that."""


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
    few_values : bool
        Whether it uses few of the values in their range.
    noise : float
        Bytes of it as it is held, over what the codec that it is held by makes of images on average.
    """

    raw_bytes: int
    seconds_to_read: float
    size_bytes: int | None = None
    as_held: bool = False
    few_values: bool = False
    noise: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What it takes to give an instance in a transfer syntax; with which effort, 0 for the usual one."""

    transfer_syntax: str
    size_bytes: float
    work_seconds: float
    effort: int = 0

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
    size, work, effort = float(origin.size_bytes or origin.raw_bytes), origin.seconds_to_read, 0
    if transfer_syntax(uid).encapsulated:
        codec = CODEC_OF.get(uid, "")
        share, speed = SHARE.get(codec, _OTHER_SHARE), ENCODED_MB_A_SECOND.get(codec, _OTHER_ENCODED)
        if uid == JPEG_XL_LOSSLESS and not origin.as_held and bytes_a_second is not None:
            chosen = effort_for(bytes_a_second, few_values=origin.few_values)
            share, speed, effort = chosen.share, chosen.mb_a_second, chosen.effort
        if origin.size_bytes is None:
            size = min(size, size * share * origin.noise * _DOUBT)
        if not origin.as_held:
            work += origin.raw_bytes / _MB / speed
    elif takes_zstd:
        coding = coding_for(bytes_a_second)
        size, work = size * coding.share, work + size / _MB / coding.mb_a_second
    return Estimate(uid, size, work, effort)


def noise_of(codec: str, stored_bytes: int, raw_bytes: int) -> float:
    """How much larger an image is than others by a codec: it will be so by another one, too."""
    usual = SHARE.get(codec, 0.0) * raw_bytes
    return stored_bytes / usual if usual and stored_bytes else 1.0


def soonest(estimates: Iterable[Estimate], bytes_a_second: float | None) -> list[Estimate]:
    """The same, the one first that is there first; of equal ones in the order given."""
    return sorted(estimates, key=lambda one: one.seconds(bytes_a_second))


def effort_for(bytes_a_second: float, *, few_values: bool = False) -> Effort:
    """The effort at which what is encoded in JPEG XL is soonest over a line."""
    line = bytes_a_second / _MB
    efforts = EFFORTS_OF_FEW_VALUES if few_values else EFFORTS
    return min(efforts, key=lambda one: one.share / line + 1 / one.mb_a_second)


def coding_for(bytes_a_second: float | None) -> Coding:
    """The content coding in which native pixels are soonest over a line."""
    if bytes_a_second is None:
        return next(coding for coding in CODINGS if coding.level == USUAL_LEVEL)
    line = bytes_a_second / _MB
    return min(CODINGS, key=lambda coding: coding.share / line + 1 / coding.mb_a_second)
