"""Lossy code streams of a wanted size, for encoders that take a quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_CLOSE_ENOUGH: Final = 0.97
"""Of the wanted size."""

_MOST_TRIALS: Final = 12


def largest_within(size_bytes: int, encode: Callable[[float], bytes], span: tuple[float, float]) -> bytes:
    """Encode with the best quality whose code stream is not larger than wanted, or nearly the best.

    Parameters
    ----------
    size_bytes : int
        Wanted size.
    encode : callable
        Quality to code stream; better ones are larger.
    span : tuple of float
        Poorest and best quality.

    Returns
    -------
    bytes
        The poorest when even that is larger, as frames may be whose headers alone are.
    """
    low, high = span
    smallest, largest = encode(low), encode(high)
    if len(largest) <= size_bytes:
        return largest
    best = smallest
    for _ in range(_MOST_TRIALS):
        if not _CLOSE_ENOUGH * size_bytes > len(best) or len(best) == len(largest):
            break
        quality = _between(low, high, len(smallest), len(largest), size_bytes)
        stream = encode(quality)
        if len(stream) <= size_bytes:
            low, smallest, best = quality, stream, stream
        else:
            high, largest = quality, stream
    return best


def _between(low: float, high: float, smallest: int, largest: int, wanted: int) -> float:
    """Where the wanted size is to be expected: its logarithm goes with quality. Not too near either end."""
    part = math.log(wanted / smallest) / math.log(largest / smallest) if smallest < wanted else 0.5
    return low + (high - low) * min(max(part, 0.1), 0.9)
