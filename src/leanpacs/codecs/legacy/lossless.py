"""JPEG Lossless scans made again, with predictor and Huffman tables of the code stream (ISO/IEC 10918-1 Annex H)."""

from __future__ import annotations

from collections.abc import Sequence

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.legacy.scans import DHT, DRI, SOF3, SOS, segments
from leanpacs.codecs.ljpeg import HuffmanTable, encode_scan
from leanpacs.errors import UnsupportedFrame

_CODE_LENGTHS = 16


def scan_data(values: Samples, headers: Sequence[bytes]) -> list[bytes]:
    """Entropy-coded data of each scan.

    Parameters
    ----------
    values : ndarray
        Unsigned, shape (rows, columns, components).
    headers : sequence of bytes
        What stands before each scan; tables and restart interval hold until they are given anew.

    Raises
    ------
    UnsupportedFrame
        If the code stream has what is not encoded here.
    """
    coder = _Coder(values)
    return [coder.scan(header) for header in headers]


class _Coder:
    """Encodes the scans of one code stream in order."""

    def __init__(self, values: Samples) -> None:
        self._values = values
        self._tables: dict[int, HuffmanTable] = {}
        self._precision = 0
        self._identifiers = b""
        self._restart_rows = 0

    def scan(self, header: bytes) -> bytes:
        """Entropy-coded data of the scan that follows ``header``."""
        content = b""
        for marker, content in segments(header):
            if marker == DHT:
                self._define_tables(content)
            elif marker == DRI:
                self._restart_rows = self._rows_in(int.from_bytes(content))
            elif marker == SOF3:
                self._precision, self._identifiers = content[0], content[6::3]
            elif marker != SOS and 0xC0 <= marker <= 0xCF:
                raise UnsupportedFrame(f"the process of marker {marker:02x} is not lossless with Huffman codes")
        return self._encoded(content)

    def _encoded(self, scan_header: bytes) -> bytes:
        count = scan_header[0]
        chosen = [
            (self._identifiers.index(scan_header[1 + 2 * index]), scan_header[2 + 2 * index] >> 4)
            for index in range(count)
        ]
        predictor, low = scan_header[1 + 2 * count], scan_header[3 + 2 * count] & 0xF
        components = [component for component, _ in chosen]
        tables = [self._tables[table] for _, table in chosen]
        values = self._values[..., components]
        return encode_scan(values, self._precision, predictor, tables, low, self._restart_rows)

    def _define_tables(self, content: bytes) -> None:
        while content:
            counts = content[1 : 1 + _CODE_LENGTHS]
            end = 1 + _CODE_LENGTHS + sum(counts)
            self._tables[content[0]] = HuffmanTable(tuple(counts), tuple(content[1 + _CODE_LENGTHS : end]))
            content = content[end:]

    def _rows_in(self, interval: int) -> int:
        columns: int = self._values.shape[1]
        rows, rest = divmod(interval, columns)
        if rest:
            raise UnsupportedFrame("restart intervals that are no whole rows")
        return rows
