"""Which codec for the frames of a series: each candidate is tried on a sample, and a smallest one is taken.

Whether a candidate is tried depends on its usual cost, never on a clock: equal frames and equal budgets give equal
choices on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from leanpacs.codecs import registry
from leanpacs.codecs.bytewise import Bytewise, Zstd
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.jpeg2000 import HTJ2K
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.levels import leaves_gaps, levels_of, may_have_levels, precision_of
from leanpacs.codecs.libjxl import finds_levels
from leanpacs.codecs.native import unpack
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError, EncodeError, UnsupportedFrame

BUSY_SECONDS_PER_GB: Final = 10.0
"""Allows what is quick: JPEG XL at effort 1, HTJ2K, Zstandard."""

IDLE_SECONDS_PER_GB: Final = 60.0
"""Allows every candidate of :data:`FAST`."""

LARGEST_SAMPLE: Final = 1 << 20
"""Bytes of a frame that candidates are tried on."""

LEAST_BANDS: Final = 4
"""Parts of a frame that a sample is made of."""


READS: Final = 2
"""How often a stored frame is decoded again, where decoding is weighed against size."""

OF_INDEXES: Final = 1.02
"""Indexes count for so much more than they take: no receiver can be sent them as they are."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A codec and its usual cost.

    Parameters
    ----------
    codec : str
        Its name.
    effort : int
        As in :class:`EncodeOptions`.
    seconds_per_gb, colour_seconds_per_gb : float
        CPU seconds for encoding 10**9 bytes of samples and decoding them again, with one and with three samples per
        pixel; on one core of a server of 2024.
    decode_seconds_per_gb : float
        How much of that is decoding.
    largest_side : int
        Rows and columns up to which it is tried at all.
    """

    codec: str
    effort: int
    seconds_per_gb: float
    colour_seconds_per_gb: float
    decode_seconds_per_gb: float = 0.0
    largest_side: int = 1 << 32

    def is_within(self, spec: FrameSpec, budget_seconds_per_gb: float) -> bool:
        """Whether it is tried for such frames under such a budget."""
        return self.cost(spec) <= budget_seconds_per_gb and max(spec.rows, spec.columns) <= self.largest_side

    def cost(self, spec: FrameSpec) -> float:
        """Usual CPU seconds for 10**9 bytes of such frames, encoded and proven."""
        return self.seconds_per_gb if spec.samples_per_pixel == 1 else self.colour_seconds_per_gb

    def lifetime_cost(self, spec: FrameSpec) -> float:
        """The same, and :data:`READS` times more of decoding: what a stored frame takes in its life."""
        return self.cost(spec) + READS * self.decode_seconds_per_gb


FALLBACK: Final = Candidate(Zstd.name, 3, 5, 4, 1)
"""Holds anything; tried whatever the budget."""

FAST: Final = (
    Candidate(JpegXL.name, 1, 8, 8, 5),
    Candidate(HTJ2K.name, 1, 6, 7, 3),
    Candidate(JpegLS.name, 1, 14, 14, 7),
    Candidate(JpegXL.name, 2, 20, 40, 8),
    FALLBACK,
)
"""The candidates of preset ``fast``."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What became of the sample with one candidate.

    Parameters
    ----------
    codec, effort, precision
        What was tried.
    size_bytes : int or None
        Of the code stream; None when the candidate could not hold the sample.
    encode_seconds, decode_seconds : float
        CPU time of this thread, to be reported: nothing is decided by it. Only what may be chosen is decoded.
    reason : str
        Why it could not.
    """

    codec: str
    effort: int
    precision: int
    size_bytes: int | None
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that is taken.

    Parameters
    ----------
    codec, effort, precision
        For :func:`registry.by_name` and :class:`EncodeOptions`.
    ratio : float
        Bytes of the sample's code stream to its native bytes.
    stream : bytes or None
        The encoded frame, when all of it was the sample.
    measured : tuple of Measurement
        Everything that was tried.
    levels : tuple of int
        Of the frame, when its indexes were encoded.
    """

    codec: str
    effort: int
    precision: int
    ratio: float
    stream: bytes | None
    measured: tuple[Measurement, ...]
    levels: tuple[int, ...] = ()

    @property
    def options(self) -> EncodeOptions:
        """How to encode."""
        return EncodeOptions(self.effort, self.precision, self.levels)


