"""Grey samples as people look at them: from stored values through modality LUT and VOI LUT to 8 bits.

What becomes of a sample hangs on its value, and a frame has far fewer values than pixels: the values go the long way,
in floating point, and the pixels through a table of what came of them.

References
----------
PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.dicom.frames import FrameSpec

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOST_BITS_AS_THEY_ARE: Final = 8
"""Of samples that are shown over the range of their bits when the data set says nothing of a window."""
_LONGEST_TABLE_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class Window:
    """Which values are shown, darkest to brightest: centre, width (of output of the modality LUT), function."""

    center: float
    width: float
    function: str = "LINEAR"


def shown(
    samples: Samples, spec: FrameSpec, ds: Dataset, window: Window | None = None, *, is_inverse: bool = False
) -> Samples:
    """Values from 0 (black) to 255 of grey samples.

    Parameters
    ----------
    samples : ndarray
        As stored; or means of such, when the image becomes smaller.
    spec : FrameSpec
        What they are.
    ds : Dataset
        With the attributes of modality and VOI LUT that hold for them.
    window : Window, optional
        In place of what the data set says.
    is_inverse : bool
        Whether the lowest values are the brightest ones.
    """
    window = window or window_of(ds)
    values = _values(samples, only_those_there=window is None)
    if values is None:
        return _eight_bits(samples, spec, ds, window, is_inverse=is_inverse)
    unsigned = f"u{samples.dtype.itemsize}"  # so that negative values are places in the table, too
    table = np.empty(1 << 8 * samples.dtype.itemsize, np.uint8)
    table[values.view(unsigned)] = _eight_bits(values, spec, ds, window, is_inverse=is_inverse)
    eight: Samples = table.take(samples.view(unsigned))
    return eight


def window_of(ds: Dataset) -> Window | None:
    """The first window that a data set has."""
    center, width = _first(ds.get("WindowCenter")), _first(ds.get("WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    return Window(center, width, str(ds.get("VOILUTFunction") or "LINEAR"))


def _values(samples: Samples, *, only_those_there: bool) -> Samples | None:
    """The values of samples, and perhaps others between them; None where no table of them is worth while."""
    dtype = samples.dtype
    if dtype.kind not in "iu" or 8 * dtype.itemsize > _LONGEST_TABLE_BITS or not samples.size:
        return None
    if only_those_there:  # what is shown hangs on which of them there are
        is_there = np.zeros(1 << 8 * dtype.itemsize, np.bool_)
        is_there[samples.view(f"u{dtype.itemsize}")] = True
        values: Samples = np.flatnonzero(is_there).astype(f"u{dtype.itemsize}").view(dtype)
    else:
        values = np.arange(int(samples.min()), int(samples.max()) + 1).astype(dtype)
    return values if values.size < samples.size else None


def _eight_bits(samples: Samples, spec: FrameSpec, ds: Dataset, window: Window | None, *, is_inverse: bool) -> Samples:
    grey = _windowed(samples, spec, ds, window)
    eight: Samples = (255.0 * (1 - grey if is_inverse else grey) + 0.5).astype(np.uint8)
    return eight


def _windowed(samples: Samples, spec: FrameSpec, ds: Dataset, window: Window | None) -> Samples:
    """Values from 0 to 1."""
    from pydicom.pixels.processing import apply_modality_lut

    values = apply_modality_lut(samples, ds)
    if window is None and ds.get("VOILUTSequence"):
        return _looked_up(np.asarray(values), ds.VOILUTSequence[0])
    if window is not None:
        return _through(np.asarray(values, np.float32), window)
    if spec.bits_stored <= _MOST_BITS_AS_THEY_ARE and values is samples and not spec.pixel_representation:
        return _normal(values, 0.0, float((1 << spec.bits_stored) - 1))
    counted = values if (padding := ds.get("PixelPaddingValue")) is None else values[samples != padding]
    if counted.size == 0:
        counted = values
    return _normal(values, float(counted.min()), float(counted.max()))


def _looked_up(values: Samples, item: Dataset) -> Samples:
    """Through a VOI LUT (PS3.3 C.11.2.1.1); that of pydicom wraps around where entries have 8 bits and are many."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    places = np.clip(values.astype(np.int64) - first, 0, min(entries or 1 << 16, table.size) - 1)
    return _normal(table[places], 0.0, float((1 << bits) - 1))


def _first(value: Any) -> float | None:
    if isinstance(value, str | int | float):
        return float(value) if value != "" else None
    return None if not value else float(value[0])


def _through(values: Samples, window: Window) -> Samples:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if window.function == "SIGMOID":
        smooth: Samples = 1 / (1 + np.exp(np.clip(-4 * (values - window.center) / window.width, -80, 80)))
        return smooth
    if window.function == "LINEAR_EXACT":
        return _normal(values, window.center - window.width / 2, window.center + window.width / 2)
    low = window.center - 0.5 - (window.width - 1) / 2
    return _normal(values, low, low + window.width - 1)


def _normal(values: Samples, low: float, high: float) -> Samples:
    if high <= low:
        return (np.asarray(values) > low).astype(np.float32)
    scaled: Samples = np.clip((np.asarray(values, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return scaled
