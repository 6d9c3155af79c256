"""A blob store on a local file system.

::

    blobs/ab/ab12...ef      one file for each blob, by the first two digits of its digest
    dictionaries/7.dict     keepsakes under their name
    tmp/                    blobs being written
    spool/                  files that will be adopted

A blob becomes visible by one rename, after its bytes are on the medium; the folder is synced before ``put``,
``commit`` and ``adopt`` return. A crash leaves nothing but files in ``tmp`` and ``spool``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BufferedRandom, BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from leanpacs.errors import BlobNotFound, NameTaken, StoreFull, StoreUnavailable
from leanpacs.refs import HOT, BlobRef, Digest, Tier
from leanpacs.storage.store import (
    CHUNK_BYTES,
    Availability,
    BlobStat,
    BlobWriter,
    check_by_reading,
    checked_name,
    checked_range,
)
from leanpacs.storage.writing import FileWriter, new_file, translated

_PRIVATE_FOLDERS = ("blobs", "tmp", "spool")
_BLOB_FOLDERS = frozenset(f"{first:02x}" for first in range(256))
_FOLDER_MODE = 0o750
_YOUNG_SECONDS = 60.0
"""A file written less than this ago need not be made young."""
_SMALL_BYTES: Final = 512 << 10
"""A blob that is no longer is read at once: that takes less time than to read a few parts of it one after the other."""


@dataclass(frozen=True, slots=True)
class LocalStore:
    """Blobs in a folder; a plain value, so that it can be sent to a worker process.

    Parameters
    ----------
    root : Path
        Folder of the store; it and what it needs is made when absent. Nothing else may write in it.
    tier : Tier
        Name of the store.
    fsync : bool
        Whether files and folders are synced. Without, a power failure may lose what was put.
    minimum_free_bytes : int
        Writing raises ``StoreFull`` when less would stay free on the file system.
    make : bool
        Whether folders that are absent are made. Without, a folder that has vanished, perhaps with the disk that it was
        on, is told of by every method as ``StoreUnavailable`` until it is back.
    """

    root: Path
    tier: Tier = HOT
    fsync: bool = field(default=True, kw_only=True)
    minimum_free_bytes: int = field(default=0, kw_only=True)
    make: bool = field(default=True, kw_only=True, compare=False)

    _known: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())
        if not self.make:
            return
        with translated():
            new_root = not self.root.exists()
            for name in _PRIVATE_FOLDERS:
                (self.root / name).mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            self._sync_folder(self.root)
            if new_root:
                self._sync_folder(self.root.parent)

    # ------------------------------------------------------------------------------------------- writing

    @property
    def availability(self) -> Availability:
        """What is here can be read at once."""
        return Availability.ONLINE

    def restore(self, digest: Digest) -> float:
        """Nothing has to be asked for."""
        return 0.0

    def writer(self) -> BlobWriter:
        """Start to write a blob whose digest is not known yet."""
        self._check_room(0)
        return FileWriter(self._temporary_path(), self._keep_written)

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``; durable when it returns."""
        ref = BlobRef(self.tier, Digest.of(data), len(data))
        with translated():
            if not self._refresh(ref):
                self._check_room(len(data))
                self._place(self._write_temporary([data]), ref)
        return ref

    def adopt(self, path: Path, digest: Digest | None = None) -> BlobRef:
        """Take over a closed local file, durably; on an error it stays where it was."""
        return self.adopt_all([(path, digest)])[0]

    def adopt_all(self, files: Sequence[tuple[Path, Digest | None]]) -> list[BlobRef]:
        """Take over several files; each folder is synced once, after the last of them has its name."""
        with translated():
            self._check_room(0)
            refs = [self._synced(path, digest) for path, digest in files]
            for folder in {self._adopt_synced(path, ref) for (path, _), ref in zip(files, refs, strict=True)}:
                self._sync_folder(folder)
        return refs

    def _synced(self, path: Path, digest: Digest | None) -> BlobRef:
        """Bring a file's bytes onto the medium, and make the file young."""
        if digest is None:
            with path.open("rb") as file:
                digest = Digest(hashlib.file_digest(file, "sha256").digest())
        descriptor = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            self._sync(descriptor)
        finally:
            os.close(descriptor)
        if time.time() - status.st_mtime > _YOUNG_SECONDS:
            os.utime(path)
        return BlobRef(self.tier, digest, status.st_size)

    def _adopt_synced(self, path: Path, ref: BlobRef) -> str:
        """Give a synced file its final name; the folder to be synced. Good bytes take the place of what is there."""
        folder, name = self._place_of(ref.digest)
        self._ensure_folders()
        try:
            os.rename(path, f"{folder}/{name}")  # noqa: PTH104
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with path.open("rb") as file:
                chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
                self._place(self._write_temporary(chunks), ref)
            path.unlink()
        return folder

    def spool_folder(self) -> Path:
        """Folder for files that are to be adopted: on the same file system, so that they are only renamed."""
        return self.root / "spool"

    def _refresh(self, ref: BlobRef) -> bool:
        """Make a blob young that is there already and has the right length."""
        target = self._path(ref.digest)
        try:
            if target.stat().st_size != ref.size_bytes:
                return False  # damaged; the good bytes take its place
            os.utime(target)
        except FileNotFoundError:
            return False
        # Whoever put it may not have come to sync the folders yet.
        self._ensure_folders()
        self._sync_folder(target.parent)
        return True

    def _place(self, temporary: Path, ref: BlobRef) -> None:
        """Give a synced temporary file its final name, durably; on an error it is removed."""
        target = self._path(ref.digest)
        try:
            self._ensure_folders()
            temporary.rename(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_folder(target.parent)

    def _ensure_folders(self) -> None:
        """Make the folders of ``blobs`` durable, once in each process: that they are there does not say that.

        All of them at once: digests fall into all of them soon, and a sync for each would cost more than they do.
        """
        if not self._known:
            blobs = self.root / "blobs"
            for name in _BLOB_FOLDERS.difference(one.name for one in blobs.iterdir()):
                (blobs / name).mkdir(mode=_FOLDER_MODE, exist_ok=True)
            self._sync_folder(blobs)
            self._known.add(blobs.name)

    def _write_temporary(self, chunks: Iterable[bytes]) -> Path:
        """Write a new synced file; on any failure there is none."""
        path = self._temporary_path()
        try:
            with new_file(path) as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                self._sync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _keep_written(self, file: BufferedRandom, path: Path) -> BlobRef:
        self._check_room(0)
        file.seek(0)
        ref = BlobRef(self.tier, Digest(hashlib.file_digest(file, "sha256").digest()), os.fstat(file.fileno()).st_size)
        self._sync(file.fileno())
        if not self._refresh(ref):
            self._place(path, ref)
        return ref

    def _temporary_path(self) -> Path:
        return self.root / "tmp" / uuid.uuid4().hex

    def _path(self, digest: Digest) -> Path:
        return Path(*self._place_of(digest))

    def _place_of(self, digest: Digest) -> tuple[str, str]:
        """Folder and name of a blob; as text, for a Path takes longer to make than most of what is done with it."""
        name = digest.hex
        return f"{self.root}/blobs/{name[:2]}", name

    def _name_of(self, digest: Digest) -> str:
        """Where a blob is, as text, too."""
        return "/".join(self._place_of(digest))

    def _sync(self, descriptor: int) -> None:
        if self.fsync:
            os.fsync(descriptor)

    def _sync_folder(self, folder: Path | str) -> None:
        if self.fsync:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _check_room(self, size_bytes: int) -> None:
        if self.minimum_free_bytes:
            left = self.free_bytes() - size_bytes
            if left < self.minimum_free_bytes:
                raise StoreFull(f"{self.root}: {left} bytes would stay free, {self.minimum_free_bytes} must")

    # ------------------------------------------------------------------------------------------- reading

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob, all or a range."""
        with self._finding(digest), open(self._name_of(digest), "rb") as file:  # noqa: PTH123 -- see _place_of
            start, end = checked_range(digest, os.fstat(file.fileno()).st_size, offset, length)
            file.seek(start)
            return file.read(end - start)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable binary file; the caller closes it. Small blobs come whole, at once."""
        with self._finding(digest):
            descriptor = os.open(self._name_of(digest), os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(descriptor).st_size
            if size > _SMALL_BYTES:
                return os.fdopen(descriptor, "rb")
            try:
                data = os.read(descriptor, size)  # a file object takes half of the time that all of this takes
                while len(data) < size and (more := os.read(descriptor, size - len(data))):
                    data += more
            finally:
                os.close(descriptor)
            return BytesIO(data)

    def chunks(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Bytes of a blob, all or a range, in pieces."""
        start, end = checked_range(digest, self.size(digest), offset, length)
        return self._chunks(digest, start, end, size)

    def _chunks(self, digest: Digest, start: int, end: int, size: int) -> Iterator[bytes]:
        with self.open(digest) as file:
            file.seek(start)
            while start < end:
                with translated():
                    chunk = file.read(min(size, end - start))
                if not chunk:
                    checked_range(digest, start, start, end - start)  # became shorter: told as damage
                start += len(chunk)
                yield chunk

    def size(self, digest: Digest) -> int:
        """Length of a blob in bytes."""
        with self._finding(digest):
            return os.stat(self._name_of(digest)).st_size  # noqa: PTH116

    def exists(self, digest: Digest) -> bool:
        """Whether the store has a blob."""
        try:
            self.size(digest)
        except BlobNotFound:
            return False
        return True

    @contextmanager
    def _finding(self, digest: Digest) -> Iterator[None]:
        """Errors as those of a store; where all blobs are gone, it is the store that is not there."""
        try:
            with translated(digest.hex):
                yield
        except BlobNotFound as error:
            if not (self.root / "blobs").is_dir():
                raise StoreUnavailable(f"{self.root} is not there; is its disk mounted?") from error
            raise

    def list(self) -> Iterator[BlobStat]:
        """All blobs, by digest."""
        with translated():
            folders = sorted(path for path in (self.root / "blobs").iterdir() if path.is_dir())
        for folder in folders:
            with translated(), os.scandir(folder) as entries:
                stats = [stat for entry in entries if (stat := _blob_stat(entry))]
            yield from sorted(stats, key=lambda stat: stat.digest)

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is absent is fine."""
        with translated():
            self._path(digest).unlink(missing_ok=True)

    def check(self, digest: Digest) -> None:
        """Compare the bytes that the store has with the digest."""
        check_by_reading(self, digest)

    def set_aside(self, digests: Sequence[Digest]) -> Sequence[Path]:
        """Take blobs out of the store without deleting their bytes, which takes long.

        The caller deletes the files; otherwise `sweep_temporary` does.
        """
        files = []
        for digest in digests:
            aside = self._temporary_path()
            with translated(), suppress(FileNotFoundError):
                self._path(digest).rename(aside)
                files.append(aside)
        return files

    # ----------------------------------------------------------------------------- keepsakes, housekeeping

    def keep(self, name: str, data: bytes) -> None:
        """Keep a small named file, durably and for ever."""
        target = self._keepsake(name)
        with translated():
            self._check_room(len(data))
            target.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            temporary = self._write_temporary([data])
            try:
                target.hardlink_to(temporary)  # unlike a rename, never replaces
            except FileExistsError:
                if target.read_bytes() != data:
                    raise NameTaken(name) from None
            finally:
                temporary.unlink(missing_ok=True)
            self._sync_folder(target.parent)
            self._sync_folder(self.root)

    def kept(self, name: str) -> bytes:
        """Content of a named file."""
        with translated(name):
            return self._keepsake(name).read_bytes()

    def kept_names(self) -> Sequence[str]:
        """Names of all named files, sorted."""
        with translated():
            folders = [entry for entry in os.scandir(self.root) if entry.name not in _PRIVATE_FOLDERS]
            return sorted(
                f"{folder.name}/{entry.name}"
                for folder in folders
                if folder.is_dir()
                for entry in os.scandir(folder)
                if entry.is_file()
            )

    def _keepsake(self, name: str) -> Path:
        folder, file = checked_name(name).split("/")
        if folder in _PRIVATE_FOLDERS:
            raise ValueError(f"{name!r}: the folder {folder} is the store's own")
        return self.root / folder / file

    def sweep_temporary(self, older_than: datetime) -> int:
        """Remove what writers and spools left behind and nobody touched since."""
        removed = 0
        with translated():
            for folder in ("tmp", "spool"):
                for path in (self.root / folder).iterdir():
                    with suppress(FileNotFoundError):
                        if path.is_file() and path.stat().st_mtime < older_than.timestamp():
                            path.unlink()
                            removed += 1
        return removed

    def free_bytes(self) -> int:
        """Room left on the file system for this user."""
        with translated():
            status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


def _blob_stat(entry: os.DirEntry[str]) -> BlobStat | None:
    """One blob of a folder; None for what is none, or is gone meanwhile."""
    try:
        digest = Digest.from_hex(entry.name)
        status = entry.stat()
    except (ValueError, FileNotFoundError):
        return None
    return BlobStat(digest, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
