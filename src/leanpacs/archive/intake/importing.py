"""Import folders, files and ZIP archives: find what is in them and land it, several at a time."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from leanpacs.archive.archive import Archive
from leanpacs.archive.intake.incoming import Incoming, Receipt
from leanpacs.dicom.instance import scan
from leanpacs.errors import CatalogError, DicomError, NotDicom, StorageError

log = logging.getLogger(__name__)

BATCH = 16
BATCH_BYTES = 64 << 20
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
DICOM_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".dic", ".ima", ".img"})
LARGEST_MEMBER = 64 << 30


@dataclass(frozen=True, slots=True)
class Found:
    """A file to import: on disk (``path``), or member ``member`` of the ZIP archive ``path``."""

    path: Path
    member: str = ""
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return f"{self.path}!{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one found file: a receipt, or why it was passed over or failed."""

    found: Found
    receipt: Receipt | None
    skipped: str = ""
    failed: str = ""


def find(paths: Iterable[Path], report: Callable[[Imported], None]) -> Iterator[Found]:
    """Walk files, folders and ZIP archives, in name order; what cannot be read is reported and passed over."""
    for path in paths:
        if path.is_dir():
            yield from _walk(path, report)
        elif path.exists():
            yield from _expand(path, report)
        else:
            report(Imported(Found(path), None, failed="there is no such file or folder"))


def _walk(folder: Path, report: Callable[[Imported], None]) -> Iterator[Found]:
    def unreadable(error: OSError) -> None:
        report(Imported(Found(Path(error.filename)), None, failed=f"cannot be read: {error.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file():
                yield from _expand(path, report)


def _expand(path: Path, report: Callable[[Imported], None]) -> Iterator[Found]:
    try:
        if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
            yield Found(path, size_bytes=path.stat().st_size)
            return
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield Found(path, info.filename, info.file_size)
    except (OSError, zipfile.BadZipFile) as error:
        report(Imported(Found(path), None, failed=f"cannot be read: {error}"))


class Importer:
    """Lands found files in batches on several threads.

    Parameters
    ----------
    archive : Archive
        Where they go.
    report : callable
        Told what became of each file; called from several threads, one at a time.
    jobs : int
        Threads.
    """

    def __init__(self, archive: Archive, report: Callable[[Imported], None], jobs: int) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._tell = report
        self._jobs = jobs

    def run(self, paths: Sequence[Path]) -> None:
        """Import everything in ``paths``."""
        room = threading.Semaphore(2 * self._jobs)

        def land(batch: list[Found]) -> None:
            try:
                self._land(batch)
            finally:
                room.release()

        with ThreadPoolExecutor(self._jobs) as threads:
            for batch in _batches(find(paths, self._report)):
                room.acquire()
                threads.submit(land, batch)

    def _report(self, imported: Imported) -> None:
        with self._lock:
            self._tell(imported)

    def _land(self, batch: list[Found]) -> None:
        opened: list[tuple[Found, Incoming]] = []
        for found in batch:
            try:
                incoming = self._incoming(found)
                skipped = reason_to_skip(incoming.path, Path(found.member or found.path))
            except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                self._report(Imported(found, None, failed=f"cannot be read: {error}"))
                continue
            if skipped:
                if not incoming.stays:
                    incoming.path.unlink(missing_ok=True)
                self._report(Imported(found, None, skipped=skipped))
            else:
                opened.append((found, incoming))
        self._land_opened(opened)

    def _land_opened(self, opened: Sequence[tuple[Found, Incoming]]) -> None:
        try:
            receipts = self._archive.land_many([incoming for _, incoming in opened])
        except (StorageError, CatalogError, OSError) as error:
            if len(opened) == 1:
                self._report(Imported(opened[0][0], None, failed=str(error)))
                return
            for found, _ in opened:  # one bad file must not stop the others of its batch
                self._land([found])
            return
        for (found, _), receipt in zip(opened, receipts, strict=True):
            self._report(Imported(found, receipt))

    def _incoming(self, found: Found) -> Incoming:
        if not found.member:
            return Incoming(found.path, str(found.path.parent), "import", name=found.name, stays=True)
        with zipfile.ZipFile(found.path) as archive, archive.open(found.member) as member:
            handle, name = tempfile.mkstemp(dir=self._archive.spool_folder)
            with os.fdopen(handle, "wb") as copy:
                shutil.copyfileobj(member, copy, 1 << 20)
        return Incoming(Path(name), str(found.path), "import", name=found.name)


def _batches(found: Iterable[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for item in found:
        batch.append(item)
        size += item.size_bytes
        if len(batch) == BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def reason_to_skip(path: Path, name: Path) -> str:
    """Why a file is not to be imported at all, or ''.

    Passed over are directories of media (PS3.3 F), and files that neither call themselves DICOM by name or prefix
    nor read as DICOM. Whatever claims to be DICOM and is not goes to the quarantine.
    """
    with path.open("rb") as reader:
        prefixed = reader.read(132)[128:] == b"DICM"
        suffix = name.suffix.lower()
        claims = prefixed or suffix in DICOM_SUFFIXES or suffix[1:].isdigit()
        if claims and name.name.upper() != "DICOMDIR":
            return ""
        reader.seek(0)
        try:
            layout = scan(reader)
        except NotDicom:
            return "" if claims else "not DICOM"
        except DicomError:
            return ""
    sop_class = layout.elements.get(0x00020002)
    if sop_class is not None and sop_class.value.rstrip(b"\0 ") == MEDIA_STORAGE_DIRECTORY.encode():
        return "a directory of other files"
    return ""
