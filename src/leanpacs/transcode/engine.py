"""Any instance from its transfer syntax to another, as an iterator of pieces."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from leanpacs.dicom import uids
from leanpacs.dicom.write import file_meta
from leanpacs.errors import DicomError, UnsupportedTransferSyntax
from leanpacs.transcode.account import Account
from leanpacs.transcode.assembly import Assembly
from leanpacs.transcode.envelope import Envelope
from leanpacs.transcode.frames import FrameResult, FrameTask, in_order
from leanpacs.transcode.pixels import FramePixels, SourcePixels, require_frames_writable, require_writable
from leanpacs.transcode.rendering import View, render
from leanpacs.transcode.source import OpenInstance
from leanpacs.transcode.spool import StreamSpool
from leanpacs.transcode.target import NATIVE_ENCODINGS, Target

_HARMLESS: Final = frozenset({uids.ENCAPSULATED_UNCOMPRESSED, uids.DEFLATED_FRAME})
"""Forms of a frame that need no image codec, so that no worker process has to be put at risk for them."""
_QUICK_PIXELS: Final = 2 << 20
"""Pictures of no more are made sooner than a worker process is handed the frame, and take little memory."""
_SOP_CLASS: Final = (0x00080016, 0x00020002)
_SOP_INSTANCE: Final = (0x00080018, 0x00020003)
_SOURCE_AE: Final = (0x00020016,)


@dataclass(frozen=True, slots=True)
class Transcoded:
    """An instance in its new form: a data set, or a file, in pieces that are made as they are taken."""

    account: Account
    pieces: Iterator[bytes]


class Transcoder:
    """Transcodes instances. Thread-safe; it keeps nothing of them.

    Parameters
    ----------
    executor : Executor, optional
        Where frames are decoded and written, several at a time; without one it happens here, one frame after the
        other. What comes from elsewhere is best given to processes that may crash. Frames that need no image codec
        are never sent there.
    ahead : int
        Frames given to the executor beyond the one that is waited for: twice its workers keeps them busy.
    spool : Path, optional
        Folder for code streams on their way; that of the system by default.
    in_process : frozenset of str
        UIDs of transfer syntaxes whose frames are decoded here all the same.
    written_here : frozenset of str
        UIDs of transfer syntaxes in which a single frame of samples is written here: it costs less than the way to a
        worker and back, and several would only wait for each other.
    written_here_bytes : int
        Largest frame that is.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        *,
        ahead: int = 4,
        spool: Path | None = None,
        in_process: frozenset[str] = _HARMLESS,
        written_here: frozenset[str] = frozenset(),
        written_here_bytes: int = 0,
    ) -> None:
        self._executor = executor
        self._ahead = ahead
        self._spool = spool
        self._in_process = in_process
        self._written_here = written_here
        self._written_here_bytes = written_here_bytes

    def file(self, source: OpenInstance, target: Target) -> Transcoded:
        """As :meth:`data_set`, with preamble and file meta information; those as received when nothing changes."""
        made = self.data_set(source, target)
        account = made.account
        preface = source.preface()
        if not (account.unchanged and preface[128:132] == b"DICM"):
            sender = _text(source, _SOURCE_AE) or None
            preface = file_meta(account.sop_class, account.sop_uid, account.transfer_syntax, sender)
        return Transcoded(account, chain([preface], made.pieces))

    def data_set(self, source: OpenInstance, target: Target) -> Transcoded:
        """Give an instance in another transfer syntax.

        Encapsulated Pixel Data is written, and checked, in full before this returns, and waits in a spool; native
        Pixel Data is made as the pieces are taken, its first frame before this returns.

        Parameters
        ----------
        source : OpenInstance
            It has to stay open until all pieces are taken.
        target : Target
            What is wanted.

        Raises
        ------
        UnsupportedTransferSyntax
            If it cannot be given so without loss (or not as lossy as asked for); says why.
        VerificationError
            If a written frame does not read back to what it was made of.
        DecodeError, EncodeError
            If a code stream is damaged, or an encoder fails.
        DicomError
            If the data set is damaged, or cannot be re-encoded.
        """
        layout = source.layout
        account = Account(target.transfer_syntax, _text(source, _SOP_CLASS), _text(source, _SOP_INSTANCE))
        _require_readable(source, target)
        if _passes(source, target):
            account.unchanged = True
            account.frames = 0 if layout.pixel is None else SourcePixels(source, target.transfer_syntax).count
            return Transcoded(account, source.data_set())
        if layout.pixel is None and not target.is_native:
            target = Target(uids.EXPLICIT_LE)
            account.transfer_syntax = target.transfer_syntax
            account.notes.append("without Pixel Data: Explicit VR Little Endian")
        pieces = self._pieces(source, target, account)
        first = next(pieces)  # what can be known to fail fails here
        if target.transfer_syntax == uids.DEFLATED_LE:
            return Transcoded(account, _deflated(chain([first], pieces)))
        return Transcoded(account, chain([first], pieces))

    def envelope(self, source: OpenInstance, target: Target, lengths: Sequence[int]) -> Envelope:
        """What stands around code streams of ``target`` that the caller has, one for each frame.

        They must hold the samples as the attributes of the source describe them, so that nothing but the transfer
        syntax changes. ``lengths`` are theirs, in bytes.

        Raises
        ------
        UnsupportedTransferSyntax, DicomError
            As :meth:`data_set`.
        """
        _require_readable(source, target)
        account = Account(target.transfer_syntax, _text(source, _SOP_CLASS), _text(source, _SOP_INSTANCE))
        return Assembly(source, target, account, self._call).around(lengths)

    def frame(self, source: OpenInstance, target: Target, number: int) -> FrameResult:
        """One frame, ``number`` counting from 1, in the form that it has in ``target``; native in little endian.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax
            As :meth:`data_set`.
        """
        return next(self.frames(source, target, [number]))

    def frames(self, source: OpenInstance, target: Target, numbers: Sequence[int]) -> Iterator[FrameResult]:
        """As :meth:`frame`, for several frames in the order of ``numbers``; several are converted at a time."""
        known = source.native_spec
        if known is not None and not target.is_native:  # the data set is not read for what is known without it
            require_frames_writable(known, target)
            native = FramePixels(source, known)
            yield from self._converted(native.task(number, target) for number in numbers)
            return
        _require_readable(source, target)
        pixels = SourcePixels(source, target.transfer_syntax)
        if not target.is_native:
            require_writable(pixels, target)
        tasks = (pixels.task(number, target) for number in numbers)
        if target.is_native and not pixels.span.encapsulated:
            yield from (FrameResult(task.data, task.spec) for task in tasks)
        else:
            yield from self._converted(tasks)

    def rendered(self, source: OpenInstance, number: int, view: View) -> bytes:
        """One frame, ``number`` counting from 1, as people look at it: a JPEG or PNG file.

        Raises
        ------
        FrameNotFound
            If there is no such frame.
        UnsupportedTransferSyntax, UnsupportedFrame
            If it cannot be decoded, or the data set does not say how to show it.
        """
        target, known = Target(uids.EXPLICIT_LE), source.native_spec
        if known is not None:
            task = FramePixels(source, known).task(number, target)
        else:
            _require_readable(source, target)
            task = SourcePixels(source, target.transfer_syntax).task(number, target)
        call = render if self._is_quick(task, view) else partial(self._call, render)
        rendered: bytes = call(task, source.head(), source.encoding, view)
        return rendered

    def _is_quick(self, task: FrameTask, view: View) -> bool:
        """Whether a picture is made here: no foreign code stream is decoded, and neither frame nor picture is large."""
        port = view.viewport
        pixels = task.spec.rows * task.spec.columns if port is None else port.width * port.height
        return task.source in {None, *self._in_process} and max(pixels, task.spec.frame_bits // 16) <= _QUICK_PIXELS

    def _pieces(self, source: OpenInstance, target: Target, account: Account) -> Iterator[bytes]:
        assembly = Assembly(source, target, account, self._call)
        if source.layout.pixel is None:
            return assembly.without_pixels()
        pixels = SourcePixels(source, target.transfer_syntax)
        if not target.is_native:
            return assembly.encapsulated(pixels, self._converted, StreamSpool(self._spool))
        if pixels.span.encapsulated:
            return assembly.decapsulated(pixels, self._converted)
        return assembly.reordered(pixels)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a codec where frames are converted, too."""
        return function(*arguments) if self._executor is None else self._executor.submit(function, *arguments).result()

    def _converted(self, tasks: Iterator[FrameTask]) -> Iterator[FrameResult]:
        first, second = next(tasks), next(tasks, None)
        is_here = first.source in {None, *self._in_process} and (
            first.target in {None, *_HARMLESS} or (second is None and self._is_written_here(first))
        )
        some = [first] if second is None else [first, second]
        yield from in_order(chain(some, tasks), None if is_here else self._executor, ahead=self._ahead)

    def _is_written_here(self, task: FrameTask) -> bool:
        return task.target in self._written_here and len(task.data) <= self._written_here_bytes


def _require_readable(source: OpenInstance, target: Target) -> None:
    """Refuse what is damaged, private, or holds no still images."""
    layout = source.layout
    syntax = uids.transfer_syntax(layout.transfer_syntax)
    reason = ""
    if not syntax.known:
        reason = f"{syntax.uid} is a private transfer syntax: what its Pixel Data is only its maker knows"
    elif not syntax.encapsulated and syntax.uid not in NATIVE_ENCODINGS and syntax.lossless is None:
        reason = f"{syntax.name}: Pixel Data is elsewhere"
    if reason:
        raise UnsupportedTransferSyntax(target.transfer_syntax, reason)
    if layout.problem:
        raise DicomError(f"the data set is damaged: {layout.problem}")


def _passes(source: OpenInstance, target: Target) -> bool:
    """Whether the data set is as wanted already, in the encoding that its transfer syntax says."""
    layout = source.layout
    if target.transfer_syntax != layout.transfer_syntax or target.anew or target.is_lossy:
        return False
    encoding = target.encoding
    is_true = (layout.implicit_vr, layout.little_endian) == (encoding.implicit_vr, encoding.little_endian)
    return is_true and layout.deflated == (target.transfer_syntax == uids.DEFLATED_LE)


def _deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as one raw deflate stream, padded to even length (PS3.5 A.5)."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    length = 0
    for piece in pieces:
        compressed = deflate.compress(piece)
        length += len(compressed)
        yield compressed
    rest = deflate.flush()
    yield rest + b"\0" * ((length + len(rest)) % 2)


def _text(source: OpenInstance, tags: tuple[int, ...]) -> str:
    """Value of the first of these elements that is there."""
    values = (source.layout.elements.get(tag) for tag in tags)
    return next((raw.value.decode("latin-1").strip(" \0") for raw in values if raw is not None), "")
