"""Encapsulated Pixel Data (PS3.5 A.4): its fragments, offset tables, and the bytes between fragments.

Offset tables that were received are checked before they are believed; offsets that are written are derived in
one place, :func:`frame_offsets`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import BinaryIO, Final, NamedTuple

from leanpacs.dicom.elements import ITEM, SEQUENCE_DELIMITATION, walk_items
from leanpacs.dicom.headers import Window
from leanpacs.dicom.layout import RawValue
from leanpacs.errors import DicomError, EncapsulationError, Truncated

EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002

_ITEM_HEADER: Final = struct.Struct("<HHL")
_ITEM_TAG: Final = b"\xfe\xff\x00\xe0"
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_LONGEST_TABLE: Final = 1 << 23
_LONGEST_FRAGMENT: Final = 0xFFFFFFFE
# how code streams begin: JPEG, JPEG-LS and JPEG Lossless; JPEG 2000 and HTJ2K; JPEG XL, bare and in a box
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

# the first two end with a marker
_MARKED: Final = _SIGNATURES[:2]
_END_MARKER: Final = b"\xff\xd9"


class Fragment(NamedTuple):
    """Where the payload of one fragment is, and its length in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """The items of encapsulated Pixel Data.

    Parameters
    ----------
    basic_offset_table : bytes
        Content of the first item: empty, or 32-bit offsets.
    fragments : tuple of Fragment
        The other items, in order; none for a value that is empty.
    complete : bool
        Every item is there in full, and the Sequence Delimitation Item too.
    """

    basic_offset_table: bytes
    fragments: tuple[Fragment, ...]
    complete: bool


def parse(reader: BinaryIO, value_offset: int, value_end: int) -> Encapsulation:
    """Find the items of an encapsulated value without reading the fragments.

    Parameters
    ----------
    reader : BinaryIO
        Seekable.
    value_offset, value_end : int
        The value, from the item of the Basic Offset Table through the Sequence Delimitation Item.

    Raises
    ------
    EncapsulationError
        Something else than items, too many of them, or bytes after the delimiter. A value that ends early is
        no error: `complete` is False then, and a fragment that is cut short is not listed.
    """
    window = Window(reader, value_end)
    items: list[Fragment] = []
    complete = False
    try:
        for item in walk_items(window, value_offset):
            if item.tag == SEQUENCE_DELIMITATION:
                complete = True
                if item.end != value_end:
                    raise EncapsulationError(f"{value_end - item.end} bytes follow the end of Pixel Data")
            elif item.end <= value_end:
                items.append(Fragment(item.value_offset, item.end - item.value_offset))
    except Truncated:
        pass
    except DicomError as error:
        raise EncapsulationError(str(error)) from error
    if not items:
        return Encapsulation(b"", (), complete)
    table = items.pop(0)
    if table.length > _LONGEST_TABLE:
        raise EncapsulationError(f"the Basic Offset Table has {table.length} bytes")
    content = window.bytes_at(*table)
    return Encapsulation(content, tuple(items), complete)


def extended_offsets(elements: Mapping[int, RawValue]) -> tuple[list[int], list[int]] | None:
    """Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8), None unless both are there and agree."""
    offsets = elements.get(EXTENDED_OFFSET_TABLE)
    lengths = elements.get(EXTENDED_OFFSET_TABLE_LENGTHS)
    if offsets is None or lengths is None or len(offsets.value) != len(lengths.value):
        return None
    return _numbers(offsets.value, 8), _numbers(lengths.value, 8)


