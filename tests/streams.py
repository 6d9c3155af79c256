"""Code streams of real files, found with pydicom and not with what is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.encaps import generate_frames

from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import transfer_syntax


class ReceivedStream(NamedTuple):
    """One frame of encapsulated Pixel Data, and what the data set says of it."""

    path: Path
    transfer_syntax: str
    spec: FrameSpec
    stream: bytes


def frame_of(ds: pydicom.Dataset) -> FrameSpec:
    """The Image Pixel attributes, as pydicom reads them."""
    return FrameSpec(
        rows=ds.Rows,
        columns=ds.Columns,
        samples_per_pixel=ds.get("SamplesPerPixel", 1),
        bits_allocated=ds.BitsAllocated,
        bits_stored=ds.BitsStored,
        high_bit=ds.HighBit,
        pixel_representation=ds.PixelRepresentation,
        planar_configuration=ds.get("PlanarConfiguration") or 0,
        photometric_interpretation=ds.PhotometricInterpretation,
        number_of_frames=int(ds.get("NumberOfFrames") or 1),
    )


def received_streams(paths: list[Path]) -> Iterator[ReceivedStream]:
    """First and last frame of every file with encapsulated Pixel Data that pydicom can read."""
    for path in paths:
        try:
            ds = pydicom.dcmread(path)
            uid = ds.file_meta.TransferSyntaxUID
            spec = frame_of(ds)
            is_wanted = "PixelData" in ds and transfer_syntax(uid).encapsulated
        except (AttributeError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        if not is_wanted:
            continue
        streams = list(generate_frames(ds.PixelData, number_of_frames=spec.number_of_frames))
        for index in sorted({0, spec.number_of_frames - 1}):
            yield ReceivedStream(path, str(uid), spec, streams[index])
