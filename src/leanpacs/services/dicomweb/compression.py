"""Content coding that the compressing middleware leaves to us: ready-made bodies, native pixels, XML in several parts.

References
----------
RFC 9110 12.5.3 (Accept-Encoding), RFC 8878 (Zstandard), RFC 9659 (its window in HTTP).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import zstandard

from leanpacs.archive.giveback.choosing import coding_for
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.services.dicomweb import caching
from leanpacs.services.dicomweb.multipart import close
from leanpacs.services.links import link_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.archive.giveback.given import Bytes

_LEAST_BYTES: Final = 500
_NATIVE: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE})
_CODING: Final = re.compile(r"\s*(zstd|gzip|\*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*", re.IGNORECASE)
_TEXT_ZSTD: Final = 3
_TEXT_GZIP: Final = 4

ENCODED: Final = {"content-encoding": "zstd", "vary": f"{caching.VARY}, Accept-Encoding"}
"""Header fields of a body in zstd."""


def takes_zstd(request: Request) -> bool:
    """Whether the client accepts zstd."""
    return takes(request, "zstd")


def takes(request: Request, coding: str) -> bool:
    """Whether the client accepts a content coding."""
    found = (_CODING.fullmatch(item) for item in request.headers.get("accept-encoding", "").split(","))
    quality = {match[1].lower(): float(match[2] or 1) for match in found if match is not None}
    return quality.get(coding, quality.get("*", 0.0)) > 0


def xml_parts(
    request: Request, chunks: Iterator[Bytes], headers: Mapping[str, str]
) -> tuple[Iterator[Bytes], dict[str, str]]:
    """Return XML in several parts, and its header fields, in the coding that the client takes.

    To the middleware, what comes in several parts may be anything, and most of it is compressed already.
    """
    varied = {**headers, "vary": f"{caching.VARY}, Accept-Encoding"}
    if takes(request, "zstd"):
        return in_zstd(chunks, _TEXT_ZSTD), varied | {"content-encoding": "zstd"}
    if takes(request, "gzip"):
        return _in_gzip(chunks), varied | {"content-encoding": "gzip"}
    return chunks, varied


def _in_gzip(chunks: Iterator[Bytes]) -> Iterator[bytes]:
    return _compressed(chunks, zlib.compressobj(_TEXT_GZIP, wbits=zlib.MAX_WBITS | 16))


def _compressed(chunks: Iterator[Bytes], compressor: zlib._Compress | zstandard.ZstdCompressionObj) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            if made := compressor.compress(chunk):
                yield made
        yield compressor.flush()
    finally:
        close(chunks)


def pixel_level(request: Request, syntaxes: Iterable[str], length: int | None) -> int:
    """Level of Zstandard in which a body goes out, 0 for none: whole, not small, with native pixels only, if accepted.

    The level is that with which it is soonest there over the line to this client.

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
    if is_small or "range" in request.headers or not takes_zstd(request) or not _NATIVE.issuperset(syntaxes):
        return 0
    return coding_for(link_of(request.scope)).level


def in_zstd(chunks: Iterator[Bytes], level: int) -> Iterator[bytes]:
    """Compress a body on its way."""
    return _compressed(chunks, zstandard.ZstdCompressor(level=level).compressobj())


def encoded_fields(etag: str) -> dict[str, str]:
    """Header fields of a body in zstd, whose bytes are not those that a strong validator stands for."""
    return caching.fields(etag if etag.startswith("W/") else f"W/{etag}") | ENCODED
