"""Lossy code streams of a wanted size, for encoders that take a quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_CLOSE_ENOUGH: Final = 0.97
"""Of the wanted size."""

_MOST_TRIALS: Final = 10


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
    best, largest = encode(low), encode(high)
    if len(largest) <= size_bytes:
        return largest
    for _ in range(_MOST_TRIALS):
        if len(best) > size_bytes or len(best) >= _CLOSE_ENOUGH * size_bytes:
            break
        # In the middle: size leaps where noise begins to be coded, and anything cleverer comes to a halt there.
        quality = (low + high) / 2
        stream = encode(quality)
        if len(stream) <= size_bytes:
            low, best = quality, stream
        else:
            high = quality
    return best
