"""Files in one ZIP, written as it is sent: no file and no list of files is held in memory but the directory at its end.

References
----------
PS3.18 8.6.1.3 (ZIP payloads); APPNOTE.TXT 4.4.4 (sizes after the content), 4.5.3 (ZIP64).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from leanpacs.services.dicomweb.multipart import close

if TYPE_CHECKING:
    from leanpacs.archive.giveback.given import Bytes

MEDIA_TYPE: Final = "application/zip"
_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest that the format knows, so that equal content makes equal bytes."""


def zipped(files: Iterable[tuple[str, Iterator[Bytes]]]) -> Iterator[bytes]:
    """Write a ZIP; each file is begun only when the one before is through. Nothing is compressed again.

    Parameters
    ----------
    files : iterable of (str, iterator of bytes)
        Name and content.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, chunks in files:
            try:
                # force_zip64: nobody knows yet how long the file is
                with archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as entry:
                    for chunk in chunks:
                        entry.write(chunk)
                        yield sink.taken()
            finally:
                close(chunks)
    yield sink.taken()


def file_name(*uids: str) -> str:
    """Path of an instance in a ZIP; what senders call a UID may be anything."""
    return "/".join(re.sub(r"[^A-Za-z0-9.-]", "_", uid).strip(".") or "_" for uid in uids) + ".dcm"


class _Sink(io.RawIOBase):
    """Takes what is written and gives it out; cannot seek, so that sizes are written after the content."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._held += view
        return view.nbytes

    def taken(self) -> bytes:
        """Everything that was written since the last call."""
        held, self._held = bytes(self._held), bytearray()
        return held
