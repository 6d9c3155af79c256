"""Shapes that code streams declare, read before a decoder may allocate anything for them."""

from __future__ import annotations

from dataclasses import dataclass

from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError

_SOI, _SOS, _EOI, _DHP, _APP0, _APP14 = 0xD8, 0xDA, 0xD9, 0xDE, 0xE0, 0xEE
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, SOF55 of JPEG-LS
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_MOST_TILES = 65535
_LEAST_TILE_PART = 14
_SOT, _COD = b"\xff\x90", b"\xff\x52"
# SIZ CAP COD COC TLM PRF PLM CPF QCD QCC RGN POC PPM CRG COM NLT
_MAIN_HEADER = frozenset(
    bytes([0xFF, low]) for low in b"\x51\x50\x52\x53\x55\x56\x57\x59\x5c\x5d\x5e\x5f\x60\x63\x64\x76"
)
# DCO VMS DFS ADS MCT MCC NLT MCO CBD ATK, of ISO/IEC 15444-2 A.3
_EXTENSIONS = range(0xFF70, 0xFF7A)


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What a code stream says of itself.

    Parameters
    ----------
    rows, columns, samples : int
        Size, and number of components.
    precision : int
        Bits of a sample.
    """

    rows: int
    columns: int
    samples: int
    precision: int

    def require(self, codec: str, spec: FrameSpec) -> None:
        """Compare with what the data set says.

        Raises
        ------
        DecodeError
            If the stream holds anything but one frame of ``spec``.
        """
        said = (self.rows, self.columns, self.samples)
        wanted = (spec.rows, spec.columns, spec.samples_per_pixel)
        if said != wanted:
            raise DecodeError(codec, f"the code stream has rows, columns, samples {said}, the frame {wanted}")
        if not 1 <= self.precision <= max(spec.bits_allocated, 8):
            raise DecodeError(codec, f"{self.precision} bits a sample, {spec.bits_allocated} allocated")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Frame header of JPEG and JPEG-LS (ISO/IEC 10918-1 B.2.2), and what tells the colour space.

    Parameters
    ----------
    shape : StreamShape
        What the frame header says.
    process : int
        Second byte of the frame header's marker: 0xC0 baseline, 0xC1 extended, 0xC3 lossless, 0xF7 JPEG-LS.
    component_ids : tuple of int
        As declared.
    has_jfif : bool
        A JFIF segment is there: three components are YCbCr.
    adobe_transform : int or None
        Of an Adobe segment: 0 none, 1 YCbCr.
    is_hierarchical : bool
        The first of several frames, of which the later ones refine the earlier ones (a DHP segment comes first).
    """

    shape: StreamShape
    process: int
    component_ids: tuple[int, ...]
    has_jfif: bool
    adobe_transform: int | None
    is_hierarchical: bool = False


def jpeg_header(codec: str, stream: bytes) -> JpegHeader:
    """Read the segments up to the frame header.

    Raises
    ------
    DecodeError
        If there is none.
    """
    has_jfif, adobe, is_hierarchical = False, None, False
    for marker, body in _jpeg_segments(codec, stream):
        if marker == _APP0 and body.startswith(b"JFIF\0"):
            has_jfif = True
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker == _DHP:
            is_hierarchical = True
        elif marker in _FRAME_HEADERS:
            shape, ids = _frame_header(codec, body)
            return JpegHeader(shape, marker, ids, has_jfif, adobe, is_hierarchical)
    raise DecodeError(codec, "the code stream has no frame header")


def _frame_header(codec: str, body: bytes) -> tuple[StreamShape, tuple[int, ...]]:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise DecodeError(codec, "the frame header is cut short")
    rows, columns = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    shape = StreamShape(rows, columns, body[5], body[0])
    return shape, tuple(body[6 : 6 + 3 * body[5] : 3])


