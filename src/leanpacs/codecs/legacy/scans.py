"""JPEG and JPEG-LS code streams taken apart: what is written down in segments, and what is entropy-coded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from leanpacs.errors import UnsupportedFrame

SOI, EOI, SOS, DHT, DRI, SOF3, SOF55 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xC3, 0xF7

# Entropy-coded data goes on after stuffing and restart markers: a zero byte is stuffed in JPEG (ISO/IEC 10918-1
# B.1.1.5), a zero bit in JPEG-LS (ISO/IEC 14495-1 A.1).
_END_JPEG: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xff]")
_END_JPEG_LS: Final = re.compile(rb"\xff[\x80-\xcf\xd8-\xff]")


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan of a code stream.

    Parameters
    ----------
    header : bytes
        Everything since the scan before: SOI, segments, the SOS segment.
    data : bytes
        What is entropy-coded, restart markers included.
    """

    header: bytes
    data: bytes


def split(stream: bytes) -> tuple[list[Scan], bytes]:
    """Take a code stream apart.

    Returns
    -------
    scans : list of Scan
        In order.
    trailer : bytes
        What follows the last scan: EOI, and padding as a rule.

    Raises
    ------
    UnsupportedFrame
        If its segments cannot be followed.
    """
    if stream[:2] != bytes([0xFF, SOI]):
        raise UnsupportedFrame("the code stream does not begin with SOI")
    scans: list[Scan] = []
    start, position, end = 0, 2, _END_JPEG
    while position + 4 <= len(stream) and stream[position] == 0xFF and stream[position + 1] != EOI:
        marker = stream[position + 1]
        position += 2 + int.from_bytes(stream[position + 2 : position + 4])
        if marker == SOF55:
            end = _END_JPEG_LS
        if marker == SOS:
            found = end.search(stream, position)
            data_end = found.start() if found else len(stream)
            scans.append(Scan(stream[start:position], stream[position:data_end]))
            start = position = data_end
    if not scans:
        raise UnsupportedFrame("the code stream has no scan")
    return scans, stream[start:]


def segments(header: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment of the header of a scan."""
    position = 2 if header[:2] == bytes([0xFF, SOI]) else 0
    while position + 4 <= len(header):
        end = position + 2 + int.from_bytes(header[position + 2 : position + 4])
        yield header[position + 1], header[position + 4 : end]
        position = end
