"""One frame from one form to another: what runs in a worker process.

Nothing here knows of data sets. A task and its result are small but for the bytes of one frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import numpy as np

from leanpacs.codecs import registry
from leanpacs.codecs.codec import DecodedFrame
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.native import expand_422, pack, unpack
from leanpacs.codecs.samples import decoded_spec
from leanpacs.codecs.second import second_decoders
from leanpacs.codecs.writing import WriteOptions, is_lossy, write_frame
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import EXPLICIT_LE, transfer_syntax
from leanpacs.errors import (
    CodecError,
    DecodeError,
    EncodeError,
    UnsupportedFrame,
    UnsupportedTransferSyntax,
    VerificationError,
    WorkerError,
)
from leanpacs.transcode.recompression import is_rewrapped, rewrapped
from leanpacs.transcode.target import Verify, name_of


@dataclass(frozen=True, slots=True)
class FrameTask:
    """One frame, and what is to become of it.

    Parameters
    ----------
    number : int
        From 1.
    data : bytes
        Its code stream, or its native bytes in little endian order.
    source : str or None
        UID of the transfer syntax that ``data`` is a code stream of; None when it is native.
    spec : FrameSpec
        What the data set says of it.
    target : str or None
        UID of the transfer syntax wanted; None for native bytes in little endian order.
    options : WriteOptions
        How to write.
    verify : Verify
        How to check what was written.
    """

    number: int
    data: bytes
    source: str | None
    spec: FrameSpec
    target: str | None
    options: WriteOptions
    verify: Verify


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One frame in its new form, what a data set must say of it, and which decoders have found it right."""

    data: bytes
    spec: FrameSpec
    checked_by: tuple[str, ...] = ()


def convert(task: FrameTask) -> FrameResult:
    """Decode one frame and write it in its new form.

    Raises
    ------
    UnsupportedTransferSyntax
        If it is of a kind that is not decoded, or that cannot be written so; says why.
    DecodeError, EncodeError
        If its code stream is damaged, or an encoder fails.
    VerificationError
        If what was written decodes to other samples.
    """
    if is_rewrapped(task.source, task.target):
        return _rewrapped(task)
    frame = decoded(task)
    if task.target is None:
        checked_by: tuple[str, ...] = ()
        if task.source is not None and transfer_syntax(task.source).lossless:
            checked_by = _read_by_another(task, FrameResult(task.data, task.spec), task.source, frame)
        return FrameResult(pack(frame.samples, frame.spec), frame.spec, checked_by)
    try:
        written = write_frame(frame.samples, frame.spec, task.target, task.options)
    except CodecError as error:
        raise _of_frame(error, task, "written") from error
    result = FrameResult(written.stream, written.spec)
    checked_by = _checked_by(task, frame, result)
    return replace(result, checked_by=checked_by) if checked_by else result


def warm_up() -> None:
    """Import what converting needs: the first call of each worker process."""
    import imagecodecs  # noqa: F401


def in_order(tasks: Iterable[FrameTask], executor: Executor | None, *, ahead: int) -> Iterator[FrameResult]:
    """Convert frames, several at a time, and give them in the order of the tasks.

    Parameters
    ----------
    tasks : iterable of FrameTask
        Taken when there is room, so that no more than ``ahead`` frames are held.
    executor : Executor or None
        Where they are converted; here when None.
    ahead : int
        Frames that are given to the executor beyond the one that is waited for.

    Raises
    ------
    DecodeError, EncodeError
        Also if a worker process was lost.
    """
    if executor is None:
        yield from map(convert, tasks)
        return
    waiting: deque[tuple[FrameTask, Future[FrameResult]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, executor.submit(convert, task)))
            if len(waiting) > ahead:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        for _, future in waiting:
            future.cancel()


def _result(task: FrameTask, future: Future[FrameResult]) -> FrameResult:
    try:
        return future.result()
    except WorkerError as error:
        message = f"frame {task.number}: {error}"
        if task.source is None:
            raise EncodeError(name_of(task.target or EXPLICIT_LE), message) from error
        raise DecodeError(name_of(task.source), message) from error


def _rewrapped(task: FrameTask) -> FrameResult:
    assert task.source is not None
    assert task.target is not None
    try:
        stream = rewrapped(task.data, task.source, task.target, task.spec)
    except CodecError as error:
        raise _of_frame(error, task, "written") from error
    return FrameResult(stream, task.spec, (registry.by_name(JpegXL.name).library(),))


def decoded(task: FrameTask) -> DecodedFrame:
    """Samples of one frame, whatever is to become of it.

    Raises
    ------
    UnsupportedTransferSyntax, DecodeError
        As :func:`convert`.
    """
    if task.source is None:
        spec = task.spec.but(number_of_frames=1)
        if spec.is_subsampled:
            return DecodedFrame(expand_422(task.data, spec), decoded_spec(spec))
        return DecodedFrame(unpack(task.data, spec), spec.but(planar_configuration=0))
    try:
        return registry.decode_received(task.data, task.source, task.spec)
    except CodecError as error:
        raise _of_frame(error, task, "decoded") from error


def _of_frame(error: CodecError, task: FrameTask, what: str) -> CodecError:
    """The error with the number of the frame; what a codec cannot hold is told apart from what is damaged."""
    if isinstance(error, DecodeError | EncodeError):
        return type(error)(error.codec, f"frame {task.number}: {str(error).removeprefix(error.codec + ': ')}")
    return UnsupportedTransferSyntax(task.target or EXPLICIT_LE, f"frame {task.number} cannot be {what}: {error}")


def _checked_by(task: FrameTask, decoded: DecodedFrame, written: FrameResult) -> tuple[str, ...]:
    """Decode what was written and compare; what is lossy need only decode to a frame of its kind."""
    assert task.target is not None
    if task.verify is Verify.NONE:
        return ()
    try:
        again = registry.decode_received(written.data, task.target, written.spec)
    except DecodeError as error:
        raise VerificationError(f"frame {task.number} does not decode", name_of(task.target), str(error)) from error
    exact = not is_lossy(task.target, task.options)
    if exact:
        _compare(task, decoded, again)
    codec = registry.for_transfer_syntax(task.target)
    first = (codec.library(),) if codec else ()
    return first + (_read_by_another(task, written, task.target, decoded) if exact else ())


def _read_by_another(task: FrameTask, frame: FrameResult, syntax: str, expected: DecodedFrame) -> tuple[str, ...]:
    """Have the first second decoder that knows such frames read a code stream; () when none does, or none is asked."""
    if task.verify is not Verify.SECOND:
        return ()
    for decoder in second_decoders(syntax):
        try:
            _compare(task, expected, decoder.decode(frame.data, syntax, frame.spec))
        except UnsupportedFrame:
            continue
        except DecodeError as error:
            raise VerificationError(f"{decoder.name}: frame {task.number}", "a frame", str(error)) from error
        return (decoder.library(),)
    return ()


def _compare(task: FrameTask, expected: DecodedFrame, found: DecodedFrame) -> None:
    if found.photometric_interpretation != expected.photometric_interpretation:
        raise VerificationError(
            f"frame {task.number} is of another colour space",
            expected.photometric_interpretation,
            found.photometric_interpretation,
        )
    same_type = found.samples.dtype == expected.samples.dtype
    if not same_type or not np.array_equal(found.samples, expected.samples):
        raise VerificationError(f"frame {task.number} has changed", _described(expected), _described(found))


def _described(frame: DecodedFrame) -> str:
    values = frame.samples
    return f"{values.dtype} {values.shape} from {values.min()} to {values.max()}"
