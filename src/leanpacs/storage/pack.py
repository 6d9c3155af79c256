"""Packs: ZIP files with stored entries, written and read strictly.

What a pack looks like, byte for byte, is in docs/reference/pack-format.md. In short: entries lie one after
the other from the first byte, none is compressed, every date is 1980-01-01, there are no comments, and ZIP64
fields stand only where sizes, offsets or counts need them. Equal entries give an equal file. Names are plain
ASCII paths. Any ZIP program opens it.

References
----------
PKWARE APPNOTE.TXT 6.3.10, 4.3 (structures), 4.5.3 (ZIP64).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO

from leanpacs.errors import PackError
from leanpacs.storage.store import CHUNK_BYTES

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")

_DATE = (1 << 5) | 1  # 1980-01-01, the first day a ZIP can name
_PLAIN, _ZIP64 = 10, 45  # version needed to extract
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_LOCAL_EXTRA_BYTES = 20  # ZIP64 extra field of a local header: tag, length, two sizes
_MAX_DIRECTORY_BYTES = 256 << 20

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one entry of a pack is.

    Parameters
    ----------
    name : str
        Its name, such as ``frames/00001.jxl``.
    offset, length : int
        The bytes of its content within the pack: one ranged read.
    crc32 : int
        CRC-32 of the content.
    header_offset : int
        Where its local header starts; the content follows the header.
    """

    name: str
    offset: int
    length: int
    crc32: int
    header_offset: int

    @property
    def header(self) -> bytes:
        """The local header as it stands in the pack."""
        name = self.name.encode("ascii")
        extra = self.offset - self.header_offset - _LOCAL.size - len(name)
        return _local_header(name, self.crc32, self.length, zip64=extra == _LOCAL_EXTRA_BYTES)


def _local_header(name: bytes, crc: int, length: int, *, zip64: bool) -> bytes:
    size, version, extra = length, _PLAIN, b""
    if zip64:
        size, version = _MAX32, _ZIP64
        extra = struct.pack("<2H2Q", 1, 16, length, length)
    head = _LOCAL.pack(b"PK\3\4", version, 0, 0, 0, _DATE, crc, size, size, len(name), len(extra))
    return head + name + extra


def _central_header(entry: Entry) -> bytes:
    name = entry.name.encode("ascii")
    size, offset, wide = entry.length, entry.header_offset, b""
    if size >= _MAX32:
        wide, size = struct.pack("<2Q", size, size), _MAX32
    if offset >= _MAX32:
        wide, offset = wide + struct.pack("<Q", offset), _MAX32
    extra = struct.pack("<2H", 1, len(wide)) + wide if wide else b""
    version = _ZIP64 if wide else _PLAIN
    sizes = (entry.crc32, size, size, len(name), len(extra))
    head = _CENTRAL.pack(b"PK\1\2", version, version, 0, 0, 0, _DATE, *sizes, 0, 0, 0, 0, offset)
    return head + name + extra


def _end_records(count: int, size: int, offset: int) -> bytes:
    """What follows the central directory of ``count`` entries, ``size`` bytes at ``offset``."""
    wide = b""
    if count >= _MAX16 or size >= _MAX32 or offset >= _MAX32:
        fields = (_ZIP64, _ZIP64, 0, 0, count, count, size, offset)
        wide = _END64.pack(b"PK\6\6", _END64.size - 12, *fields)
        wide += _LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1)
        count, size, offset = min(count, _MAX16), min(size, _MAX32), min(offset, _MAX32)
    return wide + _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)


class PackWriter:
    """Writes a pack; ``close`` completes it.

    Parameters
    ----------
    file : BinaryIO
        Empty file at its start; seekable if content is added in chunks. It stays open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What was added, by name."""
        return MappingProxyType(self._entries)

    def add(self, name: str, data: bytes | Iterable[bytes]) -> Entry:
        """Append an entry.

        Parameters
        ----------
        name : str
            ASCII letters, digits, ``.``, ``_``, ``-``, parts divided by ``/``; not there yet.
        data : bytes or iterable of bytes
            Its content. Chunks of more than 1 MB in all are written as they come.
        """
        if name in self._entries or not _is_name(name):
            raise ValueError(f"an entry of a pack cannot be named {name!r} here")
        encoded = name.encode("ascii")
        content, rest = (data, None) if isinstance(data, bytes) else _gathered(data)
        crc, length = zlib.crc32(content), len(content)
        header = _local_header(encoded, crc, length, zip64=rest is not None or length >= _MAX32)
        self._file.write(header)
        self._file.write(content)
        if rest is not None:
            crc, length = self._write_chunks(rest, crc, length)
            self._file.seek(self._position)
            self._file.write(_local_header(encoded, crc, length, zip64=True))
            self._file.seek(self._position + len(header) + length)
        entry = Entry(name, self._position + len(header), length, crc, self._position)
        self._position = entry.offset + length
        self._entries[name] = entry
        return entry

    def _write_chunks(self, chunks: Iterable[bytes], crc: int, length: int) -> tuple[int, int]:
        for chunk in chunks:
            self._file.write(chunk)
            crc = zlib.crc32(chunk, crc)
            length += len(chunk)
        return crc, length

    def close(self) -> int:
        """Write the central directory and return the length of the pack in bytes; the file stays open."""
        directory = b"".join(map(_central_header, self._entries.values()))
        end = _end_records(len(self._entries), len(directory), self._position)
        self._file.write(directory)
        self._file.write(end)
        return self._position + len(directory) + len(end)


