"""The beginning of a JPEG XL code stream: its size and its samples (ISO/IEC 18181-1 Annex D)."""

from __future__ import annotations

from dataclasses import dataclass

from leanpacs.codecs.headers import StreamShape, boxes
from leanpacs.errors import DecodeError

_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE = ((1, 9), (1, 13), (1, 18), (1, 30))
_BITS = ((8, 0), (10, 0), (12, 0), (1, 6))
_EXTRA_CHANNELS = ((0, 0), (1, 0), (2, 4), (1, 12))
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_GREY = 1
_ENOUGH = 64
"""Bytes that hold everything read here."""


@dataclass(frozen=True, slots=True)
class JpegXLHeader:
    """What a JPEG XL code stream says of itself.

    Parameters
    ----------
    shape : StreamShape
        Size, number of colour channels, bits.
    is_xyb : bool
        Colours and greys were converted to XYB before they were encoded: the code stream is lossy.
    """

    shape: StreamShape
    is_xyb: bool


def jpegxl_header(codec: str, stream: bytes) -> JpegXLHeader:
    """Size, number of colour channels and bits of a JPEG XL image, and whether it is lossy for certain.

    Raises
    ------
    DecodeError
        If it is no JPEG XL, or anything but one still image of integers without extra channels.
    """
    bits = _Bits(codec, _code_stream(codec, stream))
    if bits.take(16) != 0x0AFF:
        raise DecodeError(codec, "the code stream does not begin with FF 0A")
    rows, columns = _size(bits)
    if bits.take(1):  # all of the metadata has default values
        return JpegXLHeader(StreamShape(rows, columns, 3, 8), is_xyb=True)
    if bits.take(1):
        _extra_fields(codec, bits)
    if bits.take(1):
        raise DecodeError(codec, "floating point samples")
    precision = bits.number(_BITS)
    bits.take(1)  # 16-bit buffers are enough
    if bits.number(_EXTRA_CHANNELS):
        raise DecodeError(codec, "the image has extra channels")
    is_xyb = bool(bits.take(1))
    return JpegXLHeader(StreamShape(rows, columns, _colour_channels(bits), precision), is_xyb)


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)
    rows = (bits.take(5) + 1) * 8 if is_small else bits.number(_SIZE)
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio - 1]
        return rows, rows * numerator // denominator
    return rows, (bits.take(5) + 1) * 8 if is_small else bits.number(_SIZE)


def _extra_fields(codec: str, bits: _Bits) -> None:
    if bits.take(3):
        raise DecodeError(codec, "the image is to be turned or mirrored")
    if bits.take(1):  # intrinsic size: a wish of how large to show it
        _size(bits)
    if bits.take(1):
        raise DecodeError(codec, "the image has a preview")
    if bits.take(1):
        raise DecodeError(codec, "the image is an animation")


def _colour_channels(bits: _Bits) -> int:
    if bits.take(1):  # sRGB
        return 3
    bits.take(1)  # an ICC profile follows
    return 1 if bits.number(_ENUM) == _GREY else 3


def _code_stream(codec: str, stream: bytes) -> bytes:
    """First bytes of the code stream, out of its container if there is one."""
    if not stream.startswith(_CONTAINER):
        return stream[:_ENOUGH]
    parts = b""
    for kind, start, end in boxes(codec, stream):
        if kind == b"jxlc":
            return stream[start : min(end, start + _ENOUGH)]
        if kind == b"jxlp":
            parts += stream[start + 4 : min(end, start + 4 + _ENOUGH)]
            if len(parts) >= _ENOUGH:
                break
    return parts


class _Bits:
    """Reads numbers from the lowest bit up."""

    def __init__(self, codec: str, data: bytes) -> None:
        self._codec = codec
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next ``count`` bits."""
        if count > self._left:
            raise DecodeError(self._codec, "the code stream ends in its header")
        value = self._value & (1 << count) - 1
        self._value >>= count
        self._left -= count
        return value

    def number(self, choices: tuple[tuple[int, int], ...]) -> int:
        """Return a U32: two bits choose an offset and how many bits to add to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)
