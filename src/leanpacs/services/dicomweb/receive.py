"""Taking the parts of a store request to files, as a stream.

Nothing is held in memory but the piece at hand: what comes in is written to the archive's spool folder.

References
----------
RFC 2046 5.1 (multipart syntax), RFC 2387 (multipart/related), PS3.18 10.5.2 (store request).
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from leanpacs.errors import StoreFull
from leanpacs.services.dicomweb.media import DICOM, parse_media_type

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HEADER_BYTES: Final = 8192
_PART_HEADERS: Final = 32


class BrokenBody(Exception):
    """The body of a store request cannot be read; the text says why."""


@dataclass(slots=True)
class ReceivedPart:
    """One part of a store request.

    Attributes
    ----------
    number : int
        Position in the request, from 1.
    path : Path or None
        The file that holds it; owned by whoever takes the part. None when it was not kept.
    refusal : str
        Why it was not kept; '' when it was.
    too_large : bool
        It was refused for its size.
    size_bytes : int
        What came of it.
    content_type, location : str
        Header fields of the part.
    sop_class, sop_uid : str
        Of an instance that was not kept, where they are known.
    """

    number: int
    path: Path | None = None
    refusal: str = ""
    too_large: bool = False
    size_bytes: int = 0
    content_type: str = ""
    location: str = ""
    sop_class: str = ""
    sop_uid: str = ""


class Receiver(Protocol):
    """Takes a body piece by piece. Not for use by several threads at the same time."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        BrokenBody
            What comes is not the body that was announced.
        StoreFull
            The spool has no room.
        """

    def finish(self) -> None:
        """Take note that the body is at its end.

        Raises
        ------
        BrokenBody
            The end is in the wrong place.
        StoreFull
            The spool has no room.
        """

    def completed(self) -> list[ReceivedPart]:
        """Hand out the parts that were completed since the last call; whoever takes them owns their files."""

    def discard(self) -> None:
        """Remove the files of all parts that were not handed out."""


@dataclass(slots=True)
class _SpoolFile:
    """The file of the part at hand."""

    part: ReceivedPart
    folder: Path
    largest_bytes: int
    file: BinaryIO | None = None

    def write(self, piece: memoryview) -> None:
        self.part.size_bytes += len(piece)
        if self.part.refusal:
            return
        if self.part.size_bytes > self.largest_bytes:
            self.part.refusal = f"larger than the {self.largest_bytes} bytes this archive takes"
            self.part.too_large = True
            self.discard()
            return
        try:
            self._opened().write(piece)
        except OSError as error:
            raise _without_room(error) from error

    def close(self) -> ReceivedPart:
        if not self.part.refusal and self.part.size_bytes == 0:
            self.part.refusal = "empty"
        if self.file is not None:
            try:
                self.file.close()
            except OSError as error:
                raise _without_room(error) from error
            self.file = None
        return self.part

    def discard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
        if self.part.path is not None:
            self.part.path.unlink(missing_ok=True)
            self.part.path = None

    def _opened(self) -> BinaryIO:
        if self.file is None:
            descriptor, name = tempfile.mkstemp(prefix="stow-", suffix=".part", dir=self.folder)
            self.part.path = Path(name)
            self.file = os.fdopen(descriptor, "wb")
        return self.file


class SingleReceiver:
    """Takes a body that is one instance.

    Parameters
    ----------
    folder : Path
        Where the file is written.
    largest_bytes : int
        Larger instances are refused.
    content_type : str
        Of the body.
    """

    def __init__(self, folder: Path, largest_bytes: int, content_type: str = DICOM) -> None:
        self._file = _SpoolFile(ReceivedPart(1, content_type=content_type), folder, largest_bytes)
        self._completed: list[ReceivedPart] = []

    def feed(self, data: bytes) -> None:
        """See `Receiver`."""
        self._file.write(memoryview(data))

    def finish(self) -> None:
        """See `Receiver`."""
        self._completed.append(self._file.close())

    def completed(self) -> list[ReceivedPart]:
        """See `Receiver`."""
        completed, self._completed = self._completed, []
        return completed

    def discard(self) -> None:
        """See `Receiver`."""
        remove_files(self._completed)
        self._file.discard()


@dataclass(slots=True)
class _Header:
    """Header fields of the part at hand, as they come in."""

    name: bytes = b""
    value: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)

    def end(self) -> None:
        self.fields[self.name.decode("latin-1").lower()] = self.value.decode("latin-1")
        self.name = self.value = b""


class MultipartReceiver:
    """Takes a multipart/related body; each part that is an instance goes to its own file.

    Parameters
    ----------
    boundary : str
        As in the Content-Type of the request.
    folder : Path
        Where the files are written.
    largest_bytes : int
        Larger parts are refused, the others are not touched by that.
    any_type : bool
        Take parts of all media types, not only instances.

    Raises
    ------
    BrokenBody
        The boundary is not one.
    """

    def __init__(self, boundary: str, folder: Path, largest_bytes: int, *, any_type: bool = False) -> None:
        self._any_type = any_type
        self._folder = folder
        self._largest_bytes = largest_bytes
        self._header = _Header()
        self._file: _SpoolFile | None = None
        self._completed: list[ReceivedPart] = []
        self._count = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary.encode("latin-1"),
                self._callbacks(),
                max_header_count=_PART_HEADERS,
                max_header_size=_HEADER_BYTES,
            )
        except (FormParserError, UnicodeEncodeError) as error:
            raise BrokenBody(f"the boundary is not usable: {error}") from error
        # The library warns of every malformed body on its own; the answer to the request says it too.
        self._parser.logger = _silent()

    def feed(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._ended:
            return  # an epilogue (RFC 2046 5.1.1) is to be ignored
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BrokenBody(f"the body is not well-formed multipart: {error}") from error

    def finish(self) -> None:
        """See `Receiver`."""
        if not self._ended:
            raise BrokenBody("the body ends before the closing delimiter")

    def completed(self) -> list[ReceivedPart]:
        """See `Receiver`."""
        completed, self._completed = self._completed, []
        return completed

    def discard(self) -> None:
        """See `Receiver`."""
        remove_files(self._completed)
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._count += 1
        self._header = _Header()
        self._file = _SpoolFile(ReceivedPart(self._count), self._folder, self._largest_bytes)

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header.name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header.value += data[start:end]

    def _on_header_end(self) -> None:
        self._header.end()

    def _on_headers_finished(self) -> None:
        assert self._file is not None
        part, fields = self._file.part, self._header.fields
        part.content_type, part.location = fields.get("content-type", ""), fields.get("content-location", "").strip()
        part.refusal = _refusal(fields, any_type=self._any_type)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        assert self._file is not None
        self._completed.append(self._file.close())
        self._file = None

    def _on_end(self) -> None:
        self._ended = True


def remove_files(parts: Iterable[ReceivedPart]) -> None:
    """Remove the files of parts that nobody takes over."""
    for part in parts:
        if part.path is not None:
            part.path.unlink(missing_ok=True)


def _refusal(fields: dict[str, str], *, any_type: bool) -> str:
    """Why a part with these header fields is not taken, '' when it is."""
    if fields.get("content-encoding", "identity").lower() != "identity":
        return f"the content encoding {fields['content-encoding']} is not supported"
    if any_type or "content-type" not in fields:
        return ""  # the type parameter of the request tells it
    media_type = parse_media_type(fields["content-type"])
    if media_type is None or media_type.name != DICOM:
        return f"the media type of the part is {fields['content-type']}, not {DICOM}"
    return ""


def _without_room(error: OSError) -> Exception:
    return StoreFull(f"the spool has no room: {error.strerror}") if error.errno in _NO_ROOM else error


def _silent() -> logging.Logger:
    logger = logging.getLogger("leanpacs.multipart")
    logger.disabled = True
    return logger