class PackReader:
    """Reads a pack that may be damaged or hostile.

    Opening reads the end of the file only. It is refused unless its entries lie one after the other without
    gap or overlap and everything agrees with the documented form, so an entry is never longer than the file.

    Parameters
    ----------
    file : BinaryIO
        Seekable; it stays open. One reader serves one thread.
    entries : mapping of str to Entry, optional
        Those of another reader of the same pack: then nothing is read until something is asked for.

    Raises
    ------
    PackError
        If it is not a pack as documented.
    """

    def __init__(self, file: BinaryIO, entries: Mapping[str, Entry] | None = None) -> None:
        self._file = file
        if entries is not None:
            self.entries = entries
            return
        count, size, offset = self._directory()
        directory = self._exactly(offset, size)
        self.entries = MappingProxyType(_parse_directory(directory, count, offset))

    def read(self, name: str) -> bytes:
        """Content of an entry, its CRC checked."""
        entry = self._entry(name)
        data = self._exactly(entry.header_offset, entry.offset - entry.header_offset + entry.length)
        header = entry.header
        if not data.startswith(header) or zlib.crc32(memoryview(data)[len(header) :]) != entry.crc32:
            raise PackError(f"{name} is damaged")
        return data[len(header) :]

    def chunks(self, name: str, *, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Content of an entry in pieces of at most ``size`` bytes; damage is told of after the last one."""
        entry = self._entry(name)
        if self._exactly(entry.header_offset, entry.offset - entry.header_offset) != entry.header:
            raise PackError(f"{name} is damaged")
        return self._chunks(entry, size)

    def _chunks(self, entry: Entry, size: int) -> Iterator[bytes]:
        crc, position, end = 0, entry.offset, entry.offset + entry.length
        while position < end:
            chunk = self._exactly(position, min(size, end - position))
            position += len(chunk)
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if crc != entry.crc32:
            raise PackError(f"{entry.name} is damaged")

    def _entry(self, name: str) -> Entry:
        try:
            return self.entries[name]
        except KeyError:
            raise PackError(f"the pack has no {name}") from None

    def _exactly(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) != length:
            raise PackError(f"the pack ends before byte {offset + length}")
        return data

    def _directory(self) -> tuple[int, int, int]:
        """Count of entries, size and offset of the central directory; all checked against the file's end."""
        file_size = self._file.seek(0, 2)
        tail_size = min(file_size, _END.size + _LOCATOR64.size + _END64.size)
        tail = self._exactly(file_size - tail_size, tail_size)
        if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\5\6":
            raise PackError("the file does not end as a pack does")
        fields = _END.unpack(tail[-_END.size :])
        count, size, offset = fields[4:7]
        if count == _MAX16 or _MAX32 in (size, offset):
            if len(tail) < _END.size + _LOCATOR64.size + _END64.size:
                raise PackError("the ZIP64 records are missing")
            count, size, offset = _END64.unpack_from(tail)[7:10]
        if offset + size > file_size or size > _MAX_DIRECTORY_BYTES:
            raise PackError("the central directory is longer than it can be")
        end = _end_records(count, size, offset)
        if not tail.endswith(end) or offset + size + len(end) != file_size:
            raise PackError("the end records of the pack contradict each other")
        return count, size, offset


def _parse_directory(directory: bytes, count: int, end: int) -> dict[str, Entry]:
    """Entries of a central directory; their contents must fill the bytes 0 to ``end`` of the pack."""
    records = []
    position = 0
    for _ in range(count):
        name, crc, length, header_offset, position = _parse_central(directory, position)
        records.append((name, crc, length, header_offset))
    if position != len(directory):
        raise PackError("the central directory has other bytes than its entries")
    stops = [*(record[3] for record in records[1:]), end] if records else []
    entries: dict[str, Entry] = {}
    expected = 0
    for (name, crc, length, header_offset), stop in zip(records, stops, strict=True):
        offset = stop - length
        extra = offset - header_offset - _LOCAL.size - len(name)
        allowed = (0, _LOCAL_EXTRA_BYTES) if length < _MAX32 else (_LOCAL_EXTRA_BYTES,)
        if header_offset != expected or extra not in allowed or name in entries:
            raise PackError(f"{name} overlaps another entry, or leaves a gap")
        entries[name] = Entry(name, offset, length, crc, header_offset)
        expected = stop
    if expected != end:
        raise PackError("there are bytes before the central directory that belong to no entry")
    return entries


def _parse_central(directory: bytes, position: int) -> tuple[str, int, int, int, int]:
    """Name, CRC, length and header offset of one entry, and where the next one starts."""
    start = position + _CENTRAL.size
    if start > len(directory):
        raise PackError("the central directory is too short")
    fields = _CENTRAL.unpack_from(directory, position)
    crc, _, length, name_length, extra_length = fields[7:12]
    offset = fields[16]
    raw = directory[start : start + name_length]
    name = raw.decode("ascii", "replace")
    extra = directory[start + name_length : start + name_length + extra_length]
    wide = [value for (value,) in struct.iter_unpack("<Q", extra[4:])] if len(extra) in (12, 20, 28) else []
    if length == _MAX32 and len(wide) >= 2:
        length, wide = wide[0], wide[2:]
    if offset == _MAX32 and wide:
        offset = wide[0]
    if not _is_name(name):
        raise PackError(f"{raw[:80]!r} is not a name of an entry")
    # Whatever else stands there is compared at once: the entry has one documented form only.
    expected = _central_header(Entry(name, 0, length, crc, offset))
    if directory[position : position + len(expected)] != expected:
        raise PackError(f"the directory entry of {name} is not as documented")
    return name, crc, length, offset, position + len(expected)


def _gathered(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """All of the chunks; or, if that is much, what was gathered so far and an iterator of the others."""
    source = iter(chunks)
    gathered = bytearray()
    for chunk in source:
        gathered += chunk
        if len(gathered) > CHUNK_BYTES:
            return bytes(gathered), source
    return bytes(gathered), None


def _is_name(name: str) -> bool:
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None
