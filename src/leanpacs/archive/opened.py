"""One instance opened for reading, whichever form it is kept in."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from leanpacs.archive.content import Content, Native, Streams, open_content, parts
from leanpacs.archive.manifest import Form
from leanpacs.archive.rebuild import PackedInstance
from leanpacs.dicom.instance import Layout, scan
from leanpacs.errors import FrameNotFound, UnsupportedTransferSyntax
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.local import LocalStore

COPY_BYTES = 1 << 20
IN_MEMORY = 16 << 20


class OpenInstance(Protocol):
    """What every kept form of an instance can give."""

    layout: Layout
    """Encoding, elements and kind of Pixel Data; its offsets are of no use to others."""

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


class LandedInstance:
    """A file as received, or a data set that is packed whole, unpacked."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._parts = parts(content)
        self.layout = content.layout

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

    @staticmethod
    def _read(reader: BinaryIO, start: int, end: int) -> bytes:
        reader.seek(start)
        return reader.read(end - start)


class SettledInstance:
    """An instance packed frame by frame."""

    def __init__(self, packed: PackedInstance) -> None:
        self._packed = packed
        self._head = packed.head()
        self.layout = scan(io.BytesIO(self._head), transfer_syntax=packed.manifest.transfer_syntax)

    def preface(self) -> bytes:
        """See `OpenInstance`."""
        return self._packed.preface()

    def data_set(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        return self._packed.data_set()

    def head(self) -> bytes:
        """See `OpenInstance`."""
        return self._head

    def tail(self) -> bytes:
        """See `OpenInstance`."""
        return self._packed.tail()

    def native_length(self) -> int:
        """See `OpenInstance`."""
        return self._packed.pixel_bytes()

    def native_value(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        yield from (self.frame(number) for number in range(1, self.frame_count() + 1))
        yield self._packed.trailing()

    def frame_count(self) -> int:
        """See `OpenInstance`."""
        return self._packed.manifest.frames

    def frame(self, number: int) -> bytes:
        """See `OpenInstance`."""
        if self._packed.manifest.form is Form.FRAMES:
            return self._packed.native_frame(number)
        return self._packed.received_stream(number)


@contextmanager
def open_landed(
    store: LocalStore, landed: Digest, syntax_uid: str, *, limit_inflated_bytes: int
) -> Iterator[LandedInstance]:
    """Open a landed file."""
    with (
        store.open(landed) as file,
        open_content(file, syntax_uid, spool=store.spool_folder(), limit_bytes=limit_inflated_bytes) as content,
    ):
        yield LandedInstance(content)


@contextmanager
def open_pack(
    store: LocalStore, pack: Digest, dictionaries: Sequence[Dictionary], *, limit_inflated_bytes: int
) -> Iterator[OpenInstance]:
    """Open a pack; a data set that is packed whole is unpacked into memory, or into the spool when it is large."""
    with ExitStack() as stack:
        file = stack.enter_context(store.open(pack))
        packed = PackedInstance(file, dictionaries)
        if packed.manifest.form is not Form.WHOLE:
            yield SettledInstance(packed)
            return
        size = packed.manifest.preface + packed.manifest.length
        unpacked = stack.enter_context(_scratch(size, store.spool_folder()))
        unpacked.write(packed.preface())
        for piece in packed.data_set():
            unpacked.write(piece)
        unpacked.seek(0)
        content = open_content(
            unpacked,
            packed.manifest.transfer_syntax,
            spool=store.spool_folder(),
            limit_bytes=limit_inflated_bytes,
        )
        yield LandedInstance(stack.enter_context(content))


def _scratch(size_bytes: int, folder: Path) -> BinaryIO:
    if size_bytes <= IN_MEMORY:
        return io.BytesIO()
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
