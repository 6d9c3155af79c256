"""Instances as received, and in other transfer syntaxes: passed on as they are held, kept from before, or made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from leanpacs.archive.giveback.asheld import AsHeld
from leanpacs.archive.giveback.cost import seconds_to_read
from leanpacs.archive.giveback.given import Bytes, Held, Part10
from leanpacs.archive.giveback.holding import DAMAGE, Damaged, Holdings
from leanpacs.archive.giveback.kept import Kept, Pieces, key_of
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.archive.giveback.transcoding import Transcoding, told_as_unsupported
from leanpacs.archive.manifest import Form
from leanpacs.catalog import InstanceRow, Kind
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from leanpacs.transcode.engine import Transcoded
    from leanpacs.transcode.envelope import Envelope

_RECEIVED: Final = "received"
"""In place of a transfer syntax UID in keys of the cache: the bytes that came."""
_KEPT_BYTES: Final = 64 << 20
"""Larger instances are not kept in the cache as a whole."""
_LONGEST_NAME: Final = 129
"""Of a transfer syntax in front of a data set that is kept, and the zero byte after it."""
AT_ONCE_BYTES: Final = 4 << 20
"""What is no longer is read at once, so that nothing stays open while it is sent."""


class InstanceMaker:
    """Gives whole instances. Thread-safe.

    Parameters
    ----------
    holdings : Holdings
        Opens instances.
    as_held : AsHeld
        Says which code streams only need to be read.
    transcoding : Transcoding
        Makes the others.
    cache : Kept, optional
        Where what was costly to make is kept.
    """

    def __init__(self, holdings: Holdings, as_held: AsHeld, transcoding: Transcoding, cache: Kept | None) -> None:
        self._holdings = holdings
        self._as_held = as_held
        self._transcoding = transcoding
        self._cache = cache

    def as_received(self, instance: InstanceRow, preface_of: Callable[[bytes], bytes]) -> Part10:
        """The data set as received; ``preface_of`` makes what is in front of it of what was there."""
        received = self._received(instance)
        if received is None:
            chunks: Iterator[Bytes] = self._streamed(instance, preface_of)
            preface = next(chunks)  # perhaps b''
        else:
            preface, chunks = preface_of(received[0]), received[1]
        return Part10(instance.transfer_syntax, len(preface) + instance.data_set_length, _rejoined(preface, chunks))

    def transcoded(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10:
        """The instance in a transfer syntax that is not the one it was received in; see `Retriever.part10`."""
        passed = self._passed(instance, wanted, with_meta=with_meta)
        if passed is not None:
            return passed
        if self._cache is None or instance.data_set_length > _KEPT_BYTES or not syntax_of(wanted).encapsulated:
            chunks = self._made(instance, wanted, with_meta=with_meta)
            return Part10(next(chunks).decode(), None, chunks)
        kept = self._kept(self._cache, instance, wanted)
        (whole,) = kept
        end = bytes(whole[:_LONGEST_NAME]).index(b"\0")
        uid, data_set = bytes(whole[:end]).decode(), memoryview(whole)[end + 1 :]
        # An instance comes from its sender with the UIDs that were given to it: they do not change on the way.
        from leanpacs.dicom.write import file_meta

        meta = file_meta(instance.sop_class, instance.sop_uid, uid) if with_meta else b""
        return Part10(uid, len(meta) + len(data_set), _held_meanwhile(kept, [meta, data_set]))

    def ahead(self, instance: InstanceRow, wanted: str) -> Callable[[], object] | None:
        """What makes an instance that somebody will ask for; None where it is at hand."""
        is_received = wanted == instance.transfer_syntax
        if is_received and self._holdings.has_just_arrived(instance):
            return None
        if not is_received and (not syntax_of(wanted).encapsulated or self._as_held.has(instance, wanted)):
            return None
        if self._cache is None or self._cache.has(_key(instance, wanted)):
            return None
        return partial(self._received, instance) if is_received else partial(self._kept, self._cache, instance, wanted)

    def is_at_hand(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether an instance only needs to be taken from memory."""
        if wanted == instance.transfer_syntax and self._holdings.has_just_arrived(instance):
            return True
        return self._cache is not None and self._cache.at_hand(_key(instance, wanted))

    def _received(self, instance: InstanceRow) -> tuple[bytes, Iterator[Bytes]] | None:
        """What came before the data set, and the data set, kept or to be kept.

        None where decoding is not needed, and of what is large and not kept: it is made while it is sent, so that those
        who read slowly do not hold it as a whole.
        """
        size = instance.data_set_length
        if self._cache is None or size > _KEPT_BYTES:
            return None
        if self._holdings.has_just_arrived(instance):
            arrived = self._holdings.received(instance) if size <= AT_ONCE_BYTES else None
            return None if arrived is None else (arrived[0], iter(arrived[1]))
        held = self._holdings.first(instance)
        if held.kind is not Kind.PACK or held.form not in (Form.FRAMES, Form.RECODED):
            return None
        is_hot = self._holdings.is_hot(held)
        if not self._cache.takes(size, seconds_to_read(held, None, is_hot=is_hot)):
            return None
        # Waiting for other threads, which may make the next ones, costs nothing; waiting for a remote store does.
        clock = time.thread_time if is_hot else time.perf_counter
        key = _key(instance, instance.transfer_syntax)
        kept = self._cache.pieces(key, lambda: self._rebuilt(instance), clock)
        first, *rest = kept
        data_set = [memoryview(first)[held.preface_length :], *rest]
        return bytes(first[: held.preface_length]), _held_meanwhile(kept, data_set)

    def _rebuilt(self, instance: InstanceRow) -> Pieces:
        def whole(opened: OpenInstance) -> Pieces:
            if isinstance(opened, SettledInstance):
                return opened.received()
            return (b"".join([opened.preface(), *opened.data_set()]),)

        return self._holdings.work_on(instance, None, whole)

    def _streamed(self, instance: InstanceRow, preface_of: Callable[[bytes], bytes]) -> Iterator[bytes]:
        """First what is in front of the data set, then that, a piece at a time."""

        def give(opened: OpenInstance) -> Iterator[bytes]:
            yield preface_of(opened.preface())
            yield from opened.data_set()

        return self._holdings.pieces(instance, give)

    def _passed(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Part10 | None:
        """The instance around its code streams as they are held, where they are what is wanted."""
        damaged = Damaged()
        with ExitStack() as stack:
            opened = stack.enter_context(self._holdings.opened_for_pixels(instance, wanted, damaged))
            if not isinstance(opened, SettledInstance):
                return None
            envelope = self._as_held.envelope(opened, wanted)
            if envelope is None:
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
            stream: bytes | None = None
            while stream is None:
                try:
                    stream = opened.stream(number)
                except DAMAGE as error:
                    if not self._holdings.goes_on(damaged, error):
                        raise
                    other = stack.enter_context(self._holdings.opened_for_pixels(instance, wanted, damaged))
                    if not isinstance(other, SettledInstance) or self._as_held.envelope(other, wanted) != envelope:
                        raise
                    opened = other
            yield stream

    def _kept(self, cache: Kept, instance: InstanceRow, wanted: str) -> Pieces:
        """UID of the transfer syntax that it comes in, a zero byte, and the data set, in one piece."""
        key = _key(instance, wanted)
        return cache.pieces(key, lambda: (b"\0".join(self._named_data_set(instance, wanted)),))

    def _named_data_set(self, instance: InstanceRow, wanted: str) -> tuple[bytes, bytes]:
        chunks = self._made(instance, wanted, with_meta=False)
        return next(chunks), b"".join(chunks)

    def _made(self, instance: InstanceRow, wanted: str, *, with_meta: bool) -> Iterator[bytes]:
        """First the UID of the transfer syntax that it comes in, then the bytes."""
        target = self._transcoding.target(instance, wanted)
        encapsulated = syntax_of(instance.transfer_syntax).encapsulated
        transcoder = self._transcoding.transcoder()

        def make(opened: OpenInstance) -> Transcoded:
            with told_as_unsupported(wanted, encapsulated=encapsulated):
                return transcoder.file(opened, target) if with_meta else transcoder.data_set(opened, target)

        def taken(made: Transcoded) -> Iterator[bytes]:
            with told_as_unsupported(wanted, encapsulated=encapsulated):
                yield made.account.transfer_syntax.encode()
                yield from made.pieces

        if not syntax_of(wanted).encapsulated:  # native frames are the same whatever they are decoded from
            yield from self._holdings.pieces(instance, lambda opened: taken(make(opened)), wanted, DAMAGE)
            return
        # Encapsulated frames are all written when this is made: damage shows in time for another copy to be taken.
        with self._holdings.worked_on(instance, wanted, make) as made:
            yield from taken(made)


def _key(instance: InstanceRow, wanted: str) -> str:
    """Under which an instance is kept as a whole."""
    return key_of(instance, 0, _RECEIVED if wanted == instance.transfer_syntax else wanted)


def _held_meanwhile(kept: Pieces, parts: Sequence[Bytes]) -> Iterator[Bytes]:
    """Give the parts, and hold what they are parts of: then it is there for others, too (`Kept`)."""
    yield from parts
    del kept


def _rejoined(first: Bytes, rest: Iterator[Bytes]) -> Iterator[Bytes]:
    yield first
    yield from rest
