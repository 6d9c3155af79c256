"""Writing file meta information; reading heads.

References
----------
PS3.10 7.1 (file meta information).
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pydicom.filereader import read_dataset

from leanpacs.dicom.elements import PIXEL_TAGS, walk
from leanpacs.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydicom.dataset import Dataset

IMPLEMENTATION_CLASS_UID: Final = "2.25.28212775306820069518154480169144470433"
"""Implementation Class UID (0002,0012) of everything this package writes."""
IMPLEMENTATION_VERSION_NAME: Final = "LEANPACS_0.1"
"""Implementation Version Name (0002,0013)."""


@lru_cache(maxsize=1024)
def file_meta(sop_class: str, sop_uid: str, transfer_syntax: str, source_ae: str | None = None) -> bytes:
    """Preamble, prefix and file meta information of a file.

    Parameters
    ----------
    sop_class, sop_uid : str
        UIDs of the instance.
    transfer_syntax : str
        UID of the transfer syntax of the data set that follows.
    source_ae : str, optional
        Title of the application entity that sent the instance.
    """
    before, after = _shared_meta(sop_class, transfer_syntax, source_ae)
    group = before + _element(0x00020003, "UI", _padded(sop_uid, b"\0")) + after
    return b"\0" * 128 + b"DICM" + _element(0x00020000, "UL", struct.pack("<L", len(group))) + group


@lru_cache(maxsize=64)
def _shared_meta(sop_class: str, transfer_syntax: str, source_ae: str | None) -> tuple[bytes, bytes]:
    """The elements before and after the SOP Instance UID, which are the same in all files of a series."""
    before = (_element(0x00020001, "OB", b"\0\1"), _element(0x00020002, "UI", _padded(sop_class, b"\0")))
    after = (
        _element(0x00020010, "UI", _padded(transfer_syntax, b"\0")),
        _element(0x00020012, "UI", _padded(IMPLEMENTATION_CLASS_UID, b"\0")),
        _element(0x00020013, "SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
        _element(0x00020016, "AE", _padded(source_ae, b" ")) if source_ae else b"",
    )
    return b"".join(before), b"".join(after)


def read_head(head: bytes, *, implicit_vr: bool, little_endian: bool, groups: Collection[int] | None = None) -> Dataset:
    """Data set of the elements before Pixel Data, whose header ``head`` may end with.

    ``groups`` are those that are wanted, if not all: reading an element takes ten times what stepping over it does.
    """
    if groups is not None:
        head = _only(groups, head, implicit_vr=implicit_vr, little_endian=little_endian)
    return read_dataset(
        io.BytesIO(head), implicit_vr, little_endian, stop_when=lambda tag, _vr, _length: tag in PIXEL_TAGS
    )


def _only(groups: Collection[int], head: bytes, *, implicit_vr: bool, little_endian: bool) -> bytes:
    """The elements of some groups; everything where not all of it reads."""
    found = []
    try:
        for element in walk(io.BytesIO(head), 0, len(head), implicit=implicit_vr, little_endian=little_endian):
            if element.tag in PIXEL_TAGS:
                break
            if element.tag >> 16 in groups:
                found.append(head[element.offset : element.end])
    except DicomError:
        return head
    return b"".join(found)


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """An explicit little endian element; all VRs but OB have a short length (PS3.5 7.1.2)."""
    short = vr != "OB"
    header = struct.pack("<HH2sH" if short else "<HH2sxxL", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(value))
    return header + value


def _padded(value: str, padding: bytes) -> bytes:
    encoded = value.encode("ascii", "replace")
    return encoded + padding * (len(encoded) % 2)
