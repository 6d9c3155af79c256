"""The libjxl that imagecodecs brings along, told to look at a large image as a whole where that is worth while.

Without being told otherwise, libjxl encodes an image of more than 2048 rows or columns in parts, and leaves out what
needs all of it: above all the palette of the values that occur. Films and detectors that are stretched to 16 bits use
few of them: a palette leaves 60 to 75 % of the bytes at the efforts 2 to 4, and 97 % from 5 on, where parts have
palettes of their own. imagecodecs does not hand that setting on. So the C interface is called (libjxl 0.10 and later,
jxl/encode.h) through the extension module of imagecodecs, which is linked with it; where it cannot be found,
imagecodecs encodes as usual.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

import numpy as np

from leanpacs.codecs.borrowed import Library, Pointer
from leanpacs.codecs.codec import Samples
from leanpacs.codecs.levels import leaves_gaps

PART: Final = 2048
"""Rows and columns of a part; up to there an image is looked at as a whole anyway."""

_LEAST_EFFORT: Final = 2
"""Effort 1 is another encoder, which makes no palette of more than 512 values."""
_PATIENT_EFFORT: Final = 5
_MOST_PIXELS: Final = 1 << 25
_MOST_PIXELS_OF_PATIENT: Final = 5_000_000
"""Larger images are encoded in parts whatever they are: as a whole they take 24 bytes of memory for each pixel, from
effort 5 on 115, so that it stays below 800 MB."""
_LOOKED_AT: Final = 8
"""One row of so many tells whether an image uses few values."""

_LEAST_VERSION: Final = 10_000
_TRUE: Final = 1
_BUFFERING, _AS_A_WHOLE = 34, 0
_EFFORT: Final = 0
_DEPTH_FROM_IMAGE: Final = 1
"""JXL_BIT_DEPTH_FROM_CODESTREAM: samples are numbers of as many bits as the image says."""
_MORE_ROOM: Final = 2
_LEAST_ROOM: Final = 1 << 16
_OPAQUE_BYTES: Final = 1024
"""More than a colour encoding takes, which only libjxl looks into."""


class _BasicInfo(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("have_container", "xsize", "ysize", "bits", "exponent_bits")),
        ("intensity_target", ctypes.c_float),
        ("min_nits", ctypes.c_float),
        ("relative_to_max_display", ctypes.c_uint32),
        ("linear_below", ctypes.c_float),
        ("uses_original_profile", ctypes.c_uint32),
        *((name, ctypes.c_uint32) for name in ("have_preview", "have_animation", "orientation", "colour_channels")),
        ("others", ctypes.c_uint8 * 256),
    )


class _PixelFormat(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_uint32),
        ("type", ctypes.c_int),
        ("endianness", ctypes.c_int),
        ("align", ctypes.c_size_t),
    )


class _BitDepth(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("bits", ctypes.c_uint32), ("exponent_bits", ctypes.c_uint32))


_FUNCTIONS: Final = {
    "InitBasicInfo": ((Pointer,), None),
    "Create": ((Pointer,), Pointer),
    "Destroy": ((Pointer,), None),
    "CloseInput": ((Pointer,), None),
    "SetBasicInfo": ((Pointer, Pointer), ctypes.c_int),
    "SetColorEncoding": ((Pointer, Pointer), ctypes.c_int),
    "FrameSettingsCreate": ((Pointer, Pointer), Pointer),
    "FrameSettingsSetOption": ((Pointer, ctypes.c_int, ctypes.c_int64), ctypes.c_int),
    "SetFrameLossless": ((Pointer, ctypes.c_int), ctypes.c_int),
    "SetFrameBitDepth": ((Pointer, Pointer), ctypes.c_int),
    "AddImageFrame": ((Pointer, Pointer, Pointer, ctypes.c_size_t), ctypes.c_int),
    "ProcessOutput": ((Pointer, Pointer, Pointer), ctypes.c_int),
}
"""What JxlEncoder's functions take and return; where that is a number, 0 says that all is well."""

_COLOURS: Final = {
    "SetToLinearSRGB": ((Pointer, ctypes.c_int), None),
    "SetToSRGB": ((Pointer, ctypes.c_int), None),
}
"""The same of JxlColorEncoding's."""


