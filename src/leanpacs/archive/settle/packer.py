"""Put the parts of one data set into a pack, in a form that the caller has decided on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from time import perf_counter
from typing import Any, BinaryIO

from leanpacs import __version__
from leanpacs.archive.manifest import (
    AS_RECEIVED,
    HEAD,
    MANIFEST,
    SKELETON,
    TAIL,
    Form,
    Made,
    Manifest,
    PixelCoding,
    Recipes,
    frame_name,
)
from leanpacs.codecs.bytewise import Zstd
from leanpacs.codecs.codec import Codec, EncodeOptions
from leanpacs.codecs.legacy import Recoded, recode
from leanpacs.codecs.native import little_endian
from leanpacs.codecs.registry import by_name, encode_frame
from leanpacs.dicom.encapsulation import skeleton
from leanpacs.dicom.frames import FrameSpec, frame_spec
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.errors import CodecError, UnsupportedFrame
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import LONGEST_FRAME_HEADER, Compressor, dictionary_id
from leanpacs.storage.pack import Entry, PackWriter
from leanpacs.transcode.content import LARGEST_FRAME, Content, Native, Streams

IN_MEMORY = 8 << 20
"""Heads up to this many bytes are compressed in one piece, with a dictionary; larger ones are streamed."""

COPY_BYTES = 1 << 20

TRIALS = 4
"""When none of so many first frames can be recoded, the others are not tried."""

LEAST_SAVED = 512
"""Bytes that recoding must save: less is lost on the manifest."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What is in a finished pack: the manifest, where its entries are, and what each part takes.

    ``raw_head_bytes`` counts everything outside the value of Pixel Data, file meta included, ``pixel_bytes`` that
    value; both as they are in ``content``.
    """

    manifest: Manifest
    entries: Mapping[str, Entry]
    size_bytes: int
    raw_head_bytes: int
    pixel_bytes: int
    dictionary_id: int


class Packer:
    """Writes packs of one data set into one file; each call starts the file anew.

    Parameters
    ----------
    content : Content
        The data set.
    facts : Manifest
        Keys, digests and origin; form and coding are filled in for each pack.
    file : BinaryIO
        Seekable and writable.
    compressor : Compressor
        For head, tail and everything that is no frame.
    scopes : tuple of str
        Whose dictionaries fit, best first.
    preset : str
        What codecs are chosen by, for the record.
    """

    def __init__(
        self,
        content: Content,
        facts: Manifest,
        file: BinaryIO,
        compressor: Compressor,
        scopes: tuple[str, ...],
        preset: str = "",
    ) -> None:
        self._content = content
        self._facts = facts
        self._file = file
        self._compressor = compressor
        self._scopes = scopes
        self._preset = preset
        self._began = perf_counter()
        self._dictionary_id = 0

    def whole(self, reason: str) -> Packed:
        """Hold the data set whole, under Zstandard."""
        pack = self._fresh()
        self._add_head(pack, self._all())
        return self._finish(pack, replace(self._facts, form=Form.WHOLE, reason=reason, made=self._made()))

    def whole_size(self) -> int:
        """Bytes of the data set whole under Zstandard, without a container."""
        compressed = self._all()
        return len(compressed) if isinstance(compressed, bytes) else sum(map(len, compressed))

    def frames(
        self,
        form: Native,
        codec: Codec,
        options: EncodeOptions,
        made: Callable[[int], bytes | None] | None = None,
    ) -> Packed:
        """Hold head, one code stream for each native frame, and tail.

        ``made`` gives code streams that this codec has made of these frames before, by their number from 1; None for
        frames that are still to be encoded.

        Raises
        ------
        CodecError
            If the codec cannot hold a frame exactly; the file is to be written anew.
        """
        layout, reader = self._content.layout, self._content.reader
        pixel = layout.pixel
        assert pixel is not None
        pack = self._fresh()
        self._add_head(pack, self._head())
        samples = hashlib.sha256()
        word = form.word_bytes if form.big_endian else 1
        for index in range(form.frames.count):
            frame = form.frames.read(reader, index)
            samples.update(little_endian(frame, word))
            stream = made(index + 1) if made else None
            if stream is None:
                stream = encode_frame(codec, frame, form.spec, options, big_endian=form.big_endian)
            pack.add(frame_name(index + 1, codec.extension), stream)
        self._add(pack, TAIL, pixel.value_end - form.frames.trailing, layout.length)
        coding = PixelCoding(
            codec.name,
            options.effort,
            options.precision,
            codec.library(),
            form.spec,
            form.big_endian,
            form.frames.trailing,
            options.levels,
        )
        manifest = replace(
            self._facts,
            form=Form.FRAMES,
            extension=codec.extension,
            pixel=coding,
            samples_digest=Digest(samples.digest()),
            made=self._made(coding),
        )
        return self._finish(pack, manifest)

    def streams(self, form: Streams, reason: str = "") -> Packed:
        """Hold head, the received code streams by frame, the skeleton of their encapsulation, and tail.

        ``reason`` says why they are not recoded.
        """
        pack = self._fresh()
        self._add_head(pack, self._head())
        manifest = replace(
            self._facts,
            form=Form.STREAMS,
            reason=reason,
            extension=self._received_extension,
            stream_frames=len(form.frames),
            fragments=form.fragment_counts,
            made=self._made(),
        )
        for number, indexes in enumerate(form.frames, 1):
            pack.add(manifest.frame_name(number), self._fragments(form, indexes))
        self._add_layout_and_tail(pack, form)
        return self._finish(pack, manifest)

    def recoded(self, form: Streams, effort: int) -> Packed:
        """Hold code streams from which the received ones can be made again; a frame that has none stays as it is.

        Raises
        ------
        UnsupportedFrame
            If that saves nothing; says why. The file is to be written anew.
        """
        assert self._content.layout.pixel is not None
        spec = frame_spec(self._content.layout.elements, self._content.layout.pixel)
        pack = self._fresh()
        self._add_head(pack, self._head())
        recipes: list[Mapping[str, Any]] = []
        first, reason, saved = None, "", 0
        for number, indexes in enumerate(form.frames, 1):
            pieces = self._fragments(form, indexes)
            received = pieces if isinstance(pieces, bytes) else b"".join(pieces)
            made = self._recoded_frame(received, spec, effort)
            if isinstance(made, Recoded):
                first, saved = first or made, saved + len(received) - len(made.stream)
                recipes.append(made.recipe)
                pack.add(frame_name(number, made.extension), made.stream)
            else:
                reason = reason or made
                recipes.append({"kind": AS_RECEIVED, "ext": self._received_extension})
                pack.add(frame_name(number, self._received_extension), received)
            if number == TRIALS and first is None:
                break
        if first is None:
            raise UnsupportedFrame(reason)
        library = by_name(first.codec).library()
        coding = PixelCoding(first.codec, first.effort, first.precision, library, spec, False, 0)
        manifest = replace(
            self._facts,
            form=Form.RECODED,
            reason=reason,
            extension=first.extension,
            fragments=form.fragment_counts,
            recipes=Recipes.of(recipes),
            pixel=coding,
            made=self._made(coding),
        )
        saved -= manifest.recipes.size_bytes
        if saved < LEAST_SAVED:
            raise UnsupportedFrame(f"recoding would save no more than {max(saved, 0)} bytes")
        self._add_layout_and_tail(pack, form)
        return self._finish(pack, manifest)

    def _recoded_frame(self, received: bytes, spec: FrameSpec, effort: int) -> Recoded | str:
        """The frame recoded, or why it is not."""
        if spec.frame_bits > 8 * LARGEST_FRAME:
            return f"a frame of {spec.frame_bits // 8} bytes is too large for the image codecs"
        try:
            return recode(received, self._content.layout.transfer_syntax, spec, effort)
        except CodecError as error:
            return str(error)

    @property
    def _received_extension(self) -> str:
        return transfer_syntax(self._content.layout.transfer_syntax).extension

    def _head(self) -> bytes | Iterator[bytes]:
        assert self._content.layout.pixel is not None
        return self._compressed(self._content.reader, 0, self._content.layout.pixel.value_offset)

    def _add_head(self, pack: PackWriter, head: bytes | Iterator[bytes]) -> None:
        pack.add(HEAD, head)
        # What is streamed uses none.
        self._dictionary_id = dictionary_id(head[:LONGEST_FRAME_HEADER]) if isinstance(head, bytes) else 0

    def _add_layout_and_tail(self, pack: PackWriter, form: Streams) -> None:
        layout, pixel = self._content.layout, self._content.layout.pixel
        assert pixel is not None
        bones = skeleton(self._content.reader, form.encapsulation, pixel.value_offset, pixel.value_end)
        pack.add(SKELETON, self._compressor.compress(bones))
        self._add(pack, TAIL, pixel.value_end, layout.length)

    def _fresh(self) -> PackWriter:
        if self._file.tell():
            self._file.seek(0)
            self._file.truncate()
        return PackWriter(self._file)

    def _finish(self, pack: PackWriter, manifest: Manifest) -> Packed:
        pack.add(MANIFEST, manifest.to_json())
        size = pack.close()
        pixel = self._content.layout.pixel
        pixel_bytes = pixel.length if pixel else 0
        return Packed(
            manifest=manifest,
            entries=dict(pack.entries),
            size_bytes=size,
            raw_head_bytes=self._content.layout.length - pixel_bytes,
            pixel_bytes=pixel_bytes,
            dictionary_id=self._dictionary_id,
        )

    def _made(self, coding: PixelCoding | None = None) -> Made:
        return Made(
            at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            by=f"leanpacs {__version__}",
            seconds=round(perf_counter() - self._began, 4),
            preset=self._preset if coding else "",
            decoder=coding.library if coding else Zstd().library(),
        )

    def _all(self) -> bytes | Iterator[bytes]:
        received = self._content.received
        return self._compressed(received, 0, received.seek(0, 2))

    def _add(self, pack: PackWriter, name: str, start: int, end: int) -> None:
        if end > start:
            pack.add(name, self._compressed(self._content.reader, start, end))

    def _compressed(self, reader: BinaryIO, start: int, end: int) -> bytes | Iterator[bytes]:
        if end - start <= IN_MEMORY:
            return self._compressor.compress(_read(reader, start, end), self._scopes)
        return self._compressor.stream(_pieces(reader, start, end), size=end - start)

    def _fragments(self, form: Streams, indexes: tuple[int, ...]) -> bytes | Iterator[bytes]:
        spans = [form.encapsulation.fragments[index] for index in indexes]
        reader = self._content.reader
        if len(spans) == 1 and spans[0].length <= IN_MEMORY:
            return _read(reader, spans[0].offset, spans[0].offset + spans[0].length)
        return chain.from_iterable(_pieces(reader, span.offset, span.offset + span.length) for span in spans)


def _read(reader: BinaryIO, start: int, end: int) -> bytes:
    reader.seek(start)
    return reader.read(end - start)


def _pieces(reader: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end``; the reader may be moved by others between two pieces."""
    while start < end:
        piece = _read(reader, start, min(end, start + COPY_BYTES))
        if not piece:
            return
        yield piece
        start += len(piece)
