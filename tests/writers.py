"""Code streams by encoders of others: dcmtk, GDCM, pydicom, pyjpegls, libjpeg-turbo."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian

from leanpacs.dicom.frames import FrameSpec

_GDCM = """
import sys, gdcm
reader = gdcm.ImageReader(); reader.SetFileName(sys.argv[1]); assert reader.Read()
change = gdcm.ImageChangeTransferSyntax(); change.SetInput(reader.GetImage())
change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, sys.argv[3]))); assert change.Change()
writer = gdcm.ImageWriter(); writer.SetFileName(sys.argv[2]); writer.SetFile(reader.GetFile())
writer.SetImage(change.GetOutput()); assert writer.Write()
"""

GREY = FrameSpec(53, 70, 1, 16, 12, 11, 0, 0, "MONOCHROME2", 1)
SIGNED = replace(GREY, bits_stored=16, high_bit=15, pixel_representation=1)
BYTES = replace(GREY, bits_allocated=8, bits_stored=8, high_bit=7)
COLOUR = replace(BYTES, samples_per_pixel=3, photometric_interpretation="RGB")


def image(spec: FrameSpec, seed: int = 0) -> NDArray[Any]:
    """Slopes, flat parts and some noise, in as many bits as are stored."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : spec.rows, 0 : spec.columns]
    height = 1 << spec.bits_stored
    shape = (spec.rows, spec.columns, spec.samples_per_pixel)
    values = ((rows * 3 + columns * 5) % 97 / 97 * height * 0.6)[..., None] + np.arange(shape[2]) * height * 0.1
    values = values + generator.normal(0, height / 50, (*shape[:2], 1))
    values[rows > 30] = height * 0.3
    values = np.clip(values, 0, height - 1)
    if spec.pixel_representation:
        values -= height // 2
    sign = "i" if spec.pixel_representation else "u"
    array = values.astype(f"{sign}{spec.bits_allocated // 8}")
    return array[..., 0] if shape[2] == 1 else array


def native_file(spec: FrameSpec, samples: NDArray[Any], path: Path) -> Path:
    """A DICOM file of one native frame."""
    ds, meta = Dataset(), FileMetaDataset()
    ds.SOPClassUID = meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = "2.25.7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.5", "2.25.6"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    ds.SamplesPerPixel, ds.PhotometricInterpretation = spec.samples_per_pixel, spec.photometric_interpretation
    if spec.samples_per_pixel > 1:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = spec.rows, spec.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = spec.bits_allocated, spec.bits_stored, spec.high_bit
    ds.PixelRepresentation = spec.pixel_representation
    value = samples.tobytes()
    ds.add_new(0x7FE00010, "OB" if spec.bits_allocated == 8 else "OW", value + bytes(len(value) % 2))
    ds.save_as(path, enforce_file_format=True)
    return path


def by_dcmtk(program: str, options: list[str], native: Path) -> Path:
    """The file compressed by ``dcmcjpeg``, ``dcmcjpls`` or ``dcmcrle``."""
    target = native.with_name("dcmtk.dcm")
    found = shutil.which(program)
    assert found, f"{program} is not installed"
    subprocess.run([found, *options, str(native), str(target)], check=True, capture_output=True)
    return target


def by_gdcm(syntax: str, native: Path) -> Path:
    """The file compressed by GDCM, in a process of its own, which it ends when it meets what it does not like."""
    target = native.with_name("gdcm.dcm")
    words = [sys.executable, "-c", _GDCM, str(native), str(target), syntax]
    subprocess.run(words, check=True, capture_output=True)
    return target


def by_pydicom(native: Path, syntax: str, plugin: str) -> Path:
    """The file compressed by one of pydicom's encoders."""
    target = native.with_name("pydicom.dcm")
    ds = pydicom.dcmread(native)
    ds.compress(syntax, encoding_plugin=plugin)
    ds.save_as(target)
    return target


def stream_in(path: Path) -> tuple[bytes, str]:
    """Code stream, padding included, and transfer syntax of a file of one frame."""
    ds = pydicom.dcmread(path)
    return next(generate_frames(ds.PixelData, number_of_frames=1)), str(ds.file_meta.TransferSyntaxUID)
