"""What it takes to give an instance in a transfer syntax, from each of its stored forms: estimates, to choose by.

Speeds are those of one core, measured on CT, MR and CR images; only their order matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.archive.giveback.passing import CODEC_OF
from leanpacs.catalog import Kind, RepresentationRow

_MB: Final = 1e6

DECODED_MB_A_SECOND: Final[Mapping[str, float]] = MappingProxyType(
    {"htj2k": 350, "jpegxl": 150, "jpegls": 120, "jpeg2000": 30, "jpeg": 200, "rle": 400}
)
"""Native megabytes that a codec decodes in a second; dense JPEG XL is slower, see `_DENSE_MB_A_SECOND`."""
_DENSE_EFFORT: Final = 4
_DENSE_MB_A_SECOND: Final = 30.0
_COPIED_MB_A_SECOND: Final = 1000.0
_HOT_MB_A_SECOND: Final = 500.0
_OTHER_MB_A_SECOND: Final = 50.0
_OTHER_SECONDS: Final = 0.05
"""Until the first byte of an object store comes."""


def seconds_to_read(row: RepresentationRow, wanted: str | None, *, is_hot: bool) -> float:
    """Estimate how long reading and decoding a stored form takes.

    Parameters
    ----------
    row : RepresentationRow
        The stored form.
    wanted : str or None
        UID of the transfer syntax wanted; what is held in it need not be decoded. None: as received.
    is_hot : bool
        Whether it is on the hot tier.
    """
    if is_hot:
        reading = row.blob.size_bytes / _MB / _HOT_MB_A_SECOND
    else:
        reading = _OTHER_SECONDS + row.blob.size_bytes / _MB / _OTHER_MB_A_SECOND
    return reading + _seconds_to_decode(row, wanted)


def _seconds_to_decode(row: RepresentationRow, wanted: str | None) -> float:
    if row.kind is not Kind.PACK or (wanted is not None and CODEC_OF.get(wanted) == row.codec):
        return 0.0
    if row.codec == "jpegxl" and row.effort >= _DENSE_EFFORT:
        speed = _DENSE_MB_A_SECOND
    else:
        speed = DECODED_MB_A_SECOND.get(row.codec, _COPIED_MB_A_SECOND)
    return row.raw_frame_bytes / _MB / speed
