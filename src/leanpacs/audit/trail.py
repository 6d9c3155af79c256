"""The audit trail: who did what to which instance, when, and with what outcome.

One JSON object on each line of ``audit.jsonl``, synced before :meth:`AuditTrail.record` returns. Full files
are renamed to ``audit-NNNNNN.jsonl`` and never changed again. The events carry UIDs, never names of patients.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from leanpacs.errors import StorageError, StoreFull, StoreUnavailable


class AuditAction(StrEnum):
    """What was done or tried."""

    START = "start"
    STOP = "stop"
    STORE = "store"
    QUERY = "query"
    SEND = "send"
    """It was begun; what came of it is `RETRIEVE`."""
    RETRIEVE = "retrieve"
    EXPORT = "export"
    DELETE = "delete"
    VERIFY = "verify"
    QUARANTINE = "quarantine"
    REBUILD = "rebuild"
    LOGIN = "login"
    CONFIGURE = "configure"


class AuditOutcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One entry of the trail.

    Parameters
    ----------
    at : datetime
        When, aware, in UTC.
    actor : str
        Who: ``"dimse:MODALITY1@192.0.2.7"``, ``"http:192.0.2.9"``, ``"cli:alice"``.
    action : AuditAction
    outcome : AuditOutcome
    study_uid, series_uid, sop_uid : str
        What it was done to; empty where it does not apply or is not known.
    detail : str
        Reason or extent, for people. No patient names.
    instances : int
        How many instances it was about; 0 where that does not apply or is not known.
    """

    at: datetime
    actor: str
    action: AuditAction
    outcome: AuditOutcome
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    detail: str = ""
    instances: int = 0

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("the time of an audit event must be aware")

    def to_json(self) -> str:
        """One line of JSON in ASCII, without its end; fields that may be empty are left out when they are."""
        fields = {name: value for name, value in asdict(self).items() if value not in ("", 0) or name == "actor"}
        return json.dumps({**fields, "at": self.at.isoformat()}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> AuditEvent:
        """Inverse of :meth:`to_json`.

        Raises
        ------
        ValueError
            The line is no audit event.
        """
        try:
            fields = json.loads(line)
            fields["at"] = datetime.fromisoformat(fields["at"])
            fields["action"] = AuditAction(fields["action"])
            fields["outcome"] = AuditOutcome(fields["outcome"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an audit event: {error}") from error


class AuditTrail:
    """Append-only trail in a folder, shared by any number of threads and processes on one machine.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    segment_bytes : int
        The trail is continued in a new file when the current one has reached this length.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def current(self) -> Path:
        """The file that is being appended to."""
        return self._folder / "audit.jsonl"

    def record(self, *events: AuditEvent) -> None:
        """Append events, all or none; they are on the disk when this returns.

        Raises
        ------
        StoreFull, StoreUnavailable
            The disk took none of them.
        """
        lines = "".join(event.to_json() + "\n" for event in events).encode()
        try:
            with self._locked():
                self._rotate_when_full()
                self._append(lines)
        except OSError as error:
            raise _storage_error(error) from error

    def segments(self) -> list[Path]:
        """All files of the trail, oldest first."""
        full = [path for path in self._folder.iterdir() if re.fullmatch(r"audit-\d{6,}\.jsonl", path.name)]
        current = [self.current] if self.current.exists() else []
        return sorted(full, key=_segment_number) + current

    def events(self) -> Iterator[AuditEvent]:
        """All events, oldest first; lines torn by a power failure are passed over."""
        for segment in self.segments():
            with segment.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        event = AuditEvent.from_json(line)
                    except ValueError:
                        continue
                    yield event

    @contextmanager
    def opened(self, number: int) -> Iterator[BinaryIO | None]:
        """The file of this number, counted from 1, or None when there is none yet.

        The one that is being appended to has the number after that of the last full one. It may be renamed while it is
        open; what is read stays the same.
        """
        with self._locked():
            full = self._folder / f"audit-{number:06d}.jsonl"
            numbers = [_segment_number(path) for path in self.segments() if path != self.current]
            path = full if full.exists() else self.current if number == max(numbers, default=0) + 1 else None
            file = path.open("rb") if path is not None and path.exists() else None
        try:
            yield file
        finally:
            if file is not None:
                file.close()

    def is_full(self, number: int) -> bool:
        """Whether the file of this number will not change any more."""
        return (self._folder / f"audit-{number:06d}.jsonl").exists()

    @property
    def folder(self) -> Path:
        """Where the trail is."""
        return self._folder

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock belongs to the open file: opening it anew also keeps the threads of one process apart.
        with (self._folder / "audit.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _append(self, lines: bytes) -> None:
        is_new = not self.current.exists()
        handle = os.open(self.current, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(handle).st_size
            try:
                _write_all(handle, _line_end_if_torn(handle, end) + lines)
                os.fdatasync(handle)
            except OSError:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)
        if is_new:
            self._sync_folder()

    def _rotate_when_full(self) -> None:
        if not self.current.exists() or self.current.stat().st_size < self._segment_bytes:
            return
        *full, _ = self.segments()
        number = _segment_number(full[-1]) + 1 if full else 1
        self.current.rename(self._folder / f"audit-{number:06d}.jsonl")
        self._sync_folder()

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _segment_number(path: Path) -> int:
    return int(path.stem.removeprefix("audit-"))


def _line_end_if_torn(handle: int, end: int) -> bytes:
    """A line end when the file does not close with one, so that a torn line spoils no other."""
    return b"" if end == 0 or os.pread(handle, 1, end - 1) == b"\n" else b"\n"


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _storage_error(error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"the audit trail has no room left: {error}")
    return StoreUnavailable(f"the audit trail cannot be written: {error}")
