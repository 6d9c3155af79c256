"""Levels: an image that uses few of the values in its range is held as indexes into the list of those it uses.

Stretched, windowed or digitised images often use one value in twenty. To a predictor the gaps look like noise; of the
indexes it predicts as much as of any other image. Indexes stand in the order of the values: neighbours stay neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.samples import dtype_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame

MOST_FILLED: Final = 0.5
"""Indexes save at least a bit a sample when no more than this part of the range is used."""

LEAST_SAMPLES: Final = 256
"""For each level, so that the list of them takes next to nothing; and so that gaps are not mere chance."""


MOST_OF_CORE: Final = 0.75
"""Where most samples are, images without gaps use nearly all values, even in a small sample."""


_AT_ONCE: Final = 1 << 18
"""Samples that are looked up at a time."""


def may_have_levels(spec: FrameSpec) -> bool:
    """Whether frames of this kind are looked at: one integer of 8 or 16 bits for each pixel."""
    return spec.kind == "integer" and spec.bits_allocated in (8, 16) and spec.samples_per_pixel == 1


def levels_of(frames: Iterable[Samples], spec: FrameSpec) -> tuple[int, ...]:
    """The stored values that occur in the frames, ascending; none when indexes into them would not be worth while."""
    counts = np.zeros(1 << spec.bits_allocated, dtype=np.int64)
    count = 0
    for samples in frames:
        for part in _parts(samples):
            counts += np.bincount(_ordered(part).reshape(-1), minlength=len(counts))
        count += samples.size
    found = np.flatnonzero(counts)
    if not len(found):
        return ()
    span = int(found[-1]) - int(found[0]) + 1
    if len(found) > MOST_FILLED * span or count < LEAST_SAMPLES * len(found):
        return ()
    return tuple((found - _offset(spec)).tolist())


def leaves_gaps(samples: Samples) -> bool:
    """Whether many of the values between the lowest and the highest tenth do not occur: a quick look at a sample."""
    counts = np.bincount(_ordered(samples).reshape(-1), minlength=1 << 8 * samples.itemsize)
    below = np.cumsum(counts)
    first, last = np.searchsorted(below, (samples.size // 10, samples.size - samples.size // 10))
    core = counts[first : last + 1]
    return int(np.count_nonzero(core)) < MOST_OF_CORE * len(core)


def precision_of(levels: tuple[int, ...]) -> int:
    """Bits of an index."""
    return max(1, (len(levels) - 1).bit_length())


def index_spec(spec: FrameSpec, precision: int) -> FrameSpec:
    """What frames of indexes are."""
    return replace(spec, pixel_representation=0, bits_stored=precision, high_bit=precision - 1)


def to_indexes(samples: Samples, spec: FrameSpec, levels: tuple[int, ...]) -> Samples:
    """Indexes in place of stored values, unsigned, in as many bytes.

    Raises
    ------
    UnsupportedFrame
        If a value is no level.
    """
    unsigned = np.dtype(f"u{samples.itemsize}")
    none = np.iinfo(unsigned).max
    table = np.full(1 << spec.bits_allocated, none, dtype=unsigned)
    table[np.array(levels) + _offset(spec)] = np.arange(len(levels), dtype=unsigned)
    indexes = _looked_up(table, samples)
    if int(indexes.max()) >= len(levels):
        raise UnsupportedFrame("a value is not among the levels")
    return indexes


def from_indexes(codec: str, indexes: Samples, spec: FrameSpec, levels: tuple[int, ...]) -> Samples:
    """Inverse of :func:`to_indexes`.

    Raises
    ------
    DecodeError
        If an index is beyond the last level.
    """
    if int(indexes.max()) >= len(levels):
        raise DecodeError(codec, f"index {int(indexes.max())} of {len(levels)} levels")
    return _looked_up(np.array(levels, dtype=dtype_of(spec)), indexes)


def _looked_up(table: Samples, samples: Samples) -> Samples:
    """What stands in a table at each sample."""
    found = np.empty(samples.shape, table.dtype)
    for part, place in zip(_parts(samples), _parts(found), strict=True):
        np.take(table, _ordered(part), out=place, mode="clip")  # nothing is beyond it; checking costs a copy
    return found


def _parts(samples: Samples) -> Iterator[Samples]:
    """Some rows at a time: numpy makes an index of eight bytes of each sample, and these stay in the cache so."""
    rows = max(1, _AT_ONCE // max(1, samples[:1].size))
    return (samples[start : start + rows] for start in range(0, len(samples), rows))


def _ordered(samples: Samples) -> Samples:
    """Unsigned numbers in the order of the values."""
    if samples.dtype.kind == "u":
        return samples
    unsigned = np.dtype(f"u{samples.itemsize}")
    ordered: Samples = samples.view(unsigned) ^ unsigned.type(1 << 8 * samples.itemsize - 1)
    return ordered


def _offset(spec: FrameSpec) -> int:
    return 1 << spec.bits_allocated - 1 if spec.pixel_representation else 0
