"""An instance of the archive opened for reading, whichever form it is kept in."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from leanpacs.archive.giveback.passing import is_as_demanded, passes
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import SeriesMember, packed_instance
from leanpacs.archive.giveback.shelf import KnownPack, Shelf
from leanpacs.archive.manifest import Form
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.instance import encoding_of, scan
from leanpacs.dicom.layout import Layout
from leanpacs.dicom.tree import Encoding
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.store import BlobStore
from leanpacs.transcode.content import open_content
from leanpacs.transcode.source import OpenFile, OpenInstance
from leanpacs.transcode.target import NATIVE_ENCODINGS

IN_MEMORY = 16 << 20


class SettledInstance:
    """An instance packed frame by frame.

    Parameters
    ----------
    packed : PackedInstance
        The pack; it has to stay open.
    known : KnownPack, optional
        What was found when it was opened before.
    """

    def __init__(self, packed: PackedInstance, known: KnownPack | None = None) -> None:
        self._packed = packed
        self.known = known or KnownPack(packed.contents)

    @property
    def layout(self) -> Layout:
        """See `OpenInstance`."""
        if self.known.layout is None:
            # A head alone looks as if its Pixel Data were cut off; what is damaged is packed whole.
            layout = scan(io.BytesIO(self.head()), transfer_syntax=self._packed.manifest.transfer_syntax)
            self.known.layout = replace(layout, problem=None)
        return self.known.layout

    @property
    def encoding(self) -> Encoding:
        """See `OpenInstance`."""
        uid = self._packed.manifest.transfer_syntax
        if self.known.layout is None and not syntax_of(uid).deflated:
            return Encoding(*encoding_of(self.head(), uid))
        return Encoding(self.layout.implicit_vr, self.layout.little_endian)

    @property
    def holds_streams(self) -> bool:
        """Whether Pixel Data came encapsulated."""
        return self._packed.manifest.form is not Form.FRAMES

    @property
    def is_native_in_little_endian(self) -> bool:
        """Whether frames came as they stand in Explicit VR Little Endian."""
        coding = self._packed.manifest.pixel
        return not self.holds_streams and coding is not None and not coding.big_endian

    @property
    def native_spec(self) -> FrameSpec | None:
        """See `OpenInstance`."""
        coding = self._packed.manifest.pixel
        is_plain = self.is_native_in_little_endian and self._packed.manifest.transfer_syntax in NATIVE_ENCODINGS
        return coding.spec if coding is not None and is_plain else None

    def preface(self) -> bytes:
        """See `OpenInstance`."""
        return self._start()[: self._packed.manifest.preface]

    def data_set(self) -> Iterator[bytes]:
        """See `OpenInstance`."""
        return self._packed.data_set(self.head())

    def received(self) -> tuple[bytes | memoryview, ...]:
        """Preamble, file meta and data set as received, in memory; the first piece ends with the head."""
        return self._packed.received(self._start())

    def head(self) -> bytes:
        """See `OpenInstance`."""
        return self._start()[self._packed.manifest.preface :]

    def _start(self) -> bytes:
        if self.known.start is None:
            self.known.start = self._packed.start()
        return self.known.start

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
        return bytes(self.frame_view(number))

    def frame_view(self, number: int) -> bytes | memoryview:
        """As :meth:`frame`, without a copy where that can be."""
        if self._packed.manifest.form is Form.FRAMES:
            return self._packed.native_frame(number)
        return self._packed.received_stream(number)

    def fragments(self) -> tuple[int, Iterator[bytes]]:
        """See `OpenInstance`."""
        if self.layout.pixel is None or not self.layout.pixel.encapsulated:
            raise UnsupportedTransferSyntax(self.layout.transfer_syntax, "its Pixel Data is not encapsulated")
        streams = [self.frame(number) for number in range(1, self.frame_count() + 1)]
        return sum(map(len, streams)), iter(streams)

    def passes(self, transfer_syntax: str) -> bool:
        """Whether frames may be held as code streams of this transfer syntax."""
        return passes(self._packed.manifest, transfer_syntax)

    def stream(self, number: int) -> bytes:
        """The code stream of frame ``number`` as it is held."""
        return self._packed.stream(number)

    def stream_lengths(self) -> list[int]:
        """Bytes of each code stream as it is held."""
        manifest, entries = self._packed.manifest, self._packed.entries
        return [entries[manifest.frame_name(number)].length for number in range(1, manifest.frames + 1)]

    def stream_as_demanded(self, number: int) -> bytes | None:
        """The code stream of frame ``number`` as it is held, if it is what a syntax that :meth:`passes` demands."""
        coding = self._packed.manifest.pixel
        stream = self._packed.stream(number)
        return stream if coding is not None and is_as_demanded(coding.codec, stream, coding.spec) else None


@contextmanager
def open_landed(store: BlobStore, landed: Digest, syntax_uid: str, *, limit_inflated_bytes: int) -> Iterator[OpenFile]:
    """Open a landed file."""
    with (
        store.open(landed) as file,
        open_content(file, syntax_uid, spool=store.spool_folder(), limit_bytes=limit_inflated_bytes) as content,
    ):
        yield OpenFile(content)


@contextmanager
def open_pack(
    store: BlobStore,
    pack: Digest,
    dictionaries: Sequence[Dictionary],
    sop_uid: str,
    *,
    limit_inflated_bytes: int,
    shelf: Shelf | None = None,
) -> Iterator[OpenInstance]:
    """Open a pack; a data set that is packed whole is unpacked into memory, or into the spool when it is large.

    What is on the shelf is not read again.
    """
    with ExitStack() as stack:
        file = stack.enter_context(store.open(pack))
        known = shelf.get(pack) if shelf is not None else None
        packed = packed_instance(file, dictionaries, sop_uid, known.contents if known else None)
        if packed.manifest.form is not Form.WHOLE:
            settled = SettledInstance(packed, known)
            if shelf is not None and known is None and not isinstance(packed, SeriesMember):
                shelf.put(pack, settled.known)
            yield settled
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
        yield OpenFile(stack.enter_context(content))


def _scratch(size_bytes: int, folder: Path) -> BinaryIO:
    if size_bytes <= IN_MEMORY:
        return io.BytesIO()
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
