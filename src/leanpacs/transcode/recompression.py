"""JPEG code streams in JPEG XL (transfer syntax .4.111) and out of it again, byte for byte (PS3.5 A.4.13)."""

from __future__ import annotations

import numpy as np

from leanpacs.codecs.headers import jpeg_header
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.legacy import rebuild, recode
from leanpacs.codecs.registry import decode_received
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

_EFFORT = 7
_MEAN_DIFFERENCE = 2.0
_END = b"\xff\xd9"
_PROCESSES = {0xC0: uids.JPEG_BASELINE, 0xC1: uids.JPEG_EXTENDED}
_JPEGS = frozenset(_PROCESSES.values())


def is_rewrapped(source: str | None, target: str | None) -> bool:
    """Whether code streams are put into JPEG XL, or taken out of it, without being decoded to samples."""
    wraps = source in _JPEGS and target == uids.JPEG_XL_RECOMPRESSION
    return wraps or (source == uids.JPEG_XL_RECOMPRESSION and target in _JPEGS)


def rewrapped(stream: bytes, source: str, target: str, spec: FrameSpec) -> bytes:
    """The code stream in its other form; that a JPEG comes out of it again byte for byte is checked here.

    Raises
    ------
    UnsupportedFrame
        If it does not, or if what is in a JPEG XL file is no JPEG of the wanted process.
    DecodeError
        If the code stream is damaged.
    """
    if target == uids.JPEG_XL_RECOMPRESSION:
        if stream.endswith(_END + b"\0"):
            stream = stream[:-1]
        made = recode(stream, source, spec, _EFFORT).stream
        _require_same_colours(stream, made, source, spec)
        return made
    jpeg = rebuild(stream, {"kind": "jpeg"}, JpegXL.name, spec)
    process = jpeg_header("jpeg", jpeg).process
    if _PROCESSES.get(process) != target and not (process == 0xC0 and target == uids.JPEG_EXTENDED):
        raise UnsupportedFrame(f"the JPEG in it is of process SOF{process - 0xC0}")
    return jpeg


def _require_same_colours(jpeg: bytes, made: bytes, source: str, spec: FrameSpec) -> None:
    """Refuse what a decoder of JPEG XL shows in other colours: JPEG without marks of its colour space, for one.

    Decoders of JPEG differ by rounding and by how chroma is spread over pixels, so the mean difference counts.
    """
    before = decode_received(jpeg, source, spec).samples.astype(np.int16)
    after = decode_received(made, uids.JPEG_XL_RECOMPRESSION, spec).samples
    if np.abs(before - after).mean() > _MEAN_DIFFERENCE:
        raise UnsupportedFrame("JPEG XL would show it in other colours: the JPEG does not say that it is RGB")
