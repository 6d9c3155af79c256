"""Differences between neighbours under Zstandard: about as small as quick image codecs, for half of their time.

What is written is in docs/reference/pack-format.md; programs that know no DICOM never see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from leanpacs.codecs.codec import EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.samples import checked, dtype_of, image_refusal, shape_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError

if TYPE_CHECKING:
    import zstandard

_MIDDLE: Final = 128
"""Added to each difference: small ones of either sign differ in their lower byte only."""

_AT_ONCE: Final = 1 << 18
"""Samples that are worked on at a time: few enough to stay in the cache, and so many that most frames are done at once,
for each step asks for the interpreter anew."""


_DEEP_HASH_LOG: Final = 10
"""Noise of 16 bits hardly ever repeats itself: a table of 4 kB finds what there is, and leaves the cache to others.
That is a sixth to a third of the time, for the same size. Drawings, and colours, which repeat each other, need the
usual one."""


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
        apart = np.empty((spec.samples_per_pixel, samples.itemsize, spec.rows * spec.columns), np.uint8)
        for pixels, rows in _some_rows(values):
            # All modulo the width of a sample.
            steps = rows + rows.dtype.type(_MIDDLE)
            steps[:, 1:] -= rows[:, :-1]
            for planes, lane in zip(apart, _lanes(steps), strict=True):
                for plane in planes:
                    np.copyto(plane[pixels].reshape(lane.shape), lane, casting="unsafe")
                    if len(planes) > 1:
                        lane >>= 8
        with encoding(self.name):
            import zstandard

            is_deep = spec.samples_per_pixel == 1 and samples.itemsize == 2
            parameters = _parameters(options.effort, is_deep=is_deep)
            return zstandard.ZstdCompressor(compression_params=parameters).compress(apart.data)

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
        apart = np.frombuffer(content, np.uint8).reshape(spec.samples_per_pixel, dtype.itemsize, -1)
        values = np.empty(shape, f"u{dtype.itemsize}")
        for pixels, rows in _some_rows(values):
            for planes, lane in zip(apart, _lanes(rows), strict=True):
                np.copyto(lane, planes[-1, pixels].reshape(lane.shape))
                for plane in planes[-2::-1]:
                    lane <<= 8
                    lane |= plane[pixels].reshape(lane.shape)
            rows -= rows.dtype.type(_MIDDLE)
            _add_up(rows)
        return values.view(dtype)


@cache
def _parameters(level: int, *, is_deep: bool) -> zstandard.ZstdCompressionParameters:
    """How Zstandard compresses differences, of 16 bits and one sample for each pixel or of others."""
    import zstandard

    table = {"hash_log": _DEEP_HASH_LOG} if is_deep else {}
    return zstandard.ZstdCompressionParameters.from_level(level, write_checksum=True, **table)


def _some_rows(values: Samples) -> Iterator[tuple[slice, Samples]]:
    """Some rows at a time, as views, and which pixels of the frame they are."""
    count, columns = values.shape[:2]
    at_once = max(1, _AT_ONCE // columns)
    for start in range(0, count, at_once):
        rows = values[start : start + at_once]
        yield slice(start * columns, (start + len(rows)) * columns), rows


def _lanes(values: Samples) -> Iterator[Samples]:
    """Views of the first samples of all pixels, of the second ones, and so on."""
    return iter((values,)) if values.ndim == 2 else (values[..., place] for place in range(values.shape[2]))


def _add_up(rows: Samples) -> None:
    """Each sample and all to its left in its row, in place."""
    import imagecodecs

    imagecodecs.delta_decode(rows, axis=1, out=rows)
