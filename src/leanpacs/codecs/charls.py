"""The CharLS that imagecodecs brings along, asked for as many bits of a sample as there are.

imagecodecs itself writes JPEG-LS of 8 and 16 bits only, and fewer bits are smaller. pyjpegls writes any number, with a
CharLS of its own that is built with less care: it takes half as long again for the same bytes. So the C interface of
the better one is called (CharLS 2, charls_jpegls_encoder.h), which the extension module of imagecodecs is linked with;
where it cannot be found through that module, pyjpegls writes.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final, Protocol

import numpy as np

from leanpacs.codecs.borrowed import Library, Pointer
from leanpacs.codecs.codec import Samples

_MAJOR: Final = 2
"""Of the CharLS whose interface this is."""

_BY_SAMPLE: Final = 2
"""Interleave mode of colour."""

_HEADER_BYTES: Final = 4096
"""More than all that stands before and after the samples of a code stream."""

_VERSION: Final = {"get_version_number": ((Pointer, Pointer, Pointer), None)}
_ENCODER: Final = {
    "create": ((), Pointer),
    "destroy": ((Pointer,), None),
    "set_frame_info": ((Pointer, Pointer), ctypes.c_int),
    "set_near_lossless": ((Pointer, ctypes.c_int), ctypes.c_int),
    "set_interleave_mode": ((Pointer, ctypes.c_int), ctypes.c_int),
    "set_destination_buffer": ((Pointer, Pointer, ctypes.c_size_t), ctypes.c_int),
    "encode_from_buffer": ((Pointer, Pointer, ctypes.c_size_t, ctypes.c_uint32), ctypes.c_int),
    "get_bytes_written": ((Pointer, Pointer), ctypes.c_int),
}
"""What functions of charls_jpegls_encoder take and return; where that is a number, 0 says that all is well."""


class _FrameInfo(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("bits_per_sample", ctypes.c_int32),
        ("component_count", ctypes.c_int32),
    )


class Encode(Protocol):
    """Writes a code stream; RuntimeError where it cannot, or where the stream is more than twice the samples."""

    def __call__(self, values: Samples, bits: int, near: int) -> bytes:
        """See :func:`encode`."""
        ...


def encode(values: Samples, bits: int, near: int = 0) -> bytes:
    """Write a code stream that declares so many bits of a sample.

    Parameters
    ----------
    values : ndarray
        Contiguous unsigned samples, in one byte where ``bits`` fit; shape (rows, columns) or (rows, columns, samples),
        which are interleaved by sample.
    bits : int
        2 to 16; no value has more.
    near : int
        How far values may be from the original.

    Raises
    ------
    RuntimeError
        If the encoder refuses, or the code stream is about twice as long as the samples.

    References
    ----------
    ISO/IEC 14495-1; PS3.5 8.2.3.
    """
    return encoder()(values, bits, near)


@cache
def encoder() -> Encode:
    """What writes here."""
    try:
        return _OfImagecodecs()
    except (ImportError, OSError, AttributeError):
        return _of_pyjpegls


class _OfImagecodecs:
    """Calls CharLS through the extension module of imagecodecs.

    Raises
    ------
    ImportError, OSError, AttributeError
        If it is not there, or another one.
    """

    def __init__(self) -> None:
        self._charls = charls = Library("CharLS", "_jpegls")
        charls.declare("charls_", _VERSION)
        major = ctypes.c_int32()
        charls("get_version_number", ctypes.byref(major), None, None)
        if major.value != _MAJOR:
            raise ImportError(f"CharLS {major.value}")
        charls.declare("charls_jpegls_encoder_", _ENCODER)

    def __call__(self, values: Samples, bits: int, near: int) -> bytes:
        """See :func:`encode`."""
        rows, columns, *others = values.shape
        info = _FrameInfo(columns, rows, bits, others[0] if others else 1)
        room, written = np.empty(2 * values.nbytes + _HEADER_BYTES, np.uint8), ctypes.c_size_t()
        charls = self._charls
        one = charls("create")
        try:
            charls.check("set_frame_info", one, ctypes.byref(info))
            charls.check("set_near_lossless", one, near)
            if others:
                charls.check("set_interleave_mode", one, _BY_SAMPLE)
            charls.check("set_destination_buffer", one, room.ctypes.data, room.nbytes)
            charls.check("encode_from_buffer", one, values.ctypes.data, values.nbytes, 0)
            charls.check("get_bytes_written", one, ctypes.byref(written))
        finally:
            charls("destroy", one)
        return room[: written.value].tobytes()


def _of_pyjpegls(values: Samples, bits: int, near: int) -> bytes:
    import jpeg_ls

    rows, columns, *others = values.shape
    stream = jpeg_ls.encode_buffer(
        values.tobytes(),
        rows=rows,
        columns=columns,
        samples_per_pixel=others[0] if others else 1,
        bits_stored=bits,
        lossy_error=near,
        interleave_mode=_BY_SAMPLE if others else None,
    )
    return bytes(stream)
