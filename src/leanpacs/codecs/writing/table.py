"""Which writer for which transfer syntax."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.writing import jpeg, jpeg2000, jpegls, jpegxl, lossless
from leanpacs.codecs.writing.options import WriteOptions, WrittenFrame
from leanpacs.codecs.writing.writer import Writer
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

_WRITERS: Final[Mapping[str, Writer]] = MappingProxyType(
    {
        uids.RLE: lossless.RLE,
        uids.DEFLATED_FRAME: lossless.DEFLATED_FRAME,
        uids.ENCAPSULATED_UNCOMPRESSED: lossless.UNCOMPRESSED,
        uids.JPEG_BASELINE: jpeg.BASELINE,
        uids.JPEG_EXTENDED: jpeg.EXTENDED,
        uids.JPEG_LOSSLESS_SV1: jpeg.LOSSLESS_SV1,
        uids.JPEG_LS_LOSSLESS: jpegls.LOSSLESS,
        uids.JPEG_LS_NEAR_LOSSLESS: jpegls.NEAR_LOSSLESS,
        uids.JPEG_2000_LOSSLESS: jpeg2000.JPEG_2000_LOSSLESS,
        uids.JPEG_2000: jpeg2000.JPEG_2000,
        uids.HTJ2K_LOSSLESS: jpeg2000.HTJ2K_LOSSLESS,
        uids.HTJ2K_LOSSLESS_RPCL: jpeg2000.HTJ2K_RPCL,
        uids.HTJ2K: jpeg2000.HTJ2K_LOSSY,
        uids.JPEG_XL_LOSSLESS: jpegxl.LOSSLESS,
        uids.JPEG_XL: jpegxl.LOSSY,
    }
)


def writable() -> tuple[str, ...]:
    """UIDs of the encapsulated transfer syntaxes that can be written."""
    return tuple(_WRITERS)


def is_lossy(transfer_syntax: str, options: WriteOptions) -> bool:
    """Tell whether samples will differ from what they were."""
    writer = _WRITERS.get(transfer_syntax)
    return writer is not None and (writer.is_always_lossy or options.lossy is not None)


def write_refusal(spec: FrameSpec, transfer_syntax: str, options: WriteOptions) -> str | None:
    """Say why frames of this kind cannot be written; None when they can.

    Parameters
    ----------
    spec : FrameSpec
        What the samples are: decoded, of the data set as it is now.
    transfer_syntax : str
        UID.
    options : WriteOptions
        How it is to be written.
    """
    writer = _WRITERS.get(transfer_syntax)
    if writer is None:
        return f"transfer syntax {transfer_syntax} is not written"
    if options.lossy is None:
        if writer.is_always_lossy:
            return "the transfer syntax is lossy: how much may be lost must be said"
    elif not writer.lossy_kinds:
        return "the transfer syntax is lossless"
    elif options.lossy.kind not in writer.lossy_kinds:
        return f"a {options.lossy.kind} has no meaning here, only {' or '.join(sorted(writer.lossy_kinds))}"
    return writer.refusal(spec, options)


def write_frame(samples: Samples, spec: FrameSpec, transfer_syntax: str, options: WriteOptions) -> WrittenFrame:
    """Compress one frame as a transfer syntax wants it.

    Parameters
    ----------
    samples : ndarray
        Shape (rows, columns) or (rows, columns, samples), interleaved whatever Planar Configuration says, native
        byte order, of the type that ``spec`` says; 0 and 1 for 1-bit frames. They are not changed.
    spec : FrameSpec
        What they are.
    transfer_syntax : str
        UID of an encapsulated one.
    options : WriteOptions
        How to write.

    Returns
    -------
    WrittenFrame
        Code stream and the attributes to go with it. Without loss the samples come back exactly.

    Raises
    ------
    UnsupportedFrame
        If :func:`write_refusal` says why not, if the samples are not as ``spec`` says, or if values do not fit the
        bits that a lossy code stream has.
    EncodeError
        If the encoder fails all the same.

    References
    ----------
    PS3.5 8.2, A.4.
    """
    reason = write_refusal(spec, transfer_syntax, options)
    if reason is not None:
        raise UnsupportedFrame(reason)
    return _WRITERS[transfer_syntax].write(samples, spec, options)
