"""JPEG Lossless with given Huffman tables (ISO/IEC 10918-1 Annex H, process 14; PS3.5 8.2.1).

Libraries choose their tables themselves. To make a received code stream again, byte for byte, its own tables must be
used: that is what this encoder is for. It works on whole rows of samples at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.errors import UnsupportedFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK: Final = 1 << 16
"""Samples that are coded at once: what they need stays in a processor's cache."""

_MOST_BITS: Final = 16
_ABSENT: Final = 0


@dataclass(frozen=True, slots=True)
class HuffmanTable:
    """A table as a DHT segment defines it (B.2.4.2).

    Parameters
    ----------
    counts : tuple of int
        Number of codes of 1 to 16 bits.
    symbols : tuple of int
        What they stand for, by length: 0 to 16, the bits of a difference.

    Raises
    ------
    UnsupportedFrame
        If there are more codes than such lengths have room for, or the numbers contradict one another.
    """

    counts: tuple[int, ...]
    symbols: tuple[int, ...]

    def __post_init__(self) -> None:
        room = sum(count << _MOST_BITS - length for length, count in enumerate(self.counts, 1))
        if len(self.counts) != _MOST_BITS or sum(self.counts) != len(self.symbols) or room > 1 << _MOST_BITS:
            raise UnsupportedFrame("the Huffman table makes no sense")

    def codes(self) -> dict[int, tuple[int, int]]:
        """Code and its length for each symbol (Annex C); the first one where a symbol has several."""
        found: dict[int, tuple[int, int]] = {}
        code, position = 0, 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[position : position + count]:
                found.setdefault(symbol, (code, length))
                code += 1
            position += count
            code <<= 1
        return found


def encode_scan(
    samples: Samples,
    precision: int,
    predictor: int,
    tables: Sequence[HuffmanTable],
    point_transform: int = 0,
    restart_rows: int = 0,
) -> bytes:
    """The entropy-coded data of one scan, restart markers included.

    Parameters
    ----------
    samples : ndarray
        Unsigned, shape (rows, columns) for one component, (rows, columns, components) for interleaved ones.
    precision : int
        Bits of a sample, 2 to 16.
    predictor : int
        Selection value, 1 to 7 (Table H.1).
    tables : sequence of HuffmanTable
        Of each component.
    point_transform : int
        Low bits that are left out.
    restart_rows : int
        Rows in a restart interval; 0 when there are none.

    Raises
    ------
    UnsupportedFrame
        If a difference occurs that its table has no code for, or the arguments make no sense.

    References
    ----------
    ISO/IEC 10918-1 F.1.2.3 (padding and byte stuffing), H.1.2 (coding model and predictors).
    """
    planes = _planes(samples)
    if planes.dtype.kind != "u" or len(tables) != planes.shape[2]:
        raise UnsupportedFrame("JPEG Lossless wants unsigned samples, and a Huffman table for each component")
    if not (1 <= predictor <= 7 and 2 <= precision <= _MOST_BITS and 0 <= point_transform < precision):
        raise UnsupportedFrame(f"predictor {predictor}, precision {precision}, point transform {point_transform}")
    codes, lengths = _lookup(tables)
    step = restart_rows or planes.shape[0]
    intervals = []
    for first in range(0, planes.shape[0], step):
        interval = planes[first : first + step]
        intervals.append(_interval(interval, precision, predictor, point_transform, codes, lengths))
    markers = (bytes([0xFF, 0xD0 + index % 8]) for index in range(len(intervals)))
    return b"".join(part for pair in zip(intervals, markers, strict=True) for part in pair)[:-2]


def _planes(samples: Samples) -> Samples:
    return samples if samples.ndim == 3 else samples[:, :, np.newaxis]


def _interval(
    planes: Samples,
    precision: int,
    predictor: int,
    point_transform: int,
    codes: NDArray[np.uint64],
    lengths: NDArray[np.int64],
) -> bytes:
    bits = _BitWriter()
    for differences in _differences(planes, precision, predictor, point_transform):
        # Which entry of the tables: the difference modulo 65536, in the table of its component.
        entries = (differences & 0xFFFF) + (np.arange(planes.shape[2], dtype=np.int32) << 16)
        entries = entries.ravel()
        taken = lengths[entries]
        if not taken.all():
            raise UnsupportedFrame("a difference occurs that the Huffman table has no code for")
        bits.write(codes[entries], taken)
    return bits.finish().replace(b"\xff", b"\xff\x00")


