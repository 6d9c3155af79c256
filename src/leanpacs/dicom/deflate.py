"""Deflated data sets (PS3.5 A.5): inflate within limits, and find how to deflate again to the same bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from leanpacs.errors import InflateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEFAULT_LIMIT: Final = 1 << 31
"""Bytes to which a data set may inflate unless told otherwise: a guard against decompression bombs."""

_CHUNK: Final = 1 << 18
_IN_MEMORY: Final = 1 << 24
_LONGEST_TRAILING: Final = 256
_WORK_FACTOR: Final = 8


@dataclass(frozen=True, slots=True)
class DeflateRecipe:
    """The zlib parameters that reproduce a deflated data set.

    They hold for the zlib that found them (`zlib.ZLIB_RUNTIME_VERSION`): another implementation, such as
    zlib-ng, may deflate the same bytes differently.

    Parameters
    ----------
    level, mem_level, strategy : int
        As `zlib.compressobj` takes them, for a raw stream (RFC 1951) with a window of 32 KiB.
    trailing : bytes
        What followed the deflated stream, mostly one byte of padding.
    """

    level: int
    mem_level: int
    strategy: int
    trailing: bytes


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


def find_deflate_recipe(received: BinaryIO, start: int, inflated: BinaryIO) -> DeflateRecipe | None:
    """The parameters with which zlib makes of ``inflated`` what ``received`` holds, both from ``start`` on.

    The work is bounded: candidates are given up at their first differing byte, and all of them together when
    they have deflated several times the data set.

    Returns
    -------
    DeflateRecipe or None
        None when no parameters tried reproduce it; the data set is then to be kept as received.
    """
    stream_end = _stream_end(received, start)
    if stream_end is None:
        return None
    received.seek(stream_end)
    trailing = received.read(_LONGEST_TRAILING + 1)
    if len(trailing) > _LONGEST_TRAILING:
        return None
    budget = _WORK_FACTOR * (inflated.seek(0, 2) - start) + 64 * _CHUNK
    for level, mem_level, strategy in _CANDIDATES:
        recipe = DeflateRecipe(level, mem_level, strategy, b"")
        same, work = _reproduces(received, start, stream_end, inflated, recipe)
        if same:
            return DeflateRecipe(level, mem_level, strategy, trailing)
        budget -= work
        if budget < 0:
            return None
    return None


def redeflate(chunks: Iterable[bytes], recipe: DeflateRecipe) -> Iterator[bytes]:
    """Deflate an inflated data set (without preface) as it was received, what trailed it included."""
    compressor = zlib.compressobj(recipe.level, zlib.DEFLATED, -zlib.MAX_WBITS, recipe.mem_level, recipe.strategy)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()
    yield recipe.trailing


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


def _stream_end(received: BinaryIO, start: int) -> int | None:
    """First byte after the raw deflate stream at ``start``; None if it is none or does not end."""
    received.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not inflater.eof:
            chunk = inflater.unconsumed_tail or received.read(_CHUNK)
            if not inflater.decompress(chunk, _CHUNK) and not chunk:
                return None
    except zlib.error:
        return None
    return received.tell() - len(inflater.unused_data)


def _reproduces(
    received: BinaryIO, start: int, stream_end: int, inflated: BinaryIO, recipe: DeflateRecipe
) -> tuple[bool, int]:
    """Whether a recipe gives the received stream, and how many bytes were deflated to learn it."""
    work = 0

    def chunks() -> Iterator[bytes]:
        nonlocal work
        inflated.seek(start)
        while chunk := inflated.read(_CHUNK):
            work += len(chunk)
            yield chunk

    position = start
    for block in redeflate(chunks(), recipe):
        received.seek(position)
        if received.read(len(block)) != block:
            return False, work
        position += len(block)
    return position == stream_end, work
