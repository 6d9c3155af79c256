"""What instances and frames are made with when they are wanted otherwise than they are held: decoders and encoders."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leanpacs.archive.giveback.checks import SpotChecks
from leanpacs.catalog import InstanceRow
from leanpacs.codecs import registry
from leanpacs.errors import CodecError, DecodeError, DicomError, FrameNotFound, UnsupportedTransferSyntax

if TYPE_CHECKING:
    from leanpacs.transcode.engine import Transcoder
    from leanpacs.transcode.target import Target

_PREPARED: Final = 2
"""Workers that are made ready when somebody begins to read."""


class Transcoding:
    """How frames are decoded and written for receivers. Thread-safe.

    Parameters
    ----------
    workers : Executor, optional
        Where; in this process by default.
    checks : SpotChecks
        Says what is read back.
    spool : Path
        Folder for what does not fit into memory.
    """

    def __init__(self, workers: Executor | None, checks: SpotChecks, spool: Path) -> None:
        self._workers = workers
        self._checks = checks
        self._spool = spool

    def warm_up(self, *, pictures: bool = False) -> None:
        """Load the codecs that need no worker, and what writes pictures."""
        registry.warm_up()
        if pictures:
            from leanpacs.transcode import rendering

            self.transcoder()
            rendering.warm_up()

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

    def target(self, instance: InstanceRow, transfer_syntax: str, effort: int = 0) -> Target:
        """What is to be written of an instance; each call counts for the checks."""
        return target_of(transfer_syntax, self._checks.are_due(instance, transfer_syntax), effort)


def target_of(transfer_syntax: str, is_checked: bool = True, effort: int = 0) -> Target:
    """Frames in a transfer syntax, the first one read back if ``is_checked``; effort 0 is the usual one."""
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
