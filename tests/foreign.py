"""Decoders of others: what pydicom, dcmtk and stand-alone programs make of a frame that was written here."""

from __future__ import annotations

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
    _run(program, *options, str(source), str(target))
    return native_samples(pydicom.dcmread(target), written.spec)


def by_openjpeg(written: WrittenFrame) -> NDArray[Any]:
    """Samples as OpenJPEG gives them, colour transform undone."""
    import openjpeg

    return openjpeg.decode(written.stream)


def by_opj_decompress(written: WrittenFrame, folder: Path) -> NDArray[Any]:
    """Samples as OpenJPEG's program writes them: plane after plane, signed ones without their upper bits."""
    source, target = folder / "frame.j2k", folder / "frame.rawl"
    source.write_bytes(written.stream)
    _run("opj_decompress", "-i", str(source), "-o", str(target))
    spec = written.spec
    kind = "i" if spec.pixel_representation else "u"
    values = np.frombuffer(target.read_bytes(), f"<{kind}{1 if spec.bits_stored <= 8 else 2}")
    planes = np.moveaxis(values.reshape(spec.samples_per_pixel, spec.rows, spec.columns), 0, -1)
    if spec.pixel_representation:
        unused = 8 * values.itemsize - spec.bits_stored
        planes = planes << unused >> unused
    return planes if spec.samples_per_pixel > 1 else planes[..., 0]


def by_djxl(written: WrittenFrame, folder: Path) -> NDArray[Any]:
    """Unsigned samples as libjxl's program writes them: stretched to 8 or 16 bits, whatever the largest value is."""
    spec = written.spec
    source, target = folder / "frame.jxl", folder / ("frame.ppm" if spec.samples_per_pixel == 3 else "frame.pgm")
    source.write_bytes(written.stream)
    _run("djxl", str(source), str(target))
    header, values = target.read_bytes().split(b"\n", 3)[:3], target.read_bytes().split(b"\n", 3)[3]
    largest = int(header[2])
    stretched = np.frombuffer(values, ">u2" if largest > 255 else "u1").astype(np.float64)
    samples = np.rint(stretched * largest / (65535 if largest > 255 else 255))
    shape = (spec.rows, spec.columns, spec.samples_per_pixel)
    return samples.astype(np.int64).reshape(shape if spec.samples_per_pixel > 1 else shape[:2])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)


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
