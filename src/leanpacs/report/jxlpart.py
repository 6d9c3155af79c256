"""The beginning of a JPEG XL code stream as an image: libjxl's flush, which no Python binding offers yet.

The package ``opencodecs`` writes the responsive code streams and brings libjxl along; its public C interface is called
here (jxl/decode.h: JxlDecoderFlushImage). Meant for measuring, in worker processes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.errors import DecodeError

_SUCCESS, _ERROR, _NEED_MORE_INPUT, _NEED_OUT_BUFFER = 0, 1, 2, 5
_FULL_IMAGE: Final = 0x1000
_UINT8, _UINT16 = 2, 3
_PASSES: Final = 3
_FROM_CODESTREAM: Final = 1


class _PixelFormat(ctypes.Structure):
    _fields_ = (
        ("num_channels", ctypes.c_uint32),
        ("data_type", ctypes.c_int),
        ("endianness", ctypes.c_int),
        ("align", ctypes.c_size_t),
    )


class _BitDepth(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("bits_per_sample", ctypes.c_uint32),
        ("exponent_bits_per_sample", ctypes.c_uint32),
    )


def is_available() -> bool:
    """Whether ``opencodecs`` and the libjxl that it brings are installed."""
    return _library_path() is not None


@lru_cache(maxsize=1)
def _library_path() -> Path | None:
    found = importlib.util.find_spec("opencodecs")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent.parent / "opencodecs.libs"
    return next((path for path in sorted(folder.glob("libjxl-*.so*"))), None)


@lru_cache(maxsize=1)
def _library() -> Any:
    import opencodecs  # loads what libjxl itself needs

    path = _library_path()
    if path is None:
        raise DecodeError("jpegxl", f"opencodecs {opencodecs.__version__} brings no libjxl")
    library = ctypes.CDLL(str(path))
    library.JxlDecoderCreate.restype = ctypes.c_void_p
    return library


def encode(values: Samples, effort: int, *, progressive: bool = True) -> bytes:
    """Encode unsigned samples without loss, as a rule responsive: an overview first."""
    import opencodecs

    return bytes(opencodecs.jxl_encode(values, lossless=True, progressive=progressive, effort=effort, numthreads=1))


def decode(beginning: bytes, like: Samples) -> Samples | None:
    """The image as far as a beginning of a code stream tells; None when it tells nothing yet.

    Parameters
    ----------
    beginning : bytes
        As many bytes as have come.
    like : ndarray
        An image of the shape and type that comes out.
    """
    library = _library()
    decoder = ctypes.c_void_p(library.JxlDecoderCreate(None))
    try:
        return _decoded(library, decoder, beginning, like)
    finally:
        library.JxlDecoderDestroy(decoder)


def _decoded(library: Any, decoder: ctypes.c_void_p, beginning: bytes, like: Samples) -> Samples | None:
    image = np.zeros_like(like)
    channels = 1 if like.ndim == 2 else like.shape[2]
    pixels = _PixelFormat(channels, _UINT8 if like.dtype.itemsize == 1 else _UINT16, 0, 0)
    library.JxlDecoderSubscribeEvents(decoder, _FULL_IMAGE)
    library.JxlDecoderSetProgressiveDetail(decoder, _PASSES)
    library.JxlDecoderSetInput(decoder, beginning, ctypes.c_size_t(len(beginning)))
    has_buffer = False
    while True:
        status = library.JxlDecoderProcessInput(decoder)
        if status == _NEED_OUT_BUFFER:
            size = ctypes.c_size_t()
            library.JxlDecoderImageOutBufferSize(decoder, ctypes.byref(pixels), ctypes.byref(size))
            if size.value != image.nbytes:
                raise DecodeError("jpegxl", f"the image takes {size.value} bytes, not {image.nbytes}")
            target = image.ctypes.data_as(ctypes.c_void_p)
            library.JxlDecoderSetImageOutBuffer(decoder, ctypes.byref(pixels), target, size)
            library.JxlDecoderSetImageOutBitDepth(decoder, ctypes.byref(_BitDepth(_FROM_CODESTREAM, 0, 0)))
            has_buffer = True
        elif status in (_FULL_IMAGE, _SUCCESS):
            return image
        elif status == _NEED_MORE_INPUT:
            is_shown = has_buffer and library.JxlDecoderFlushImage(decoder) == _SUCCESS
            return image if is_shown else None
        else:
            raise DecodeError("jpegxl", f"libjxl says {status}")
