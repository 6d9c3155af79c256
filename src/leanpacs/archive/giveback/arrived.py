"""An instance that has just arrived, opened for reading as it was received."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from leanpacs.archive.recent import Recent, RecentFile
from leanpacs.catalog import InstanceRow
from leanpacs.dicom.frames import FrameSpec, frame_spec
from leanpacs.dicom.instance import encoding_of, scan
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.tree import Encoding
from leanpacs.errors import FrameNotFound
from leanpacs.transcode.content import open_content
from leanpacs.transcode.source import OpenFile
from leanpacs.transcode.target import NATIVE_ENCODINGS

_PIECE_BYTES: Final = 1 << 20


class ArrivedInstance:
    """What was received, in memory. It is read through only where what is wanted cannot be had otherwise.

    Parameters
    ----------
    file : RecentFile
        It has to stay open.
    instance : InstanceRow
        What the catalog says of it.
    read_through : callable
        Opens it as a file.
    """

    def __init__(self, file: RecentFile, instance: InstanceRow, read_through: Callable[[], OpenFile]) -> None:
        self._file = file
        self._preface_length = file.length - instance.data_set_length
        self._transfer_syntax = instance.transfer_syntax
        self._read_through = read_through

    @cached_property
    def _whole(self) -> OpenFile:
        return self._read_through()

    @property
    def layout(self) -> Layout:
        """See `OpenInstance`."""
        return self._whole.layout

    @property
    def encoding(self) -> Encoding:
        """See `OpenInstance`."""
        if self.is_native_in_little_endian:
            return Encoding(*encoding_of(self.head(), self._transfer_syntax))
        return self._whole.encoding

    @cached_property
    def native_spec(self) -> FrameSpec | None:
        """See `OpenInstance`; the data set before Pixel Data tells."""
        if not self.is_native_in_little_endian or self._transfer_syntax not in NATIVE_ENCODINGS:
            return None
        layout = scan(io.BytesIO(self.head()), transfer_syntax=self._transfer_syntax)
        return None if layout.pixel is None else frame_spec(layout.elements, layout.pixel)

    @property
    def is_native_in_little_endian(self) -> bool:
        """Whether frames are known to stand as they do in Explicit VR Little Endian."""
        return self._file.native.count > 0

    def preface(self) -> bytes:
        """See `OpenInstance`."""
        return self._file.read(0, self._preface_length)

    def data_set(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        for start in range(self._preface_length, self._file.length, _PIECE_BYTES):
            yield self._file.read(start, min(start + _PIECE_BYTES, self._file.length))

    def head(self) -> bytes:
        """See `OpenInstance`."""
        if self.is_native_in_little_endian:
            return self._file.read(self._preface_length, self._file.native.offset)
        return self._whole.head()

    def tail(self) -> bytes:
        """See `OpenInstance`."""
        return self._whole.tail()

    def native_length(self) -> int:
        """See `OpenInstance`."""
        return self._whole.native_length()

    def native_value(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        return self._whole.native_value()

    def frame_count(self) -> int:
        """See `OpenInstance`."""
        return self._file.native.count or self._whole.frame_count()

    def frame(self, number: int) -> bytes:
        """See `OpenInstance`."""
        if not self.is_native_in_little_endian:
            return self._whole.frame(number)
        if not 1 <= number <= self.frame_count():
            raise FrameNotFound(number, self.frame_count())
        return self._file.frame(number)

    def fragments(self) -> tuple[int, Iterator[bytes]]:
        """See `OpenInstance`."""
        return self._whole.fragments()


@contextmanager
def open_arrived(
    recent: Recent, instance: InstanceRow, *, spool: Path, limit_inflated_bytes: int
) -> Iterator[ArrivedInstance | None]:
    """Open an instance that has just arrived; None when it is not in memory."""
    with recent.opened(instance.data_set_digest) as file, ExitStack() as stack:
        if file is None:
            yield None
            return

        def read_through() -> OpenFile:
            received = io.BytesIO(file.read())
            content = open_content(received, instance.transfer_syntax, spool=spool, limit_bytes=limit_inflated_bytes)
            return OpenFile(stack.enter_context(content))

        yield ArrivedInstance(file, instance, read_through)
