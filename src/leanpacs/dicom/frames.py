"""How frames are laid out in native Pixel Data (PS3.5 8.1 and 8.2, PS3.3 C.7.6.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, Literal

from leanpacs.dicom.layout import PixelSpan, RawValue
from leanpacs.errors import DicomError, MissingAttribute

FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009

_SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_NUMBER_OF_FRAMES: Final = 0x00280008

FRAME_TAGS: Final = frozenset(
    {
        *(0x00280002, 0x00280004, 0x00280006, _NUMBER_OF_FRAMES, 0x00280010, 0x00280011),
        *(0x00280100, 0x00280101, 0x00280102, 0x00280103),
        *(0x7FE00001, 0x7FE00002),
    }
)
"""What says where frames are: Image Pixel attributes, Number of Frames, the Extended Offset Table."""


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """The Image Pixel attributes that say what a frame is; named as in PS3.3 C.7.6.3.

    Parameters
    ----------
    rows, columns, samples_per_pixel, bits_allocated, bits_stored, high_bit : int
        As encoded; the first four at least 1. `bits_stored` and `high_bit` default to all bits allocated.
    pixel_representation : int
        0 for unsigned, 1 for signed (two's complement) samples.
    planar_configuration : int
        0 when the samples of a pixel stand together, 1 when each sample has a plane of its own.
    photometric_interpretation : str
        Without padding; '' when absent.
    number_of_frames : int
        At least 1.
    kind : {'integer', 'float'}
        'float' for Float and Double Float Pixel Data.
    full_chroma : bool
        The native value holds every sample although a 4:2:2 Photometric Interpretation says otherwise.
    """

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    planar_configuration: int
    photometric_interpretation: str
    number_of_frames: int
    kind: Literal["integer", "float"] = "integer"
    full_chroma: bool = False

    def but(self, **changes: Any) -> FrameSpec:
        """With these attributes changed; itself where they are so already, as they mostly are: that takes no time."""
        is_so = all(getattr(self, name) == value for name, value in changes.items())
        return self if is_so else replace(self, **changes)

    @property
    def is_subsampled(self) -> bool:
        """Whether two pixels share their chroma samples in native form (PS3.3 C.7.6.3.1.2)."""
        return self.photometric_interpretation in _SUBSAMPLED and self.samples_per_pixel == 3 and not self.full_chroma

    @property
    def frame_bits(self) -> int:
        """Bits in one native frame."""
        samples = 2 if self.is_subsampled else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def frame_bytes(self) -> int | None:
        """Bytes in one native frame; None when it does not fill its last byte, as 1-bit frames may not."""
        return _whole_bytes(self.frame_bits)


@dataclass(frozen=True, slots=True)
class NativeFrames:
    """Where the frames of native Pixel Data are.

    Parameters
    ----------
    offset : int
        First byte of the first frame.
    frame_bits, count : int
        Bits in a frame, number of frames. Frames follow one another without padding, 1-bit frames even within
        a byte (PS3.5 8.1.1).
    trailing : int
        Bytes of the value after the last frame: padding to even length, seldom more.
    """

    offset: int
    frame_bits: int
    count: int
    trailing: int

    @property
    def frame_bytes(self) -> int | None:
        """Bytes in one frame; None when frames do not begin on byte boundaries."""
        return _whole_bytes(self.frame_bits)

    def read(self, reader: BinaryIO, index: int) -> bytes:
        """Bytes of frame ``index`` (from 0), which begins with the lowest bit of the first one.

        Raises
        ------
        IndexError
            There is no such frame.
        DicomError
            The reader ends before it.
        """
        if not 0 <= index < self.count:
            raise IndexError(index)
        first, shift = divmod(index * self.frame_bits, 8)
        last = -(-(first * 8 + shift + self.frame_bits) // 8)
        reader.seek(self.offset + first)
        data = reader.read(last - first)
        if len(data) != last - first:
            raise DicomError(f"frame {index + 1} ends at byte {last}, beyond what there is")
        if self.frame_bits % 8 == 0:
            return data
        bits = int.from_bytes(data, "little") >> shift & (1 << self.frame_bits) - 1
        return bits.to_bytes(-(-self.frame_bits // 8), "little")


def frame_spec(elements: Mapping[int, RawValue], pixel: PixelSpan) -> FrameSpec:
    """The Image Pixel attributes of a data set.

    Parameters
    ----------
    elements : mapping of int to RawValue
        As :func:`~leanpacs.dicom.instance.scan` collects them.
    pixel : PixelSpan
        Its tag decides what may be absent: Float and Double Float Pixel Data have no Bits Stored and no sign.

    Raises
    ------
    MissingAttribute
        Rows, Columns or Bits Allocated is absent or empty.
    DicomError
        An attribute has a value that no image can have.
    """
    is_float = pixel.tag in {FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA}
    width = 64 if pixel.tag == DOUBLE_FLOAT_PIXEL_DATA else 32 if is_float else None
    allocated = _number(elements, 0x00280100, "BitsAllocated", width)
    stored = _number(elements, 0x00280101, "BitsStored", allocated)
    spec = FrameSpec(
        rows=_number(elements, 0x00280010, "Rows"),
        columns=_number(elements, 0x00280011, "Columns"),
        samples_per_pixel=_number(elements, 0x00280002, "SamplesPerPixel", 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=_number(elements, 0x00280102, "HighBit", stored - 1),
        pixel_representation=_number(elements, 0x00280103, "PixelRepresentation", 0),
        planar_configuration=_number(elements, 0x00280006, "PlanarConfiguration", 0),
        photometric_interpretation=_text(elements.get(0x00280004)),
        number_of_frames=_number(elements, 0x00280008, "NumberOfFrames", 1) or 1,
        kind="float" if is_float else "integer",
    )
    _check(spec, width)
    return _with_full_chroma(spec, pixel)


def native_frames(pixel: PixelSpan, spec: FrameSpec) -> NativeFrames:
    """Where the frames are in native Pixel Data.

    Raises
    ------
    DicomError
        The value is encapsulated, or shorter than the frames that the attributes announce.
    """
    if pixel.encapsulated:
        raise DicomError("Pixel Data is encapsulated, its frames are fragments")
    needed = -(-spec.frame_bits * spec.number_of_frames // 8)
    if pixel.length < needed:
        frames = "1 frame needs" if spec.number_of_frames == 1 else f"{spec.number_of_frames} frames need"
        raise DicomError(f"Pixel Data holds {pixel.length} bytes, {frames} {needed}")
    return NativeFrames(pixel.value_offset, spec.frame_bits, spec.number_of_frames, pixel.length - needed)


def word_size(vr: str, spec: FrameSpec) -> int:
    """Bytes in the unit whose order a big endian encoding reverses in native Pixel Data (PS3.5 7.3 and 8.1).

    Samples of up to 16 bits in OW stand in 16-bit words, two 8-bit samples in one; larger samples are words
    themselves.
    """
    if vr == "OB":
        return 1
    return max(2, -(-spec.bits_allocated // 8))


def _whole_bytes(bits: int) -> int | None:
    return None if bits % 8 else bits // 8


def _with_full_chroma(spec: FrameSpec, pixel: PixelSpan) -> FrameSpec:
    """Tell apart 4:2:2 data and data that kept the Photometric Interpretation of a decoded JPEG."""
    full = replace(spec, full_chroma=True)
    if spec.is_subsampled and not pixel.encapsulated and pixel.length * 8 >= full.frame_bits * full.number_of_frames:
        return full
    return spec


def _check(spec: FrameSpec, width: int | None) -> None:
    """Refuse values with which no frame can be laid out."""
    reason = ""
    if not (spec.rows and spec.columns and spec.samples_per_pixel):
        reason = f"{spec.rows} rows, {spec.columns} columns and {spec.samples_per_pixel} samples are no image"
    elif not 1 <= spec.bits_allocated <= 64 or spec.bits_allocated != (width or spec.bits_allocated):
        reason = f"Bits Allocated is {spec.bits_allocated}"
    elif not 1 <= spec.bits_stored <= spec.bits_allocated:
        reason = f"Bits Stored is {spec.bits_stored} of {spec.bits_allocated} allocated"
    elif spec.high_bit >= spec.bits_allocated:
        reason = f"High Bit is {spec.high_bit} of {spec.bits_allocated} allocated"
    elif spec.pixel_representation > 1 or spec.planar_configuration > 1:
        reason = "Pixel Representation or Planar Configuration is neither 0 nor 1"
    if reason:
        raise DicomError(reason)


def _number(elements: Mapping[int, RawValue], tag: int, keyword: str, default: int | None = None) -> int:
    """First value of an element as a number, whether it is encoded in binary or, as IS, in text."""
    raw = elements.get(tag)
    if raw is None or not raw.value.strip(b" " if tag == _NUMBER_OF_FRAMES else b""):
        if default is None:
            raise MissingAttribute(keyword)
        return default
    try:
        if raw.vr in {"IS", "DS"} or (raw.vr is None and tag == _NUMBER_OF_FRAMES):
            number = int(_text(raw).split("\\")[0])
        else:
            number = _binary(raw)
    except (ValueError, struct.error):
        number = -1
    if not 0 <= number < 1 << 32:
        raise DicomError(f"{keyword} is no number of reasonable size")
    return number


def _binary(raw: RawValue) -> int:
    """First value of US or, from some writers, SS, UL or SL."""
    size = 4 if raw.vr in {"UL", "SL"} or (raw.vr not in {"US", "SS"} and len(raw.value) == 4) else 2
    (number,) = struct.unpack_from(("<" if raw.little_endian else ">") + " HI"[size // 2], raw.value)
    return int(number)


def _text(raw: RawValue | None) -> str:
    return "" if raw is None else raw.value.decode("latin-1").strip(" \0")
