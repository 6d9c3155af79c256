"""RLE code streams made again (PS3.5 Annex G): the standard leaves open what becomes a run, and writers differ.

Each rule says, by two regular expressions over the bytes of a row, what is written next: a run, if one matches here,
else a literal. Rows are coded by themselves (PS3.5 G.3.1).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from leanpacs.errors import UnsupportedFrame

HEADER: Final = struct.Struct("<16L")
_LONGEST: Final = 128


@dataclass(frozen=True, slots=True)
class Rule:
    """How a writer parts a row.

    Parameters
    ----------
    run : re.Pattern
        Bytes that become a run, from where they begin.
    literal : re.Pattern
        Bytes that are copied when no run begins.
    sees_bytes : int or None
        How far ahead the writer looks while it collects a literal; None for the whole row.
    """

    run: re.Pattern[bytes]
    literal: re.Pattern[bytes]
    sees_bytes: int | None = None

    def row(self, row: bytes) -> bytes:
        """Code one row."""
        out = bytearray()
        run, literal, sees = self.run.match, self.literal.match, self.sees_bytes or len(row)
        position = 0
        while position < len(row):
            found = run(row, position)
            if found:
                end = found.end()
                out += bytes((257 + position - end, row[position]))
            else:
                copied = literal(row, position, min(position + sees, len(row)))
                end = copied.end() if copied else position + 1
                out.append(end - position - 1)
                out += row[position:end]
            position = end
        return bytes(out)


def _rule(run: bytes, literal: bytes, sees_bytes: int | None = None) -> Rule:
    return Rule(re.compile(run, re.DOTALL), re.compile(literal, re.DOTALL), sees_bytes)


# A literal ends where three equal bytes begin, or two at the end of what is looked at.
_UP_TO_THREE: Final = rb"(?:(.)(?!\1(?:\1|\Z))){1,128}"

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # Two equal bytes are a run always. What is left of a long run, one byte, stands by itself.
        "two": _rule(rb"(.)\1{1,127}", rb"(?<=(.))\1|(?:(.)(?!\2)){1,128}"),
        # Three equal bytes are a run, two only at the end of a row; what is left of a long run stands by itself.
        "three": _rule(
            rb"(.)\1(?:\1{1,126}|\Z)|(?<=(.)(.))(?=\2)\3\2",
            rb"(?<=(.)(.))(?=\1)\2|(?:(.)(?!\3(?:\3|\Z))){1,128}",
        ),
        # Two equal bytes are a run unless a literal is being collected.
        "two-apart": _rule(rb"(.)\1{1,127}", _UP_TO_THREE),
        # The same by a writer that collects literals in a window of 128 bytes and sees nothing beyond it.
        "two-apart-128": _rule(rb"(.)\1{1,127}", _UP_TO_THREE, _LONGEST),
    }
)


def rule_of(stream: bytes, planes: Sequence[bytes], row_bytes: int) -> str:
    """Name of the rule that a code stream was written by.

    Parameters
    ----------
    stream : bytes
        As received.
    planes : sequence of bytes
        The bytes of each segment, unpacked, without padding.
    row_bytes : int
        Bytes of a row of such a plane.

    Raises
    ------
    UnsupportedFrame
        If it was by none that is known.
    """
    offsets = offsets_of(stream)
    if len(offsets) != len(planes):
        raise UnsupportedFrame(f"{len(offsets)} segments, not {len(planes)}")
    for name, rule in RULES.items():
        if all(_follows(rule, plane, row_bytes, stream, at) for plane, at in zip(planes, offsets, strict=True)):
            return name
    raise UnsupportedFrame("runs are divided by a rule that is not known")


def offsets_of(stream: bytes) -> list[int]:
    """Where the segments begin, by the header."""
    count, *offsets = HEADER.unpack_from(stream)
    if not 1 <= count <= len(offsets):
        raise UnsupportedFrame(f"{count} segments")
    return offsets[:count]


def joined(planes: Sequence[bytes], row_bytes: int, rule: str, offsets: Sequence[int], length: int) -> bytes:
    """Make a code stream; where segments do not meet there is zero padding.

    Raises
    ------
    UnsupportedFrame
        If a segment does not fit between its offsets.
    """
    coded = [b"".join(RULES[rule].row(row) for row in _rows(plane, row_bytes)) for plane in planes]
    out = bytearray(HEADER.pack(len(offsets), *offsets, *[0] * (15 - len(offsets))))
    for segment, (start, end) in zip(coded, pairwise([*offsets, length]), strict=True):
        if start != len(out) or start + len(segment) > end:
            raise UnsupportedFrame("segments do not lie one after the other")
        out += segment + bytes(end - start - len(segment))
    return bytes(out)


def _follows(rule: Rule, plane: bytes, row_bytes: int, stream: bytes, position: int) -> bool:
    """Whether a segment was written by a rule; ends at the first row that was not."""
    for row in _rows(plane, row_bytes):
        coded = rule.row(row)
        if not stream.startswith(coded, position):
            return False
        position += len(coded)
    return True


def _rows(plane: bytes, row_bytes: int) -> Iterator[bytes]:
    return (plane[start : start + row_bytes] for start in range(0, len(plane), row_bytes))
