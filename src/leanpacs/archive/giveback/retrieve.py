"""Give instances back: as received, or in any transfer syntax that is written here; whole, or frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from leanpacs.archive.giveback.ahead import Lookahead
from leanpacs.archive.giveback.asheld import AsHeld
from leanpacs.archive.giveback.checks import SpotChecks
from leanpacs.archive.giveback.choosing import Estimate, estimate, soonest
from leanpacs.archive.giveback.foresight import Foresight
from leanpacs.archive.giveback.framing import FrameMaker
from leanpacs.archive.giveback.given import FrameBytes, Part10
from leanpacs.archive.giveback.holding import SHELF_BYTES, Holdings
from leanpacs.archive.giveback.kept import Kept
from leanpacs.archive.giveback.making import InstanceMaker
from leanpacs.archive.giveback.transcoding import Transcoding
from leanpacs.archive.recent import Recent
from leanpacs.catalog import Catalog, InstanceRow
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.dicom.uids import transfer_syntax as syntax_of
from leanpacs.errors import BeingRestored
from leanpacs.storage.stores import Stores
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from leanpacs.transcode.rendering import View

__all__ = ["FrameBytes", "Part10", "Retriever"]

_TRANSFER_SYNTAX: Final = b"\x02\x00\x10\x00UI"
"""How Transfer Syntax UID begins in file meta."""
NOT_FOR_ANYBODY: Final = frozenset({IMPLICIT_LE, EXPLICIT_BE})
"""Retired, or not to be used with web services (PS3.18 8.7.3): only for those who ask for them by name."""


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
    cache : Kept, optional
        Where frames and instances that were costly to make are kept.
    any_syntax : collection of str
        UIDs of the transfer syntaxes in which one who takes any gets an instance that is held in it.
    verify_one_in : int
        How many of the instances that are written anew are read back (:class:`SpotChecks`).
    ahead_bytes : int
        What may be made and put into the cache for each reader before it is asked for (:class:`Foresight`).
    shelf_bytes : int
        Memory for what is known of packs that were opened lately.
    recent : Recent, optional
        What has just arrived.
    on_read : callable, optional
        Told of each instance of which pixels, or all, are given to somebody.

    Attributes
    ----------
    lookahead : Lookahead
        For those who give several instances one after the other.
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        *,
        limit_inflated_bytes: int,
        workers: Executor | None = None,
        cache: Kept | None = None,
        any_syntax: Collection[str] = (),
        verify_one_in: int = 1,
        ahead_bytes: int = 0,
        shelf_bytes: int = SHELF_BYTES,
        recent: Recent | None = None,
        on_read: Callable[[InstanceRow], None] = lambda _: None,
    ) -> None:
        self._on_read = on_read
        self._holdings = Holdings(
            stores, catalog, limit_inflated_bytes=limit_inflated_bytes, shelf_bytes=shelf_bytes, recent=recent
        )
        self._transcoding = Transcoding(workers, SpotChecks(verify_one_in), stores.hot.spool_folder())
        self._as_held = AsHeld(self._holdings, self._transcoding)
        self._instances = InstanceMaker(self._holdings, self._as_held, self._transcoding, cache)
        self._frames = FrameMaker(self._holdings, self._as_held, self._transcoding, cache)
        self._cache = cache
        self._foresight = Foresight(
            lambda row: catalog.instances(study_uid=row.study_uid, series_uid=row.series_uid),
            self._holdings.expect,
            room_bytes=ahead_bytes if cache is not None else 0,
        )
        self._lock = threading.Lock()
        self._preparing: threading.Thread | None = threading.Thread(
            target=self._transcoding.prepare, name="prepare", daemon=True
        )
        self._any_syntax = any_syntax
        self.lookahead = Lookahead()

    def close(self) -> None:
        """Make nothing ahead any more; what is being made is finished."""
        self._foresight.close()
        self.lookahead.close()

    def warm_up(self, *, pictures: bool = False) -> None:
        """Load and look up what the first one who asks would wait for, 30 ms: not instances, but all around them.

        ``pictures`` are looked at as well, not only given to programs: then what writes them is loaded, too.
        """
        self._holdings.warm_up()
        self._transcoding.warm_up(pictures=pictures)
        if self._cache is not None:
            self._cache.open()

    def forget_unused(self, seconds: float) -> None:
        """Forget what is known of instances that nobody has asked for so long."""
        self._holdings.forget_unused(seconds)

    def prepare(self, instances: Iterable[InstanceRow]) -> None:
        """Get ready for one who asks for anything of these, and will soon look at them.

        Code streams as they were received are decoded in worker processes, which are started here, in a thread.
        """
        if self._preparing is None:
            return
        if not any(syntax_of(uid).encapsulated for uid in {row.transfer_syntax for row in instances}):
            return
        with self._lock:
            thread, self._preparing = self._preparing, None
        if thread is not None:
            thread.start()

    def expect(self, instances: Sequence[InstanceRow]) -> None:
        """Prepare for giving all of these, one after the other."""
        self._holdings.expect(instances)

    def bring(self, instance: InstanceRow) -> float:
        """Ask for an instance that is in an archive class, and for its study; the seconds that it will still take."""
        try:
            with self._holdings.opened(instance):
                return 0.0
        except BeingRestored as error:
            return error.seconds or 1.0

    def as_received(self, instance: InstanceRow) -> Part10:
        """The exact bytes that were received, preamble and file meta included if there were any.

        A data set that came over DIMSE had none, and gets them: it is a file that is asked for.
        """
        self._on_read(instance)
        if instance.door == "dimse":
            return self._instances.as_received(instance, lambda preface: preface or _file_meta_of(preface, instance))
        return self._instances.as_received(instance, lambda preface: preface)

    def length_as_received(self, instance: InstanceRow) -> int | None:
        """Bytes of the file that :meth:`part10` gives of an instance as received, where that is known at once."""
        if self._holdings.first(instance).preface_length:
            return None  # that it begins a file is only seen in it
        return len(_file_meta_of(b"", instance)) + instance.data_set_length

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
        self._on_read(instance)
        if transfer_syntax is None or transfer_syntax == instance.transfer_syntax:
            return self._instances.as_received(instance, lambda preface: _file_meta_of(preface, instance))
        return self._instances.transcoded(instance, transfer_syntax, with_meta=True)

    def syntax_at_hand(self, instance: InstanceRow) -> str:
        """UID of the transfer syntax for one who takes any: as it is held, where that may go out, else as received."""
        if self._any_syntax and not syntax_of(instance.transfer_syntax).encapsulated:
            held = self._as_held.syntax(instance, self._any_syntax)
            if held:
                return held
        return EXPLICIT_LE if instance.transfer_syntax in NOT_FOR_ANYBODY else instance.transfer_syntax

    def at_hand(self, instance: InstanceRow, among: Collection[str]) -> str:
        """UID of the one of these that its code streams are held in, as they may go out; '' for none."""
        return self._as_held.syntax(instance, among)

    def estimates(
        self, instance: InstanceRow, syntaxes: Iterable[str], *, takes_zstd: bool, bytes_a_second: float | None
    ) -> list[Estimate]:
        """What it takes to give an instance in each of these transfer syntaxes, the soonest over a line first."""
        made = (
            estimate(self._as_held.origin(instance, uid), uid, takes_zstd=takes_zstd, bytes_a_second=bytes_a_second)
            for uid in syntaxes
        )
        return soonest(made, bytes_a_second)

    def soon(self, instance: InstanceRow, transfer_syntax: str, make: Callable[[], Part10]) -> Callable[[], Part10]:
        """Begin what gives an instance in a transfer syntax, unless that is only read; call the result to have it."""
        if syntax_of(transfer_syntax).encapsulated and self._as_held.has(instance, transfer_syntax):
            return make
        if self._instances.is_at_hand(instance, transfer_syntax):
            return make
        return self.lookahead.begin(instance.data_set_length, make)

    def data_set(self, instance: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        """Give the same as `part10` without preamble and file meta."""
        self._on_read(instance)
        if transfer_syntax is None or transfer_syntax == instance.transfer_syntax:
            return self._instances.as_received(instance, lambda _: b"")
        return self._instances.transcoded(instance, transfer_syntax, with_meta=False)

    def data_set_soon(self, instance: InstanceRow, transfer_syntax: str) -> Callable[[], Part10]:
        """Begin what :meth:`data_set` does; call the result to have it."""
        return self.soon(instance, transfer_syntax, partial(self.data_set, instance, transfer_syntax))

    def frame(self, instance: InstanceRow, number: int, transfer_syntax: str | None = None) -> FrameBytes:
        """One frame, ``number`` counting from 1; see :meth:`frames`."""
        frames = self.frames(instance, [number], transfer_syntax)
        try:
            return next(frames)
        finally:
            frames.close()

    def follow_instance(self, instance: InstanceRow, transfer_syntax: str) -> None:
        """Follow one who asks for single instances, so that the next ones are at hand; nothing is given here."""

        def ahead(row: InstanceRow, _: int) -> Callable[[], object] | None:
            return self._instances.ahead(row, transfer_syntax)

        self._foresight.saw(instance, 0, transfer_syntax, ahead, instance.data_set_length)

    def follow_frame(self, instance: InstanceRow, number: int, transfer_syntax: str, effort: int = 0) -> None:
        """Follow one who asks for single frames; see :meth:`follow_instance`."""

        def ahead(row: InstanceRow, frame: int) -> Callable[[], object] | None:
            return self._frames.frame_ahead(row, frame, transfer_syntax, effort)

        self._foresight.saw(instance, number, transfer_syntax, ahead, _frame_bytes(instance))

    def follow_picture(self, instance: InstanceRow, number: int, view: View) -> None:
        """Follow one who looks at single frames; see :meth:`follow_instance`."""

        def ahead(row: InstanceRow, frame: int) -> Callable[[], object] | None:
            return self._frames.picture_ahead(row, frame, view)

        self._foresight.saw(instance, number, view, ahead, _frame_bytes(instance))

    def frames(
        self, instance: InstanceRow, numbers: Sequence[int], transfer_syntax: str | None = None, effort: int = 0
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
        effort : int
            With which what has to be made is written (JPEG XL); 0 for the usual one.

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
        self._on_read(instance)
        yield from self._frames.frames(instance, numbers, wanted, effort)

    def rendered(self, instance: InstanceRow, number: int, view: View) -> bytes:
        """One frame, ``number`` counting from 1, as people look at it: a JPEG or PNG file.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax
            If it cannot be shown; says why.
        """
        self._on_read(instance)
        return self._frames.picture(instance, number, view)

    def video(self, instance: InstanceRow) -> Part10:
        """The code stream of all frames as received, which for videos is one (PS3.5 8.2.7 and later).

        Raises
        ------
        UnsupportedTransferSyntax
            If Pixel Data is not encapsulated.
        """
        self._on_read(instance)
        chunks = self._video(instance)
        length = int(next(chunks))
        return Part10(instance.transfer_syntax, length, chunks)

    def _video(self, instance: InstanceRow) -> Iterator[bytes]:
        """First the length in digits, then the content; the instance stays open as long as that is taken."""
        with self.opened(instance) as opened:
            length, pieces = opened.fragments()
            yield str(length).encode()
            yield from pieces

    def metadata(self, instance: InstanceRow, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
        """DICOM JSON Model object of the instance (PS3.18 F); ``bulk_uri`` makes the URI of a path of tags."""
        from leanpacs.dicom.jsonmodel import data_set_json

        with self.opened(instance) as opened:
            encoding = opened.encoding
            return data_set_json(
                opened.head(),
                tail=opened.tail(),
                implicit_vr=encoding.implicit_vr,
                little_endian=encoding.little_endian,
                bulk_uri=bulk_uri,
            )

    def header(self, instance: InstanceRow) -> Dataset:
        """The elements before Pixel Data."""
        from leanpacs.dicom.write import read_head

        with self.opened(instance) as opened:
            encoding = opened.encoding
            return read_head(opened.head(), implicit_vr=encoding.implicit_vr, little_endian=encoding.little_endian)

    def bulk_value(self, instance: InstanceRow, path: str) -> bytes:
        """The value at a path that `metadata` gave to ``bulk_uri``, except top-level Pixel Data.

        Raises
        ------
        MissingAttribute
            If there is none.
        """
        from leanpacs.dicom.jsonmodel import bulk_value

        with self.opened(instance) as opened:
            encoding = opened.encoding
            value = bulk_value(
                opened.head(),
                path,
                tail=opened.tail(),
                implicit_vr=encoding.implicit_vr,
                little_endian=encoding.little_endian,
            )
        return value.data

    def opened(self, instance: InstanceRow) -> AbstractContextManager[OpenInstance]:
        """Open an instance in whichever form it is kept."""
        return self._holdings.opened(instance)


def _frame_bytes(instance: InstanceRow) -> int:
    """What a native frame takes, about."""
    return instance.raw_bytes // max(instance.number_of_frames or 1, 1)


def _file_meta_of(preface: bytes, instance: InstanceRow) -> bytes:
    """Preamble and file meta as received if they make a PS3.10 file, else new ones.

    Without a transfer syntax (PS3.10 7.1), receivers could not read it.
    """
    if preface[128:132] == b"DICM" and _TRANSFER_SYNTAX in preface:
        return preface
    from leanpacs.dicom.write import file_meta

    return file_meta(instance.sop_class, instance.sop_uid, instance.transfer_syntax, instance.sender)
