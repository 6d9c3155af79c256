"""Preset ``fast``: which codec suits the frames of a series, found by trying them on one frame.

The choice is by size, among the candidates whose nominal cost is within a budget. Nominal costs, not the times
measured on a busy machine, decide what is tried, so that the same frame leads to the same choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import thread_time
from typing import Final

from leanpacs.codecs import registry
from leanpacs.codecs.codec import Codec, EncodeOptions
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError

SAMPLE_BYTES: Final = 1 << 20
"""Larger frames are judged by a band of rows of about this many bytes from their middle."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A codec to try, at an effort, and its nominal cost: CPU seconds per GB to encode and decode back."""

    codec: str
    effort: int
    seconds_per_gb: float


FAST: Final = (
    Candidate("jpegxl", 1, 5.0),
    Candidate("htj2k", 1, 6.0),
    Candidate("zstd", 3, 6.0),
    Candidate("jpegls", 1, 20.0),
    Candidate("jpegxl", 2, 25.0),
)
"""What preset ``fast`` tries; costs from docs/reference/codecs.md."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate on one sample: bytes, and CPU seconds to encode and to decode."""

    candidate: Candidate
    size_bytes: int
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The smallest, and all that was measured for it."""

    codec: str
    effort: int
    measured: tuple[Measured, ...]


def measure(frame: bytes, spec: FrameSpec, budget_seconds_per_gb: float, *, big_endian: bool = False) -> Choice:
    """Try the candidates within the budget on one frame and choose the smallest exact one.

    Parameters
    ----------
    frame : bytes
        Native bytes of the frame, as they stand in Pixel Data.
    spec : FrameSpec
        What it is.
    budget_seconds_per_gb : float
        CPU seconds that encoding and decoding back may take for each GB of samples.
    big_endian : bool
        Order of the bytes of each sample.

    Returns
    -------
    Choice
        ``zstd`` when nothing else is exact, whatever the budget.
    """
    sample, sample_spec = sample_of(frame, spec)
    tried = [
        measured
        for candidate in FAST
        if candidate.seconds_per_gb <= budget_seconds_per_gb or candidate.codec == "zstd"
        if (measured := _try(candidate, sample, sample_spec, big_endian=big_endian)) is not None
    ]
    best = min(tried, key=lambda measured: measured.size_bytes)
    return Choice(best.candidate.codec, best.candidate.effort, tuple(tried))


def sample_of(frame: bytes, spec: FrameSpec) -> tuple[bytes, FrameSpec]:
    """The frame, or a band of rows from the middle of a large one, and what that is."""
    row_bytes, rest = divmod(len(frame), spec.rows)
    if len(frame) <= 2 * SAMPLE_BYTES or rest or (spec.planar_configuration == 1 and spec.samples_per_pixel > 1):
        return frame, spec
    rows = max(1, SAMPLE_BYTES // row_bytes)
    start = (spec.rows - rows) // 2
    return frame[start * row_bytes : (start + rows) * row_bytes], replace(spec, rows=rows)


def _try(candidate: Candidate, sample: bytes, spec: FrameSpec, *, big_endian: bool) -> Measured | None:
    codec = registry.by_name(candidate.codec)
    if codec.refusal(spec) is not None:
        return None
    for precision in dict.fromkeys((spec.bits_stored, spec.bits_allocated)):
        try:
            return _round_trip(candidate, codec, sample, spec, EncodeOptions(candidate.effort, precision), big_endian)
        except CodecError:
            continue
    return None


def _round_trip(
    candidate: Candidate, codec: Codec, sample: bytes, spec: FrameSpec, options: EncodeOptions, big_endian: bool
) -> Measured | None:
    """Encode, decode and compare; None when the sample does not come back."""
    begun = thread_time()
    stream = registry.encode_frame(codec, sample, spec, options, big_endian=big_endian)
    encoded = thread_time()
    back = registry.decode_frame(codec, stream, spec, options, big_endian=big_endian)
    if back != sample:
        return None
    return Measured(candidate, len(stream), encoded - begun, thread_time() - encoded)
