"""Complete JPEG Lossless code streams with given Huffman tables, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.ljpeg import HuffmanTable, encode_scan


def encode(
    samples: Samples,
    precision: int,
    predictor: int,
    tables: Sequence[HuffmanTable],
    point_transform: int = 0,
    restart_rows: int = 0,
) -> bytes:
    """A complete code stream of one interleaved scan; parameters as for :func:`encode_scan`."""
    rows, columns, count = samples.reshape(*samples.shape[:2], -1).shape
    scan = encode_scan(samples, precision, predictor, tables, point_transform, restart_rows)
    distinct = list(dict.fromkeys(tables))
    size = rows.to_bytes(2) + columns.to_bytes(2)
    parts = [b"\xff\xd8"]
    if restart_rows:
        parts.append(_segment(0xDD, (restart_rows * columns).to_bytes(2)))
    components = b"".join(bytes([index + 1, 0x11, 0]) for index in range(count))
    parts.append(_segment(0xC3, bytes([precision]) + size + bytes([count]) + components))
    parts.extend(_segment(0xC4, bytes([index, *table.counts, *table.symbols])) for index, table in enumerate(distinct))
    uses = b"".join(bytes([index + 1, distinct.index(table) << 4]) for index, table in enumerate(tables))
    parts.append(_segment(0xDA, bytes([count]) + uses + bytes([predictor, 0, point_transform])))
    return b"".join([*parts, scan, b"\xff\xd9"])


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content
