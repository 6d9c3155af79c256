"""The frames of a source, as tasks to convert them; native values in little endian order."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace

from leanpacs.codecs.native import little_endian
from leanpacs.codecs.samples import decoded_spec
from leanpacs.codecs.writing import write_refusal
from leanpacs.dicom.frames import FrameSpec, frame_spec, native_frames, word_size
from leanpacs.dicom.layout import PixelSpan
from leanpacs.dicom.uids import JPEG_XL_RECOMPRESSION
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.transcode.frames import FrameTask
from leanpacs.transcode.recompression import is_rewrapped
from leanpacs.transcode.source import OpenInstance
from leanpacs.transcode.target import Target


class FramePixels:
    """Native frames in little endian order, of which nothing else is needed.

    Parameters
    ----------
    source : OpenInstance
        It has to stay open.
    spec : FrameSpec
        See :attr:`OpenInstance.native_spec`.
    """

    def __init__(self, source: OpenInstance, spec: FrameSpec) -> None:
        self._source = source
        self.spec = spec

    def task(self, number: int, target: Target) -> FrameTask:
        """What is to be done with frame ``number`` (from 1)."""
        wanted = None if target.is_native else target.transfer_syntax
        frame = self._source.frame(number)
        return FrameTask(number, frame, None, self.spec, wanted, target.options, target.verify)


class SourcePixels:
    """The Pixel Data of a source.

    Parameters
    ----------
    source : OpenInstance
        It has to stay open.
    wanted : str
        UID of the transfer syntax that errors tell of.

    Raises
    ------
    UnsupportedTransferSyntax
        If there is no Pixel Data.
    DicomError
        If its attributes describe no image.
    """

    def __init__(self, source: OpenInstance, wanted: str) -> None:
        if source.layout.pixel is None:
            raise UnsupportedTransferSyntax(wanted, "the instance has no Pixel Data")
        self._source = source
        self.transfer_syntax = source.layout.transfer_syntax
        self.span: PixelSpan = source.layout.pixel
        self.spec: FrameSpec = frame_spec(source.layout.elements, self.span)
        self._word_bytes = 1 if source.layout.little_endian else word_size(self.span.vr, self.spec)

    @property
    def count(self) -> int:
        """Number of frames; see :meth:`OpenInstance.frame_count`."""
        return self._source.frame_count()

    def task(self, number: int, target: Target) -> FrameTask:
        """What is to be done with frame ``number`` (from 1)."""
        syntax = self.transfer_syntax if self.span.encapsulated else None
        wanted = None if target.is_native else target.transfer_syntax
        return FrameTask(number, self._frame(number), syntax, self.spec, wanted, target.options, target.verify)

    def tasks(self, target: Target) -> Iterator[FrameTask]:
        """All frames in order, read as they are taken."""
        return (self.task(number, target) for number in range(1, self.count + 1))

    def little_endian_value(self) -> Iterator[bytes]:
        """The native value, what follows the last frame included, in pieces."""
        return swapped(self._source.native_value(), self._word_bytes)

    def _frame(self, number: int) -> bytes:
        frame = self._source.frame(number)
        if self.span.encapsulated or self._word_bytes == 1:
            return frame
        if self.spec.frame_bits % (8 * self._word_bytes) == 0:
            return little_endian(frame, self._word_bytes)
        # Big endian words that are no samples may begin in one frame and end in the next (PS3.5 7.3).
        value = b"".join(self.little_endian_value())
        frames = native_frames(replace(self.span, value_offset=0, value_end=len(value)), self.spec)
        return frames.read(io.BytesIO(value), number - 1)


def require_writable(pixels: SourcePixels, target: Target) -> None:
    """Refuse, before any work, what an encapsulated target cannot hold exactly (or not as lossy as asked for).

    Raises
    ------
    UnsupportedTransferSyntax
        With the reason.
    """
    if not (pixels.span.encapsulated and is_rewrapped(pixels.transfer_syntax, target.transfer_syntax)):
        require_frames_writable(pixels.spec, target)


def require_frames_writable(spec: FrameSpec, target: Target) -> None:
    """As :func:`require_writable`, for frames that have to be encoded anew."""
    wanted = target.transfer_syntax
    reason: str | None
    if wanted == JPEG_XL_RECOMPRESSION:
        reason = "it holds nothing but JPEG code streams (Baseline, Extended)"
    elif spec.kind == "float":
        reason = "floating point Pixel Data is never encapsulated"
    else:
        reason = write_refusal(decoded_spec(spec), wanted, target.options)
    if reason is not None:
        raise UnsupportedTransferSyntax(wanted, reason)


def swapped(pieces: Iterable[bytes], word_bytes: int) -> Iterator[bytes]:
    """Reverse the bytes of every word, also of those that begin in one piece and end in the next."""
    if word_bytes == 1:
        yield from pieces
        return
    kept = b""
    for piece in pieces:
        kept += piece
        whole = len(kept) - len(kept) % word_bytes
        yield little_endian(kept[:whole], word_bytes)
        kept = kept[whole:]
    yield kept
