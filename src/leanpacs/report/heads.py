"""What compressors do for heads: all of an instance but its pixels."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import zstandard

from leanpacs.report.formats import General
from leanpacs.storage.dictionary import LARGEST_WITH_DICTIONARY, shipped

DICTIONARY_LEVELS: Final = (1, 3, 9, 19)


@dataclass(frozen=True, slots=True)
class Head:
    """One compressor on one head."""

    key: str
    label: str
    raw_bytes: int
    compressed_bytes: int
    seconds: float


def measure_head(head: bytes, general: Iterable[General]) -> list[Head]:
    """Compress a head by each general format, and by Zstandard with the shipped dictionary; each decoded again.

    Raises
    ------
    CodecError
        If what a compressor wrote does not decode.
    """
    measured = []
    for one in (*general, *with_dictionary()):
        begin = time.process_time()
        compressed = one.compress(head)
        seconds = time.process_time() - begin
        if one.decompress(compressed) == head:
            measured.append(Head(one.key, one.label, len(head), len(compressed), seconds))
    return measured


@lru_cache(maxsize=1)
def with_dictionary() -> tuple[General, ...]:
    """Zstandard with the dictionary that comes with the package, at several levels."""
    data = shipped().data
    return tuple(_with_dictionary(data, level) for level in DICTIONARY_LEVELS)


def _with_dictionary(data: bytes, level: int) -> General:
    dictionary = zstandard.ZstdCompressionDict(data)
    dictionary.precompute_compress(level=level)
    plain = zstandard.ZstdCompressor(level=level)
    primed = zstandard.ZstdCompressor(level=level, dict_data=dictionary)
    reader = zstandard.ZstdDecompressor(dict_data=dictionary)
    return General(
        f"zstd-{level}-dictionary",
        f"Zstandard {level}, dictionary",
        "",
        lambda head: (primed if len(head) <= LARGEST_WITH_DICTIONARY else plain).compress(head),
        lambda stream: reader.decompress(stream),
    )
