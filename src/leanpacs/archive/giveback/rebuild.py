"""A pack opened for reading: the received bytes, or single frames, rebuilt from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from leanpacs.archive.manifest import AS_RECEIVED, HEAD, MANIFEST, SKELETON, TAIL, Form, Manifest
from leanpacs.codecs import legacy, registry
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.dicom.encapsulation import weave
from leanpacs.errors import FrameNotFound, PackError, VerificationError
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Dictionary, decompress, decompress_chunks, dictionary_id
from leanpacs.storage.pack import Entry, PackReader

LARGEST_HEAD = 256 << 20
"""Heads and tails are held in memory; larger ones only occur in instances packed whole, which are streamed."""


@dataclass(frozen=True, slots=True)
class PackContents:
    """What a pack holds, and where. Packs never change: this is true for as long as there is one of this digest."""

    entries: Mapping[str, Entry]
    manifest: Manifest


class PackedInstance:
    """One instance in its packed form.

    Parameters
    ----------
    file : BinaryIO
        The pack, seekable.
    dictionaries : sequence of Dictionary
        Every dictionary that the head may have been compressed with.
    contents : PackContents, optional
        What is known of the same pack already.

    Raises
    ------
    PackError
        If it is not a pack of a format that this release reads.
    """

    def __init__(
        self, file: BinaryIO, dictionaries: Sequence[Dictionary], contents: PackContents | None = None
    ) -> None:
        self._pack = PackReader(file, contents.entries if contents else None)
        self._dictionaries = dictionaries
        self.manifest = contents.manifest if contents else Manifest.from_json(self._pack.read(MANIFEST))

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Where the entries are in the pack."""
        return self._pack.entries

    @property
    def contents(self) -> PackContents:
        """For another one of the same pack."""
        return PackContents(self._pack.entries, self.manifest)

    def dictionary_id(self) -> int:
        """The dictionary that the head was compressed with, 0 for none."""
        return dictionary_id(next(self._pack.chunks(HEAD, size=64)))

    def pixel_bytes(self) -> int:
        """Bytes of the value of Pixel Data, as far as it is held apart (0 when packed whole)."""
        if self.manifest.form is Form.RECODED:
            return self.manifest.length - len(self.head()) - len(self.tail())
        if self.manifest.pixel is not None:
            frame_bytes = self.manifest.pixel.spec.frame_bytes or 0
            return frame_bytes * self.manifest.frames + self._trailing_bytes
        if self.manifest.form is Form.WHOLE:
            return 0
        streams = (self.entries[self.manifest.frame_name(n)] for n in range(1, self.manifest.frames + 1))
        return len(self.unpacked(SKELETON)) + sum(entry.length for entry in streams)

    def preface(self) -> bytes:
        """Preamble and file meta as received; empty when there were none."""
        wanted = self.manifest.preface
        taken = bytearray()
        chunks = self._head_chunks()
        while len(taken) < wanted and (chunk := next(chunks, b"")):
            taken += chunk
        return bytes(taken[:wanted])

    def head(self) -> bytes:
        """Bytes of the data set before the value of Pixel Data (all forms but ``whole``)."""
        return self.unpacked(HEAD)[self.manifest.preface :]

    def start(self) -> bytes:
        """Preamble and file meta as received, and :meth:`head` (all forms but ``whole``)."""
        return self.unpacked(HEAD)

    def trailing(self) -> bytes:
        """Bytes of the value of Pixel Data after the last frame."""
        return self.unpacked(TAIL)[: self._trailing_bytes]

    def tail(self) -> bytes:
        """Bytes of the data set after the value of Pixel Data."""
        return self.unpacked(TAIL)[self._trailing_bytes :]

    @property
    def _trailing_bytes(self) -> int:
        return self.manifest.pixel.trailing if self.manifest.pixel else 0

    def data_set(self, head: bytes | None = None) -> Iterator[bytes]:
        """The data set as received, in chunks; ``head`` is :meth:`head` where the caller has it."""
        return map(bytes, self._decoded(head))

    def write_to(self, file: BinaryIO) -> None:
        """Write what was received, preamble and file meta included."""
        is_whole = self.manifest.form is Form.WHOLE
        file.write(self.preface() if is_whole else self.start())
        for piece in self._decoded(None if is_whole else b""):
            file.write(piece)

    def received(self, start: bytes) -> tuple[bytes | memoryview, ...]:
        """Preamble, file meta and data set as received, in pieces; ``start``, which is :meth:`start`, is the first."""
        return (start, *islice(self._decoded(b""), 1, None))

    def _decoded(self, head: bytes | None = None) -> Iterator[bytes | memoryview]:
        match self.manifest.form:
            case Form.WHOLE:
                yield from self._after_preface()
            case Form.FRAMES:
                yield self.head() if head is None else head
                for number in range(1, self.manifest.frames + 1):
                    yield view_native(self.manifest, self.stream(number))
                yield self.unpacked(TAIL)
            case Form.STREAMS | Form.RECODED:
                yield self.head() if head is None else head
                yield from weave(self.unpacked(SKELETON), self._received_streams())
                yield self.unpacked(TAIL)

    def native_frame(self, number: int) -> bytes | memoryview:
        """Bytes of frame ``number`` (from 1) as they were laid out and ordered when received (form ``frames``)."""
        return view_native(self.manifest, self.stream(number))

    def stream(self, number: int) -> bytes:
        """The code stream of frame ``number`` (from 1) as it is in the pack."""
        if not 1 <= number <= self.manifest.frames:
            raise FrameNotFound(number, self.manifest.frames)
        return self._pack.read(self._entry_name(number))

    def _entry_name(self, number: int) -> str:
        return self.manifest.frame_name(number)

    def received_stream(self, number: int) -> bytes:
        """The code stream of frame ``number`` (from 1) as it was received (forms ``streams`` and ``recoded``).

        Raises
        ------
        DecodeError, UnsupportedFrame
            If it cannot be made again: the pack is damaged.
        """
        stream, manifest = self.stream(number), self.manifest
        if manifest.form is not Form.RECODED:
            return stream
        recipe = manifest.recipes[number]
        if manifest.pixel is None or recipe["kind"] == AS_RECEIVED:
            return stream
        return legacy.rebuild(stream, recipe, manifest.pixel.codec, manifest.pixel.spec)

    def digest(self) -> Digest:
        """SHA-256 of the rebuilt data set, decoding everything.

        Raises
        ------
        VerificationError
            It is the one that the pack names, and preamble and file meta before it are not those that were received.
        """
        data_set, received = hashlib.sha256(), self.manifest.file_digest
        file = hashlib.sha256(self.preface()) if received is not None else None
        for chunk in self._decoded():
            data_set.update(chunk)
            if file is not None:
                file.update(chunk)
        digest = Digest(data_set.digest())
        if file is not None and received is not None and digest == self.manifest.digest:
            rebuilt = Digest(file.digest())
            if rebuilt != received:
                raise VerificationError("the rebuilt file differs from what was received", received.hex, rebuilt.hex)
        return digest

    def _received_streams(self) -> Iterator[bytes]:
        return (self.received_stream(number) for number in range(1, self.manifest.frames + 1))

    def _after_preface(self) -> Iterator[bytes]:
        skip = self.manifest.preface
        for chunk in self._head_chunks():
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            yield chunk[skip:] if skip else chunk
            skip = 0

    def _head_chunks(self) -> Iterator[bytes]:
        return decompress_chunks(self._pack.chunks(HEAD), self._dictionaries)

    def unpacked(self, name: str) -> bytes:
        """Content of the head, the layout or the tail as it was before it was compressed; b'' when there is none."""
        if name not in self._pack.entries:
            return b""
        return decompress(self._pack.read(name), self._dictionaries, LARGEST_HEAD)


def view_native(manifest: Manifest, stream: bytes) -> bytes | memoryview:
    """Turn one code stream of a pack back into the frame's bytes as received, without a copy where that can be.

    Raises
    ------
    DecodeError
        If the stream does not decode to a frame of the manifest's shape.
    """
    coding = manifest.pixel
    if coding is None or manifest.form is not Form.FRAMES:
        raise PackError("the pack holds no native frames")
    codec = registry.by_name(coding.codec)
    options = EncodeOptions(coding.effort, coding.precision, coding.levels)
    return registry.view_frame(codec, stream, coding.spec, options, big_endian=coding.big_endian)
