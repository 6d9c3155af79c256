"""Deflated data sets (PS3.5 A.5): inflate within limits."""

from __future__ import annotations

import zlib
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from leanpacs.errors import InflateError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_LIMIT: Final = 1 << 31
"""Bytes to which a data set may inflate unless told otherwise: a guard against decompression bombs."""

_CHUNK: Final = 1 << 18
_IN_MEMORY: Final = 1 << 24


def inflate(
    reader: BinaryIO,
    start: int,
    *,
    spool: Callable[[], BinaryIO] | None = None,
    limit_bytes: int = DEFAULT_LIMIT,
) -> BinaryIO:
    """The first ``start`` bytes of ``reader`` as they are, followed by the rest, inflated.

    Parameters
    ----------
    reader : BinaryIO
        Seekable.
    start : int
        Where the deflated data set begins: the length of preamble and file meta information.
    spool : callable, optional
        Makes the empty seekable file to write into; by default one in memory that moves to disk when large.
    limit_bytes : int
        Bytes to which the data set may inflate.

    Returns
    -------
    BinaryIO
        At its beginning; the caller closes it.

    Raises
    ------
    InflateError
        The stream is damaged, ends early, or inflates beyond the limit.
    """
    inflated, problem = inflate_leniently(reader, start, spool=spool, limit_bytes=limit_bytes)
    if problem is not None:
        inflated.close()
        raise InflateError(problem)
    return inflated


def inflate_leniently(
    reader: BinaryIO,
    start: int,
    *,
    spool: Callable[[], BinaryIO] | None = None,
    limit_bytes: int = DEFAULT_LIMIT,
) -> tuple[BinaryIO, str | None]:
    """As :func:`inflate`, but of a damaged stream what there is, and what is wrong with it.

    Raises
    ------
    InflateError
        The stream inflates beyond the limit.
    """
    inflated = spool() if spool is not None else _spooled()
    try:
        problem = _inflate_into(reader, start, inflated, limit_bytes)
        inflated.seek(0)
    except BaseException:
        inflated.close()
        raise
    return inflated, problem


# Level 6 with defaults is what nearly everybody uses. Level 0 is left out: its blocks depend on how input
# arrives.
_CANDIDATES: Final = tuple(
    (level, mem_level, strategy)
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    for mem_level in (8, 9)
    for level in (6, 9, 1, 5, 8, 7, 4, 3, 2)
)


def _spooled() -> BinaryIO:
    return cast("BinaryIO", SpooledTemporaryFile(max_size=_IN_MEMORY))


def _inflate_into(reader: BinaryIO, start: int, out: BinaryIO, limit_bytes: int) -> str | None:
    """Write preface and inflated data set; return what is wrong with the stream."""
    reader.seek(0)
    _copy(reader, out, start)
    inflater = _inflater(reader, start)
    left = limit_bytes
    try:
        while not inflater.eof:
            chunk = inflater.unconsumed_tail or reader.read(_CHUNK)
            block = inflater.decompress(chunk, _CHUNK)
            left -= len(block)
            if left < 0:
                raise InflateError(f"the deflated data set inflates to more than {limit_bytes} bytes")
            out.write(block)
            if not chunk and not block:
                return "the deflated data set ends early"
    except zlib.error as error:
        return f"the deflated data set does not inflate: {error}"
    return None


def _inflater(reader: BinaryIO, start: int) -> zlib._Decompress:
    """A decompressor for the stream at ``start``: raw, unless a writer put a zlib header before it."""
    reader.seek(start)
    first = reader.read(5)
    reader.seek(start)
    wrapped = len(first) == 5 and first[0] & 0x0F == 8 and (first[0] << 8 | first[1]) % 31 == 0
    # As a raw stream such bytes would begin a stored block, which repeats its length inverted.
    stored = wrapped and first[1] ^ first[3] == 0xFF and first[2] ^ first[4] == 0xFF
    return zlib.decompressobj(zlib.MAX_WBITS if wrapped and not stored else -zlib.MAX_WBITS)


def _copy(reader: BinaryIO, out: BinaryIO, length: int) -> None:
    while length > 0 and (block := reader.read(min(length, _CHUNK))):
        out.write(block)
        length -= len(block)
