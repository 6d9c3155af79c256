"""Files from one transfer syntax to another: one by itself, or many, of which none stops the others."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Final

from leanpacs.codecs.writing import WriteOptions
from leanpacs.dicom.layout import Layout
from leanpacs.errors import (
    LeanPACSError,
    NotDicom,
    UnsupportedFrame,
    UnsupportedTransferSyntax,
)
from leanpacs.transcode.account import Account
from leanpacs.transcode.content import open_content
from leanpacs.transcode.engine import Transcoder
from leanpacs.transcode.frames import warm_up
from leanpacs.transcode.source import OpenFile
from leanpacs.transcode.target import Target, Verify, syntax_named
from leanpacs.workers import WorkerPool

LIMIT_INFLATED_BYTES: Final = 4 << 30
"""Deflated data sets that inflate to more are not transcoded."""
FRAME_MEMORY_BYTES: Final = 4 << 30
"""What a worker process may need for one frame."""
FRAME_SECONDS: Final = 600.0
"""What one frame may take; encoders at their highest effort need minutes for the largest frames."""

_DIRECTORY: Final = b"1.2.840.10008.1.3.10"


class Status(StrEnum):
    """What became of a file."""

    EXACT = "exact"
    """Written; every sample and every element outside Pixel Data is what it was."""
    UNCHANGED = "unchanged"
    """It was in the transfer syntax wanted already, and is written as it was."""
    LOSSY = "lossy"
    """Written, with the loss that was asked for."""
    REFUSED = "refused"
    """It cannot be given in this transfer syntax; nothing is written."""
    FAILED = "failed"
    """It is damaged, or something went wrong; nothing is written."""
    SKIPPED = "skipped"
    """It is no DICOM instance, or the output is there already."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Parameters
    ----------
    path, out : Path
        What was read; what was, or would have been, written.
    status : Status
        See there.
    reason : str
        Why it was refused or passed over, or failed; '' when it was written.
    source, target : str
        UIDs of the transfer syntaxes of what was read and what was written; '' when not known.
    bytes_in, bytes_out : int
        Sizes of the files.
    account : Account or None
        What the engine did; None when nothing was written.
    seconds : float
        How long it took.
    """

    path: Path
    out: Path
    status: Status
    reason: str = ""
    source: str = ""
    target: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    account: Account | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FileTranscoder:
    """Transcodes files. Thread-safe.

    Parameters
    ----------
    transcoder : Transcoder
        The engine.
    target : Target
        What is wanted.
    overwrite : bool
        Replace files that are there already.
    spool : Path
        Folder for inflated data sets.
    """

    transcoder: Transcoder
    target: Target
    overwrite: bool = False
    spool: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    def write(self, path: Path, out: Path) -> Outcome:
        """Transcode ``path`` to ``out``, which is complete once it is there.

        Raises
        ------
        FileExistsError
            If ``out`` is there already and is not to be replaced.
        NotDicom
            If ``path`` is no DICOM instance.
        UnsupportedTransferSyntax
            If the instance cannot be given so; says why.
        LeanPACSError, OSError
            If anything else goes wrong.
        """
        began = perf_counter()
        if out.exists() and not self.overwrite:
            raise FileExistsError(f"{out} is there already")
        with path.open("rb") as file, open_content(file, None, spool=self.spool, limit_bytes=LIMIT_INFLATED_BYTES) as c:
            _require_instance(c.layout)
            made = self.transcoder.file(OpenFile(c), self.target)
            size = self._put(out, made.pieces)
            return Outcome(
                path,
                out,
                _status(made.account),
                source=c.layout.transfer_syntax,
                target=made.account.transfer_syntax,
                bytes_in=path.stat().st_size,
                bytes_out=size,
                account=made.account,
                seconds=perf_counter() - began,
            )

    def attempt(self, path: Path, out: Path) -> Outcome:
        """As :meth:`write`, with every failure as an outcome."""
        try:
            return self.write(path, out)
        except NotDicom as error:
            return Outcome(path, out, Status.SKIPPED, f"not DICOM: {error}")
        except FileExistsError:
            return Outcome(path, out, Status.SKIPPED, f"{out} is there already")
        except (UnsupportedTransferSyntax, UnsupportedFrame) as error:
            return Outcome(path, out, Status.REFUSED, str(error))
        except (LeanPACSError, OSError) as error:
            return Outcome(path, out, Status.FAILED, str(error))

    def _put(self, out: Path, pieces: Iterable[bytes]) -> int:
        """Write under another name first, so that a file that is there is complete."""
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
        try:
            with partial.open("xb") as file:
                size = sum(file.write(piece) for piece in pieces)
            if self.overwrite:
                partial.replace(out)
            else:
                out.hardlink_to(partial)
            return size
        finally:
            partial.unlink(missing_ok=True)


def transcode_file(
    path: Path | str,
    out: Path | str,
    transfer_syntax: str,
    *,
    options: WriteOptions | None = None,
    verify: Verify = Verify.FIRST,
    anew: bool = False,
    overwrite: bool = False,
    jobs: int = 1,
    isolated: bool = True,
) -> Outcome:
    """Write a DICOM file in another transfer syntax.

    Parameters
    ----------
    path, out : Path or str
        What is read; what is written, folders included.
    transfer_syntax : str
        Keyword of PS3.6, such as ``JPEGXLLossless``, or UID.
    options : WriteOptions, optional
        Effort, and how much may be lost: nothing by default.
    verify : Verify
        How written frames are checked.
    anew : bool
        Write again what is in this transfer syntax already; by default the file is copied.
    overwrite : bool
        Replace a file that is there already.
    jobs : int
        Frames converted at the same time.
    isolated : bool
        Run image codecs in processes that may crash, hang or grow without harm here. Without it they run here, which
        saves starting processes; for files that can be trusted.

    Returns
    -------
    Outcome
        Of status ``exact``, ``unchanged`` or ``lossy``.

    Raises
    ------
    UnsupportedTransferSyntax
        If it cannot be given in this transfer syntax; says why. Nothing is written then, nor after any other error.
    FileExistsError
        If ``out`` is there already.
    NotDicom, VerificationError, LeanPACSError, OSError
        If it is no DICOM, if a written frame does not read back to what it was made of, or if anything else goes wrong.
    """
    target = Target(syntax_named(transfer_syntax), options or WriteOptions(), verify, anew)
    with transcoding(jobs, isolated=isolated) as transcoder:
        return FileTranscoder(transcoder, target, overwrite).write(Path(path), Path(out))


@contextmanager
def transcoding(jobs: int, *, isolated: bool = True) -> Iterator[Transcoder]:
    """A transcoder with ``jobs`` worker processes, which start when they are needed; without any when not isolated."""
    if not isolated:
        yield Transcoder()
        return
    with WorkerPool(
        jobs, memory_limit_bytes=FRAME_MEMORY_BYTES, time_limit_seconds=FRAME_SECONDS, initializer=warm_up
    ) as pool:
        yield Transcoder(pool, ahead=2 * jobs)


def transcode_files(pairs: Iterable[tuple[Path, Path]], files: FileTranscoder, jobs: int) -> Iterator[Outcome]:
    """Transcode many files, ``jobs`` at the same time; outcomes come as files are done.

    Parameters
    ----------
    pairs : iterable of (Path, Path)
        What is read, and what is to be written; taken as there is room.
    files : FileTranscoder
        By which.
    jobs : int
        Files worked on at the same time. Their frames share the worker processes.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="transcode") as threads:
        working: set[Future[Outcome]] = set()
        for path, out in pairs:
            working.add(threads.submit(files.attempt, path, out))
            if len(working) > jobs:
                done, working = wait(working, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in working)


def outputs(paths: Iterable[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Every file in ``paths``, folders walked in name order, and where its output goes: the same tree below ``out``.

    Files below ``out`` itself are left out, so that it may be within a folder that is walked.
    """
    for path in paths:
        if not path.is_dir():
            yield path, out / path.name
            continue
        for parent, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if Path(parent, name).resolve() != out.resolve())
            for name in sorted(names):
                yield Path(parent, name), out / Path(parent, name).relative_to(path)


def _require_instance(layout: Layout) -> None:
    sop_class = layout.elements.get(0x00080016) or layout.elements.get(0x00020002)
    if sop_class is not None and sop_class.value.rstrip(b"\0 ") == _DIRECTORY:
        raise NotDicom("a directory of other files, no instance")


def _status(account: Account) -> Status:
    if account.lossy:
        return Status.LOSSY
    return Status.UNCHANGED if account.unchanged else Status.EXACT
