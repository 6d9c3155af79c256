"""A store in which reading takes asking: an archive class, a tape library, a disk that is switched off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from leanpacs.errors import BeingRestored, BlobNotFound, StoreUnavailable
from leanpacs.refs import BlobRef, Digest, Tier
from leanpacs.storage.store import CHUNK_BYTES, Availability, BlobStat, BlobStore, BlobWriter


class Restoring(Protocol):
    """How blobs of an archive class become readable; safe to use from many threads and processes."""

    def __hash__(self) -> int:
        """It is part of a store, which is a key."""
        ...

    def seconds_left(self, digest: Digest) -> float | None:
        """0.0 when a blob can be read now; what it will still take; None when nobody has asked for it."""
        ...

    def ask(self, digest: Digest) -> float:
        """Ask for a blob; the seconds that it will take, 0.0 when it can be read now."""
        ...

    def check(self, store: BlobStore, digest: Digest) -> None:
        """Compare what the store has with the digest, without asking for it to be readable."""
        ...


@dataclass(frozen=True, slots=True)
class ArchiveStore:
    """Keeps blobs in another store and gives them back when they were asked for, after a while.

    What is stored, listed and deleted, and the keepsakes, need no asking.

    Parameters
    ----------
    inner : BlobStore
        Where the bytes are.
    restoring : Restoring
        How they become readable.
    availability : Availability
        What is told of blobs that nobody has asked for.
    """

    inner: BlobStore
    restoring: Restoring
    availability: Availability = Availability.NEARLINE

    @property
    def tier(self) -> Tier:
        """The name of this store."""
        return self.inner.tier

    def restore(self, digest: Digest) -> float:
        """Ask for a blob to become readable; asking again is fine."""
        if not self.inner.exists(digest):
            raise BlobNotFound(digest.hex)
        left = self.restoring.seconds_left(digest)
        return self.restoring.ask(digest) if left is None else left

    def _require(self, digest: Digest) -> None:
        left = self.restoring.seconds_left(digest)
        if left != 0.0:
            if left is None and not self.inner.exists(digest):
                raise BlobNotFound(digest.hex)
            raise BeingRestored(digest.hex, self.tier, left)

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob, all or a range; `BeingRestored` while it cannot be read."""
        self._require(digest)
        return self.inner.read(digest, offset, length)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob; `BeingRestored` while it cannot be read."""
        self._require(digest)
        return self.inner.open(digest)

    def chunks(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Bytes of a blob in pieces; `BeingRestored` while it cannot be read."""
        self._require(digest)
        return self.inner.chunks(digest, offset, length, size=size)

    def check(self, digest: Digest) -> None:
        """Compare what the store has with the digest, without asking for it."""
        self.restoring.check(self.inner, digest)

    # ---------------------------------------------------------------------------- as in the store below

    def writer(self) -> BlobWriter:
        """Start to write a blob."""
        return self.inner.writer()

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``."""
        return self.inner.put(data)

    def adopt(self, path: Path, digest: Digest | None = None) -> BlobRef:
        """Take over a closed local file."""
        return self.inner.adopt(path, digest)

    def adopt_all(self, files: Sequence[tuple[Path, Digest | None]]) -> Sequence[BlobRef]:
        """Take over several files."""
        return self.inner.adopt_all(files)

    def spool_folder(self) -> Path:
        """Local folder for files that are to be adopted."""
        return self.inner.spool_folder()

    def size(self, digest: Digest) -> int:
        """Length of a blob in bytes."""
        return self.inner.size(digest)

    def exists(self, digest: Digest) -> bool:
        """Whether the store has a blob, readable or not."""
        return self.inner.exists(digest)

    def delete(self, digest: Digest) -> None:
        """Remove a blob."""
        self.inner.delete(digest)

    def set_aside(self, digests: Sequence[Digest]) -> Sequence[Path]:
        """Take blobs out of the store."""
        return self.inner.set_aside(digests)

    def list(self) -> Iterator[BlobStat]:
        """All blobs."""
        return self.inner.list()

    def keep(self, name: str, data: bytes) -> None:
        """Keep a small named file; it can always be read."""
        self.inner.keep(name, data)

    def kept(self, name: str) -> bytes:
        """Content of a named file."""
        return self.inner.kept(name)

    def kept_names(self) -> Sequence[str]:
        """Names of all named files."""
        return self.inner.kept_names()

    def sweep_temporary(self, older_than: datetime) -> int:
        """Remove what writers and spools left behind."""
        return self.inner.sweep_temporary(older_than)

    def free_bytes(self) -> int | None:
        """Room left."""
        return self.inner.free_bytes()


@dataclass(frozen=True, slots=True)
class DelayedRestoring:
    """Blobs become readable a while after they were asked for, and stay so for some time.

    For trials and tests of an archive class, over any store. When each blob was asked for is the time of a file of
    its name.

    Parameters
    ----------
    folder : Path
        Where these files are; made when absent.
    delay_seconds, keep_seconds : float
        How long it takes, and for how long a blob can be read then.
    """

    folder: Path
    delay_seconds: float
    keep_seconds: float

    def seconds_left(self, digest: Digest) -> float | None:
        """See `Restoring`."""
        try:
            asked_at = (self.folder / digest.hex).stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        left = asked_at + self.delay_seconds - time.time()
        return None if left < -self.keep_seconds else max(0.0, left)

    def ask(self, digest: Digest) -> float:
        """See `Restoring`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / digest.hex
            path.touch()
            os.utime(path)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        return self.delay_seconds

    def check(self, store: BlobStore, digest: Digest) -> None:
        """See `Restoring`; the store below can be read at any time."""
        store.check(digest)
