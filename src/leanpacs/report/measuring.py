"""Measure one file: every format on its frames and on its head. Runs in worker processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np

from leanpacs.codecs import registry
from leanpacs.codecs.native import little_endian, pack, unpack
from leanpacs.dicom.frames import FrameSpec, frame_spec
from leanpacs.errors import CodecError, DicomError, LeanPACSError
from leanpacs.report import disk, lossy, packing, progressive
from leanpacs.report.census import Drawn
from leanpacs.report.formats import NOT_EXACT, FrameFormat, General, encode_exactly, frame_formats
from leanpacs.report.heads import Head, measure_head
from leanpacs.report.opening import content_of, native_bytes, native_length, opened
from leanpacs.report.quality import window_of
from leanpacs.report.results import FOUND, RAW
from leanpacs.transcode.content import LARGEST_FRAME, Content, Native, Streams, Whole, parts

MOST_FRAMES: Final = 8
MOST_FRAME_BYTES: Final = 64 << 20
"""Frames of one instance that are measured: so many, spread evenly, but not more bytes than this."""

LARGEST_HEAD: Final = 64 << 20
"""Of what is not pixels, so much is compressed for the general formats; the rest is taken to be alike."""

ITEM_BYTES: Final = 12
"""Of an encapsulated frame: item header and Basic Offset Table entry (PS3.5 A.4)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure.

    Parameters
    ----------
    formats : tuple of str
        Keys.
    lossy, progressive : bool
        Whether to measure lossy settings and progressive code streams, too.
    beside : bool
        Whether to measure heads by themselves and whole files on disk.
    """

    formats: tuple[str, ...]
    lossy: bool = False
    progressive: bool = False
    beside: bool = True


@dataclass(slots=True)
class Measure:
    """One format on one instance.

    Parameters
    ----------
    total_bytes : float
        Of the instance in this format; as raw where the format cannot hold it.
    sampled_bytes, stream_bytes : int
        Native bytes of the frames measured, and of their code streams.
    encode_seconds, decode_seconds : float
        CPU time for those frames.
    reason : str
        Why the format does not hold the instance; '' when it does.
    """

    total_bytes: float
    sampled_bytes: int = 0
    stream_bytes: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class Measured:
    """Everything measured on one instance."""

    drawn: Drawn
    raw_bytes: int = 0
    raw_pixel_bytes: int = 0
    frames: int = 0
    formats: dict[str, Measure] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    disk: list[disk.Stored] = field(default_factory=list)
    lossy: list[lossy.Tried] = field(default_factory=list)
    progressive: list[progressive.Appearing] = field(default_factory=list)
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one instance to be measured: native, little endian.

    ``number_of_frames`` in ``spec`` is that of the instance, ``native`` the frames sampled.
    """

    spec: FrameSpec
    native: tuple[bytes, ...]

    @property
    def sampled_bytes(self) -> int:
        """Bytes of the sampled frames."""
        return sum(map(len, self.native))


def prepare(options: Options) -> None:
    """Get a worker process ready: libraries loaded."""
    tools = tools_of(options.formats)
    spec = FrameSpec(16, 16, 1, 16, 12, 11, 0, 0, "MONOCHROME2", 1)
    for one in tools.formats:
        measure_frames(one, Frames(spec, (bytes(512),)), head=0, raw_pixel_bytes=512)


@dataclass(frozen=True, slots=True)
class Tools:
    """The formats of a run, made once in each process."""

    formats: tuple[FrameFormat, ...]
    general: tuple[General, ...]


@lru_cache(maxsize=2)
def tools_of(keys: tuple[str, ...]) -> Tools:
    """The formats asked for."""
    formats = tuple(frame_formats(keys))
    return Tools(formats, tuple(one for one in formats if isinstance(one, General)))