def measure(
    frame: bytes,
    spec: FrameSpec,
    budget_seconds_per_gb: float = IDLE_SECONDS_PER_GB,
    *,
    big_endian: bool = False,
    candidates: tuple[Candidate, ...] = FAST,
    slack: float = 0.0,
    sample_bytes: int = LARGEST_SAMPLE,
    in_haste: bool = False,
) -> Choice:
    """Try the candidates that the budget allows on a sample of a frame, and choose one of the smallest.

    Frames that use few of the values in their range are encoded as indexes of those (:mod:`leanpacs.codecs.levels`),
    except by a codec that finds them itself: what it makes can be sent to receivers as it is, and is taken where it is
    not much larger. The chosen code stream is decoded again and compared; when it does not come back exactly the next
    best is, and so on.

    Parameters
    ----------
    frame : bytes
        Native bytes of one frame that stands for its series.
    spec : FrameSpec
        What it is.
    budget_seconds_per_gb : float
        CPU seconds that encoding and decoding 10**9 bytes of samples may take; candidates that usually take more are
        left out.
    big_endian : bool
        Order of the bytes of each sample.
    candidates : tuple of Candidate
        What to try; :data:`FALLBACK` is always tried.
    slack : float
        Of those that are larger than the smallest by no more than this part of it, the one that usually costs least
        is taken; with 0, the smallest.
    sample_bytes : int
        Frames larger than this are sampled.
    in_haste : bool
        Whether a glance at the sample decides if all values of the frame are worth a look.
    """
    sample, sample_spec = sample_of(frame, spec, sample_bytes)
    may_have_gaps = not in_haste or has_gaps(sample, sample_spec, big_endian=big_endian)
    levels = frame_levels(frame, spec, big_endian=big_endian) if may_have_gaps else ()
    trials = [
        _tried(candidate, sample, sample_spec, () if _finds_levels(candidate, spec) else levels, big_endian=big_endian)
        for candidate in dict.fromkeys((*candidates, FALLBACK))
        if candidate == FALLBACK or candidate.is_within(spec, budget_seconds_per_gb)
    ]
    best = _first_exact(_best_first(trials, spec, slack), sample, sample_spec, big_endian=big_endian)
    assert best.stream is not None
    return Choice(
        codec=best.measurement.codec,
        effort=best.measurement.effort,
        precision=best.measurement.precision,
        ratio=len(best.stream) / len(sample),
        stream=best.stream if len(sample) == len(frame) else None,
        measured=tuple(trial.measurement for trial in trials),
        levels=best.options.levels,
    )


def frame_levels(frame: bytes, spec: FrameSpec, *, big_endian: bool = False) -> tuple[int, ...]:
    """The levels of one frame; () when it is not worth while to encode indexes of them."""
    if not may_have_levels(spec):
        return ()
    return levels_of([unpack(frame, spec, big_endian=big_endian)], spec)


def has_gaps(sample: bytes, spec: FrameSpec, *, big_endian: bool = False) -> bool:
    """Whether a sample of a frame leaves out many of the values among which most of it is."""
    return may_have_levels(spec) and leaves_gaps(unpack(sample, spec, big_endian=big_endian))


