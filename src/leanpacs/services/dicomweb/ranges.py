"""Parts of a body by byte range.

References
----------
RFC 9110 14 (range requests), 13.1.5 (If-Range); PS3.18 10.4.1.1.5 (bulk data).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from leanpacs.services.dicomweb.multipart import close
from leanpacs.services.dicomweb.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.archive.giveback.given import Bytes

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, but not including, ``stop`` of a body of ``length`` bytes."""

    start: int
    stop: int
    length: int

    @property
    def fields(self) -> dict[str, str]:
        """Header fields of an answer with this part."""
        return {"content-range": f"bytes {self.start}-{self.stop - 1}/{self.length}"}


def wanted_range(request: Request, length: int | None, etag: str) -> ByteRange | None:
    """Return the range that a request asks for; None when the answer is to be the whole body.

    Several ranges, other units and what is not understood are answered with the whole, as is a range of a body that is
    not the one which the client has a part of.

    Parameters
    ----------
    request : Request
        Its Range and If-Range.
    length : int or None
        Bytes of the whole body where known.
    etag : str
        Of the whole body.

    Raises
    ------
    Problem
        416: there is no such part.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if request.method not in ("GET", "HEAD") or match is None or length is None or not any(match.groups()):
        return None
    unless = request.headers.get("if-range")
    if unless is not None and (unless.strip() != etag or etag.startswith("W/")):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, length - int(last)), length
    else:
        start, stop = int(first), min(int(last) + 1, length) if last else length
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise Problem(416, f"The body has {length} bytes.", {"content-range": f"bytes */{length}"})
    return ByteRange(start, stop, length)


def cut(chunks: Iterator[Bytes], start: int, stop: int) -> Iterator[Bytes]:
    """Yield bytes ``start`` up to ``stop`` of what the chunks hold together."""
    position = 0
    try:
        for chunk in chunks:
            end = position + len(chunk)
            if end > start:
                yield chunk[max(0, start - position) : max(0, stop - position)]
            position = end
            if position >= stop:
                return
    finally:
        close(chunks)