def measure(drawn: Drawn, options: Options) -> Measured:
    """Measure one file; never raises for what is in it."""
    begin = time.process_time()
    measured = Measured(drawn)
    try:
        with opened(drawn.found) as reader, content_of(reader) as content:
            _measure(measured, content, options)
    except (LeanPACSError, OSError, RuntimeError, ValueError, EOFError, MemoryError, NotImplementedError) as error:
        measured.problem = f"cannot be measured: {str(error) or type(error).__name__}"
    measured.seconds = time.process_time() - begin
    return measured


def _measure(measured: Measured, content: Content, options: Options) -> None:
    layout, tools = content.layout, tools_of(options.formats)
    found_bytes = content.received.seek(0, 2)
    pixel_bytes = layout.pixel.length if layout.pixel else 0
    head_bytes = layout.length - pixel_bytes
    measured.raw_pixel_bytes, measured.problem = native_length(layout)
    measured.raw_bytes = head_bytes + measured.raw_pixel_bytes
    frames, reason = _frames(content)
    if reason and not measured.problem:
        measured.problem = reason
    measured.frames = len(frames.native) if frames else 0
    head = _head(content)
    measured.formats = {RAW: Measure(measured.raw_bytes), FOUND: Measure(found_bytes)}
    for one in tools.formats:
        if isinstance(one, General):
            measured.formats[one.key] = _general(one, measured, content, frames, head)
        elif not pixel_bytes:
            measured.formats[one.key] = Measure(measured.raw_bytes)
        elif frames is None:
            measured.formats[one.key] = Measure(measured.raw_bytes, reason=reason or "pixels that nothing decodes")
        else:
            measured.formats[one.key] = measure_frames(one, frames, head_bytes, measured.raw_pixel_bytes)
    for key in packing.presets(options.formats):
        measured.formats[key] = _packed(key, content, frames, head, measured.raw_bytes)
    if options.beside:
        measured.heads = measure_head(head, tools.general)
        measured.disk = disk.measure(content.received)
    if frames is not None and (options.lossy or options.progressive):
        _looks(measured, content, frames, options)