def sample_of(frame: bytes, spec: FrameSpec, limit: int = LARGEST_SAMPLE) -> tuple[bytes, FrameSpec]:
    """Cut bands of rows out of a large frame, evenly spread: a single one may lie in the background.

    Returns
    -------
    bytes, FrameSpec
        The bands as a native frame of its own, at most ``limit`` bytes unless a row is longer; the frame itself when
        it is small enough, or when its rows do not begin on byte boundaries.
    """
    planes = spec.samples_per_pixel if spec.planar_configuration == 1 and not spec.is_subsampled else 1
    row_bytes, odd_bits = divmod(spec.frame_bits, 8 * spec.rows * planes)
    if len(frame) <= limit or odd_bits:
        return frame, spec
    bands = max(LEAST_BANDS, limit // LARGEST_SAMPLE)
    bands = min(bands, max(1, limit // (row_bytes * planes)))
    rows = max(1, limit // bands // (row_bytes * planes))
    # The middle of each band is the middle of its share of the frame.
    firsts = [((2 * band + 1) * spec.rows - bands * rows) // (2 * bands) for band in range(bands)]
    starts = [(plane * spec.rows + first) * row_bytes for plane in range(planes) for first in firsts]
    sample = b"".join(frame[start : start + rows * row_bytes] for start in starts)
    return sample, replace(spec, rows=rows * bands)


@dataclass(slots=True)
class _Trial:
    """A candidate's attempt; ``stream`` is None when it could not hold the sample."""

    candidate: Candidate
    options: EncodeOptions
    measurement: Measurement
    stream: bytes | None

    @property
    def counted_bytes(self) -> float:
        """What a stream that is there counts for."""
        return len(self.stream or b"") * (OF_INDEXES if self.options.levels else 1.0)


def _best_first(trials: list[_Trial], spec: FrameSpec, slack: float) -> list[_Trial]:
    """Those near the smallest by what they cost, the others by their size."""
    held = sorted((one for one in trials if one.stream is not None), key=lambda one: one.counted_bytes)
    limit = held[0].counted_bytes * (1 + slack) if held else 0.0
    near = [one for one in held if one.counted_bytes <= limit]
    return [*sorted(near, key=lambda one: one.candidate.lifetime_cost(spec)), *held[len(near) :]]


def _first_exact(trials: list[_Trial], sample: bytes, spec: FrameSpec, *, big_endian: bool) -> _Trial:
    """The first that comes back exactly: decoding is dear, so the others are not decoded."""
    for trial in trials:
        _decode_back(trial, sample, spec, big_endian=big_endian)
        if trial.stream is not None:
            return trial
    raise EncodeError(FALLBACK.codec, "even what holds anything does not come back exactly")


def _tried(
    candidate: Candidate, sample: bytes, spec: FrameSpec, levels: tuple[int, ...], *, big_endian: bool
) -> _Trial:
    """Encode in the first way that holds the sample."""
    reason = ""
    options = EncodeOptions(candidate.effort, spec.bits_allocated)
    for options in _ways(candidate, spec, levels):
        try:
            return _encoded(candidate, options, sample, spec, big_endian=big_endian)
        except UnsupportedFrame as error:
            reason = error.reason
        except CodecError as error:
            reason = str(error)
    failed = Measurement(candidate.codec, candidate.effort, spec.bits_allocated, None, reason=reason)
    return _Trial(candidate, options, failed, None)


def _finds_levels(candidate: Candidate, spec: FrameSpec) -> bool:
    """Whether what a candidate makes of the frame, not of the sample, is small without indexes."""
    return candidate.codec == JpegXL.name and finds_levels(spec.rows, spec.columns, candidate.effort)


def _ways(candidate: Candidate, spec: FrameSpec, levels: tuple[int, ...]) -> Iterator[EncodeOptions]:
    """Indexes where there are levels; Bits Stored; all bits, when something stands above those."""
    if levels and not isinstance(registry.by_name(candidate.codec), Bytewise):
        yield EncodeOptions(candidate.effort, precision_of(levels), levels)
    for precision in sorted({spec.bits_stored, spec.bits_allocated}):
        yield EncodeOptions(candidate.effort, precision)


def _encoded(
    candidate: Candidate, options: EncodeOptions, sample: bytes, spec: FrameSpec, *, big_endian: bool
) -> _Trial:
    codec = registry.by_name(candidate.codec)
    begin = time.thread_time()
    stream = registry.encode_frame(codec, sample, spec, options, big_endian=big_endian)
    seconds = time.thread_time() - begin
    measurement = Measurement(codec.name, options.effort, options.precision, len(stream), seconds)
    return _Trial(candidate, options, measurement, stream)


def _decode_back(trial: _Trial, sample: bytes, spec: FrameSpec, *, big_endian: bool) -> None:
    """Note what decoding takes, and take a stream back that does not give the sample."""
    measurement, stream = trial.measurement, trial.stream
    assert stream is not None
    codec = registry.by_name(measurement.codec)
    reason = "what was decoded is not what was encoded"
    begin = time.thread_time()
    try:
        is_same = registry.decode_frame(codec, stream, spec, trial.options, big_endian=big_endian) == sample
    except CodecError as error:
        is_same, reason = False, str(error)
    trial.measurement = replace(measurement, decode_seconds=time.thread_time() - begin)
    if not is_same:
        trial.measurement = replace(trial.measurement, size_bytes=None, reason=reason)
        trial.stream = None
