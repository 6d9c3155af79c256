"""Whole files stored under a compressor: what they take on disk, and how fast they get there."""

from __future__ import annotations

import os
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Final

import zstandard

MOST_BYTES: Final = 64 << 20
"""Of a larger file, its first bytes are stored."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file under one compressor; ``store_seconds`` is wall time of compressing, writing and syncing."""

    key: str
    raw_bytes: int
    stored_bytes: int
    encode_seconds: float
    decode_seconds: float
    store_seconds: float


@dataclass(frozen=True, slots=True)
class Compressor:
    """A way to store files."""

    key: str
    label: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


@lru_cache(maxsize=1)
def compressors() -> tuple[Compressor, ...]:
    """As they are; gzip at its usual levels; Zstandard at low ones."""
    return (
        Compressor("none", "as they are", bytes, bytes),
        *(_gzip(level) for level in (1, 6, 9)),
        *(_zstd(level) for level in (-5, 1, 2, 3)),
    )


def _gzip(level: int) -> Compressor:
    def compress(data: bytes) -> bytes:
        stream = zlib.compressobj(level, wbits=16 + zlib.MAX_WBITS)
        return stream.compress(data) + stream.flush()

    return Compressor(
        f"gzip-{level}", f"gzip -{level}", compress, lambda stream: zlib.decompress(stream, 16 + zlib.MAX_WBITS)
    )


def _zstd(level: int) -> Compressor:
    return Compressor(
        f"zstd-{level}",
        f"Zstandard {level}".replace("-", "\N{MINUS SIGN}"),
        zstandard.ZstdCompressor(level=level).compress,
        zstandard.ZstdDecompressor().decompress,
    )


def measure(received: BinaryIO) -> list[Stored]:
    """Store a file, or its first part, in the folder for temporary files, under each compressor in turn.

    A compressor that does not give the bytes back is left out.
    """
    received.seek(0)
    data = received.read(MOST_BYTES)
    results = []
    for one in compressors():
        with tempfile.TemporaryFile(buffering=0) as file:
            cpu, wall = time.process_time(), time.perf_counter()
            stored = one.compress(data)
            encode_seconds = time.process_time() - cpu
            file.write(stored)
            os.fsync(file.fileno())
            store_seconds = time.perf_counter() - wall
        cpu = time.process_time()
        is_same = one.decompress(stored) == data
        decode_seconds = time.process_time() - cpu
        if is_same:
            results.append(Stored(one.key, len(data), len(stored), encode_seconds, decode_seconds, store_seconds))
    return results