def _looks(measured: Measured, content: Content, frames: Frames, options: Options) -> None:
    """What lossy and progressive code streams make of the middle frame."""
    spec = frames.spec
    if spec.is_subsampled or spec.photometric_interpretation == "PALETTE COLOR" or spec.bits_allocated < 8:
        return
    samples = np.ascontiguousarray(unpack(frames.native[len(frames.native) // 2], spec))
    spec = replace(spec, planar_configuration=0)
    window = window_of(content.reader, content.layout)
    if options.progressive:
        measured.progressive = progressive.measure(samples, spec, window)
    if options.lossy:
        measured.lossy = lossy.measure(samples, spec, window)


def _head(content: Content) -> bytes:
    """Everything but the value of Pixel Data."""
    layout, reader = content.layout, content.reader
    reader.seek(0)
    before = reader.read(min(layout.head_end, LARGEST_HEAD))
    reader.seek(layout.tail_start)
    return before + reader.read(LARGEST_HEAD - len(before))


def _general(one: General, measured: Measured, content: Content, frames: Frames | None, head: bytes) -> Measure:
    """A general compressor on head and frames; on the pixel data as found, where nothing decodes it."""
    head_bytes = measured.raw_bytes - measured.raw_pixel_bytes
    compressed = len(one.compress(head)) * (head_bytes / len(head)) if head else 0.0
    if not content.layout.pixel or not measured.raw_pixel_bytes:
        return Measure(compressed)
    if frames is None:
        content.reader.seek(content.layout.pixel.value_offset)
        data = content.reader.read(min(content.layout.pixel.length, MOST_FRAME_BYTES))
        spec = FrameSpec(1, max(len(data), 1), 1, 8, 8, 7, 0, 0, "", 1)
        frames = Frames(spec, (data,))
    result = measure_frames(one, frames, 0, measured.raw_pixel_bytes)
    scale = measured.raw_pixel_bytes / max(frames.sampled_bytes, 1)
    result.total_bytes = compressed + result.stream_bytes * scale if not result.reason else measured.raw_bytes
    return result


def measure_frames(one: FrameFormat, frames: Frames, head: int, raw_pixel_bytes: int) -> Measure:
    """One format on the sampled frames: encoded, decoded, compared; then projected to all frames."""
    result = Measure(head + raw_pixel_bytes, frames.sampled_bytes)
    for frame in frames.native:
        try:
            begin = time.process_time()
            stream, precision = encode_exactly(one, frame, frames.spec)
            middle = time.process_time()
            back = one.decode(stream, frames.spec, precision)
            end = time.process_time()
        except CodecError as error:
            result.reason = getattr(error, "reason", "") or str(error)
            return result
        result.stream_bytes += len(stream)
        result.encode_seconds += middle - begin
        result.decode_seconds += end - middle
        if back != frame:
            result.reason = NOT_EXACT
            return result
    mean = result.stream_bytes / len(frames.native) + ITEM_BYTES
    result.total_bytes = head + mean * frames.spec.number_of_frames
    return result


def _packed(key: str, content: Content, frames: Frames | None, head: bytes, raw_bytes: int) -> Measure:
    """What the archive would store."""
    layout = content.layout
    if layout.length <= packing.LARGEST:
        packed = packing.pack(key, content)
    elif frames is not None and layout.pixel and not layout.pixel.encapsulated:
        packed = packing.project(key, head, frames.spec, frames.native)
    else:
        return Measure(layout.length)  # code streams are kept as they came
    return Measure(
        packed.size_bytes,
        packed.raw_bytes or raw_bytes,
        packed.size_bytes,
        packed.encode_seconds,
        packed.decode_seconds,
        packed.reason,
    )


def _frames(content: Content) -> tuple[Frames | None, str]:
    """Frames to measure, or why there are none ('' when there is no pixel data)."""
    if content.layout.problem:
        return None, f"damaged: {content.layout.problem}"
    form = parts(content)
    if isinstance(form, Whole):
        return None, form.reason
    if isinstance(form, Native) and form.swapped_apart:
        return None, form.indivisible
    try:
        return (_native(content, form) if isinstance(form, Native) else _streams(content, form)), ""
    except (CodecError, DicomError) as error:
        return None, f"no decoder reads it: {error}"


def _native(content: Content, form: Native) -> Frames:
    indexes = sampled(form.frames.count, -(-form.spec.frame_bits // 8))
    swap = form.word_bytes if form.big_endian else 1
    native = tuple(little_endian(form.frames.read(content.reader, index), swap) for index in indexes)
    return Frames(form.spec, native)


def _streams(content: Content, form: Streams) -> Frames:
    layout = content.layout
    assert layout.pixel is not None
    spec = frame_spec(layout.elements, layout.pixel)
    native, decoded = [], spec
    for index in sampled(len(form.frames), native_bytes(spec) // spec.number_of_frames):
        pieces = []
        for fragment in form.frames[index]:
            span = form.encapsulation.fragments[fragment]
            content.reader.seek(span.offset)
            pieces.append(content.reader.read(span.length))
        frame = registry.decode_received(b"".join(pieces), layout.transfer_syntax, spec)
        decoded = frame.spec
        native.append(pack(frame.samples, decoded))
    return Frames(decoded, tuple(native))


def sampled(count: int, frame_bytes: int) -> Sequence[int]:
    """Indexes of the frames of an instance that are measured: all, or some in the middles of equal parts.

    Raises
    ------
    DicomError
        If a frame is larger than codecs are given.
    """
    if frame_bytes > LARGEST_FRAME:
        raise DicomError(f"a frame of {frame_bytes} bytes is too large for the image codecs")
    taken = max(1, min(count, MOST_FRAMES, MOST_FRAME_BYTES // max(frame_bytes, 1)))
    return [(2 * part + 1) * count // (2 * taken) for part in range(taken)]