def frame_fragments(
    enc: Encapsulation,
    number_of_frames: int,
    *,
    extended: tuple[Sequence[int], Sequence[int]] | None = None,
    reader: BinaryIO | None = None,
) -> list[list[int]]:
    """Indexes of the fragments of each frame.

    Tried in this order, each only if it accounts for every fragment: the Basic Offset Table, the Extended
    Offset Table, one fragment per frame, all fragments for a single frame, and code streams that begin with
    their signature.

    Parameters
    ----------
    enc : Encapsulation
        As :func:`parse` found it.
    number_of_frames : int
        Number of Frames (0028,0008), 1 when absent.
    extended : pair of sequences of int, optional
        As :func:`extended_offsets` gives it.
    reader : BinaryIO, optional
        What `enc` was parsed from; without it signatures are not looked at.

    Raises
    ------
    EncapsulationError
        The fragments cannot be assigned to frames without doubt.
    """
    count = len(enc.fragments)
    if not 0 < number_of_frames <= count:
        raise EncapsulationError(f"{_several(number_of_frames, 'frame')} in {_several(count, 'fragment')}")
    for starts in (_basic_starts(enc), _extended_starts(enc, extended)):
        if starts is not None and len(starts) == number_of_frames:
            return _runs(starts, count)
    if number_of_frames in {1, count}:
        return _runs(range(number_of_frames), count)
    starts = _signed_starts(enc, reader) if reader is not None else None
    if starts is not None and len(starts) == number_of_frames and starts[0] == 0:
        return _runs(starts, count)
    raise EncapsulationError(
        f"no offset table tells which of {count} fragments belong to each of {number_of_frames} frames"
    )


def skeleton(reader: BinaryIO, enc: Encapsulation, value_offset: int, value_end: int) -> bytes:
    """All bytes of the value that are not payload of a fragment: item headers, offset table, delimiter.

    Raises
    ------
    EncapsulationError
        The value is not complete.
    """
    if not enc.complete:
        raise EncapsulationError("Pixel Data ends early")
    window = Window(reader, value_end)
    parts: list[bytes] = []
    offset = value_offset
    for fragment in enc.fragments:
        parts.append(window.bytes_at(offset, fragment.offset - offset))
        offset = fragment.offset + fragment.length
    parts.append(window.bytes_at(offset, value_end - offset))
    return b"".join(parts)


