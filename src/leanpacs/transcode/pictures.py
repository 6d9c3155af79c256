"""Rendered images as files: JPEG, PNG, GIF, JPEG 2000, HTJ2K and JPEG XL, with an ICC profile where one is asked for.

References
----------
PS3.18 8.7.4 (rendered media types); ISO/IEC 15444-1 annex I (JP2), ISO/IEC 15444-15 annex D (JPH); GIF89a.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.codecs.codec import Samples
from leanpacs.errors import UnsupportedFrame

_SRGB, _GREY = 16, 17
"""Enumerated colour spaces of a colour box."""
_RESTRICTED_ICC: Final = 2


def warm_up() -> None:
    """Load what most pictures are written with."""
    import imagecodecs

    _ = imagecodecs.jpeg8_encode  # it is loaded when it is first named


def written(image: Samples, media_type: str, quality: int, profile: bytes | None = None) -> bytes:
    """Return an image file.

    Parameters
    ----------
    image : ndarray of uint8
        Grey or RGB.
    media_type : str
        One of `WRITERS`.
    quality : int
        1 to 100, of those that lose something; 100 is without loss where the format can.
    profile : bytes, optional
        ICC profile to be put in; of media types in `PROFILED` only.
    """
    return WRITERS[media_type](image, quality, profile)


def _jpeg(image: Samples, quality: int, profile: bytes | None) -> bytes:
    import imagecodecs

    if profile is not None:
        return _by_pillow(image, "JPEG", quality=quality, icc_profile=profile)
    return bytes(imagecodecs.jpeg8_encode(image, level=quality))


def _png(image: Samples, _quality: int, profile: bytes | None) -> bytes:
    import imagecodecs

    if profile is not None:
        return _by_pillow(image, "PNG", compress_level=4, icc_profile=profile)
    return bytes(imagecodecs.png_encode(image))


def _gif(image: Samples, _quality: int, _profile: bytes | None) -> bytes:
    return _by_pillow(image, "GIF", interlace=0)


def _jxl(image: Samples, quality: int, _profile: bytes | None) -> bytes:
    """The code stream says by itself that it is sRGB."""
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(image, distance=0.1 + (100 - quality) * 0.09, effort=3))


def _jp2(image: Samples, quality: int, profile: bytes | None) -> bytes:
    import imagecodecs

    if quality == 100:
        stream = imagecodecs.jpeg2k_encode(image, codecformat="j2k", reversible=True)
    else:
        stream = imagecodecs.jpeg2k_encode(image, level=25 + quality // 4, codecformat="j2k")  # a PSNR in dB
    return _in_boxes(b"jp2 ", bytes(stream), image, profile)


def _jph(image: Samples, quality: int, profile: bytes | None) -> bytes:
    import imagecodecs

    if quality == 100:
        stream = imagecodecs.htj2k_encode(image, reversible=True)
    else:
        stream = imagecodecs.htj2k_encode(image, level=0.002 * (101 - quality) ** 0.75)  # a step of quantization
    return _in_boxes(b"jph ", bytes(stream), image, profile)


WRITERS: Final[Mapping[str, Callable[[Samples, int, bytes | None], bytes]]] = MappingProxyType(
    {
        "image/jpeg": _jpeg,
        "image/png": _png,
        "image/gif": _gif,
        "image/jp2": _jp2,
        "image/jph": _jph,
        "image/jxl": _jxl,
    }
)
"""By media type, the one first that is sent to those who take any."""
PROFILED: Final = frozenset({"image/jpeg", "image/png", "image/jp2", "image/jph"})
"""Media types of files with a place for a profile that is written here."""


def _by_pillow(image: Samples, form: str, **options: object) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image)
    if form == "GIF" and picture.mode == "RGB":
        picture = picture.quantize(256)
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _in_boxes(brand: bytes, stream: bytes, image: Samples, profile: bytes | None) -> bytes:
    rows, columns = image.shape[:2]
    samples = 1 if image.ndim == 2 else image.shape[2]
    header = struct.pack(">IIHBBBB", rows, columns, samples, 7, 7, 0, 0)
    if profile is None:
        colour = struct.pack(">BBBI", 1, 0, 0, _GREY if samples == 1 else _SRGB)
    else:
        colour = struct.pack(">BBB", _RESTRICTED_ICC, 0, 0) + profile
    return b"".join(
        (
            _box(b"jP  ", b"\r\n\x87\n"),
            _box(b"ftyp", brand + bytes(4) + brand),
            _box(b"jp2h", _box(b"ihdr", header) + _box(b"colr", colour)),
            _box(b"jp2c", stream),
        )
    )


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def animated(images: Iterator[bytes], milliseconds: float) -> Iterator[bytes]:
    """Join GIF files of equal size to one that shows them in turn, over and over.

    Each keeps its own palette, so that nothing but the one under way is in memory.

    Raises
    ------
    UnsupportedFrame
        If one is no GIF file, as `written` makes them.
    """
    hundredths = min(max(2, round(milliseconds / 10)), 0xFFFF)
    control = b"\x21\xf9\x04\x04" + struct.pack("<H", hundredths) + b"\x00\x00"
    is_first = True
    for image in images:
        screen, palette, descriptor, data = _gif_parts(image)
        if is_first:
            yield b"GIF89a" + screen[:4] + b"\x70\x00\x00" + b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
            is_first = False
        size = (len(palette) // 3).bit_length() - 2
        yield control + descriptor[:9] + bytes([0x80 | size]) + palette + data
    yield b"\x3b"


def _gif_parts(image: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Screen descriptor, palette, image descriptor and the coded pixels of a GIF file with one image."""
    try:
        screen, position = image[6:13], 13
        length = 3 << (screen[4] & 7) + 1 if screen[4] & 0x80 else 0
        palette, position = image[position : position + length], position + length
        while image[position] == 0x21:  # extensions
            position = _after_blocks(image, position + 2)
        if image[position] != 0x2C or image[position + 9] or not palette:
            raise UnsupportedFrame("the image is no plain GIF file with one palette")
        start = position + 10
        return screen, palette, image[position:start], image[start : _after_blocks(image, start + 1)]
    except IndexError as error:
        raise UnsupportedFrame("the GIF file ends too early") from error


def _after_blocks(image: bytes, position: int) -> int:
    while image[position]:
        position += image[position] + 1
    return position + 1
