"""Blobs that are written bit by bit: to a file, of which a store makes a blob when all of it is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from leanpacs.errors import BlobNotFound, StoreFull, StoreUnavailable
from leanpacs.refs import BlobRef

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FILE_MODE: Final = 0o640


class FileWriter:
    """A blob being written (see :class:`~leanpacs.storage.store.BlobWriter`).

    Parameters
    ----------
    path : Path
        Of the file; made here, and gone when the writer is closed.
    keep : callable
        Makes a blob of the complete file, which may be taken away from its path.

    Raises
    ------
    StoreFull, StoreUnavailable
        The file cannot be made.
    """

    def __init__(self, path: Path, keep: Callable[[BufferedRandom, Path], BlobRef]) -> None:
        self._path = path
        self._keep = keep
        self._open = True
        with translated():
            self._file = new_file(path)

    @property
    def file(self) -> BinaryIO:
        """The open file."""
        return self._file

    def commit(self) -> BlobRef:
        """Make what was written durable and return its reference."""
        if not self._open:
            raise ValueError("the writer is closed")
        try:
            with translated():
                self._file.flush()
                return self._keep(self._file, self._path)
        finally:
            self._discard()

    def _discard(self) -> None:
        self._open = False
        with suppress(OSError):  # a full disk is told of once, by commit
            self._file.close()
        with suppress(OSError):  # kept, it has been taken away; what cannot be removed is cleared away at a start
            self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._open:
            self._discard()
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StoreFull(f"{self._path.parent}: {error}") from error


def new_file(path: Path) -> BufferedRandom:
    """Make a file that other users of the machine cannot read, open for reading and writing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    return os.fdopen(descriptor, "w+b")


@contextmanager
def translated(missing: str = "") -> Iterator[None]:
    """Errors of the operating system as those of a store; ``missing`` names what may not be there."""
    try:
        yield
    except FileNotFoundError as error:
        if missing:
            raise BlobNotFound(missing) from error
        raise StoreUnavailable(str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(str(error)) from error
        raise StoreUnavailable(str(error)) from error