def weave(skeleton: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put payload between the bytes of a skeleton: the inverse of :func:`skeleton`.

    Parameters
    ----------
    skeleton : bytes
        As :func:`skeleton` made it.
    chunks : iterable of bytes
        The payloads of all fragments one after another, cut anywhere.

    Raises
    ------
    EncapsulationError
        The skeleton is none, or there is more or less payload than it asks for.
    """
    payload = _Payload(chunks)
    position, is_table = 0, True
    while True:
        if position + _ITEM_HEADER.size > len(skeleton):
            raise EncapsulationError("the skeleton of Pixel Data ends early")
        group, number, length = _ITEM_HEADER.unpack_from(skeleton, position)
        tag = group << 16 | number
        end = position + _ITEM_HEADER.size + (length if is_table and tag == ITEM else 0)
        if tag not in {ITEM, SEQUENCE_DELIMITATION} or end > len(skeleton):
            raise EncapsulationError("the skeleton of Pixel Data is damaged")
        yield skeleton[position:end]
        if tag == SEQUENCE_DELIMITATION:
            break
        if not is_table:
            yield from payload.take(length)
        position, is_table = end, False
    if end != len(skeleton) or payload.has_more():
        raise EncapsulationError("there is more payload than the skeleton of Pixel Data has room for")


def frame_offsets(lengths: Iterable[int]) -> list[int]:
    """Offset of each frame's item from the first one, for frames in one fragment each (PS3.5 A.4)."""
    return [0, *accumulate(_ITEM_HEADER.size + length + length % 2 for length in lengths)][:-1]


def encapsulate(
    frames: Iterable[bytes], *, lengths: Sequence[int] | None = None, with_table: bool = True
) -> Iterator[bytes]:
    """An encapsulated value with one fragment per frame, padded to even length, and its delimiter.

    Parameters
    ----------
    frames : iterable of bytes
        One code stream per frame.
    lengths : sequence of int, optional
        Their lengths; without them all frames are held in memory to make the table.
    with_table : bool
        Fill the Basic Offset Table; it stays empty when an offset exceeds 32 bits (PS3.5 A.4).

    Raises
    ------
    EncapsulationError
        A frame is too long for one fragment, or has another length than announced.
    """
    if lengths is None:
        frames = list(frames) if with_table else frames
        lengths = [len(frame) for frame in frames] if isinstance(frames, list) else None
    offsets = frame_offsets(lengths) if with_table and lengths is not None else []
    if offsets and offsets[-1] > 0xFFFFFFFF:
        offsets = []
    yield _ITEM_TAG + struct.pack(f"<L{len(offsets)}L", 4 * len(offsets), *offsets)
    count = 0
    for count, frame in enumerate(frames, 1):
        if len(frame) > _LONGEST_FRAGMENT or (lengths is not None and [*lengths[count - 1 : count]] != [len(frame)]):
            raise EncapsulationError(f"frame {count} has {len(frame)} bytes")
        yield _ITEM_TAG + struct.pack("<L", len(frame) + len(frame) % 2)
        yield frame
        if len(frame) % 2:
            yield b"\0"
    if lengths is not None and count != len(lengths):
        raise EncapsulationError(f"{count} frames instead of {len(lengths)}")
    yield _DELIMITER


def encapsulated_length(lengths: Sequence[int], *, with_table: bool = True) -> int:
    """Bytes of what :func:`encapsulate` makes of frames of these lengths."""
    table = 4 * len(lengths) if with_table else 0
    items = sum(_ITEM_HEADER.size + length + length % 2 for length in lengths)
    return _ITEM_HEADER.size + table + items + len(_DELIMITER)


class _Payload:
    """Chunks of bytes, handed out in other portions."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def take(self, length: int) -> Iterator[bytes]:
        while length:
            if not self.has_more():
                raise EncapsulationError("there is less payload than the skeleton of Pixel Data asks for")
            part, self._rest = self._rest[:length], self._rest[length:]
            length -= len(part)
            yield bytes(part)

    def has_more(self) -> bool:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._rest = memoryview(chunk)
        return True


def _basic_starts(enc: Encapsulation) -> list[int] | None:
    """First fragment of each frame by the Basic Offset Table, None if it is empty or wrong."""
    return _starts(enc, _numbers(enc.basic_offset_table, 4))


def _extended_starts(enc: Encapsulation, extended: tuple[Sequence[int], Sequence[int]] | None) -> list[int] | None:
    """First fragment of each frame by the Extended Offset Table, None if there is none or it is wrong."""
    if extended is None or len(extended[0]) != len(extended[1]):
        return None
    starts = _starts(enc, extended[0])
    if starts is None:
        return None
    runs = _runs(starts, len(enc.fragments))
    fits = all(
        length <= sum(enc.fragments[index].length for index in run)
        for length, run in zip(extended[1], runs, strict=True)
    )
    return starts if fits else None


def _starts(enc: Encapsulation, offsets: Sequence[int]) -> list[int] | None:
    """Fragments whose items are at these offsets from the first; None unless all are, in order, from 0."""
    if not offsets or not enc.fragments or offsets[0] != 0:
        return None
    first = enc.fragments[0].offset
    index_at = {fragment.offset - first: index for index, fragment in enumerate(enc.fragments)}
    starts = [index_at.get(offset, -1) for offset in offsets]
    return starts if all(a < b for a, b in pairwise(starts)) else None


def _signed_starts(enc: Encapsulation, reader: BinaryIO) -> list[int]:
    """Fragments that begin with the signature of the first one, after the end of another code stream."""

    def read(offset: int, length: int) -> bytes:
        reader.seek(offset)
        return reader.read(length)

    first = read(enc.fragments[0].offset, 12)
    signature = next((known for known in _SIGNATURES if first.startswith(known)), None)
    if signature is None:
        return []
    starts = [0]
    for index, (before, fragment) in enumerate(pairwise(enc.fragments), 1):
        if read(fragment.offset, min(len(signature), fragment.length)) != signature:
            continue
        end = read(before.offset + max(0, before.length - 3), min(3, before.length))
        if signature not in _MARKED or _END_MARKER in end:
            starts.append(index)
    return starts


def _runs(starts: Sequence[int], count: int) -> list[list[int]]:
    return [list(range(a, b)) for a, b in pairwise([*starts, count])]


def _numbers(table: bytes, width: int) -> list[int]:
    """Little endian numbers of 4 or 8 bytes; bytes that do not fill one are ignored."""
    count = len(table) // width
    return list(struct.unpack_from(f"<{count}{'L' if width == 4 else 'Q'}", table))


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
