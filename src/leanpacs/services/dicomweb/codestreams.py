"""What a code stream that somebody sends as bulk data is: its transfer syntax, and the pixels that it declares.

References
----------
PS3.18 10.5.2 (the Image Pixel Description Macro may be omitted beside compressed pixels), table 8.7.3-5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from leanpacs.codecs.headers import StreamShape, is_reversible, jpeg2000_header, jpeg_header
from leanpacs.codecs.jxlheader import jpegxl_header
from leanpacs.dicom import uids
from leanpacs.errors import DecodeError, DicomError

_JPEG: Final[Mapping[int, str]] = MappingProxyType(
    {
        0xC0: uids.JPEG_BASELINE,
        0xC1: uids.JPEG_EXTENDED,
        0xC3: uids.JPEG_LOSSLESS_SV1,
    }
)
_JPEG_LS: Final = 0xF7


def syntax_of(media_type: str, stream: bytes) -> str:
    """Transfer syntax of a code stream whose sender names only the media type.

    Raises
    ------
    DicomError
        It is none of that media type, or none that has a transfer syntax.
    """
    if media_type in _VIDEO:
        return _VIDEO[media_type]
    if media_type not in _BY_TYPE:
        raise DicomError(f"bulk data of type {media_type} need a transfer-syntax")
    try:
        return _BY_TYPE[media_type](stream)
    except DecodeError as error:
        raise DicomError(f"what is sent as {media_type} is none: {error}") from error


def image_pixel(syntax: str, stream: bytes) -> dict[str, dict[str, Any]]:
    """Image Pixel attributes (DICOM JSON Model) that a code stream declares; {} where it declares none.

    Raises
    ------
    DicomError
        It is not of this transfer syntax.
    """
    try:
        shape, photometric, is_signed = _declared(syntax, stream)
    except DecodeError as error:
        raise DicomError(f"the code stream is none of {syntax}: {error}") from error
    if shape is None:
        return {}
    allocated = 8 if shape.precision <= 8 else 16
    model: dict[str, dict[str, Any]] = {
        "00280002": _number(shape.samples),
        "00280004": {"vr": "CS", "Value": [photometric]},
        "00280010": _number(shape.rows),
        "00280011": _number(shape.columns),
        "00280100": _number(allocated),
        "00280101": _number(shape.precision),
        "00280102": _number(shape.precision - 1),
        "00280103": _number(int(is_signed)),
    }
    return model | ({"00280006": _number(0)} if shape.samples > 1 else {})


def _declared(syntax: str, stream: bytes) -> tuple[StreamShape | None, str, bool]:
    media_type = uids.transfer_syntax(syntax).media_type
    if media_type in ("image/jpeg", "image/jls"):
        header = jpeg_header("jpeg", stream)
        is_rgb = header.adobe_transform == 0 or header.component_ids == (0x52, 0x47, 0x42)
        lossy_colour = header.process in (0xC0, 0xC1) and not is_rgb
        return header.shape, _photometric(header.shape, "YBR_FULL_422" if lossy_colour else "RGB"), False
    if media_type in ("image/jp2", "image/jphc"):
        found = jpeg2000_header("jpeg2000", stream)
        colour = "YBR_RCT" if is_reversible("jpeg2000", stream) else "YBR_ICT"
        return found.shape, _photometric(found.shape, colour), found.is_signed
    if media_type == "image/jxl":
        image = jpegxl_header("jpegxl", stream)
        return image.shape, _photometric(image.shape, "XYB" if image.is_xyb else "RGB"), False
    return None, "", False


def _photometric(shape: StreamShape, colour: str) -> str:
    return "MONOCHROME2" if shape.samples == 1 else colour


def _number(value: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [value]}


def _jpeg(stream: bytes) -> str:
    process = jpeg_header("jpeg", stream).process
    if process not in _JPEG:
        raise DicomError(f"JPEG process {process:#x} needs a transfer-syntax")
    return _JPEG[process]


def _jpegls(stream: bytes) -> str:
    if jpeg_header("jpegls", stream).process != _JPEG_LS:
        raise DicomError("what is sent as image/jls is none")
    scan = stream.find(b"\xff\xda")
    near = stream[scan + 5 + 2 * stream[scan + 4]] if scan > 0 and scan + 5 + 2 * stream[scan + 4] < len(stream) else 0
    return uids.JPEG_LS_NEAR_LOSSLESS if near else uids.JPEG_LS_LOSSLESS


def _jpeg2000(stream: bytes) -> str:
    return uids.JPEG_2000_LOSSLESS if is_reversible("jpeg2000", stream) else uids.JPEG_2000


def _htj2k(stream: bytes) -> str:
    return uids.HTJ2K_LOSSLESS if is_reversible("htj2k", stream) else uids.HTJ2K


def _jpegxl(stream: bytes) -> str:
    return uids.JPEG_XL if jpegxl_header("jpegxl", stream).is_xyb else uids.JPEG_XL_LOSSLESS


_BY_TYPE: Final[Mapping[str, Callable[[bytes], str]]] = MappingProxyType(
    {
        "image/jpeg": _jpeg,
        "image/jls": _jpegls,
        "image/jp2": _jpeg2000,
        "image/jphc": _htj2k,
        "image/jxl": _jpegxl,
        "image/dicom-rle": lambda _stream: uids.RLE,
    }
)
_VIDEO: Final[Mapping[str, str]] = MappingProxyType(
    {
        "video/mpeg": "1.2.840.10008.1.2.4.100",
        "video/mp4": "1.2.840.10008.1.2.4.102",
        "video/h265": "1.2.840.10008.1.2.4.107",
    }
)
"""Least demanding transfer syntax of each."""
