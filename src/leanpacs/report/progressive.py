"""Images that are there before all of their bytes are: decoded from the beginnings of progressive code streams.

HTJ2K in RPCL order is cut anywhere. JPEG 2000 is cut behind a quality layer. JPEG XL is cut anywhere, and shown by the
flush of libjxl; it and the layers need the packages of ``leanpacs[progressive]``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.registry import by_name, decode_received
from leanpacs.codecs.samples import to_offset_binary
from leanpacs.codecs.writing import WriteOptions, write_frame, write_refusal
from leanpacs.codecs.writing.writer import value_range
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError
from leanpacs.report import jxlpart
from leanpacs.report.quality import Window, psnr, ssim

PARTS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of a code stream, where it is cut."""

LAYERS: Final = (200, 100, 50, 25, 12, 6, 3)
"""Compression ratios of the quality layers of JPEG 2000; a lossless one comes last."""

LEAST_SIDE: Final = 128
EFFORT: Final = 5
"""Of JPEG XL; effort 1 knows no progressive order."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The windowed image after so many bytes; PSNR is None when nothing differs."""

    received_bytes: int
    psnr: float | None
    ssim: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Appearing:
    """One frame in one progressive form; ``plain_bytes`` is the code stream of the same codec that is not."""

    family: str
    label: str
    raw_bytes: int
    stream_bytes: int
    plain_bytes: int
    shown: tuple[Shown, ...]


def measure(samples: Samples, spec: FrameSpec, window: Window) -> list[Appearing]:
    """Measure each progressive form that can hold the frame and whose libraries are installed."""
    if spec.kind != "integer" or spec.bits_allocated > 16 or min(spec.rows, spec.columns) < LEAST_SIDE:
        return []
    fitted, results = window.fitted(samples), []
    for form in (_htj2k, _jpeg2000, _jpegxl):
        try:
            appearing = form(samples, spec, fitted)
        except (CodecError, ValueError, RuntimeError, OSError):
            continue
        if appearing is not None:
            results.append(appearing)
    return results


def _shown(samples: Samples, window: Window, stages: Iterator[tuple[int, Samples]]) -> tuple[Shown, ...]:
    original = window.apply(samples)
    found: list[Shown] = []
    for received, image in stages:
        if found and found[-1].exact:
            break
        shown = window.apply(image)
        found.append(
            Shown(
                received, psnr(original, shown, 255), ssim(original, shown, 255), bool(np.array_equal(samples, image))
            )
        )
    return tuple(found)


def _htj2k(samples: Samples, spec: FrameSpec, window: Window) -> Appearing | None:
    import imagecodecs

    if samples.ndim == 3 or write_refusal(spec, uids.HTJ2K_LOSSLESS_RPCL, WriteOptions()) is not None:
        return None
    written = write_frame(samples, spec, uids.HTJ2K_LOSSLESS_RPCL, WriteOptions())
    stream = written.stream
    plain = by_name("htj2k").encode(samples, spec, _options(spec))

    # What comes of a beginning goes beyond the range of the samples, and OpenJPH does not clip it: it would wrap. So
    # that is decoded from the same image with room above and below, whose code stream is as long but for a few bytes.
    roomy = bytes(imagecodecs.htj2k_encode(samples.astype(np.int32), reversible=True, rgb=False, planar=False))
    low, high = value_range(spec)

    def stages() -> Iterator[tuple[int, Samples]]:
        for length in _cuts(len(stream))[:-1]:
            image = imagecodecs.htj2k_decode(roomy[:length], planar=False, resilient=True)
            yield length, np.clip(image, low, high)
        yield len(stream), decode_received(stream, uids.HTJ2K_LOSSLESS_RPCL, written.spec).samples

    shown = _shown(samples, window, _decodable(stages()))
    return Appearing("HTJ2K", "HTJ2K, RPCL order", samples.nbytes, len(stream), len(plain), shown)


