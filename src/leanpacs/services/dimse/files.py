"""Files on disk as something to send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from leanpacs.dicom.layout import Layout
from leanpacs.errors import MissingAttribute
from leanpacs.services.dimse.delivery import Parcel
from leanpacs.transcode.content import open_content
from leanpacs.transcode.engine import Transcoder
from leanpacs.transcode.source import OpenFile
from leanpacs.transcode.target import Target

LIMIT_INFLATED_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class _Pieces:
    transfer_syntax: str
    chunks: Iterator[bytes | memoryview]


def parcel_of(path: Path, transcoder: Transcoder, spool: Path) -> Parcel:
    """A file, to be sent as it is or transcoded without loss.

    Raises
    ------
    DicomError
        It is not DICOM, or names no SOP class or instance.
    OSError
        It cannot be read.
    """
    with path.open("rb") as file, open_content(file, None, spool=spool, limit_bytes=LIMIT_INFLATED_BYTES) as content:
        layout = content.layout
    return Parcel(
        _uid(layout, "SOPClassUID", 0x00080016, 0x00020002),
        _uid(layout, "SOPInstanceUID", 0x00080018, 0x00020003),
        layout.transfer_syntax,
        lambda uid: _data_set(path, uid, transcoder, spool),
    )


def _data_set(path: Path, wanted: str, transcoder: Transcoder, spool: Path) -> _Pieces:
    pieces = _read(path, wanted, transcoder, spool)
    return _Pieces(next(pieces).decode(), pieces)


def _read(path: Path, wanted: str, transcoder: Transcoder, spool: Path) -> Iterator[bytes]:
    """First the UID of the transfer syntax that it comes in, then the data set."""
    with path.open("rb") as file, open_content(file, None, spool=spool, limit_bytes=LIMIT_INFLATED_BYTES) as content:
        source = OpenFile(content)
        if wanted == source.layout.transfer_syntax:
            yield wanted.encode()
            yield from source.data_set()
            return
        made = transcoder.data_set(source, Target(wanted))
        yield made.account.transfer_syntax.encode()
        yield from made.pieces


def _uid(layout: Layout, keyword: str, *tags: int) -> str:
    for tag in tags:
        raw = layout.elements.get(tag)
        if raw is not None and (value := raw.value.decode("latin-1").strip(" \0")):
            return value
    raise MissingAttribute(keyword)
