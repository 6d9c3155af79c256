"""Metadata of series and studies, kept ready as Zstandard-compressed JSON.

What is kept is found by the digests of the instances that it is made of, some dozens together: when one arrives or
goes, only the pieces around it are other ones. The pieces do not depend on the address by which a client knows this
server, so they can be made before anybody asks (:mod:`leanpacs.services.dicomweb.warming`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
import zstandard

from leanpacs import __version__

if TYPE_CHECKING:
    from leanpacs.archive.giveback.kept import Kept
    from leanpacs.catalog import InstanceRow

SERVICE: Final = "\x01service\x01"
"""Stands for the URL of the service in what is kept; no data set has such characters in text."""
_SERVICE: Final = orjson.dumps(SERVICE)[1:-1]
_LEVEL: Final = 3
_MOST_TOGETHER: Final = 256
_ENDS: Final = 4
"""A piece ends after an instance whose digest begins with a byte below this: after 64 on average, and wherever others
come or go, the others end where they did."""
MOST_INSTANCES: Final = 10_000
"""Larger studies are not held in memory as a whole, but made as they are sent."""

Models = Callable[[Sequence["InstanceRow"]], Iterator[dict[str, Any]]]
"""DICOM JSON Model objects of instances, with `SERVICE` for the URL of the service."""


def compressed_metadata(rows: Sequence[InstanceRow], etag: str, models: Models, cache: Kept, service: str) -> bytes:
    """Return the JSON of all instances as one Zstandard frame.

    Parameters
    ----------
    rows : sequence of InstanceRow
        Those of one series next to each other.
    etag : str
        Stands for the whole body.
    models : callable
        Makes the JSON of instances.
    cache : Kept
        Where it is kept.
    service : str
        URL of the service.
    """

    def whole() -> bytes:
        body = b"[" + b",".join(expanded(piece) for piece in _pieces(rows, models, cache)) + b"]"
        return _compressed(body.replace(_SERVICE, orjson.dumps(service)[1:-1]))

    return cache.fetch(hashlib.sha256(f"study {etag}".encode()).hexdigest()[:40], whole)


def make_ready(rows: Sequence[InstanceRow], models: Models, cache: Kept) -> None:
    """Make what is missing of the metadata of these instances, before anybody asks."""
    for _ in _pieces(rows, models, cache):
        pass


def expanded(body: bytes) -> bytes:
    """Return the JSON of a compressed body."""
    return zstandard.ZstdDecompressor().decompress(body)


def _pieces(rows: Sequence[InstanceRow], models: Models, cache: Kept) -> Iterator[bytes]:
    for together in _together(rows):
        yield cache.fetch(_key(together), lambda some=together: _made(some, models))  # type: ignore[misc]


def _together(rows: Sequence[InstanceRow]) -> Iterator[list[InstanceRow]]:
    """Neighbours of one series, cut by what they are and not by how many there are."""
    held: list[InstanceRow] = []
    for row in rows:
        if held and (row.series_id != held[-1].series_id or len(held) == _MOST_TOGETHER):
            yield held
            held = []
        held.append(row)
        if row.data_set_digest.raw[0] < _ENDS:
            yield held
            held = []
    if held:
        yield held


def _made(rows: Sequence[InstanceRow], models: Models) -> bytes:
    return _compressed(b",".join(orjson.dumps(model) for model in models(rows)))


def _compressed(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(text)


def _key(rows: Sequence[InstanceRow]) -> str:
    digest = hashlib.sha256(f"metadata {__version__}\n".encode())
    for row in rows:
        digest.update(row.data_set_digest.raw + row.sop_uid.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()[:40]
