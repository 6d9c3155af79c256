"""Presets: named sets of candidates, and ``codec:effort`` for one of anybody's own.

A preset says what is tried for a series, how large a sample it is tried on, what it may cost, and how much size is
given up for speed. What comes out is in docs/explanation/choosing-codecs.md, with the costs; both are measured anew by
``python -m benchmarks dense``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from leanpacs.codecs import registry
from leanpacs.codecs.bytewise import DeflatedFrame, Zstd
from leanpacs.codecs.choice import FALLBACK, FAST, IDLE_SECONDS_PER_GB, LARGEST_SAMPLE, Candidate, Choice, measure
from leanpacs.codecs.delta import Delta
from leanpacs.codecs.jpeg import Jpeg
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import ConfigError, UnsupportedTransferSyntax


@dataclass(frozen=True, slots=True)
class Preset:
    """What is tried for the frames of a series, and which of it is taken.

    Parameters
    ----------
    name : str
        Of the settings: ``fast``, or ``jpegxl:7``.
    candidates : tuple of Candidate
        What is tried.
    seconds_per_gb : float
        CPU seconds that encoding and decoding 10**9 bytes may take when nothing else is asked for.
    slack : float
        As in :func:`leanpacs.codecs.choice.measure`: how much larger than the smallest something cheaper may be.
    sample_bytes : int
        Of larger frames the candidates are tried on a sample.
    recode_effort : int
        Of JPEG XL, for received code streams that are made again from it.
    in_haste : bool
        As in :func:`leanpacs.codecs.choice.measure`: whether a glance has to do.
    """

    name: str
    candidates: tuple[Candidate, ...]
    seconds_per_gb: float
    slack: float = 0.0
    sample_bytes: int = LARGEST_SAMPLE
    recode_effort: int = 3
    in_haste: bool = False

    def choose(
        self, frame: bytes, spec: FrameSpec, *, budget_seconds_per_gb: float = 0.0, big_endian: bool = False
    ) -> Choice:
        """Measure the candidates on a frame that stands for its series; a budget of 0 is the preset's own."""
        return measure(
            frame,
            spec,
            budget_seconds_per_gb or self.seconds_per_gb,
            big_endian=big_endian,
            candidates=self.candidates,
            slack=self.slack,
            sample_bytes=self.sample_bytes,
            in_haste=self.in_haste,
        )


QUICK: Final = Preset("fast", FAST, IDLE_SECONDS_PER_GB)
"""Keeps up with what arrives."""

HASTY: Final = replace(
    QUICK,
    candidates=(Candidate(Delta.name, 1, 4, 5, 1), *FAST),
    sample_bytes=LARGEST_SAMPLE // 8,
    slack=0.25,
    in_haste=True,
)
"""Much quicker, a little larger: whatever the preset, this is used within a smaller budget while much is waiting."""

_JXL_SIDE: Final = 2048
"""libjxl encodes larger frames in parts of this size; efforts 8 and 9 have been larger there than 4 to 6, always."""

BALANCED: Final = Preset(
    "balanced",
    (
        *FAST,
        Candidate(JpegXL.name, 3, 48, 60, 20),
        Candidate(JpegXL.name, 4, 106, 130, 30),
        Candidate(JpegXL.name, 5, 171, 200, 33),
    ),
    seconds_per_gb=250.0,
    slack=0.015,
    recode_effort=5,
)
"""Most of what can be saved, for a tenth of what ``dense`` takes."""

DENSE: Final = Preset(
    "dense",
    (
        Candidate(JpegLS.name, 1, 14, 14, 7),
        Candidate(JpegXL.name, 2, 20, 40, 8),
        Candidate(JpegXL.name, 3, 48, 60, 20),
        Candidate(JpegXL.name, 4, 106, 130, 30),
        Candidate(JpegXL.name, 5, 171, 200, 33),
        Candidate(JpegXL.name, 6, 207, 240, 37),
        Candidate(JpegXL.name, 7, 282, 330, 39),
        Candidate(JpegXL.name, 8, 600, 700, 40, _JXL_SIDE),
        Candidate(JpegXL.name, 9, 1117, 1300, 43, _JXL_SIDE),
        Candidate(Zstd.name, 19, 240, 196, 1),
        Candidate(DeflatedFrame.name, 9, 70, 70, 3),
    ),
    seconds_per_gb=2000.0,
    sample_bytes=32 * LARGEST_SAMPLE,
    recode_effort=7,
)
"""The smallest, whatever it takes. More effort is not always smaller, so that the lower ones are tried as well; and on
whole frames, for what libjxl makes of a part of a large one tells little."""

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({one.name: one for one in (QUICK, BALANCED, DENSE)})

_EFFORTS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {JpegXL.name: (1, 10, 7), Zstd.name: (1, 22, 19), DeflatedFrame.name: (1, 9, 6)}
)
"""Least and greatest effort, and the one that is taken when none is given; other codecs have one effort only."""


def preset(text: str) -> Preset:
    """The preset of that name, or one of a single codec (``jpegxl:9``, ``htj2k``).

    Such a codec is used wherever it holds the frames and is smaller than Zstandard, which is tried beside it.

    Raises
    ------
    ConfigError
        If there is no such preset, codec or effort; says which there are.
    """
    return PRESETS.get(text) or _of_one_codec(text)


def _of_one_codec(text: str) -> Preset:
    name, _, effort_text = text.partition(":")
    try:
        codec = registry.by_name(name)
    except UnsupportedTransferSyntax:
        codec = None
    if codec is None or codec.name == Jpeg.name:
        codecs = ", ".join(one.name for one in registry.all_codecs() if one.name != Jpeg.name)
        raise ConfigError("settle.preset", text, f"is none of {', '.join(PRESETS)}, nor one of the codecs {codecs}")
    effort = _effort(text, codec.name, effort_text)
    # Whoever names a codec wants it, whatever it costs.
    recode_effort = effort if codec.name == JpegXL.name else QUICK.recode_effort
    return Preset(
        text, (Candidate(codec.name, effort, 0, 0), FALLBACK), IDLE_SECONDS_PER_GB, recode_effort=recode_effort
    )


def _effort(text: str, codec: str, effort: str) -> int:
    least, greatest, usual = _EFFORTS.get(codec, (1, 1, 1))
    if not effort and ":" not in text:
        return usual
    if not effort.isdecimal() or not least <= int(effort) <= greatest:
        raise ConfigError("settle.preset", text, f"{codec} has efforts from {least} to {greatest}")
    return int(effort)
