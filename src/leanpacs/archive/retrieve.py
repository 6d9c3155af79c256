"""Give instances back: as received, or native in Explicit VR Little Endian; whole, or one frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leanpacs.archive.opened import open_landed, open_pack
from leanpacs.archive.settling import dictionaries_of
from leanpacs.catalog import Catalog, InstanceRow, Kind
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.errors import BlobNotFound, DecodeError, DicomError, InstanceNotFound, UnsupportedTransferSyntax
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.local import LocalStore
from leanpacs.transcode.source import OpenInstance

if TYPE_CHECKING:
    from leanpacs.transcode.engine import Transcoder

OPEN_ATTEMPTS = 3
"""An instance may be settled between looking up where it is and opening it; then it is looked up again."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A file, or a data set: its transfer syntax UID, its length if known, and its bytes, made as they are taken."""

    transfer_syntax: str
    length: int | None
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class FrameBytes:
    """One frame: the transfer syntax UID that its bytes are in, and the bytes."""

    transfer_syntax: str
    data: bytes


class Retriever:
    """Gives back what is held. Thread-safe.

    Parameters
    ----------
    store : LocalStore
        Where blobs are.
    catalog : Catalog
        Which blobs hold an instance.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are only given as received.
    workers : Executor, optional
        Where frames are decoded; in this process by default.
    """

    def __init__(
        self, store: LocalStore, catalog: Catalog, *, limit_inflated_bytes: int, workers: Executor | None = None
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._limit_inflated_bytes = limit_inflated_bytes
        self._workers = workers

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
            UID wanted: that of the instance as received (the default), or Explicit VR Little Endian.

        Raises
        ------
        UnsupportedTransferSyntax
            If it cannot be given in this syntax; says why.
        """
        if transfer_syntax in (None, instance.transfer_syntax):
            return self._file(instance, lambda opened: _file_meta_of(opened, instance))
        return self._converted(instance, transfer_syntax, with_meta=True)

    def data_set(self, instance: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        """Give the same as `part10` without preamble and file meta."""
        if transfer_syntax in (None, instance.transfer_syntax):
            return self._file(instance, lambda _: b"")
        return self._converted(instance, transfer_syntax, with_meta=False)

    def frame(self, instance: InstanceRow, number: int, transfer_syntax: str | None = None) -> FrameBytes:
        """One frame, ``number`` counting from 1.

        Parameters
        ----------
        transfer_syntax : str, optional
            UID wanted: that of the instance as received gives an encapsulated frame's code stream; Explicit VR
            Little Endian native bytes. By default, the code stream if there is one, else native bytes.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax
            If frames cannot be told apart, or not be given in this syntax.
        """
        with self.opened(instance) as opened:
            opened.frame_count()
            encapsulated = opened.layout.pixel is not None and opened.layout.pixel.encapsulated
            if encapsulated and transfer_syntax in (None, instance.transfer_syntax):
                return FrameBytes(instance.transfer_syntax, opened.frame(number))
            if transfer_syntax not in (None, instance.transfer_syntax, EXPLICIT_LE):
                raise UnsupportedTransferSyntax(transfer_syntax or "")
            from leanpacs.transcode.target import Target

            with _told_as_unsupported(EXPLICIT_LE):
                return FrameBytes(EXPLICIT_LE, self._transcoder().frame(opened, Target(EXPLICIT_LE), number).data)

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

    def _converted(self, instance: InstanceRow, transfer_syntax: str | None, *, with_meta: bool) -> Part10:
        if transfer_syntax != EXPLICIT_LE:
            raise UnsupportedTransferSyntax(
                transfer_syntax or "", f"this archive does not yet convert to {transfer_syntax}"
            )
        chunks = self._transcoded(instance, with_meta=with_meta)
        first = next(chunks)
        return Part10(EXPLICIT_LE, None, _rejoined(first, chunks))

    def _transcoded(self, instance: InstanceRow, *, with_meta: bool) -> Iterator[bytes]:
        from leanpacs.transcode.target import Target

        with self.opened(instance) as opened, _told_as_unsupported(EXPLICIT_LE):
            pieces = self._transcoder().data_set(opened, Target(EXPLICIT_LE)).pieces
            if with_meta:
                from leanpacs.dicom.write import file_meta

                yield file_meta(instance.sop_class, instance.sop_uid, EXPLICIT_LE)
            yield from pieces

    def _transcoder(self) -> Transcoder:
        from leanpacs.codecs.isolated import FUZZED_CLEAN
        from leanpacs.transcode.engine import Transcoder

        return Transcoder(self._workers, in_process=FUZZED_CLEAN)

    @contextmanager
    def opened(self, instance: InstanceRow) -> Iterator[OpenInstance]:
        """Open an instance in whichever form it is kept."""
        with ExitStack() as stack:
            yield self._enter(stack, instance)

    def _enter(self, stack: ExitStack, instance: InstanceRow) -> OpenInstance:
        for _ in range(OPEN_ATTEMPTS - 1):
            with suppress(BlobNotFound):
                return stack.enter_context(self._context(instance))
        return stack.enter_context(self._context(instance))

    def _context(self, instance: InstanceRow) -> AbstractContextManager[OpenInstance]:
        held = self._catalog.representations(instance.id)
        packs = [row for row in held if row.kind is Kind.PACK]
        if packs:
            return open_pack(
                self._store,
                packs[0].blob.digest,
                self._dictionaries(),
                limit_inflated_bytes=self._limit_inflated_bytes,
            )
        if not held:
            raise InstanceNotFound(instance.sop_uid)
        return open_landed(
            self._store,
            held[0].blob.digest,
            instance.transfer_syntax,
            limit_inflated_bytes=self._limit_inflated_bytes,
        )

    def _dictionaries(self) -> tuple[Dictionary, ...]:
        return dictionaries_of(self._store, tuple(self._store.kept_names()))


@contextmanager
def _told_as_unsupported(transfer_syntax: str) -> Iterator[None]:
    """What is damaged can still be given as it was received: tell receivers to ask for that."""
    try:
        yield
    except (DecodeError, DicomError) as error:
        raise UnsupportedTransferSyntax(transfer_syntax, str(error)) from error


def _file_meta_of(opened: OpenInstance, instance: InstanceRow) -> bytes:
    """Preamble and file meta as received if they make a PS3.10 file, else new ones."""
    preface = opened.preface()
    if preface[128:132] == b"DICM":
        return preface
    from leanpacs.dicom.write import file_meta

    return file_meta(instance.sop_class, instance.sop_uid, instance.transfer_syntax, instance.sender)


def _rejoined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
