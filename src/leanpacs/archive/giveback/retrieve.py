"""Give instances back: as received, or in any transfer syntax that is written here; whole, or frame by frame."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from leanpacs import __version__
from leanpacs.archive.giveback.cache import DiskCache
from leanpacs.archive.giveback.holding import Holdings
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.catalog import Catalog, InstanceRow
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import (
    CodecError,
    DecodeError,
    DicomError,
    FrameNotFound,
    UnsupportedTransferSyntax,
)
from leanpacs.storage.stores import Stores
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from leanpacs.transcode.engine import Transcoder
    from leanpacs.transcode.envelope import Envelope
    from leanpacs.transcode.rendering import View
    from leanpacs.transcode.target import Target

AT_ONCE_BYTES: Final = 4 << 20
"""What is no longer is read at once, so that nothing stays open while it is sent."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A file, or a data set: its transfer syntax UID, its length if known, and its bytes, made as they are taken."""

    transfer_syntax: str
    length: int | None
    chunks: Iterator[bytes]
    is_costly: bool = False
    """Whether taking the chunks decodes or encodes, so that it is best done before they are needed."""


@dataclass(frozen=True, slots=True)
class FrameBytes:
    """One frame: the transfer syntax UID that its bytes are in, and the bytes."""

    transfer_syntax: str
    data: bytes


