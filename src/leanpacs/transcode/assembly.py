"""The pieces of a transcoded data set: head, Pixel Data in its new form, tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from leanpacs.codecs.native import pack_bits, unpack
from leanpacs.dicom.frames import DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, FrameSpec, word_size
from leanpacs.dicom.reencode import Changes, element_header, reencode
from leanpacs.dicom.tree import Encoding
from leanpacs.dicom.uids import transfer_syntax
from leanpacs.dicom.write import file_meta, read_head
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.transcode.account import Account
from leanpacs.transcode.envelope import Envelope
from leanpacs.transcode.frames import FrameResult, FrameTask
from leanpacs.transcode.headers import ONLY_ENCAPSULATED, image_pixel_changes, lossy_changes, once_lossy_changes
from leanpacs.transcode.icons import IconTranscoder
from leanpacs.transcode.pixels import SourcePixels, require_writable, swapped
from leanpacs.transcode.source import OpenInstance
from leanpacs.transcode.spool import StreamSpool, extended_table, needs_extended_table
from leanpacs.transcode.target import REFINED, Target

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LONGEST_NATIVE: Final = 2**32 - 2
_NATIVE_VRS: Final = {FLOAT_PIXEL_DATA: "OF", DOUBLE_FLOAT_PIXEL_DATA: "OD"}

Converted = Callable[[Iterator[FrameTask]], Iterator[FrameResult]]
"""Converts frames and gives them in the order of their tasks."""


class Assembly:
    """Puts one transcoded data set together.

    Parameters
    ----------
    source : OpenInstance
        It has to stay open until all pieces are taken.
    target : Target
        What is wanted.
    account : Account
        Completed on the way.
    call : callable
        Calls a codec with its arguments, for icons.
    """

    def __init__(self, source: OpenInstance, target: Target, account: Account, call: Callable[..., Any]) -> None:
        self._source = source
        self._target = target
        self._account = account
        layout = source.layout
        self._received = Encoding(layout.implicit_vr, layout.little_endian)
        self._icons = IconTranscoder(layout.transfer_syntax, None if target.is_native else target.transfer_syntax, call)

    def without_pixels(self) -> Iterator[bytes]:
        """A data set without Pixel Data."""
        yield self._elements(self._source.head(), {})

    def reordered(self, pixels: SourcePixels) -> Iterator[bytes]:
        """Native Pixel Data to native: the bytes of its words in another order at most, frames or not."""
        spec = pixels.spec
        self._account.frames = spec.number_of_frames
        length = self._source.native_length()
        vr = pixels.span.vr if pixels.span.vr in ("OB", "OW", "OF", "OD") else "OW"
        yield from self._native(pixels, spec, vr, {}, length, pixels.little_endian_value())

    def decapsulated(self, pixels: SourcePixels, convert: Converted) -> Iterator[bytes]:
        """Encapsulated Pixel Data to native."""
        self._account.frames = pixels.count
        results = convert(pixels.tasks(self._target))
        first = next(results)
        spec = first.spec
        changes = {**dict.fromkeys(ONLY_ENCAPSULATED), **image_pixel_changes(pixels.spec, spec), **self._once_lossy()}
        length = -(-spec.frame_bits * pixels.count // 8)
        frames = self._of_one_kind(first, results)
        value: Iterator[bytes] = (frame.data for frame in frames)
        if spec.bits_allocated == 1:
            value = pack_bits(unpack(frame, spec) for frame in value)
        vr = "OB" if spec.bits_allocated <= 8 else "OW"
        yield from self._native(pixels, spec, vr, changes, length, value)

    def encapsulated(self, pixels: SourcePixels, convert: Converted, spool: StreamSpool) -> Iterator[bytes]:
        """Pixel Data of any kind to encapsulated; frames are written before the first piece is given."""
        try:
            changes = self._filled(pixels, convert, spool)
        except BaseException:
            spool.close()
            raise
        return self._encapsulated_pieces(changes, spool)

    def around(self, lengths: Sequence[int]) -> Envelope:
        """What stands around code streams of these lengths, which the attributes of the source describe as they are."""
        pixel = self._source.layout.pixel
        assert pixel is not None
        is_long = needs_extended_table(lengths)
        changes: dict[str, Any] = dict.fromkeys(ONLY_ENCAPSULATED)
        head = self._elements(self._source.head(), {**changes, **(extended_table(lengths) if is_long else {})})
        head += element_header(pixel.tag, "OB", None, self._target.encoding)
        account = self._account
        meta = file_meta(account.sop_class, account.sop_uid, account.transfer_syntax)
        return Envelope(meta, head, self._tail(), tuple(lengths), with_table=not is_long)

    def _filled(self, pixels: SourcePixels, convert: Converted, spool: StreamSpool) -> dict[str, Any]:
        """Write all frames into the spool; return what changes in the head."""
        self._account.frames = pixels.count
        changes: dict[str, Any] = dict.fromkeys(ONLY_ENCAPSULATED)
        if self._takes_streams_as_they_are(pixels):
            for number in range(1, pixels.count + 1):
                spool.add(self._source.frame(number))
            return {**changes, **spool.table_changes()}
        require_writable(pixels, self._target)
        results = convert(pixels.tasks(self._target))
        first = next(results)
        for result in self._of_one_kind(first, results):
            spool.add(result.data)
        self._account.lossy = self._target.is_lossy
        changes |= image_pixel_changes(pixels.spec, first.spec) | spool.table_changes()
        return changes | (self._newly_lossy(pixels, spool) if self._target.is_lossy else self._once_lossy())

    def _encapsulated_pieces(self, changes: Changes, spool: StreamSpool) -> Iterator[bytes]:
        try:
            assert self._source.layout.pixel is not None
            head = self._elements(self._source.head(), changes)
            yield head + element_header(self._source.layout.pixel.tag, "OB", None, self._target.encoding)
            yield from spool.value()
            yield self._tail()
        finally:
            spool.close()

    def _native(
        self, pixels: SourcePixels, spec: FrameSpec, vr: str, changes: Changes, length: int, value: Iterable[bytes]
    ) -> Iterator[bytes]:
        """Head, value (in little endian order) and tail; ``length`` as it is, before padding."""
        padded = length + length % 2
        if padded > _LONGEST_NATIVE:
            raise UnsupportedTransferSyntax(
                self._target.transfer_syntax, f"{length} bytes are more than native Pixel Data can have (2^32-2)"
            )
        vr = self._native_vr(pixels, spec, vr)
        head = self._elements(self._source.head(), changes)
        yield head + element_header(pixels.span.tag, vr, padded, self._target.encoding)
        word = 1 if self._target.encoding.little_endian else word_size(vr, spec)
        yield from swapped(chain(value, [b"\0" * (length % 2)]), word)
        yield self._tail()

    def _native_vr(self, pixels: SourcePixels, spec: FrameSpec, vr: str) -> str:
        if pixels.span.tag in _NATIVE_VRS:
            return _NATIVE_VRS[pixels.span.tag]
        if self._source.layout.implicit_vr or self._target.encoding.implicit_vr:
            vr = "OW"
        if spec.bits_allocated > 8:
            return "OW"  # whatever the sender called it: bytes of OB would not be swapped (PS3.5 A.2, A.3)
        # Words of two samples are best avoided where bytes are swapped within words.
        return vr if self._target.encoding.little_endian else "OB"

    def _elements(self, data: bytes, changes: Changes) -> bytes:
        encoded = reencode(
            data,
            self._received,
            self._target.encoding,
            changes=changes,
            recode_icon=self._icons,
            native_icons_too=not self._target.is_native,
        )
        if self._icons.undecoded:
            self._account.notes.append(f"{self._icons.undecoded} icons that no codec decodes were left out")
            self._icons.undecoded = 0
        return encoded

    def _tail(self) -> bytes:
        return self._elements(self._source.tail(), {})

    def _of_one_kind(self, first: FrameResult, others: Iterable[FrameResult]) -> Iterator[FrameResult]:
        """The results, as long as all are described by the same attributes."""
        self._account.checked_by = first.checked_by
        for number, result in enumerate(chain([first], others), 1):
            if result.spec != first.spec:
                raise UnsupportedTransferSyntax(
                    self._target.transfer_syntax, f"frame {number} has to be described otherwise than frame 1"
                )
            yield result

    def _takes_streams_as_they_are(self, pixels: SourcePixels) -> bool:
        received = self._source.layout.transfer_syntax
        is_refined = received in REFINED.get(self._target.transfer_syntax, ())
        return pixels.span.encapsulated and is_refined and not (self._target.is_lossy or self._target.anew)

    def _newly_lossy(self, pixels: SourcePixels, spool: StreamSpool) -> dict[str, Any]:
        native_bytes = pixels.spec.frame_bits * pixels.count / 8
        ratio = native_bytes / max(1, sum(spool.lengths))
        changes = lossy_changes(self._head(), self._target, ratio)
        self._account.sop_uid = changes["SOPInstanceUID"]
        return changes

    def _once_lossy(self) -> dict[str, Any]:
        received = self._source.layout.transfer_syntax
        if transfer_syntax(received).lossless is not False:
            return {}
        return once_lossy_changes(self._head(), received)

    def _head(self) -> Dataset:
        encoding = self._received
        return read_head(self._source.head(), implicit_vr=encoding.implicit_vr, little_endian=encoding.little_endian)
