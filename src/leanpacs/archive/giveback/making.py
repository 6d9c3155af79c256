"""Instances and frames in other transfer syntaxes than they were received in: passed on, kept from before, or made."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs import __version__
from leanpacs.archive.giveback.arrived import ArrivedInstance
from leanpacs.archive.giveback.checks import SpotChecks
from leanpacs.archive.giveback.choosing import Origin, noise_of
from leanpacs.archive.giveback.cost import seconds_to_read
from leanpacs.archive.giveback.given import Bytes, FrameBytes, Held, Part10
from leanpacs.archive.giveback.holding import Damaged, Holdings
from leanpacs.archive.giveback.kept import Kept, Pieces
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.archive.giveback.passing import CODEC_OF, SYNTAX_OF, syntax_of_held
from leanpacs.archive.manifest import Form
from leanpacs.catalog import InstanceRow, Kind
from leanpacs.codecs import registry
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import CodecError, DecodeError, DicomError, FrameNotFound, StorageError, UnsupportedTransferSyntax
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from leanpacs.transcode.engine import Transcoded, Transcoder
    from leanpacs.transcode.envelope import Envelope
    from leanpacs.transcode.rendering import View
    from leanpacs.transcode.target import Target

RECEIVED: Final = "received"
"""In place of a transfer syntax UID: the bytes that came."""
KEPT_BYTES: Final = 64 << 20
"""Larger instances are not kept in the cache as a whole."""
AT_ONCE_BYTES: Final = 4 << 20
"""What is no longer is read at once, so that nothing stays open while it is sent."""
_LISTED: Final = 1024
_LONGEST_NAME: Final = 129
_PATIENT_EFFORT: Final = 5
"""From this effort on, frames take their time, so that some cores are left for those who wait for something quick."""
_OF_THE_ARCHIVE: Final = (StorageError, DecodeError)
"""What shows that a stored form is damaged; what was received damaged is told of as unsupported."""
_PREPARED: Final = 2
"""Workers that are made ready when somebody begins to read."""


class Maker:
    """Makes what is not held as it is wanted. Thread-safe.

    Parameters
    ----------
    holdings : Holdings
        Opens instances.
    checks : SpotChecks
        Says what is read back.
    spool : Path
        Folder for what does not fit into memory.
    workers : Executor, optional
        Where frames are decoded and written; in this process by default.
    cache : Kept, optional
        Where what was costly to make is kept.
    """

    def __init__(
        self,
        holdings: Holdings,
        checks: SpotChecks,
        spool: Path,
        workers: Executor | None,
        cache: Kept | None,
    ) -> None:
        self._holdings = holdings
        self._checks = checks
        self._spool = spool
        self._workers = workers
        self._cache = cache
        self._patient = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))

    def instance(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10:
        """The instance in a transfer syntax that is not the one it was received in; see `Retriever.part10`."""
        passed = self._passed(instance, wanted, with_meta=with_meta)
        if passed is not None:
            return passed
        if self._cache is None or instance.data_set_length > KEPT_BYTES or not syntax_of(wanted).encapsulated:
            chunks = self._transcoded(instance, wanted, with_meta=with_meta)
            return Part10(next(chunks).decode(), None, chunks)
        kept = self._kept(self._cache, instance, wanted)
        (whole,) = kept
        end = bytes(whole[:_LONGEST_NAME]).index(b"\0")
        uid, data_set = bytes(whole[:end]).decode(), memoryview(whole)[end + 1 :]
        # An instance comes from its sender with the UIDs that were given to it: they do not change on the way.
        from leanpacs.dicom.write import file_meta

        meta = file_meta(instance.sop_class, instance.sop_uid, uid) if with_meta else b""
        return Part10(uid, len(meta) + len(data_set), held_meanwhile(kept, [meta, data_set]))

    def received(self, instance: InstanceRow) -> tuple[bytes, Iterator[Bytes]] | None:
        """What came before the data set, and the data set, kept or to be kept.

        None where decoding is not needed, and of what is large and not kept: it is made while it is sent, so that those
        who read slowly do not hold it as a whole.
        """
        size = instance.data_set_length
        if self._cache is None or size > KEPT_BYTES:
            return None
        if self._holdings.has_just_arrived(instance):
            arrived = self._holdings.received(instance) if size <= AT_ONCE_BYTES else None
            return None if arrived is None else (arrived[0], iter(arrived[1]))
        held = self._holdings.first(instance)
        if held.kind is not Kind.PACK or held.form not in (Form.FRAMES, Form.RECODED):
            return None
        if not self._cache.takes(size, seconds_to_read(held, None, is_hot=self._holdings.is_hot(held))):
            return None
        # Waiting for other threads, which may make the next ones, costs nothing; waiting for a remote store does.
        clock = time.thread_time if self._holdings.is_hot(held) else time.perf_counter
        kept = self._cache.pieces(_cache_key(instance, 0, RECEIVED), lambda: self._rebuilt(instance), clock)
        first, *rest = kept
        return (
            bytes(first[: held.preface_length]),
            held_meanwhile(kept, [memoryview(first)[held.preface_length :], *rest]),
        )

    def _rebuilt(self, instance: InstanceRow) -> Pieces:
        def whole(opened: OpenInstance) -> Pieces:
            if isinstance(opened, SettledInstance):
                return opened.received()
            return (b"".join([opened.preface(), *opened.data_set()]),)

        return self._holdings.work_on(instance, None, whole)

    def _kept(self, cache: Kept, instance: InstanceRow, wanted: str) -> Pieces:
        """UID of the transfer syntax that it comes in, a zero byte, and the data set, in one piece."""
        key = _cache_key(instance, 0, wanted)
        return cache.pieces(key, lambda: (b"\0".join(self._named_data_set(instance, wanted)),))

    def _named_data_set(self, instance: InstanceRow, wanted: str) -> tuple[bytes, bytes]:
        chunks = self._transcoded(instance, wanted, with_meta=False)
        return next(chunks), b"".join(chunks)

    def _passed(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10 | None:
        """The instance around its code streams as they are held, where they are what is wanted."""
        damaged = Damaged()
        with ExitStack() as stack:
            opened = stack.enter_context(self._holdings.opened_but(instance, wanted, damaged))
            envelope = self.envelope(opened, wanted) if isinstance(opened, SettledInstance) else None
            if envelope is None or not isinstance(opened, SettledInstance):
                return None
            meta = envelope.file_meta if with_meta else b""
            length, open_longer = len(meta) + envelope.length, ExitStack()
            streams = self._streams(instance, wanted, envelope, opened, open_longer, damaged)
            pieces = chain([meta], envelope.data_set(streams))
            if length <= AT_ONCE_BYTES:
                with open_longer:
                    return Part10(wanted, length, iter(list(pieces)))
            open_longer.push(stack.pop_all())
            return Part10(wanted, length, Held(pieces, open_longer))

    def _streams(
        self,
        instance: InstanceRow,
        wanted: str,
        envelope: Envelope,
        opened: SettledInstance,
        stack: ExitStack,
        damaged: Damaged,
    ) -> Iterator[bytes]:
        """All code streams of what is open; where it is damaged, those of another form that has the same envelope."""
        for number in range(1, len(envelope.lengths) + 1):
            while True:
                try:
                    stream = opened.stream(number)
                except _OF_THE_ARCHIVE as error:
                    if not self._holdings.goes_on(damaged, error):
                        raise
                    other = stack.enter_context(self._holdings.opened_but(instance, wanted, damaged))
                    if not isinstance(other, SettledInstance) or self.envelope(other, wanted) != envelope:
                        raise
                    opened = other
                    continue
                yield stream
                break

    def frame_ahead(
        self, instance: InstanceRow, number: int, wanted: str, effort: int = 0
    ) -> Callable[[], object] | None:
        """What makes a frame that somebody will ask for; None where it is at hand."""
        key = _cache_key(instance, number, wanted, effort)
        if self._cache is None or self._cache.has(key) or (wanted != EXPLICIT_LE and self.is_held(instance, wanted)):
            return None
        if not syntax_of(wanted).encapsulated and self._holdings.has_just_arrived(instance):
            return None
        return partial(self._cache.pieces, key, partial(self._alone, instance, number, wanted, effort))

    def instance_ahead(self, instance: InstanceRow, wanted: str) -> Callable[[], object] | None:
        """As :meth:`frame_ahead`, for an instance."""
        is_received = wanted == instance.transfer_syntax
        if is_received and self._holdings.has_just_arrived(instance):
            return None
        if not is_received and (not syntax_of(wanted).encapsulated or self.is_held(instance, wanted)):
            return None
        if self._cache is None or self._cache.has(_cache_key(instance, 0, RECEIVED if is_received else wanted)):
            return None
        return partial(self.received, instance) if is_received else partial(self._kept, self._cache, instance, wanted)

    def is_at_hand(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether an instance only needs to be taken from memory."""
        kind = RECEIVED if wanted == instance.transfer_syntax else wanted
        if kind == RECEIVED and self._holdings.has_just_arrived(instance):
            return True
        return self._cache is not None and self._cache.at_hand(_cache_key(instance, 0, kind))

    def picture_ahead(self, instance: InstanceRow, number: int, view: View) -> Callable[[], object] | None:
        """As :meth:`frame_ahead`, for a picture."""
        if self._cache is None or self._cache.has(_cache_key(instance, number, repr(view))):
            return None
        return partial(self.picture, instance, number, view)

    def picture(self, instance: InstanceRow, number: int, view: View) -> bytes:
        """One frame as people look at it; see `Retriever.rendered`."""

        def made() -> bytes:
            encapsulated = syntax_of(instance.transfer_syntax).encapsulated

            def rendered(opened: OpenInstance) -> bytes:
                with told_as_unsupported(EXPLICIT_LE, encapsulated=encapsulated):
                    return self.transcoder().rendered(opened, number, view)

            return self._holdings.work_on(instance, None, rendered)

        return self._cache.fetch(_cache_key(instance, number, repr(view)), made) if self._cache else made()

    def syntax_at_hand(self, instance: InstanceRow, among: Collection[str]) -> str:
        """UID of the one of these transfer syntaxes in which code streams are held as they may go out; '' for none."""
        held = self._holdings.first(instance)
        if held.kind is not Kind.PACK or SYNTAX_OF.get(held.codec) not in among:
            return ""  # the catalog says so: nothing has to be opened
        known = self._holdings.known(instance)
        if known is None:
            with self._holdings.opened(instance) as opened:
                if not isinstance(opened, SettledInstance):
                    return ""
                known = opened.known
                uid = syntax_of_held(known.contents.manifest)
                if uid in among:
                    self.envelope(opened, uid)
        uid = syntax_of_held(known.contents.manifest)
        return uid if uid in among and self.is_held(instance, uid) else ""

    def origin(self, instance: InstanceRow, wanted: str) -> Origin:
        """What it would be made from in a transfer syntax."""
        row, seconds = self._holdings.best(instance, wanted)
        if wanted == instance.transfer_syntax:
            is_kept = row.kind is not Kind.PACK or row.form in (Form.WHOLE, Form.STREAMS)
            return Origin(instance.raw_bytes, seconds, instance.data_set_length, is_kept)
        if syntax_of(wanted).encapsulated and row.kind is Kind.PACK and self.is_held(instance, wanted):
            return Origin(instance.raw_bytes, seconds, row.stored_head_bytes + row.stored_frame_bytes, as_held=True)
        known = self._holdings.known(instance, wanted)
        coding = known.contents.manifest.pixel if known is not None else None
        few_values = coding is not None and bool(coding.levels)
        # Indexes say nothing of what the values themselves take.
        noise = 1.0 if few_values else noise_of(row.codec, row.stored_frame_bytes, row.raw_frame_bytes)
        return Origin(instance.raw_bytes, seconds, few_values=few_values, noise=noise)

    def is_held(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether code streams of this transfer syntax only need to be read."""
        if wanted == instance.transfer_syntax:
            return True
        row, _ = self._holdings.best(instance, wanted)
        if row.kind is not Kind.PACK or row.codec != CODEC_OF.get(wanted):
            return False
        known = self._holdings.known(instance, wanted)
        if known is not None and wanted in known.envelopes:
            return known.envelopes[wanted] is not None
        with self._holdings.opened(instance, wanted) as opened:
            return isinstance(opened, SettledInstance) and self.envelope(opened, wanted) is not None

    def envelope(self, opened: SettledInstance, wanted: str) -> Envelope | None:
        """What stands around the code streams of a pack, if they may go out as they are in this transfer syntax."""
        known = opened.known.envelopes
        if wanted not in known:
            # All code streams of a pack were written alike: the first one tells what all declare.
            fits = opened.passes(wanted) and opened.stream_as_demanded(1) is not None
            lengths = opened.stream_lengths() if fits else ()
            known[wanted] = self.transcoder().envelope(opened, _target(wanted), lengths) if fits else None
        return known[wanted]

    def _transcoded(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Iterator[bytes]:
        """First the UID of the transfer syntax that it comes in, then the bytes."""
        target = _target(wanted, self._checks.are_due(instance, wanted))
        encapsulated = syntax_of(instance.transfer_syntax).encapsulated
        transcoder = self.transcoder()

        def make(opened: OpenInstance) -> Transcoded:
            with told_as_unsupported(target.transfer_syntax, encapsulated=encapsulated):
                return transcoder.file(opened, target) if with_meta else transcoder.data_set(opened, target)

        def give(opened: OpenInstance) -> Iterator[bytes]:
            made = make(opened)
            with told_as_unsupported(target.transfer_syntax, encapsulated=encapsulated):
                yield made.account.transfer_syntax.encode()
                yield from made.pieces

        if not syntax_of(wanted).encapsulated:  # native frames are the same whatever they are decoded from
            yield from self._holdings.pieces(instance, give, wanted, _OF_THE_ARCHIVE)
            return
        # Encapsulated frames are all written when this is made: damage shows in time for another copy to be taken.
        with (
            self._holdings.worked_on(instance, target.transfer_syntax, make) as made,
            told_as_unsupported(target.transfer_syntax, encapsulated=encapsulated),
        ):
            yield made.account.transfer_syntax.encode()
            yield from made.pieces

    def warm_up(self, *, pictures: bool = False) -> None:
        """Load the codecs that need no worker, and look what is in the cache."""
        registry.warm_up()
        if pictures:
            from leanpacs.transcode import rendering

            self.transcoder()
            rendering.warm_up()
        if self._cache is not None:
            self._cache.open()

    def prepare(self) -> None:
        """Start workers, which takes half a second: for one who asks, and one ahead of him."""
        from leanpacs.transcode import rendering

        if self._workers is not None:
            for _ in range(_PREPARED):
                self._workers.submit(rendering.warm_up)

    def transcoder(self) -> Transcoder:
        """Decodes and writes frames, in the workers where there are some."""
        from leanpacs.codecs.isolated import FUZZED_CLEAN, WRITTEN_ANYWHERE, WRITTEN_ANYWHERE_BYTES
        from leanpacs.transcode.engine import Transcoder

        return Transcoder(
            self._workers,
            spool=self._spool,
            in_process=FUZZED_CLEAN,
            written_here=WRITTEN_ANYWHERE,
            written_here_bytes=WRITTEN_ANYWHERE_BYTES,
        )

    def frames(
        self, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int = 0
    ) -> Generator[FrameBytes]:
        """Frames in a transfer syntax, native ones under Explicit VR Little Endian; see `Retriever.frames`."""
        # A data set may claim thousands of millions: lists are made of what is looked at next, and of no more.
        for start in range(0, len(numbers), _LISTED):
            yield from self._some(instance, numbers[start : start + _LISTED], wanted, effort)

    def _some(self, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int) -> Generator[FrameBytes]:
        if self._cache is None or (wanted != EXPLICIT_LE and self.is_held(instance, wanted)):
            yield from self._made(instance, numbers, wanted, effort)
        elif len(numbers) == 1:
            (frame,) = self._one(self._cache, instance, numbers[0], wanted, effort)
            yield FrameBytes(wanted, frame)
        else:
            yield from self._kept_or_made(self._cache, instance, numbers, wanted, effort)

    def _one(self, cache: Kept, instance: InstanceRow, number: int, wanted: str, effort: int) -> Pieces:
        """A frame that is in the cache, or made and kept; a native one of what has just arrived is only read."""
        key, make = _cache_key(instance, number, wanted, effort), partial(self._alone, instance, number, wanted, effort)
        if wanted == EXPLICIT_LE and not cache.at_hand(key) and self._holdings.has_just_arrived(instance):
            return make()
        return cache.pieces(key, make)

    def _kept_or_made(
        self, cache: Kept, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int
    ) -> Iterator[FrameBytes]:
        """Frames of which some are in the cache; the others are made together, several at a time."""
        keys = {number: _cache_key(instance, number, wanted, effort) for number in numbers}
        missing = [number for number in numbers if cache.get(keys[number]) is None]
        made = self._made(instance, missing, wanted, effort)
        try:
            left, count, started = set(missing), 0, time.perf_counter()
            for number in numbers:
                kept = None if number in left else cache.get(keys[number])
                if number in left:
                    frame = next(made)
                    count += 1  # several are made at a time: the mean says what one took
                    cache.put(keys[number], (frame.data,), (time.perf_counter() - started) / count)
                    yield frame
                else:
                    (data,) = self._alone(instance, number, wanted, effort) if kept is None else kept
                    yield FrameBytes(wanted, data)
        finally:
            made.close()

    def _alone(self, instance: InstanceRow, number: int, wanted: str, effort: int) -> tuple[Bytes]:
        made = self._made(instance, [number], wanted, effort)
        try:
            with self._patient if effort >= _PATIENT_EFFORT else nullcontext():
                return (next(made).data,)
        finally:
            made.close()

    def _made(self, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int) -> Generator[FrameBytes]:
        left, damaged = list(numbers), Damaged()
        while True:
            with self._holdings.opened_but(instance, wanted, damaged) as opened:
                try:
                    for frame in self._made_from(instance, opened, tuple(left), wanted, effort):
                        yield frame
                        left.pop(0)
                    return
                except (StorageError, DecodeError) as error:
                    # What was received damaged is told of as unsupported: a fault here is one of the archive.
                    if not self._holdings.goes_on(damaged, error):
                        raise

    def _made_from(
        self, instance: InstanceRow, opened: OpenInstance, numbers: Sequence[int], wanted: str, effort: int
    ) -> Iterator[FrameBytes]:
        count = opened.frame_count()
        for number in numbers:
            if not 1 <= number <= count:
                raise FrameNotFound(number, count)
        encapsulated = _holds_streams(opened)
        if encapsulated and wanted == instance.transfer_syntax:
            for number in numbers:
                yield FrameBytes(wanted, opened.frame(number))
            return
        with told_as_unsupported(wanted, encapsulated=encapsulated):
            yield from self._frames_in(instance, opened, numbers, wanted, effort)

    def _frames_in(
        self, instance: InstanceRow, opened: OpenInstance, numbers: Sequence[int], wanted: str, effort: int
    ) -> Iterator[FrameBytes]:
        if wanted == EXPLICIT_LE and _is_native_in_little_endian(opened):
            view = opened.frame_view if isinstance(opened, SettledInstance) else opened.frame
            yield from (FrameBytes(wanted, view(number)) for number in numbers)
            return
        transcoder, target = self.transcoder(), _target(wanted, self._checks.are_due(instance, wanted), effort)
        if not (isinstance(opened, SettledInstance) and opened.passes(wanted)):
            yield from (FrameBytes(wanted, frame.data) for frame in transcoder.frames(opened, target, numbers))
            return
        for number in numbers:
            stream = opened.stream_as_demanded(number)
            yield FrameBytes(wanted, transcoder.frame(opened, target, number).data if stream is None else stream)


def held_meanwhile(kept: Pieces, parts: Sequence[Bytes]) -> Iterator[Bytes]:
    """Give the parts, and hold what they are parts of: then it is there for others, too (`Kept`)."""
    yield from parts
    del kept


def _holds_streams(opened: OpenInstance) -> bool:
    """Whether frames are code streams as they came."""
    if isinstance(opened, SettledInstance):
        return opened.holds_streams
    if _is_native_in_little_endian(opened):
        return False
    return opened.layout.pixel is not None and opened.layout.pixel.encapsulated


def _is_native_in_little_endian(opened: OpenInstance) -> bool:
    """Whether frames are known to stand as they do in Explicit VR Little Endian."""
    return isinstance(opened, SettledInstance | ArrivedInstance) and opened.is_native_in_little_endian


def _cache_key(instance: InstanceRow, number: int, wanted: str, effort: int = 0) -> str:
    """Of what was received, whichever instance that is; another release may write it otherwise."""
    text = f"{instance.data_set_digest.hex}/{number}/{wanted}{effort or ''}/{__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _target(transfer_syntax: str, is_checked: bool = True, effort: int = 0) -> Target:
    from leanpacs.codecs.writing import WriteOptions
    from leanpacs.transcode.target import Target, Verify

    return Target(transfer_syntax, WriteOptions(effort=effort or None), Verify.FIRST if is_checked else Verify.NONE)


@contextmanager
def told_as_unsupported(transfer_syntax: str, *, encapsulated: bool) -> Iterator[None]:
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
