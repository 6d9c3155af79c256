"""Content coding that the compressing middleware leaves to us: ready-made bodies, and native pixels on their way.

References
----------
RFC 9110 12.5.3 (Accept-Encoding), RFC 8878 (Zstandard), RFC 9659 (its window in HTTP).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import zstandard

from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.services.dicomweb import caching
from leanpacs.services.dicomweb.multipart import close

if TYPE_CHECKING:
    from starlette.requests import Request

_LEAST_BYTES: Final = 500
_PIXEL_LEVEL: Final = 1
"""Fast enough for any network; image codecs are for those who can read them."""
_NATIVE: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE})
_CODING: Final = re.compile(r"\s*(zstd|\*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*", re.IGNORECASE)

ENCODED: Final = {"content-encoding": "zstd", "vary": f"{caching.VARY}, Accept-Encoding"}
"""Header fields of a body in zstd."""


def takes_zstd(request: Request) -> bool:
    """Whether the client accepts zstd."""
    found = (_CODING.fullmatch(item) for item in request.headers.get("accept-encoding", "").split(","))
    quality = {match[1].lower(): float(match[2] or 1) for match in found if match is not None}
    return quality.get("zstd", quality.get("*", 0.0)) > 0


def pixels_compressed(request: Request, syntaxes: Iterable[str], length: int | None) -> bool:
    """Whether a body goes out in zstd: whole, not small, with native pixels only, to one who accepts it.

    Parameters
    ----------
    request : Request
        What is accepted.
    syntaxes : iterable of str
        Transfer syntaxes of all parts.
    length : int or None
        Bytes of the body where known.
    """
    is_small = length is not None and length < _LEAST_BYTES
    return not is_small and "range" not in request.headers and takes_zstd(request) and _NATIVE.issuperset(syntaxes)


def in_zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Compress a body on its way."""
    compressor = zstandard.ZstdCompressor(level=_PIXEL_LEVEL).compressobj()
    try:
        for chunk in chunks:
            if made := compressor.compress(chunk):
                yield made
        yield compressor.flush()
    finally:
        close(chunks)


def encoded_fields(etag: str) -> dict[str, str]:
    """Header fields of a body in zstd, whose bytes are not those that a strong validator stands for."""
    return caching.fields(etag if etag.startswith("W/") else f"W/{etag}") | ENCODED
