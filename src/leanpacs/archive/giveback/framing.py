"""Single frames, to be decoded and to be looked at: passed on as they are held, kept from before, or made."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

from leanpacs.archive.giveback.arrived import ArrivedInstance
from leanpacs.archive.giveback.asheld import AsHeld
from leanpacs.archive.giveback.given import Bytes, FrameBytes
from leanpacs.archive.giveback.holding import DAMAGE, Damaged, Holdings
from leanpacs.archive.giveback.kept import Kept, Pieces, key_of
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.archive.giveback.transcoding import Transcoding, told_as_unsupported
from leanpacs.catalog import InstanceRow
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import FrameNotFound
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from leanpacs.transcode.rendering import View

_LISTED: Final = 1024
"""Frames that are looked at together: a data set may claim thousands of millions."""
_PATIENT_EFFORT: Final = 5
"""From this effort on, frames take their time, so that some cores are left for those who wait for something quick."""


class FrameMaker:
    """Gives frames in the transfer syntax that is wanted, and as pictures. Thread-safe.

    Parameters
    ----------
    holdings : Holdings
        Opens instances.
    as_held : AsHeld
        Says which code streams only need to be read.
    transcoding : Transcoding
        Makes the others.
    cache : Kept, optional
        Where what was made is kept.
    """

    def __init__(self, holdings: Holdings, as_held: AsHeld, transcoding: Transcoding, cache: Kept | None) -> None:
        self._holdings = holdings
        self._as_held = as_held
        self._transcoding = transcoding
        self._cache = cache
        self._patient = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))

    def frames(
        self, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int = 0
    ) -> Generator[FrameBytes]:
        """Frames in a transfer syntax, native ones under Explicit VR Little Endian; see `Retriever.frames`."""
        for start in range(0, len(numbers), _LISTED):
            yield from self._some(instance, numbers[start : start + _LISTED], wanted, effort)

    def frame_ahead(
        self, instance: InstanceRow, number: int, wanted: str, effort: int = 0
    ) -> Callable[[], object] | None:
        """What makes a frame that somebody will ask for; None where it is at hand."""
        key = key_of(instance, number, wanted, effort)
        if self._cache is None or self._cache.has(key) or self._is_read(instance, wanted):
            return None
        if not syntax_of(wanted).encapsulated and self._holdings.has_just_arrived(instance):
            return None
        return partial(self._cache.pieces, key, partial(self._alone, instance, number, wanted, effort))

    def picture(self, instance: InstanceRow, number: int, view: View) -> bytes:
        """One frame as people look at it; see `Retriever.rendered`."""
        if self._cache is None:
            return self._rendered(instance, number, view)
        return self._cache.fetch(key_of(instance, number, repr(view)), partial(self._rendered, instance, number, view))

    def picture_ahead(self, instance: InstanceRow, number: int, view: View) -> Callable[[], object] | None:
        """As :meth:`frame_ahead`, for a picture."""
        if self._cache is None or self._cache.has(key_of(instance, number, repr(view))):
            return None
        return partial(self.picture, instance, number, view)

    def _rendered(self, instance: InstanceRow, number: int, view: View) -> bytes:
        encapsulated = syntax_of(instance.transfer_syntax).encapsulated

        def rendered(opened: OpenInstance) -> bytes:
            with told_as_unsupported(EXPLICIT_LE, encapsulated=encapsulated):
                return self._transcoding.transcoder().rendered(opened, number, view)

        return self._holdings.work_on(instance, None, rendered)

    def _is_read(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether frames are code streams that are only read, so that keeping them would save nothing."""
        return wanted != EXPLICIT_LE and self._as_held.has(instance, wanted)

    def _some(self, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int) -> Generator[FrameBytes]:
        if self._cache is None or self._is_read(instance, wanted):
            yield from self._made(instance, numbers, wanted, effort)
        elif len(numbers) == 1:
            (frame,) = self._one(self._cache, instance, numbers[0], wanted, effort)
            yield FrameBytes(wanted, frame)
        else:
            yield from self._kept_or_made(self._cache, instance, numbers, wanted, effort)

    def _one(self, cache: Kept, instance: InstanceRow, number: int, wanted: str, effort: int) -> Pieces:
        """A frame that is in the cache, or made and kept; a native one of what has just arrived is only read."""
        key, make = key_of(instance, number, wanted, effort), partial(self._alone, instance, number, wanted, effort)
        if wanted == EXPLICIT_LE and not cache.at_hand(key) and self._holdings.has_just_arrived(instance):
            return make()
        return cache.pieces(key, make)

    def _kept_or_made(
        self, cache: Kept, instance: InstanceRow, numbers: Sequence[int], wanted: str, effort: int
    ) -> Iterator[FrameBytes]:
        """Frames of which some are in the cache; the others are made together, several at a time."""
        keys = {number: key_of(instance, number, wanted, effort) for number in numbers}
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
        """Frames of one form; where that is damaged, those that are left of another one."""
        left, damaged = list(numbers), Damaged()
        while True:
            with self._holdings.opened_for_pixels(instance, wanted, damaged) as opened:
                try:
                    for frame in self._made_from(instance, opened, tuple(left), wanted, effort):
                        yield frame
                        left.pop(0)
                    return
                except DAMAGE as error:
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
        """Frames in another form than they came in, or native ones."""
        if wanted == EXPLICIT_LE and _is_native_in_little_endian(opened):
            view = opened.frame_view if isinstance(opened, SettledInstance) else opened.frame
            yield from (FrameBytes(wanted, view(number)) for number in numbers)
            return
        transcoder, target = self._transcoding.transcoder(), self._transcoding.target(instance, wanted, effort)
        if not (isinstance(opened, SettledInstance) and opened.passes(wanted)):
            yield from (FrameBytes(wanted, frame.data) for frame in transcoder.frames(opened, target, numbers))
            return
        for number in numbers:
            stream = opened.stream_as_demanded(number)
            yield FrameBytes(wanted, transcoder.frame(opened, target, number).data if stream is None else stream)


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
