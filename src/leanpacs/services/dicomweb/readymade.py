"""Metadata of series and studies, kept ready as Zstandard-compressed JSON.

What is kept is found by the digests of the instances that it is made of: when one arrives or goes, it is another body,
of which the series that have not changed are there already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import orjson
import zstandard

if TYPE_CHECKING:
    from leanpacs.archive.giveback.cache import DiskCache
    from leanpacs.catalog import InstanceRow

_LEVEL: Final = 3
MOST_INSTANCES: Final = 10_000
"""Larger studies are not held in memory as a whole, but made as they are sent."""

Models = Callable[[Sequence["InstanceRow"]], Iterator[dict[str, Any]]]
"""DICOM JSON Model objects of instances."""


def compressed_metadata(
    rows: Sequence[InstanceRow], etag: str, models: Models, cache: DiskCache, variant: str
) -> bytes:
    """Return the JSON of all instances as one Zstandard frame.

    Parameters
    ----------
    rows : sequence of InstanceRow
        Those of one series next to each other.
    etag : str
        Stands for the whole body.
    models : callable
        Makes the JSON of instances.
    cache : DiskCache
        Where it is kept.
    variant : str
        All that the JSON of an instance depends on but its data set.
    """

    def kept(series: Sequence[InstanceRow]) -> bytes:
        return expanded(cache.fetch(_key(variant, series), lambda: _series(series, models)))

    def whole() -> bytes:
        listed = (list(group) for _, group in groupby(rows, key=lambda row: row.series_id))
        return _compressed(b"[" + b",".join(map(kept, listed)) + b"]")

    return cache.fetch(hashlib.sha256(f"study {etag}".encode()).hexdigest()[:40], whole)


def expanded(body: bytes) -> bytes:
    """Return the JSON of a compressed body."""
    return zstandard.ZstdDecompressor().decompress(body)


def _series(rows: Sequence[InstanceRow], models: Models) -> bytes:
    return _compressed(b",".join(orjson.dumps(model) for model in models(rows)))


def _compressed(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(text)


def _key(variant: str, rows: Sequence[InstanceRow]) -> str:
    digest = hashlib.sha256(f"series {variant}\n".encode())
    for row in rows:
        digest.update(row.data_set_digest.raw + row.sop_uid.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()[:40]