def _jpeg2000(samples: Samples, spec: FrameSpec, window: Window) -> Appearing | None:
    try:
        from PIL import Image
    except ImportError:
        return None
    import imagecodecs

    values = np.ascontiguousarray(to_offset_binary(samples, spec.bits_stored))
    if values.ndim == 3 and values.dtype != np.uint8:
        return None
    file = io.BytesIO()
    Image.fromarray(values).save(
        file,
        "JPEG2000",
        no_jp2=True,
        irreversible=False,
        progression="LRCP",
        quality_mode="rates",
        quality_layers=[*LAYERS, 1],
        plt=True,
    )
    stream = file.getvalue()
    back = _from_offset(samples, spec)

    def stages() -> Iterator[tuple[int, Samples]]:
        for beginning in layers(stream, len(LAYERS) + 1):
            yield len(beginning), back(imagecodecs.jpeg2k_decode(beginning, planar=False))

    plain = by_name("jpeg2000").encode(samples, spec, _options(spec))
    shown = _shown(samples, window, _decodable(stages()))
    return Appearing("JPEG 2000", "JPEG 2000, quality layers", samples.nbytes, len(stream), len(plain), shown)


def _jpegxl(samples: Samples, spec: FrameSpec, window: Window) -> Appearing | None:
    if not jxlpart.is_available():
        return None
    values = np.ascontiguousarray(to_offset_binary(samples, spec.bits_stored))
    stream = jxlpart.encode(values, EFFORT)
    back = _from_offset(samples, spec)

    def stages() -> Iterator[tuple[int, Samples]]:
        for length in _cuts(len(stream)):
            image = jxlpart.decode(stream[:length], values)
            if image is not None:
                yield length, back(image)

    plain = jxlpart.encode(values, EFFORT, progressive=False)
    shown = _shown(samples, window, stages())
    return Appearing("JPEG XL", "JPEG XL, responsive", samples.nbytes, len(stream), len(plain), shown)


def _cuts(length: int) -> list[int]:
    return [max(1, round(part * length)) for part in PARTS]


def _decodable(stages: Iterator[tuple[int, Samples]]) -> Iterator[tuple[int, Samples]]:
    """Stages up to the first that the decoder does not like, which is skipped with all behind it."""
    while True:
        try:
            stage = next(stages)
        except (StopIteration, RuntimeError, CodecError):
            return
        yield stage


def _from_offset(samples: Samples, spec: FrameSpec) -> Callable[[Samples], Samples]:
    """From offset binary to stored values; those of a beginning may be out of range."""
    offset = (1 << spec.bits_stored - 1) if samples.dtype.kind == "i" else 0
    return lambda values: cast("Samples", values.astype(np.int32) - offset)


def _options(spec: FrameSpec) -> Any:
    from leanpacs.codecs.codec import EncodeOptions

    return EncodeOptions(1, spec.bits_stored)


def layers(stream: bytes, count: int) -> Iterator[bytes]:
    """The beginnings of a JPEG 2000 code stream that end behind a quality layer, each a code stream of its own.

    For one tile in one tile-part, in the order LRCP, with packet lengths in PLT segments (ISO/IEC 15444-1 A.4.2,
    A.7.3): the length of the tile-part is made that of the beginning, and EOC put behind.

    Raises
    ------
    ValueError
        If it is another kind of code stream.
    """
    tile = stream.find(b"\xff\x90")
    position, lengths = tile + 12, list[int]()
    while stream[position : position + 2] != b"\xff\x93":
        (size,) = struct.unpack(">H", stream[position + 2 : position + 4])
        if stream[position : position + 2] == b"\xff\x58":
            lengths += _packet_lengths(stream[position + 5 : position + 2 + size])
        position += 2 + size
    start = position + 2
    if tile < 0 or not lengths or len(lengths) % count or start + sum(lengths) + 2 != len(stream):
        raise ValueError("packets are not as they should be")
    each = len(lengths) // count
    for layer in range(1, count + 1):
        end = start + sum(lengths[: layer * each])
        yield stream[: tile + 6] + struct.pack(">I", end - tile) + stream[tile + 10 : end] + b"\xff\xd9"


def _packet_lengths(segment: bytes) -> list[int]:
    """Seven bits in each byte, the highest bit says that more follow (ISO/IEC 15444-1 A.7.3)."""
    lengths, value = [], 0
    for byte in segment:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            lengths.append(value)
            value = 0
    return lengths
