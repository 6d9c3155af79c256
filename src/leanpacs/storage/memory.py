"""A blob store in memory, for tests and experiments; nothing outlives the process."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from leanpacs.errors import BlobNotFound, NameTaken
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


class MemoryStore:
    """Blobs in a dictionary.

    Parameters
    ----------
    tier : Tier
        Name of the store.
    """

    def __init__(self, tier: Tier = HOT) -> None:
        self._tier = tier
        self._blobs: dict[Digest, bytes] = {}
        self._stats: dict[Digest, BlobStat] = {}
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._spool: Path | None = None

    @property
    def tier(self) -> Tier:
        """The name of this store."""
        return self._tier

    @property
    def availability(self) -> Availability:
        """What is here can be read at once."""
        return Availability.ONLINE

    def restore(self, digest: Digest) -> float:
        """Nothing has to be asked for."""
        return 0.0

    def writer(self) -> BlobWriter:
        """Start to write a blob whose digest is not known yet."""
        return _MemoryWriter(self)

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``."""
        digest = Digest.of(data)
        with self._lock:
            self._blobs.setdefault(digest, bytes(data))
            self._stats[digest] = BlobStat(digest, len(data), datetime.now(UTC))
        return BlobRef(self._tier, digest, len(data))

    def adopt(self, path: Path, digest: Digest | None = None) -> BlobRef:
        """Take over a closed local file."""
        ref = self.put(path.read_bytes())
        path.unlink()
        return ref

    def adopt_all(self, files: Sequence[tuple[Path, Digest | None]]) -> list[BlobRef]:
        """Take over several files."""
        return [self.adopt(path, digest) for path, digest in files]

    def spool_folder(self) -> Path:
        """Local folder for files that are to be adopted."""
        with self._lock:
            if self._spool is None:
                self._spool = Path(tempfile.mkdtemp(prefix="leanpacs-"))
                weakref.finalize(self, shutil.rmtree, self._spool, ignore_errors=True)
            return self._spool

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob, all or a range."""
        data = self._blob(digest)
        start, end = checked_range(digest, len(data), offset, length)
        return data[start:end]

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable binary file."""
        return io.BytesIO(self._blob(digest))

    def chunks(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Bytes of a blob, all or a range, in pieces."""
        data = self._blob(digest)
        start, end = checked_range(digest, len(data), offset, length)
        return (data[at : min(at + size, end)] for at in range(start, end, size))

    def size(self, digest: Digest) -> int:
        """Length of a blob in bytes."""
        return len(self._blob(digest))

    def exists(self, digest: Digest) -> bool:
        """Whether the store has a blob."""
        return digest in self._blobs

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is absent is fine."""
        with self._lock:
            self._blobs.pop(digest, None)
            self._stats.pop(digest, None)

    def check(self, digest: Digest) -> None:
        """Compare the bytes that the store has with the digest."""
        check_by_reading(self, digest)

    def set_aside(self, digests: Sequence[Digest]) -> list[Path]:
        """Take blobs out of the store; nothing is left of them."""
        for digest in digests:
            self.delete(digest)
        return []

    def list(self) -> Iterator[BlobStat]:
        """All blobs, by digest."""
        with self._lock:
            stats = sorted(self._stats.values(), key=lambda stat: stat.digest)
        return iter(stats)

    def keep(self, name: str, data: bytes) -> None:
        """Keep a small named file."""
        with self._lock:
            if self._kept.setdefault(checked_name(name), bytes(data)) != data:
                raise NameTaken(name)

    def kept(self, name: str) -> bytes:
        """Content of a named file."""
        try:
            return self._kept[checked_name(name)]
        except KeyError:
            raise BlobNotFound(name) from None

    def kept_names(self) -> Sequence[str]:
        """Names of all named files, sorted."""
        with self._lock:
            return sorted(self._kept)

    def sweep_temporary(self, older_than: datetime) -> int:
        """Remove files in the spool folder that nobody touched since."""
        removed = 0
        for path in self.spool_folder().iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < older_than.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def free_bytes(self) -> int | None:
        """None: no known limit."""
        return None

    def age(self, digest: Digest, modified: datetime) -> None:
        """Set when a blob was last put, to try out what is done to old ones."""
        with self._lock:
            self._stats[digest] = replace(self._stats[digest], modified=modified)

    def _blob(self, digest: Digest) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise BlobNotFound(digest.hex) from None


class _MemoryWriter:
    """A blob being written."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.file: BinaryIO = io.BytesIO()

    def commit(self) -> BlobRef:
        """Keep what was written."""
        self.file.seek(0)
        ref = self._store.put(self.file.read())
        self.file.close()
        return ref

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.file.close()
