"""Value representations: which VR an element really has, and how wide the words of its value are.

References
----------
PS3.5 6.2 (value representations), 7.3 (byte order), A.1 (VRs of implicit Pixel Data), PS3.6 (dictionary).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.dicom.datadict import vr_of

BINARY_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""VRs whose values have no inner structure here."""

LONG_VRS: Final = frozenset({"SQ", "SV", "UC", "UR", "UT", "UV"}) | BINARY_VRS
"""VRs with a 32-bit length in explicit VR encodings (PS3.5 7.1.2)."""

NUMBER_CODES: Final = MappingProxyType(
    {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
)
"""Format character of `struct` for the VRs that hold binary numbers."""

_TEXT_VRS: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"})
VRS: Final = LONG_VRS | NUMBER_CODES.keys() | _TEXT_VRS | {"AT"}
"""All VRs of PS3.5 6.2."""

_WORD_CODES: Final = MappingProxyType(
    {"AT": "H", "FD": "Q", "FL": "I", "SL": "I", "SS": "H", "SV": "Q", "UL": "I", "US": "H", "UV": "Q"}
    | {"OW": "H", "OF": "I", "OL": "I", "OD": "Q", "OV": "Q"}
)
_AMBIGUOUS: Final = MappingProxyType({"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"})


def actual_vr(encoded: str | None, tag: int, *, creator: str = "", is_signed: bool = False) -> str:
    """VR of an element: as encoded, or from the dictionaries when it is implicit, UN or no VR at all.

    Parameters
    ----------
    encoded : str or None
        As encoded, None when it is implicit.
    tag : int
        Group in the upper, element in the lower 16 bits.
    creator : str
        Private creator of the block that a private element is in.
    is_signed : bool
        Pixel Representation is 1: what may be US or SS is SS.

    Returns
    -------
    str
        One of `VRS`; UN when the dictionaries do not know the tag.
    """
    if encoded is not None and encoded != "UN" and encoded in VRS:
        return encoded
    vr = _dictionary_vr(tag, creator)
    if vr == "US or SS":
        return "SS" if is_signed else "US"
    return _AMBIGUOUS.get(vr, vr)


def is_private_creator(tag: int) -> bool:
    """Whether a tag is (gggg,0010-00FF) of an odd group (PS3.5 7.8.1)."""
    return tag >> 16 & 1 == 1 and 0x10 <= tag & 0xFFFF <= 0xFF


def private_block(tag: int) -> int:
    """What a private creator and the elements of its block have in common."""
    number = tag & 0xFFFF
    return tag >> 16 << 8 | (number if number <= 0xFF else number >> 8)


def creator_of(tag: int, creators: Mapping[int, str]) -> str:
    """Creator of the block that a private element is in, '' if unknown. ``creators``: by `private_block`."""
    return creators.get(private_block(tag), "") if tag >> 16 & 1 else ""


def little_endian_words(vr: str, value: bytes, *, little_endian: bool) -> bytes:
    """The value in little endian byte order; as it is when it holds no words, or no whole number of them."""
    code = _WORD_CODES.get(vr)
    if little_endian or code is None or len(value) % struct.calcsize(code):
        return value
    words = array(code, value)
    words.byteswap()
    return words.tobytes()


def _dictionary_vr(tag: int, creator: str) -> str:
    if is_private_creator(tag):
        return "LO"
    return vr_of(tag, creator)
