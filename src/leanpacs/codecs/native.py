"""Native frames: bytes as they stand in Pixel Data to samples, and back (PS3.5 8.1 and 8.2, Annex D)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.samples import dtype_of, shape_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame


def unpack(frame: bytes, spec: FrameSpec, *, big_endian: bool = False) -> Samples:
    """Samples of one native frame.

    Parameters
    ----------
    frame : bytes
        As long as a frame of ``spec`` is.
    spec : FrameSpec
        What it is. Bits above Bits Stored are values like all others here.
    big_endian : bool
        Order of the bytes of each sample.

    Returns
    -------
    ndarray
        Shape (rows, columns) or (rows, columns, samples), interleaved, native byte order. A read-only view of
        ``frame`` where that is possible, and not contiguous when the planes were apart. 1-bit frames as 0 and 1.

    Raises
    ------
    UnsupportedFrame
        If the frame has no such form (4:2:2 chroma, odd numbers of bits) or another length.
    """
    dtype = _dtype(spec)
    expected = -(-spec.frame_bits // 8)
    if len(frame) != expected:
        raise UnsupportedFrame(f"{len(frame)} bytes are no frame of {expected}")
    if spec.bits_allocated == 1:
        values: Samples = np.unpackbits(np.frombuffer(frame, np.uint8), count=spec.frame_bits, bitorder="little")
    else:
        values = np.frombuffer(frame, dtype.newbyteorder(">" if big_endian else "<")).astype(dtype, copy=False)
    if spec.planar_configuration == 1 and spec.samples_per_pixel > 1:
        return np.moveaxis(values.reshape(spec.samples_per_pixel, spec.rows, spec.columns), 0, -1)
    return values.reshape(shape_of(spec))


def unpack_subsampled(frame: bytes, spec: FrameSpec, *, big_endian: bool = False) -> Samples:
    """Samples of one native 4:2:2 frame: both pixels of a pair get the chroma samples that they share.

    Parameters
    ----------
    frame : bytes
        Y1 Y2 Cb Cr for each two pixels of a row (PS3.3 C.7.6.3.1.2).
    spec : FrameSpec
        With a subsampled Photometric Interpretation.
    big_endian : bool
        Order of the bytes of each sample.

    Returns
    -------
    ndarray
        Shape (rows, columns, 3).

    Raises
    ------
    UnsupportedFrame
        If the frame has another length, or an odd number of columns.
    """
    dtype = dtype_of(spec)
    expected = spec.frame_bits // 8
    if len(frame) != expected or spec.columns % 2:
        raise UnsupportedFrame(f"{len(frame)} bytes are no 4:2:2 frame of {spec.columns} columns, {expected} bytes")
    values = np.frombuffer(frame, dtype.newbyteorder(">" if big_endian else "<")).astype(dtype, copy=False)
    pairs = values.reshape(spec.rows, spec.columns // 2, 4)
    luminance = pairs[..., :2].reshape(spec.rows, spec.columns, 1)
    return np.concatenate([luminance, np.repeat(pairs[..., 2:], 2, axis=1)], axis=2)


def pack(samples: Samples, spec: FrameSpec, *, big_endian: bool = False) -> bytes:
    """Bytes of one native frame: the exact inverse of :func:`unpack`.

    A 1-bit frame that does not fill its last byte is padded with zero bits; see :func:`pack_bits` for several.

    Raises
    ------
    UnsupportedFrame
        If the frame has no such form, or the samples are not of its shape and type.
    """
    return bytes(packed(samples, spec, big_endian=big_endian))


def packed(samples: Samples, spec: FrameSpec, *, big_endian: bool = False) -> memoryview:
    """As :func:`pack`, and the samples themselves where they lie as the bytes do."""
    dtype = _dtype(spec)
    if samples.shape != shape_of(spec) or samples.dtype != dtype:
        raise UnsupportedFrame(f"samples are {samples.shape} {samples.dtype}, not as the frame says")
    if spec.bits_allocated == 1:
        samples = np.packbits(samples, axis=None, bitorder="little")
    else:
        if spec.planar_configuration == 1 and spec.samples_per_pixel > 1:
            samples = np.moveaxis(samples, -1, 0)
        samples = samples.astype(dtype.newbyteorder(">" if big_endian else "<"), copy=False)
    return np.ascontiguousarray(samples).reshape(-1).view(np.uint8).data


def expand_422(frame: bytes, spec: FrameSpec) -> Samples:
    """Samples of one native 4:2:2 frame: the chroma samples of the left pixel of two are those of both.

    Parameters
    ----------
    frame : bytes
        Two luminance samples and one of each chroma for two pixels of a row, in little endian order.
    spec : FrameSpec
        What it is; subsampled.

    Returns
    -------
    ndarray
        Shape (rows, columns, 3).

    Raises
    ------
    UnsupportedFrame
        If the frame has another length, or rows an odd number of pixels.

    References
    ----------
    PS3.3 C.7.6.3.1.2.
    """
    if spec.columns % 2 or len(frame) * 8 != spec.frame_bits:
        raise UnsupportedFrame(f"{len(frame)} bytes are no 4:2:2 frame of {spec.rows} rows, {spec.columns} columns")
    dtype = dtype_of(spec)
    pairs = np.frombuffer(frame, dtype.newbyteorder("<")).reshape(spec.rows, spec.columns // 2, 4)
    samples = np.empty((spec.rows, spec.columns, 3), dtype)
    for pixel in (0, 1):
        samples[:, pixel::2] = pairs[..., [pixel, 2, 3]]
    return samples


def pack_bits(frames: Iterable[Samples]) -> Iterator[bytes]:
    """Bytes of 1-bit frames, one after the other without padding between them (PS3.5 8.1.1).

    Yields what is complete after each frame; the last byte of all is padded with zero bits.
    """
    rest = np.empty(0, np.uint8)
    for frame in frames:
        bits = np.concatenate([rest, frame.ravel()])
        whole = len(bits) & ~7
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    if rest.size:
        yield np.packbits(rest, bitorder="little").tobytes()


def little_endian(frame: bytes, word_bytes: int) -> bytes:
    """Reverse the bytes of every word of ``word_bytes`` (big endian samples to little endian, or back)."""
    if word_bytes == 1:
        return frame
    return np.frombuffer(frame, dtype=f">u{word_bytes}").astype(f"<u{word_bytes}").tobytes()


def _dtype(spec: FrameSpec) -> np.dtype[np.generic]:
    if spec.is_subsampled:
        raise UnsupportedFrame(f"{spec.photometric_interpretation}: two pixels share their chroma samples")
    return dtype_of(spec)
