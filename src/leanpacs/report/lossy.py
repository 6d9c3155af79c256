"""Lossy settings on a frame: what they save, and what they lose. Never more than figures: nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from leanpacs.codecs import registry
from leanpacs.codecs.codec import Samples
from leanpacs.codecs.writing import Lossy, WriteOptions, write_frame, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError
from leanpacs.report.quality import Window, largest_error, psnr, ssim

LEAST_SIDE: Final = 128
"""Smaller images say nothing of what a reader would see."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One rung of a ladder."""

    family: str
    label: str
    transfer_syntaxes: tuple[str, ...]
    lossy: Lossy


def _ladder() -> Iterator[Setting]:
    for quality in (98, 95, 90, 80, 60):
        yield Setting("JPEG", f"quality {quality}", (uids.JPEG_BASELINE, uids.JPEG_EXTENDED), Lossy(quality=quality))
    for ratio in (5, 10, 20, 40):
        yield Setting("JPEG 2000", f"{ratio}:1", (uids.JPEG_2000,), Lossy(ratio=ratio))
        yield Setting("HTJ2K", f"{ratio}:1", (uids.HTJ2K,), Lossy(ratio=ratio))
    for distance in (0.1, 0.5, 1.0, 2.0, 4.0):
        yield Setting("JPEG XL", f"distance {distance:g}", (uids.JPEG_XL,), Lossy(distance=distance))
    for near in (1, 2, 4, 8):
        yield Setting("JPEG-LS", f"near {near}", (uids.JPEG_LS_NEAR_LOSSLESS,), Lossy(near=near))


LARGEST_SIDE: Final = 1536
"""Of a larger frame, the middle is taken."""

LADDER: Final = tuple(_ladder())


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting on one frame; PSNR is None when nothing differs."""

    family: str
    setting: str
    raw_bytes: int
    stream_bytes: int
    psnr: float | None
    ssim: float
    windowed_psnr: float | None
    windowed_ssim: float
    largest_error: float
    encode_seconds: float
    decode_seconds: float


def measure(samples: Samples, spec: FrameSpec, window: Window) -> list[Tried]:
    """Try every setting that can hold the frame.

    Parameters
    ----------
    samples : ndarray
        Stored values, interleaved.
    spec : FrameSpec
        What they are.
    window : Window
        As the image is shown.
    """
    if spec.kind != "integer" or min(spec.rows, spec.columns) < LEAST_SIDE:
        return []
    fitted = window.fitted(samples)
    samples, spec = middle(samples, spec)
    tried = (_tried(setting, samples, replace(spec, planar_configuration=0), fitted) for setting in LADDER)
    return [one for one in tried if one is not None]


def middle(samples: Samples, spec: FrameSpec) -> tuple[Samples, FrameSpec]:
    """The middle of a large frame: some encoders search for a size, and would take minutes for all of it."""
    rows, columns = (min(length, LARGEST_SIDE) for length in samples.shape[:2])
    top, left = (samples.shape[0] - rows) // 2, (samples.shape[1] - columns) // 2
    part = np.ascontiguousarray(samples[top : top + rows, left : left + columns])
    return part, replace(spec, rows=rows, columns=columns)


def _tried(setting: Setting, samples: Samples, spec: FrameSpec, window: Window) -> Tried | None:
    options = WriteOptions(lossy=setting.lossy)
    for syntax in setting.transfer_syntaxes:
        if write_refusal(spec, syntax, options) is None:
            try:
                return _measured(setting, syntax, samples, spec, window)
            except CodecError:
                continue
    return None


def _measured(setting: Setting, syntax: str, samples: Samples, spec: FrameSpec, window: Window) -> Tried:
    begin = time.process_time()
    written = write_frame(samples, spec, syntax, WriteOptions(lossy=setting.lossy))
    middle = time.process_time()
    back = registry.decode_received(written.stream, syntax, written.spec).samples
    end = time.process_time()
    peak = float((1 << spec.bits_stored) - 1)
    shown, shown_back = window.apply(samples), window.apply(back)
    return Tried(
        family=setting.family,
        setting=setting.label,
        raw_bytes=samples.nbytes,
        stream_bytes=len(written.stream),
        psnr=psnr(samples, back, peak),
        ssim=ssim(samples, back, peak),
        windowed_psnr=psnr(shown, shown_back, 255),
        windowed_ssim=ssim(shown, shown_back, 255),
        largest_error=largest_error(samples, back),
        encode_seconds=middle - begin,
        decode_seconds=end - middle,
    )