def _differences(planes: Samples, precision: int, predictor: int, point_transform: int) -> Iterator[NDArray[np.int32]]:
    """Samples less their predictions, some rows at a time, of an interval that depends on nothing before it."""
    rows, columns, count = planes.shape
    step = max(1, _CHUNK // (columns * count))
    start = np.full((1, columns, count), 1 << precision - point_transform - 1, np.int32)
    above = start
    for first in range(0, rows, step):
        some = planes[first : first + step].astype(np.int32) >> point_transform
        known = np.concatenate([above, some])
        above = some[-1:]
        predicted = np.empty_like(some)
        predicted[:, 0] = known[:-1, 0]
        predicted[:, 1:] = _predicted(predictor, known[1:, :-1], known[:-1, 1:], known[:-1, :-1])
        if first == 0:
            # The first row knows only its left neighbours.
            predicted[0, 1:] = some[0, :-1]
        yield some - predicted


def _predicted(predictor: int, left: Any, over: Any, corner: Any) -> Any:
    """Table H.1: Ra is to the left, Rb above, Rc above to the left."""
    match predictor:
        case 1:
            return left
        case 2:
            return over
        case 3:
            return corner
        case 4:
            return left + over - corner
        case 5:
            return left + ((over - corner) >> 1)
        case 6:
            return over + ((left - corner) >> 1)
        case _:
            return (left + over) >> 1


def _lookup(tables: Sequence[HuffmanTable]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Bits and their number for each difference modulo 65536, table after table; 0 bits where there is no code."""
    differences = np.arange(1 << 16, dtype=np.int64)
    differences[(1 << 15) + 1 :] -= 1 << 16
    # The number of bits of a difference, and those bits: negative ones are lessened by one (F.1.2.1).
    sizes = np.frexp(np.abs(differences).astype(np.float64))[1].astype(np.int64)
    extra = np.where(differences < 0, differences - 1, differences) & ((1 << sizes) - 1)
    added = np.where(sizes == _MOST_BITS, 0, sizes)  # 32768 is alone in its category
    extra = np.where(sizes == _MOST_BITS, 0, extra)
    codes, lengths = [], []
    for table in tables:
        known = table.codes()
        code = np.array([known.get(size, (0, _ABSENT))[0] for size in range(_MOST_BITS + 1)])[sizes]
        length = np.array([known.get(size, (0, _ABSENT))[1] for size in range(_MOST_BITS + 1)])[sizes]
        codes.append(((code << added) | extra).astype(np.uint64))
        lengths.append(np.where(length == _ABSENT, 0, length + added))
    return np.concatenate(codes), np.concatenate(lengths)


class _BitWriter:
    """Puts codes of 1 to 32 bits one after the other, the highest bit first."""

    def __init__(self) -> None:
        self._words: list[bytes] = []
        self._rest = np.uint64(0)  # bits that do not fill a word, at its upper end
        self._used = 0

    def write(self, codes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """Append codes; at least one."""
        ends = self._used + np.cumsum(lengths)
        starts = ends - lengths
        word = starts >> 6
        left = 64 - (ends - (word << 6))  # bits of room behind the code in its word; less than 0 when it does not fit
        upper = np.where(left >= 0, codes << left.clip(0).view(np.uint64), codes >> (-left).clip(0).view(np.uint64))
        count = int(ends[-1] >> 6) + 1
        words = np.zeros(count + 1, np.uint64)
        # Codes are shorter than words, so one begins in each word, but perhaps not in the first or the last.
        first = np.flatnonzero(np.diff(word, prepend=-1))
        words[word[first]] = np.add.reduceat(upper, first)
        beyond = np.flatnonzero(left < 0)
        words[word[beyond] + 1] += codes[beyond] << (64 + left[beyond]).view(np.uint64)
        words[0] |= self._rest
        self._used = int(ends[-1] & 63)
        self._rest = words[count - 1]
        self._words.append(words[: count - 1].byteswap().tobytes())

    def finish(self) -> bytes:
        """All bytes; the last one is filled with ones."""
        value = int(self._rest)
        padding = -self._used % 8
        last = (value | ((1 << padding) - 1) << (64 - self._used - padding)) if self._used else 0
        return b"".join([*self._words, last.to_bytes(8)[: (self._used + padding) // 8]])
