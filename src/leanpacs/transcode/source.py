"""One instance opened for reading, wherever its bytes come from: what transcoding begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from leanpacs.dicom.encapsulation import Fragment, parse
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.tree import Encoding
from leanpacs.errors import FrameNotFound, UnsupportedTransferSyntax
from leanpacs.transcode.content import Content, Native, Streams, parts

COPY_BYTES = 1 << 20


class OpenInstance(Protocol):
    """What a file, and every form in which an archive keeps an instance, can give."""

    @property
    def layout(self) -> Layout:
        """Encoding, elements and kind of Pixel Data; its offsets are of no use to others."""
        ...

    @property
    def encoding(self) -> Encoding:
        """Of the data set: what `layout` says, perhaps known sooner."""
        ...

    @property
    def native_spec(self) -> FrameSpec | None:
        """What frames are, where they are native, in little endian order, and that is known without the data set."""
        ...

    def preface(self) -> bytes:
        """Preamble and file meta as received, or b''."""
        ...

    def data_set(self) -> Iterator[bytes]:
        """The data set as received."""
        ...

    def head(self) -> bytes:
        """The data set (inflated) before the value of Pixel Data; all of it when there is none."""
        ...

    def tail(self) -> bytes:
        """The data set (inflated) after the value of Pixel Data."""
        ...

    def native_length(self) -> int:
        """Bytes in the value of native Pixel Data."""
        ...

    def native_value(self) -> Iterator[bytes]:
        """The value of native Pixel Data as received, what follows the last frame included."""
        ...

    def frame_count(self) -> int:
        """Number of frames that can be told apart.

        Raises
        ------
        UnsupportedTransferSyntax
            If they cannot be; says why.
        """
        ...

    def frame(self, number: int) -> bytes:
        """Frame ``number`` (from 1) as received: its code stream, or its native bytes."""
        ...

    def fragments(self) -> tuple[int, Iterator[bytes]]:
        """All fragments of encapsulated Pixel Data, one after another, and how many bytes they are: a video.

        Raises
        ------
        UnsupportedTransferSyntax
            If there are none.
        """
        ...


class OpenFile:
    """A file, or a data set in memory."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._parts = parts(content)
        self.layout: Layout = content.layout
        self.encoding = Encoding(self.layout.implicit_vr, self.layout.little_endian)
        self.native_spec: FrameSpec | None = None

    def preface(self) -> bytes:
        """See `OpenInstance`."""
        return self._read(self._content.received, 0, self.layout.preface_length)

    def data_set(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        position = self.layout.preface_length
        while piece := self._read(self._content.received, position, position + COPY_BYTES):
            yield piece
            position += len(piece)

    def head(self) -> bytes:
        """See `OpenInstance`."""
        return self._read(self._content.reader, self.layout.preface_length, self.layout.head_end)

    def tail(self) -> bytes:
        """See `OpenInstance`."""
        return self._read(self._content.reader, self.layout.tail_start, self.layout.length)

    def native_length(self) -> int:
        """See `OpenInstance`."""
        return self.layout.tail_start - self.layout.head_end

    def native_value(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        position, end = self.layout.head_end, self.layout.tail_start
        while position < end and (piece := self._read(self._content.reader, position, min(end, position + COPY_BYTES))):
            yield piece
            position += len(piece)

    def frame_count(self) -> int:
        """See `OpenInstance`."""
        match self._parts:
            case Native():
                return self._parts.frames.count
            case Streams():
                return len(self._parts.frames)
        reason = self._parts.reason or "it has no Pixel Data"
        raise UnsupportedTransferSyntax(self.layout.transfer_syntax, f"no frames can be given: {reason}")

    def frame(self, number: int) -> bytes:
        """See `OpenInstance`."""
        if not 1 <= number <= self.frame_count():
            raise FrameNotFound(number, self.frame_count())
        match self._parts:
            case Native():
                return self._parts.frames.read(self._content.reader, number - 1)
            case Streams():
                fragments = [self._parts.encapsulation.fragments[i] for i in self._parts.frames[number - 1]]
                reader = self._content.reader
                return b"".join(self._read(reader, f.offset, f.offset + f.length) for f in fragments)
        raise FrameNotFound(number, 0)

    def fragments(self) -> tuple[int, Iterator[bytes]]:
        """See `OpenInstance`."""
        pixel = self.layout.pixel
        if pixel is None or not pixel.encapsulated:
            raise UnsupportedTransferSyntax(self.layout.transfer_syntax, "its Pixel Data is not encapsulated")
        found = parse(self._content.reader, pixel.value_offset, pixel.value_end).fragments
        return sum(fragment.length for fragment in found), self._pieces(found)

    def _pieces(self, found: Sequence[Fragment]) -> Iterator[bytes]:
        for fragment in found:
            for start in range(fragment.offset, fragment.offset + fragment.length, COPY_BYTES):
                end = min(start + COPY_BYTES, fragment.offset + fragment.length)
                yield self._read(self._content.reader, start, end)

    @staticmethod
    def _read(reader: BinaryIO, start: int, end: int) -> bytes:
        reader.seek(start)
        return reader.read(end - start)