def encode(values: Samples, effort: int, precision: int) -> bytes:
    """Write a lossless code stream, of a large image as a whole.

    Parameters
    ----------
    values : ndarray
        Contiguous unsigned samples of 8 or 16 bits; shape (rows, columns) or (rows, columns, 3).
    effort : int
        1 to 9 (10 is for those who have a day).
    precision : int
        Bits of a value that the code stream declares; no value has more.

    Raises
    ------
    RuntimeError
        If libjxl refuses.
    """
    rows, columns = values.shape[:2]
    is_divided = max(rows, columns) > PART
    if is_divided and values.ndim == 2 and finds_levels(rows, columns, effort) and leaves_gaps(values[::_LOOKED_AT]):
        encoder = as_a_whole()
        assert encoder is not None
        return encoder(values, effort, precision)
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(values, effort=effort, lossless=True, bitspersample=precision, numthreads=1))


def finds_levels(rows: int, columns: int, effort: int) -> bool:
    """Whether a grey image of this size is encoded as indexes of the values that it uses, if they are few."""
    if effort < _LEAST_EFFORT:
        return False
    most = _MOST_PIXELS if effort < _PATIENT_EFFORT else _MOST_PIXELS_OF_PATIENT
    return max(rows, columns) <= PART or (rows * columns <= most and as_a_whole() is not None)


@cache
def as_a_whole() -> AsAWhole | None:
    """What encodes large images as a whole, where it is there."""
    try:
        return AsAWhole()
    except (ImportError, OSError, AttributeError):
        return None


class AsAWhole:
    """Calls libjxl through the extension module of imagecodecs; any number of threads may, which then run at once.

    Raises
    ------
    ImportError, OSError, AttributeError
        If it is not there, or another one.
    """

    def __init__(self) -> None:
        self._libjxl = libjxl = Library("libjxl", "_jpegxl")
        libjxl.declare("JxlEncoder", {"Version": ((), ctypes.c_uint32)})
        if libjxl("Version") < _LEAST_VERSION:
            raise ImportError("libjxl encodes images as a whole since 0.10")
        libjxl.declare("JxlEncoder", _FUNCTIONS)
        libjxl.declare("JxlColorEncoding", _COLOURS)

    def __call__(self, values: Samples, effort: int, precision: int) -> bytes:
        """See :func:`encode`."""
        libjxl = self._libjxl
        one = libjxl("Create", None)
        try:
            self._describe(one, values, precision)
            settings = libjxl("FrameSettingsCreate", one, None)
            libjxl.check("SetFrameLossless", settings, _TRUE)
            libjxl.check("FrameSettingsSetOption", settings, _EFFORT, effort)
            libjxl.check("FrameSettingsSetOption", settings, _BUFFERING, _AS_A_WHOLE)
            libjxl.check("SetFrameBitDepth", settings, ctypes.byref(_BitDepth(_DEPTH_FROM_IMAGE, precision, 0)))
            layout = _PixelFormat(_channels(values), 2 if values.itemsize == 1 else 3, 0, 0)
            libjxl.check("AddImageFrame", settings, ctypes.byref(layout), values.ctypes.data, values.nbytes)
            libjxl("CloseInput", one)
            return self._written(one, values.nbytes // 4)
        finally:
            libjxl("Destroy", one)

    def _describe(self, one: int, values: Samples, precision: int) -> None:
        """As imagecodecs does: 8-bit samples with the gamma of sRGB, 16-bit ones as linear light."""
        info, colours = _BasicInfo(), ctypes.create_string_buffer(_OPAQUE_BYTES)
        self._libjxl("InitBasicInfo", ctypes.byref(info))
        info.ysize, info.xsize = values.shape[:2]
        info.bits, info.exponent_bits, info.uses_original_profile = precision, 0, _TRUE
        info.colour_channels = _channels(values)
        self._libjxl.check("SetBasicInfo", one, ctypes.byref(info))
        gamma = "SetToSRGB" if values.itemsize == 1 else "SetToLinearSRGB"
        self._libjxl(gamma, colours, int(values.ndim == 2))
        self._libjxl.check("SetColorEncoding", one, colours)

    def _written(self, one: int, expected_bytes: int) -> bytes:
        pieces, size = [], max(_LEAST_ROOM, expected_bytes)
        while True:
            room, left = np.empty(size, np.uint8), ctypes.c_size_t(size)
            place = Pointer(room.ctypes.data)
            status = self._libjxl("ProcessOutput", one, ctypes.byref(place), ctypes.byref(left))
            pieces.append(room[: size - left.value].tobytes())
            if status == 0:
                return b"".join(pieces)
            if status != _MORE_ROOM:
                raise RuntimeError(f"libjxl: the image cannot be encoded ({status})")


def _channels(values: Samples) -> int:
    return 1 if values.ndim == 2 else values.shape[2]
