"""Differences between neighbours under Zstandard: about as small as quick image codecs, for half of their time.

What is written is in docs/reference/pack-format.md; programs that know no DICOM never see it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from leanpacs.codecs.codec import EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.samples import checked, dtype_of, image_refusal, shape_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError

_MIDDLE: Final = 128
"""Added to each difference: small ones of either sign differ in their lower byte only."""

_AT_ONCE: Final = 1 << 16
"""Samples that are worked on at a time, so that they stay in the cache."""

_LITTLE: Final = sys.byteorder == "little"

_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Delta:
    """Each sample less the one to its left; all first bytes of pixels, then all second ones, in one Zstandard frame."""

    name = "delta"
    extension = "dlt"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import zstandard

        version = ".".join(map(str, zstandard.ZSTD_VERSION))
        return f"zstandard {zstandard.__version__} / zstd {version}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        return image_refusal(spec)

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame; ``effort`` is the level of Zstandard."""
        values = checked(self, samples, spec, options.precision).view(f"u{samples.itemsize}")
        pixels = spec.rows * spec.columns
        apart = np.empty((values.nbytes // pixels, pixels), np.uint8)
        for first, rows in _some_rows(values):
            # All modulo the width of a sample.
            steps = rows.copy()
            steps[:, 1:] -= rows[:, :-1]
            steps += steps.dtype.type(_MIDDLE)
            for plane, lane in zip(apart, _lanes(steps), strict=True):
                plane[first : first + len(lane)] = lane
        with encoding(self.name):
            import zstandard

            return zstandard.ZstdCompressor(level=options.effort, write_checksum=True).compress(apart.data)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        dtype, shape = dtype_of(spec), shape_of(spec)
        expected = dtype.itemsize * math.prod(shape)
        with decoding(self.name):
            import zstandard

            declared = zstandard.frame_content_size(stream)
            if declared != expected:
                raise DecodeError(self.name, f"{declared} bytes are no frame of {expected}")
            content = zstandard.ZstdDecompressor().decompress(stream, max_output_size=expected)
        apart = np.frombuffer(content, np.uint8).reshape(-1, spec.rows * spec.columns)
        values = np.empty(shape, f"u{dtype.itemsize}")
        for first, rows in _some_rows(values):
            for plane, lane in zip(apart, _lanes(rows), strict=True):
                lane[...] = plane[first : first + len(lane)]
            rows -= rows.dtype.type(_MIDDLE)
            np.add.accumulate(rows, axis=1, out=rows)
        return values.view(dtype)


def _some_rows(values: Samples) -> Iterator[tuple[int, Samples]]:
    """Some rows at a time, as views, and the number of pixels before them."""
    columns = values.shape[1]
    rows = max(1, _AT_ONCE // columns)
    return ((start * columns, values[start : start + rows]) for start in range(0, len(values), rows))


def _lanes(values: Samples) -> Iterator[_Bytes]:
    """Views of contiguous pixels: the first byte of each, the second of each, and so on, as in little endian order."""
    width = values.itemsize
    pixel_bytes = width * math.prod(values.shape[2:])
    together = values.reshape(-1).view(np.uint8)
    return (together[place if _LITTLE else place ^ (width - 1) :: pixel_bytes] for place in range(pixel_bytes))
