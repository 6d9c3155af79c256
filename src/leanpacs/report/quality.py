"""How much two images differ: PSNR, SSIM, largest error; and the window that a reader sees them through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout, RawValue
from leanpacs.errors import DicomError

Image = NDArray[np.float64]

_CENTER, _WIDTH, _INTERCEPT, _SLOPE = 0x00281050, 0x00281051, 0x00281052, 0x00281053
_CELL: Final = 4
"""SSIM windows of 8 x 8 pixels stand every 4 pixels."""


@dataclass(frozen=True, slots=True)
class Window:
    """From stored values to 8-bit grey: rescale, then a linear window (PS3.3 C.11.1.1.2, C.11.2.1.2.1).

    Parameters
    ----------
    slope, intercept : float
        Of the modality transformation; 1 and 0 when absent.
    center, width : float or None
        The first window of the image; from the 0.5th to the 99.5th percentile of the values when absent.
    """

    slope: float = 1.0
    intercept: float = 0.0
    center: float | None = None
    width: float | None = None

    def fitted(self, original: NDArray[Any]) -> Window:
        """With a window: its own, or one that fits the values of an image."""
        if self.center is not None and self.width is not None and self.width >= 1:
            return self
        values = original[:: max(1, original.shape[0] // 512), :: max(1, original.shape[1] // 512)]
        low, high = np.percentile(values * self.slope + self.intercept, [0.5, 99.5])
        return Window(self.slope, self.intercept, float(low + high) / 2 + 0.5, float(high - low) + 1)

    def apply(self, stored: NDArray[Any]) -> Image:
        """What is shown, 0 to 255. Colour of 8 bits is shown as it is."""
        if stored.ndim == 3:
            return stored.astype(np.float64)
        assert self.center is not None
        assert self.width is not None
        values = stored.astype(np.float64) * self.slope + self.intercept
        shown = ((values - (self.center - 0.5)) / max(self.width - 1, 1e-9) + 0.5) * 255
        return np.asarray(np.round(np.clip(shown, 0, 255)))


def window_of(reader: BinaryIO, layout: Layout) -> Window:
    """The window in a data set; enhanced multi-frame objects keep it elsewhere and have none here."""
    try:
        tags = {_CENTER, _WIDTH, _INTERCEPT, _SLOPE}
        elements = scan(reader, transfer_syntax=layout.transfer_syntax, wanted=tags).elements
    except DicomError:
        return Window()
    center, width = _number(elements, _CENTER), _number(elements, _WIDTH)
    slope, intercept = _number(elements, _SLOPE), _number(elements, _INTERCEPT)
    return Window(1.0 if slope is None else slope, intercept or 0.0, center, width)


def _number(elements: Mapping[int, RawValue], tag: int) -> float | None:
    """First value of a decimal string."""
    raw = elements.get(tag)
    try:
        value = float(raw.value.split(b"\\")[0].strip(b" \0")) if raw else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def psnr(original: NDArray[Any], other: NDArray[Any], peak: float) -> float | None:
    """Peak signal-to-noise ratio in dB; None when nothing differs."""
    error = float(np.mean((original.astype(np.float64) - other.astype(np.float64)) ** 2))
    return 10 * math.log10(peak * peak / error) if error else None


def largest_error(original: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference of a sample."""
    return float(np.abs(original.astype(np.int64) - other.astype(np.int64)).max())


def ssim(original: NDArray[Any], other: NDArray[Any], peak: float) -> float:
    """Mean structural similarity, 1 for equal images.

    Windows of 8 by 8 pixels, uniform, every 4 pixels; constants 0.01 and 0.03 (Wang, Bovik, Sheikh and Simoncelli,
    IEEE Transactions on Image Processing 13(4), 2004). Colour: the mean over the samples.
    """
    if original.ndim == 3:
        planes = range(original.shape[2])
        return float(np.mean([ssim(original[..., plane], other[..., plane], peak) for plane in planes]))
    a, b = original.astype(np.float64), other.astype(np.float64)
    if min(a.shape) < 2 * _CELL:
        return 1.0 if np.array_equal(a, b) else 0.0
    first, second = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b, mean_aa, mean_bb, mean_ab = (_windows(one) for one in (a, b, a * a, b * b, a * b))
    covariance = mean_ab - mean_a * mean_b
    variances = mean_aa - mean_a * mean_a + mean_bb - mean_b * mean_b
    similarity = (2 * mean_a * mean_b + first) * (2 * covariance + second)
    similarity /= (mean_a * mean_a + mean_b * mean_b + first) * (variances + second)
    return float(similarity.mean())


def _windows(values: Image) -> Image:
    """Means of the windows: sums of four neighbouring cells."""
    rows, columns = (length // _CELL for length in values.shape)
    cells = values[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).sum(axis=(1, 3))
    sums = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
    return np.asarray(sums / (2 * _CELL) ** 2)
