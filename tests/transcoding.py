"""For tests of transcoding: instances through the engine, and what other programs read in them."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

from leanpacs.codecs.second import second_decoders
from leanpacs.dicom import uids
from leanpacs.dicom.frames import frame_spec
from leanpacs.transcode import Account, OpenFile, Target, Transcoder
from leanpacs.transcode.content import open_content

NATIVE = (uids.IMPLICIT_LE, uids.EXPLICIT_LE, uids.EXPLICIT_BE, uids.DEFLATED_LE)


@contextmanager
def opened(content: bytes) -> Iterator[OpenFile]:
    """A file opened as the engine wants it."""
    folder = Path(tempfile.gettempdir())
    with open_content(io.BytesIO(content), None, spool=folder, limit_bytes=1 << 30) as parts:
        yield OpenFile(parts)


def transcoded(content: bytes, target: Target | str) -> tuple[bytes, Account]:
    """A file in another transfer syntax, and what was done."""
    wanted = Target(target) if isinstance(target, str) else target
    with opened(content) as source:
        made = Transcoder().file(source, wanted)
        return b"".join(made.pieces), made.account


def read_elsewhere(content: bytes) -> NDArray[np.generic] | None:
    """Stored values of all frames by libraries that LeanPACS does not read with; None when none is there.

    Shape (frames, rows, columns) or (frames, rows, columns, samples); no colour is converted but what code streams
    themselves declare.
    """
    ds = pydicom.dcmread(io.BytesIO(content), force=True)
    syntax = str(ds.file_meta.TransferSyntaxUID)
    count = int(ds.get("NumberOfFrames") or 1)
    if syntax in NATIVE:
        return _all(pixel_array(ds, raw=True), count)
    streams = list(generate_frames(ds.PixelData, number_of_frames=count))
    if syntax in (uids.ENCAPSULATED_UNCOMPRESSED, uids.DEFLATED_FRAME):
        return _bytewise(ds, streams, syntax)
    with opened(content) as source:
        assert source.layout.pixel is not None
        spec = frame_spec(source.layout.elements, source.layout.pixel)
    for decoder in second_decoders(syntax):
        try:
            return np.stack([decoder.decode(stream, syntax, spec).samples for stream in streams])
        except Exception as error:
            if "bit" not in str(error):
                raise
    return None


def _bytewise(ds: pydicom.Dataset, streams: list[bytes], syntax: str) -> NDArray[np.generic]:
    if syntax == uids.DEFLATED_FRAME:
        streams = [zlib.decompressobj(-15).decompress(stream) for stream in streams]
    length = -(-ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated // 8)
    frames = [stream[:length] for stream in streams]
    if ds.BitsAllocated == 1:
        bits = [np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little") for frame in frames]
        return np.stack([one[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns) for one in bits])
    ds.PixelData = b"".join(frames) + b"\0" * (sum(map(len, frames)) % 2)
    ds.file_meta.TransferSyntaxUID = uids.EXPLICIT_LE
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    ds["PixelData"].is_undefined_length = False
    return _all(pixel_array(ds, raw=True), len(frames))


def _all(samples: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    return samples if count > 1 else samples[np.newaxis]
