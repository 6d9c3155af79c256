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
    best, last, is_stuck = smallest, "", False
    for _ in range(_MOST_TRIALS):
        if len(best) > size_bytes or len(best) >= _CLOSE_ENOUGH * size_bytes:
            break
        # The logarithm of the size tells where to look; when that comes nearer from one side only, the middle does.
        expected = math.log(size_bytes / len(best)) / math.log(len(largest) / len(best))
        quality = low + (high - low) * (0.5 if is_stuck else min(max(expected, 0.1), 0.9))
        stream = encode(quality)
        moved = "low" if len(stream) <= size_bytes else "high"
        is_stuck, last = moved == last and not is_stuck, moved
        if moved == "low":
            low, best = quality, stream
        else:
            high, largest = quality, stream
    return best
