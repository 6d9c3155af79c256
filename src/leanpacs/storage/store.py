"""What a blob store does, whatever it keeps its bytes on.

A blob is immutable and named by its SHA-256 digest. A few small named files (*keepsakes*: dictionaries) stand
beside the blobs, so that a store can be read by itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from leanpacs.errors import BlobCorrupt
from leanpacs.refs import BlobRef, Digest, Tier

CHUNK_BYTES = 1 << 20
"""Number of bytes that are read at a time when a blob is streamed."""

_KEEPSAKE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Availability(StrEnum):
    """How soon something can be read: the values of Instance Availability (PS3.3 C.4.23.1.1), best first."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    """It must be asked for, and comes by itself after a while."""
    OFFLINE = "OFFLINE"
    """Somebody must do something before it can be read."""
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class BlobStat:
    """One blob of a listing.

    Parameters
    ----------
    digest : Digest
        Its name.
    size_bytes : int
        Its length.
    modified : datetime
        When it was last put (aware, UTC). A sweep leaves young blobs alone.
    """

    digest: Digest
    size_bytes: int
    modified: datetime


class BlobWriter(Protocol):
    """A blob being written; a context manager that discards what was not committed."""

    @property
    def file(self) -> BinaryIO:
        """Seekable file, open for reading and writing, that takes the bytes."""
        ...

    def commit(self) -> BlobRef:
        """Make what was written durable and return its reference.

        Raises
        ------
        StoreFull, StoreUnavailable
            Nothing was changed.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class BlobStore(Protocol):
    """Keeps blobs by digest; safe to use from many threads and processes at once.

    Every method may raise ``StoreUnavailable``, every method that writes ``StoreFull``, and every method that
    reads one blob ``BlobNotFound``.
    """

    def __hash__(self) -> int:
        """Stores are keys: what was read from one is remembered for it."""
        ...

    @property
    def tier(self) -> Tier:
        """The name of this store."""
        ...

    @property
    def availability(self) -> Availability:
        """How soon what is in this store can be read."""
        ...

    def restore(self, digest: Digest) -> float:
        """Ask for a blob to become readable; asking again is fine.

        Returns the seconds that it will still take, as far as is known; 0.0 when it can be read now.
        """
        ...

    def writer(self) -> BlobWriter:
        """Start to write a blob whose digest is not known yet."""
        ...

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``; durable when it returns. Bytes that are there already only become young again."""
        ...

    def adopt(self, path: Path, digest: Digest | None = None) -> BlobRef:
        """Take over a closed local file, durably; the file is gone afterwards.

        Parameters
        ----------
        path : Path
            A complete file, best in ``spool_folder()``, where it need not be copied. On an error it stays.
        digest : Digest, optional
            Its digest where the caller has computed it; it is not computed again.
        """
        ...

    def adopt_all(self, files: Sequence[tuple[Path, Digest | None]]) -> Sequence[BlobRef]:
        """Take over several files as `adopt` does, at a lower price than one by one.

        On an error some of them may have been taken over; those that were not stay.
        """
        ...

    def spool_folder(self) -> Path:
        """Local folder for files that are to be adopted."""
        ...

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes ``offset`` to ``offset + length`` of a blob, or to its end.

        Raises
        ------
        BlobNotFound
            If there is no such blob.
        BlobCorrupt
            If the blob ends before the range does. (The content is not compared with the digest.)
        """
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable binary file; the caller closes it."""
        ...

    def chunks(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Read as ``read``, in pieces of at most ``size`` bytes; a missing blob is told of at the call."""
        ...

    def size(self, digest: Digest) -> int:
        """Length of a blob in bytes."""
        ...

    def exists(self, digest: Digest) -> bool:
        """Whether the store has a blob."""
        ...

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is absent is fine."""
        ...

    def check(self, digest: Digest) -> None:
        """Compare the bytes that the store has with the digest.

        Raises
        ------
        BlobCorrupt
            If they are others.
        """
        ...

    def set_aside(self, digests: Sequence[Digest]) -> Sequence[Path]:
        """Take blobs out of the store; absent ones are fine.

        Returns the local files that are left of them and that the caller deletes, where deleting bytes takes long.
        """
        ...

    def list(self) -> Iterator[BlobStat]:
        """All blobs, in no promised order. What is put or deleted meanwhile may or may not be listed."""
        ...

    def keep(self, name: str, data: bytes) -> None:
        """Keep a small named file, durably and for ever.

        Parameters
        ----------
        name : str
            ``folder/file``, letters, digits, ``.``, ``_`` and ``-``.
        data : bytes
            Its content. The same content again changes nothing.

        Raises
        ------
        NameTaken
            If other content is kept under this name.
        """
        ...

    def kept(self, name: str) -> bytes:
        """Content of a named file. ``BlobNotFound`` if there is none."""
        ...

    def kept_names(self) -> Sequence[str]:
        """Names of all named files, sorted."""
        ...

    def sweep_temporary(self, older_than: datetime) -> int:
        """Remove what writers and spools left behind and nobody touched since ``older_than`` (aware).

        Returns the number of files removed. Blobs and keepsakes are never touched.
        """
        ...

    def free_bytes(self) -> int | None:
        """Room left, or None where there is no known limit."""
        ...


def check_by_reading(store: BlobStore, digest: Digest) -> None:
    """Read a blob back and compare it with its digest; `BlobStore.check` where nothing better is known."""
    sha = hashlib.sha256()
    for piece in store.chunks(digest):
        sha.update(piece)
    if sha.digest() != digest.raw:
        raise BlobCorrupt(digest.hex, f"its bytes have the digest {sha.hexdigest()}")


def checked_range(digest: Digest, size_bytes: int, offset: int, length: int | None) -> tuple[int, int]:
    """Start and end of a range of a blob of ``size_bytes``.

    Raises
    ------
    ValueError
        If ``offset`` or ``length`` is negative.
    BlobCorrupt
        If the range is not wholly inside the blob: whoever asks knows from the catalog how long it should be.
    """
    end = size_bytes if length is None else offset + length
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"offset {offset} and length {length} must not be negative")
    if offset > size_bytes or end > size_bytes:
        raise BlobCorrupt(digest.hex, f"bytes {offset} to {end} were asked for, it has {size_bytes}")
    return offset, end


def checked_name(name: str) -> str:
    """``name`` if a keepsake may have it; ``ValueError`` if not (two path-safe parts, no hidden files)."""
    if not _KEEPSAKE.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of the form folder/file")
    return name
