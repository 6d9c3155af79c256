"""A received data set opened for reading: where its parts are, and whether its frames can be told apart."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from leanpacs.dicom.attributes import INDEXED_TAGS
from leanpacs.dicom.deflate import inflate_leniently
from leanpacs.dicom.encapsulation import Encapsulation, frame_fragments, parse
from leanpacs.dicom.frames import FrameSpec, NativeFrames, frame_spec, native_frames, word_size
from leanpacs.dicom.instance import scan
from leanpacs.dicom.layout import Layout, RawValue
from leanpacs.errors import DicomError

LARGEST_FRAME = 256 << 20
"""Frames above this many bytes are not given to an image codec, which would hold several copies of them."""


@dataclass(frozen=True, slots=True)
class Content:
    """An opened data set.

    Parameters
    ----------
    received : BinaryIO
        The file as it was received.
    reader : BinaryIO
        What ``layout`` speaks of: ``received``, or a deflated data set inflated, behind the received preamble
        and file meta.
    layout : Layout
        Where everything is in ``reader``.
    """

    received: BinaryIO
    reader: BinaryIO
    layout: Layout


@contextmanager
def open_content(
    received: BinaryIO,
    syntax_uid: str | None,
    *,
    spool: Path,
    limit_bytes: int,
    wanted: frozenset[int] = INDEXED_TAGS,
) -> Iterator[Content]:
    """Find the parts of a received file.

    Parameters
    ----------
    received : BinaryIO
        The file, seekable: a data set, with or without preamble and file meta.
    syntax_uid : str or None
        Transfer syntax when it is known from elsewhere (the presentation context).
    spool : Path
        Folder for the inflated form of a deflated data set.
    limit_bytes : int
        A deflated data set that inflates to more is not inflated.
    wanted : frozenset of int
        Tags of the elements whose values are collected; those of :data:`~leanpacs.dicom.frames.FRAME_TAGS` at least.

    Raises
    ------
    DicomError
        If it does not read as DICOM.
    """
    with ExitStack() as stack:

        def scratch() -> BinaryIO:
            return cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(dir=spool)))

        layout = scan(
            received, transfer_syntax=syntax_uid, wanted=wanted, spool=scratch, inflate_limit_bytes=limit_bytes
        )
        reader = received
        if layout.deflated:
            reader, _ = inflate_leniently(received, layout.preface_length, spool=scratch, limit_bytes=limit_bytes)
        yield Content(received, reader, layout)


@dataclass(frozen=True, slots=True)
class Whole:
    """Frames cannot be told apart, because of ``reason`` ('' when there is simply no pixel data)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Native:
    """Native frames that may be encoded one by one, if they begin on byte boundaries and are not too large."""

    spec: FrameSpec
    frames: NativeFrames
    big_endian: bool
    word_bytes: int

    @property
    def swapped_apart(self) -> bool:
        """Whether bytes are swapped in big endian words that are no samples, such as two 8-bit ones (PS3.5 7.3)."""
        return self.big_endian and self.word_bytes > 1 and self.word_bytes * 8 != self.spec.bits_allocated

    @property
    def indivisible(self) -> str:
        """Why the frames cannot be encoded one by one, or ''."""
        if self.frames.frame_bytes is None:
            return "frames do not begin on byte boundaries"
        if self.swapped_apart:
            return "big endian words are not samples"
        if self.frames.frame_bytes > LARGEST_FRAME:
            return f"a frame of {self.frames.frame_bytes} bytes is too large for the image codecs"
        return ""


@dataclass(frozen=True, slots=True)
class Streams:
    """Received code streams: the fragment indexes of each frame."""

    encapsulation: Encapsulation
    frames: tuple[tuple[int, ...], ...]

    @property
    def fragment_counts(self) -> tuple[int, ...]:
        """Number of fragments of each frame; () when each has one."""
        counts = tuple(len(indexes) for indexes in self.frames)
        return counts if any(count != 1 for count in counts) else ()


def parts(content: Content) -> Whole | Native | Streams:
    """Say what the Pixel Data of a data set is, and where its frames are."""
    layout = content.layout
    if layout.problem:
        return Whole(layout.problem)
    if layout.pixel is None:
        return Whole("")
    try:
        if layout.pixel.encapsulated:
            return _streams(content)
        return _native(content)
    except DicomError as error:
        return Whole(str(error))


def _native(content: Content) -> Whole | Native:
    layout = content.layout
    assert layout.pixel is not None
    spec = frame_spec(layout.elements, layout.pixel)
    frames = native_frames(layout.pixel, spec)
    return Native(spec, frames, not layout.little_endian, word_size(layout.pixel.vr, spec))


def _streams(content: Content) -> Streams:
    layout = content.layout
    assert layout.pixel is not None
    spec = frame_spec(layout.elements, layout.pixel)
    encapsulation = parse(content.reader, layout.pixel.value_offset, layout.pixel.value_end)
    mapping = frame_fragments(
        encapsulation, spec.number_of_frames, extended=extended_table(layout), reader=content.reader
    )
    return Streams(encapsulation, tuple(tuple(indexes) for indexes in mapping))


def extended_table(layout: Layout) -> tuple[list[int], list[int]] | None:
    """Offsets and lengths of the Extended Offset Table, if there is one (PS3.3 C.7.6.3.1.8)."""
    offsets, lengths = (layout.elements.get(tag) for tag in (0x7FE00001, 0x7FE00002))
    if offsets is None or lengths is None:
        return None
    return _longs(offsets), _longs(lengths)


def _longs(raw: RawValue) -> list[int]:
    count = len(raw.value) // 8
    return list(struct.unpack(f"{'<' if raw.little_endian else '>'}{count}Q", raw.value[: 8 * count]))