class Retriever:
    """Gives back what is held. Thread-safe.

    Parameters
    ----------
    stores : Stores
        Where blobs are.
    catalog : Catalog
        Which blobs hold an instance.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are only given as received.
    workers : Executor, optional
        Where frames are decoded; in this process by default.
    cache : DiskCache, optional
        Where frames that were costly to make are kept.
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        *,
        limit_inflated_bytes: int,
        workers: Executor | None = None,
        cache: DiskCache | None = None,
    ) -> None:
        self._spool = stores.hot.spool_folder()
        self._holdings = Holdings(stores, catalog, limit_inflated_bytes=limit_inflated_bytes)
        self._workers = workers
        self._cache = cache

    def expect(self, instances: Sequence[InstanceRow]) -> None:
        """Prepare for giving all of these, one after the other."""
        self._holdings.expect(instances)

    def as_received(self, instance: InstanceRow) -> Part10:
        """The exact bytes that were received, preamble and file meta included if there were any."""
        return self._file(instance, lambda opened: opened.preface())

    def part10(self, instance: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        """A PS3.10 file of the instance.

        Parameters
        ----------
        instance : InstanceRow
            Which one.
        transfer_syntax : str, optional
            UID wanted: that of the instance as received (the default), or any of :func:`leanpacs.transcode.targets`.
            Nothing is lost on the way; what has no Pixel Data comes in Explicit VR Little Endian when the syntax
            wanted is an encapsulated one.

        Raises
        ------
        UnsupportedTransferSyntax
            If it cannot be given in this syntax; says why.
        """
        if transfer_syntax in (None, instance.transfer_syntax):
            return self._file(instance, lambda opened: _file_meta_of(opened, instance))
        return self._converted(instance, transfer_syntax or "", with_meta=True)

    def data_set(self, instance: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        """Give the same as `part10` without preamble and file meta."""
        if transfer_syntax in (None, instance.transfer_syntax):
            return self._file(instance, lambda _: b"")
        return self._converted(instance, transfer_syntax or "", with_meta=False)

    def frame(self, instance: InstanceRow, number: int, transfer_syntax: str | None = None) -> FrameBytes:
        """One frame, ``number`` counting from 1; see :meth:`frames`."""
        frames = self.frames(instance, [number], transfer_syntax)
        try:
            return next(frames)
        finally:
            frames.close()

    def frames(
        self, instance: InstanceRow, numbers: Sequence[int], transfer_syntax: str | None = None
    ) -> Generator[FrameBytes]:
        """Frames in the order of ``numbers``, each made when it is taken; the instance is opened once.

        Parameters
        ----------
        instance : InstanceRow
            Which one.
        numbers : sequence of int
            Counting from 1.
        transfer_syntax : str, optional
            UID wanted: that of the instance as received gives an encapsulated frame's code stream; a native one native
            bytes in little endian order, under Explicit VR Little Endian; any other one a code stream of it. By
            default, the code stream as received if there is one, else native bytes.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax
            If frames cannot be told apart, or not be given in this syntax; says why.
        """
        wanted = transfer_syntax or instance.transfer_syntax
        is_code_stream = syntax_of(wanted).encapsulated or not syntax_of(wanted).known
        wanted = wanted if is_code_stream else EXPLICIT_LE
        if self._cache is None or (is_code_stream and self._is_held(instance, wanted)):
            yield from self._made(instance, numbers, wanted)
        elif len(numbers) == 1:
            key = _cache_key(instance, numbers[0], wanted)
            yield FrameBytes(wanted, self._cache.fetch(key, lambda: self._one(instance, numbers[0], wanted)))
        else:
            yield from self._kept_or_made(self._cache, instance, numbers, wanted)

    def _kept_or_made(
        self, cache: DiskCache, instance: InstanceRow, numbers: Sequence[int], wanted: str
    ) -> Iterator[FrameBytes]:
        """Frames of which some are in the cache; the others are made together, several at a time."""
        keys = {number: _cache_key(instance, number, wanted) for number in numbers}
        missing = [number for number in numbers if cache.get(keys[number]) is None]
        made = self._made(instance, missing, wanted)
        try:
            left, count, started = set(missing), 0, time.perf_counter()
            for number in numbers:
                kept = None if number in left else cache.get(keys[number])
                if number in left:
                    frame = next(made)
                    count += 1  # several are made at a time: the mean says what one took
                    cache.put(keys[number], frame.data, (time.perf_counter() - started) / count)
                    yield frame
                else:
                    yield FrameBytes(wanted, self._one(instance, number, wanted) if kept is None else kept)
        finally:
            made.close()

    def _one(self, instance: InstanceRow, number: int, wanted: str) -> bytes:
        made = self._made(instance, [number], wanted)
        try:
            return next(made).data
        finally:
            made.close()

    def _made(self, instance: InstanceRow, numbers: Sequence[int], wanted: str) -> Generator[FrameBytes]:
        with self._holdings.opened(instance, wanted) as opened:
            count = opened.frame_count()
            for number in numbers:
                if not 1 <= number <= count:
                    raise FrameNotFound(number, count)
            encapsulated = opened.layout.pixel is not None and opened.layout.pixel.encapsulated
            if encapsulated and wanted == instance.transfer_syntax:
                for number in numbers:
                    yield FrameBytes(wanted, opened.frame(number))
                return
            with _told_as_unsupported(wanted, encapsulated=encapsulated):
                yield from self._frames_in(opened, numbers, wanted)

    def _frames_in(self, opened: OpenInstance, numbers: Sequence[int], wanted: str) -> Iterator[FrameBytes]:
        transcoder, target = self._transcoder(), _target(wanted)
        if not (isinstance(opened, SettledInstance) and opened.passes(wanted)):
            yield from (FrameBytes(wanted, frame.data) for frame in transcoder.frames(opened, target, numbers))
            return
        for number in numbers:
            stream = opened.stream_as_demanded(number)
            yield FrameBytes(wanted, transcoder.frame(opened, target, number).data if stream is None else stream)

    def rendered(self, instance: InstanceRow, number: int, view: View) -> bytes:
        """One frame, ``number`` counting from 1, as people look at it: a JPEG or PNG file.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax
            If it cannot be shown; says why.
        """
        encapsulated = syntax_of(instance.transfer_syntax).encapsulated
        with self.opened(instance) as opened, _told_as_unsupported(EXPLICIT_LE, encapsulated=encapsulated):
            return self._transcoder().rendered(opened, number, view)

    def metadata(self, instance: InstanceRow, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
        """DICOM JSON Model object of the instance (PS3.18 F); ``bulk_uri`` makes the URI of a path of tags."""
        from leanpacs.dicom.jsonmodel import data_set_json

        with self.opened(instance) as opened:
            return data_set_json(
                opened.head(),
                tail=opened.tail(),
                implicit_vr=opened.layout.implicit_vr,
                little_endian=opened.layout.little_endian,
                bulk_uri=bulk_uri,
            )

    def header(self, instance: InstanceRow) -> Dataset:
        """The elements before Pixel Data."""
        from leanpacs.dicom.write import read_head

        with self.opened(instance) as opened:
            layout = opened.layout
            return read_head(opened.head(), implicit_vr=layout.implicit_vr, little_endian=layout.little_endian)

    def bulk_value(self, instance: InstanceRow, path: str) -> bytes:
        """The value at a path that `metadata` gave to ``bulk_uri``, except top-level Pixel Data.

        Raises
        ------
        MissingAttribute
            If there is none.
        """
        from leanpacs.dicom.jsonmodel import bulk_value

        with self.opened(instance) as opened:
            return bulk_value(
                opened.head(),
                path,
                tail=opened.tail(),
                implicit_vr=opened.layout.implicit_vr,
                little_endian=opened.layout.little_endian,
            ).data

    def _file(self, instance: InstanceRow, preface_of: Callable[[OpenInstance], bytes]) -> Part10:
        chunks = self._streamed(instance, preface_of)
        first = next(chunks)  # what is in front of the data set, perhaps b''
        return Part10(instance.transfer_syntax, len(first) + instance.data_set_length, _rejoined(first, chunks))

    def _streamed(self, instance: InstanceRow, preface_of: Callable[[OpenInstance], bytes]) -> Iterator[bytes]:
        with self.opened(instance) as opened:
            yield preface_of(opened)
            yield from opened.data_set()

    def _converted(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10:
        passed = self._passed(instance, wanted, with_meta=with_meta)
        if passed is not None:
            return passed
        chunks = self._transcoded(instance, _target(wanted), with_meta=with_meta)
        named = next(chunks).decode()
        return Part10(named, None, chunks, is_costly=True)

    def _passed(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10 | None:
        """The instance around its code streams as they are held, where they are what is wanted."""
        with ExitStack() as stack:
            opened = stack.enter_context(self._holdings.opened(instance, wanted))
            envelope = self._envelope(opened, wanted) if isinstance(opened, SettledInstance) else None
            if envelope is None or not isinstance(opened, SettledInstance):
                return None
            meta = envelope.file_meta if with_meta else b""
            streams = map(opened.stream, range(1, len(envelope.lengths) + 1))
            pieces = chain([meta], envelope.data_set(streams))
            length = len(meta) + envelope.length
            if length <= AT_ONCE_BYTES:
                return Part10(wanted, length, iter(list(pieces)))
            return Part10(wanted, length, _Held(pieces, stack.pop_all()))

    def _is_held(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether code streams of this transfer syntax only need to be read."""
        if wanted == instance.transfer_syntax:
            return True
        with self._holdings.opened(instance, wanted) as opened:
            return isinstance(opened, SettledInstance) and self._envelope(opened, wanted) is not None

    def _envelope(self, opened: SettledInstance, wanted: str) -> Envelope | None:
        known = opened.known.envelopes
        if wanted not in known:
            # All code streams of a pack were written alike: the first one tells what all declare.
            fits = opened.passes(wanted) and opened.stream_as_demanded(1) is not None
            lengths = opened.stream_lengths() if fits else ()
            known[wanted] = self._transcoder().envelope(opened, _target(wanted), lengths) if fits else None
        return known[wanted]

    def _transcoded(self, instance: InstanceRow, target: Target, *, with_meta: bool) -> Iterator[bytes]:
        """First the UID of the transfer syntax that it comes in, then the bytes."""
        encapsulated = syntax_of(instance.transfer_syntax).encapsulated
        with (
            self._holdings.opened(instance, target.transfer_syntax) as opened,
            _told_as_unsupported(target.transfer_syntax, encapsulated=encapsulated),
        ):
            transcoder = self._transcoder()
            made = transcoder.file(opened, target) if with_meta else transcoder.data_set(opened, target)
            yield made.account.transfer_syntax.encode()
            yield from made.pieces

    def _transcoder(self) -> Transcoder:
        from leanpacs.codecs.isolated import FUZZED_CLEAN
        from leanpacs.transcode.engine import Transcoder

        return Transcoder(self._workers, spool=self._spool, in_process=FUZZED_CLEAN)

    def opened(self, instance: InstanceRow) -> AbstractContextManager[OpenInstance]:
        """Open an instance in whichever form it is kept."""
        return self._holdings.opened(instance)


