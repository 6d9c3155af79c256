"""Decoders of others: what pydicom's plugins, GDCM, dcmtk and stand-alone programs make of a frame that was written here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from leanpacs.codecs.writing import WrittenFrame
from leanpacs.dicom.frames import FrameSpec


def dicom_file(written: WrittenFrame, transfer_syntax: str) -> Dataset:
    """A minimal instance with the frame."""
    spec = written.spec
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "2.25.2"
    dataset.Modality, dataset.PatientName, dataset.PatientID = "OT", "Nobody", "0"
    dataset.SamplesPerPixel = spec.samples_per_pixel
    dataset.PhotometricInterpretation = spec.photometric_interpretation
    if spec.samples_per_pixel > 1:
        dataset.PlanarConfiguration = spec.planar_configuration
    dataset.Rows, dataset.Columns = spec.rows, spec.columns
    dataset.BitsAllocated, dataset.BitsStored = spec.bits_allocated, spec.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = spec.high_bit, spec.pixel_representation
    if spec.photometric_interpretation == "PALETTE COLOR":
        for color in ("Red", "Green", "Blue"):
            setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(dataset, f"{color}PaletteColorLookupTableData", bytes(512))
    dataset.PixelData = encapsulate([written.stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def pydicom_plugins(transfer_syntax: str) -> tuple[str, ...]:
    """Names of the plugins with which pydicom decodes it here."""
    try:
        return get_decoder(transfer_syntax).available_plugins
    except NotImplementedError:
        return ()


def by_pydicom(written: WrittenFrame, transfer_syntax: str, plugin: str) -> NDArray[Any]:
    """Samples, colours left as the code stream has them unless the decoder cannot but convert them."""
    samples, _ = get_decoder(transfer_syntax).as_array(
        dicom_file(written, transfer_syntax), decoding_plugin=plugin, raw=True
    )
    return samples


def by_dcmtk(written: WrittenFrame, transfer_syntax: str, program: str, folder: Path, *options: str) -> NDArray[Any]:
    """Stored words after one of dcmtk's programs made them native."""
    source, target = folder / "source.dcm", folder / "target.dcm"
    dicom_file(written, transfer_syntax).save_as(source, enforce_file_format=True)
    command = [shutil.which(program) or program, *options, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return native_samples(pydicom.dcmread(target), written.spec)


def by_gdcm(written: WrittenFrame, transfer_syntax: str, folder: Path) -> NDArray[Any]:
    """Stored words after GDCM made them native."""
    import gdcm

    source = folder / "source.dcm"
    dicom_file(written, transfer_syntax).save_as(source, enforce_file_format=True)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    if not reader.Read():
        raise RuntimeError("GDCM cannot read the file")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError("GDCM cannot decode the frame")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(folder / "target.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise RuntimeError("GDCM cannot write the frame")
    return native_samples(pydicom.dcmread(folder / "target.dcm"), written.spec)


def native_samples(dataset: Dataset, spec: FrameSpec) -> NDArray[Any]:
    """Words of native Pixel Data as they stand, interleaved."""
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    kind = "i" if dataset.PixelRepresentation else "u"
    values = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
    shape = (spec.rows, spec.columns, spec.samples_per_pixel)
    values = values[: np.prod(shape)]
    if dataset.get("PlanarConfiguration", 0):
        values = np.moveaxis(values.reshape(shape[2], *shape[:2]), 0, -1)
    return values.reshape(shape if spec.samples_per_pixel > 1 else shape[:2])