def _jpeg_segments(codec: str, stream: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of the segments before the first scan."""
    if stream[:2] != b"\xff\xd8":
        raise DecodeError(codec, "the code stream does not begin with SOI")
    found = []
    position = 2
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            raise DecodeError(codec, f"no marker at byte {position}")
        marker = stream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (_SOS, _EOI):
            break
        length = int.from_bytes(stream[position : position + 2])
        found.append((marker, stream[position + 2 : position + length]))
        position += max(length, 2)
    return found


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """Image and tile size of a JPEG 2000 code stream (ISO/IEC 15444-1 A.5.1)."""

    shape: StreamShape
    is_signed: bool


def jpeg2000_header(codec: str, stream: bytes) -> Jpeg2000Header:
    """Read the SIZ segment; a JP2 file around the code stream is tolerated.

    Raises
    ------
    DecodeError
        If there is none, or its components differ from one another or are subsampled.
    """
    start = _code_stream_in_jp2(codec, stream) if stream.startswith(_JP2_SIGNATURE) else 0
    if stream[start : start + 4] != b"\xff\x4f\xff\x51":
        raise DecodeError(codec, "the code stream does not begin with SOC and SIZ")
    size = stream[start + 6 : start + 6 + int.from_bytes(stream[start + 4 : start + 6]) - 2]
    count = int.from_bytes(size[34:36])
    if len(size) < 36 + 3 * count or not count:
        raise DecodeError(codec, "the SIZ segment is cut short")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0 = (
        int.from_bytes(size[offset : offset + 4]) for offset in range(2, 34, 4)
    )
    components = {size[36 + 3 * index : 39 + 3 * index] for index in range(count)}
    depth, *steps = components.pop()
    if components or steps != [1, 1]:
        raise DecodeError(codec, "components differ from one another, or are subsampled")
    if not tile_x or not tile_y or tile_x0 > x0 or tile_y0 > y0:
        raise DecodeError(codec, "the tile size makes no sense")
    if -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y) > _MOST_TILES:
        raise DecodeError(codec, "more tiles than there can be")
    shape = StreamShape(y1 - y0, x1 - x0, count, (depth & 0x7F) + 1)
    return Jpeg2000Header(shape, bool(depth & 0x80))


def require_sound_main_header(codec: str, stream: bytes) -> None:
    """Walk the segments from SIZ to the first tile-part (ISO/IEC 15444-1 A.3): OpenJPH crashes on unsound ones.

    Raises
    ------
    DecodeError
        If a segment is unknown or too long, or a component transform has fewer than three components.
    """
    position = 2 + (_code_stream_in_jp2(codec, stream) if stream.startswith(_JP2_SIGNATURE) else 0)
    components = int.from_bytes(stream[position + 38 : position + 40])
    while stream[position : position + 2] != _SOT:
        marker, length = stream[position : position + 2], int.from_bytes(stream[position + 2 : position + 4])
        if marker not in _MAIN_HEADER or length < 2 or position + 2 + length > len(stream):
            raise DecodeError(codec, f"marker {marker.hex()} of {length} bytes has no place in the main header")
        if marker == _COD and length > 6 and stream[position + 8] and components < 3:
            raise DecodeError(codec, f"a component transform of {components} components")
        position += 2 + length


def require_all_tile_parts(codec: str, stream: bytes) -> None:
    """Follow the lengths of the tile-parts (ISO/IEC 15444-1 A.4.2): decoders fill up what was cut off, and say nothing.

    Raises
    ------
    DecodeError
        If one is longer than what is there.
    """
    position = 2 + (_code_stream_in_jp2(codec, stream) if stream.startswith(_JP2_SIGNATURE) else 0)
    while position < len(stream) and stream[position : position + 2] != _SOT:
        position += 2 + max(2, int.from_bytes(stream[position + 2 : position + 4]))
    if position >= len(stream):
        raise DecodeError(codec, "the code stream has no tile-part")
    while stream[position : position + 2] == _SOT:
        length = int.from_bytes(stream[position + 6 : position + 10])
        if length == 0:  # the last one: it goes on to the end
            return
        position += max(_LEAST_TILE_PART, length)
        if position > len(stream):
            raise DecodeError(codec, f"the code stream is cut: a tile-part ends at byte {position} of {len(stream)}")


def extension_markers(codec: str, stream: bytes) -> list[str]:
    """Markers of JPEG 2000 part 2 in the main header, such as ``FF74`` (multiple component transformation).

    Whoever does not know one of them, and passes over it, decodes something else than what was encoded.
    """
    position = 2 + (_code_stream_in_jp2(codec, stream) if stream.startswith(_JP2_SIGNATURE) else 0)
    found = []
    while (marker := int.from_bytes(stream[position : position + 2])) > 0xFF00 and stream[
        position : position + 2
    ] != _SOT:
        if marker in _EXTENSIONS:
            found.append(f"{marker:04X}")
        position += 2 + max(2, int.from_bytes(stream[position + 2 : position + 4]))
    return found


def is_reversible(codec: str, stream: bytes) -> bool:
    """Whether the wavelet transform of a JPEG 2000 code stream loses nothing (COD segment, ISO/IEC 15444-1 A.6.1)."""
    position = 2 + (_code_stream_in_jp2(codec, stream) if stream.startswith(_JP2_SIGNATURE) else 0)
    while (marker := stream[position : position + 2]) != _SOT and marker:
        if marker == _COD:
            return stream[position + 13 : position + 14] == b"\x01"
        position += 2 + max(2, int.from_bytes(stream[position + 2 : position + 4]))
    return False


def _code_stream_in_jp2(codec: str, stream: bytes) -> int:
    for kind, start, _ in boxes(codec, stream):
        if kind == b"jp2c":
            return start
    raise DecodeError(codec, "a JP2 file without a code stream")


def boxes(codec: str, stream: bytes) -> list[tuple[bytes, int, int]]:
    """Type, first byte and end of the content of each top-level box (ISO/IEC 15444-1 I.4, ISO/IEC 18181-2)."""
    found = []
    position = 0
    while position + 8 <= len(stream):
        length, kind = int.from_bytes(stream[position : position + 4]), stream[position + 4 : position + 8]
        start = position + 8
        if length == 1:
            length, start = int.from_bytes(stream[start : start + 8]), start + 8
        end = len(stream) if length == 0 else position + length
        if end < start or end > len(stream):
            raise DecodeError(codec, f"a box at byte {position} is longer than the file")
        found.append((kind, start, end))
        position = end
    return found