def _cache_key(instance: InstanceRow, number: int, wanted: str) -> str:
    """Of what was received, whichever instance that is; another release may write it otherwise."""
    text = f"{instance.data_set_digest.hex}/{number}/{wanted}/{__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _target(transfer_syntax: str) -> Target:
    from leanpacs.transcode.target import Target

    return Target(transfer_syntax)


@contextmanager
def _told_as_unsupported(transfer_syntax: str, *, encapsulated: bool) -> Iterator[None]:
    """What is damaged can still be given as it was received: tell receivers to ask for that.

    Of an instance that was native, a code stream that does not decode is ours: a fault of the archive.
    """
    try:
        yield
    except DecodeError as error:
        if not encapsulated:
            raise
        raise UnsupportedTransferSyntax(transfer_syntax, str(error)) from error
    except (UnsupportedTransferSyntax, FrameNotFound):
        raise
    except (CodecError, DicomError) as error:
        raise UnsupportedTransferSyntax(transfer_syntax, str(error)) from error


def _file_meta_of(opened: OpenInstance, instance: InstanceRow) -> bytes:
    """Preamble and file meta as received if they make a PS3.10 file, else new ones."""
    preface = opened.preface()
    if preface[128:132] == b"DICM":
        return preface
    from leanpacs.dicom.write import file_meta

    return file_meta(instance.sop_class, instance.sop_uid, instance.transfer_syntax, instance.sender)


class _Held(Iterator[bytes]):
    """Pieces of what stays open until the last of them is taken, or :meth:`close` is called."""

    def __init__(self, pieces: Iterator[bytes], stack: ExitStack) -> None:
        self._pieces = pieces
        self._stack = stack

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Let go of what is open."""
        self._stack.close()


def _rejoined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
