"""Synthetic instances by recipe, and the real files that tests read.

Equal recipes give equal bytes. There is no patient data in anything made here.
"""

from __future__ import annotations

import csv
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.pixels import get_encoder
from pydicom.sequence import Sequence

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
HTJ2K = "1.2.840.10008.1.2.4.201"
JPEG_XL = "1.2.840.10008.1.2.4.110"

NATIVE = (IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE)

_SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
}
# What the encoders used here make of RGB.
_COLOUR = {JPEG_BASELINE: "YBR_FULL_422", JPEG_2000: "YBR_RCT", HTJ2K: "YBR_RCT"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

Samples = NDArray[np.int64] | NDArray[np.float64]


def uid(*parts: object) -> str:
    """UID under the arc for UUIDs, derived from ``parts``: equal parts, equal UID."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. ``study``, ``series`` and ``instance`` are numbers that UIDs are derived from.

    Parameters
    ----------
    high_bit : int, optional
        ``bits_stored - 1`` when not given.
    photometric : str, optional
        By the number of samples when not given.
    kind : str
        ``"float"``: Float or Double Float Pixel Data by ``bits_allocated``; ``"none"``: no pixel data.
    content : str
        ``"smooth"`` (structure and a little noise, like images), ``"noise"``, ``"constant"``, ``"ramp"`` or
        ``"stretched"`` (one value in 37 is used, as in digitised and windowed images).
    dirty_bits : bool
        Noise in the bits that Bits Stored leaves unused, as overlays and faulty devices leave there.
    fragments : int
        Fragments of each frame, where the transfer syntax encapsulates.
    private_bytes : int
        Size of a vendor's private element.
    icon : bool
        Icon Image Sequence with its own Pixel Data; encapsulated when the main one is.
    preamble, file_meta : bool
        Leave away the preamble; leave away the preamble and the File Meta Information.
    """

    modality: str = "CT"
    rows: int = 32
    columns: int = 24
    samples: int = 1
    bits_allocated: int = 16
    bits_stored: int = 12
    high_bit: int | None = None
    signed: bool = False
    photometric: str | None = None
    planar: int = 0
    frames: int = 1
    kind: Literal["integer", "float", "none"] = "integer"
    content: Literal["smooth", "noise", "constant", "ramp", "stretched"] = "smooth"
    dirty_bits: bool = False
    transfer_syntax: str = EXPLICIT_LE
    offset_table: Literal["basic", "empty", "extended"] = "basic"
    fragments: int = 1
    undefined_lengths: bool = False
    private_bytes: int = 0
    icon: bool = False
    trailing_padding: int = 0
    preamble: bool = True
    file_meta: bool = True
    study: int = 0
    series: int = 0
    instance: int = 0
    seed: int = 0

    @property
    def encapsulated(self) -> bool:
        """Whether the transfer syntax encapsulates Pixel Data."""
        return self.transfer_syntax not in NATIVE

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, rows, columns) or (frames, rows, columns, samples)."""
        planes = (self.frames, self.rows, self.columns)
        return planes if self.samples == 1 else (*planes, self.samples)

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return uid("study", self.study)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return uid("series", self.study, self.series)

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID."""
        return uid("instance", self.study, self.series, self.instance)

    @property
    def sop_class(self) -> str:
        """SOP Class UID by modality; Secondary Capture for modalities without an entry."""
        return _SOP_CLASSES.get(self.modality, _SECONDARY_CAPTURE)


def make_samples(recipe: Recipe) -> Samples:
    """Sample values, shape ``recipe.shape``; int64 within Bits Stored, or float64."""
    generator = np.random.default_rng([recipe.seed, recipe.instance, *recipe.shape])
    unit = _unit_values(recipe, generator)
    if recipe.kind == "float":
        return unit * 1e3 - 200.0
    span = 2**recipe.bits_stored
    least = -(span // 2) if recipe.signed else 0
    return np.clip(np.floor(unit * span), 0, span - 1).astype(np.int64) + least


def native_pixels(recipe: Recipe) -> bytes:
    """Value of native Pixel Data in little endian order, padded to an even length."""
    frames = make_samples(recipe)
    if recipe.kind == "float":
        return _even(frames.astype(f"<f{recipe.bits_allocated // 8}").tobytes())
    if recipe.bits_allocated == 1:
        return _even(np.packbits(frames.astype(np.uint8).ravel(), bitorder="little").tobytes())
    cells = _cells(recipe, frames)
    if recipe.photometric == "YBR_FULL_422":
        return _even(_subsampled(cells).tobytes())
    if recipe.planar and recipe.samples > 1:
        cells = np.moveaxis(cells, -1, 1)
    return _even(np.ascontiguousarray(cells).tobytes())


def make_data_set(recipe: Recipe) -> Dataset:
    """The instance as a pydicom data set without file meta."""
    ds = _header(recipe)
    if recipe.kind != "none":
        _add_pixels(ds, recipe)
    if recipe.icon:
        ds.IconImageSequence = Sequence([_icon(recipe)])
        ds["IconImageSequence"].is_undefined_length = recipe.undefined_lengths
    if recipe.private_bytes:
        block = ds.private_block(0x0029, "SYNTHETIC", create=True)
        noise = np.random.default_rng(recipe.seed).integers(0, 64, recipe.private_bytes + 1, np.uint8)
        block.add_new(0x10, "OB", noise.tobytes()[: recipe.private_bytes // 2 * 2])
    if recipe.trailing_padding:
        ds.add_new(0xFFFCFFFC, "OB", bytes(recipe.trailing_padding))
    return ds


def make_instance(recipe: Recipe) -> bytes:
    """A Part 10 file (PS3.10 7), or less of one where the recipe says so."""
    data_set = make_data_set_bytes(recipe)
    if not recipe.file_meta:
        return data_set
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = recipe.sop_class
    meta.MediaStorageSOPInstanceUID = recipe.sop_uid
    meta.TransferSyntaxUID = recipe.transfer_syntax
    file = DicomBytesIO()
    write_file_meta_info(file, meta)
    preface = bytes(128) + b"DICM" if recipe.preamble else b""
    return preface + file.getvalue() + data_set


def make_data_set_bytes(recipe: Recipe) -> bytes:
    """The encoded data set alone, as a DIMSE sender would send it."""
    file = DicomBytesIO()
    file.is_implicit_VR = recipe.transfer_syntax == IMPLICIT_LE
    file.is_little_endian = recipe.transfer_syntax != EXPLICIT_BE
    write_dataset(file, make_data_set(recipe))
    if recipe.transfer_syntax != DEFLATED_LE:
        return file.getvalue()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return _even(deflate.compress(file.getvalue()) + deflate.flush())


def bundled() -> list[Path]:
    """DICOM files that pydicom brings along, as they are on the disk; nothing is downloaded."""
    folder = Path(pydicom.__file__).parent / "data"
    files = sorted(path for part in ("test_files", "charset_files") for path in (folder / part).rglob("*"))
    return [path for path in files if path.is_file() and (path.suffix == ".dcm" or _has_prefix(path))]


def corpus_folder() -> Path:
    """Folder named by LEANPACS_TEST_DATA; skips the test when that is not set."""
    folder = os.environ.get("LEANPACS_TEST_DATA")
    if not folder:
        pytest.skip("LEANPACS_TEST_DATA is not set: the real files are not at hand")
    return Path(folder)


def corpus() -> list[Path]:
    """All files below :func:`corpus_folder` but its manifest."""
    files = sorted(path for path in corpus_folder().rglob("*") if path.is_file())
    return [path for path in files if path.name not in ("MANIFEST.csv", "README.md")]


def corpus_manifest() -> list[dict[str, str]]:
    """Rows of the manifest of :func:`corpus_folder`; ``path`` is relative to it."""
    with (corpus_folder() / "MANIFEST.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _unit_values(recipe: Recipe, generator: np.random.Generator) -> NDArray[np.float64]:
    """Values of 0 to 1 with the shape of the recipe."""
    if recipe.content == "noise":
        return generator.random(recipe.shape)
    if recipe.content == "constant":
        return np.full(recipe.shape, 0.4)
    if recipe.content == "ramp":
        count = int(np.prod(recipe.shape))
        return (np.arange(count, dtype=np.float64) / max(count - 1, 1)).reshape(recipe.shape)
    grid = np.meshgrid(*(np.linspace(0, 1, length) for length in recipe.shape), indexing="ij")
    frame, row, column = grid[0], grid[1], grid[2]
    colour = grid[3] if len(grid) == 4 else 0.0
    smooth = 0.45 + 0.25 * np.sin(5 * row + 2 * frame) * np.cos(7 * column - frame) + 0.15 * colour * row
    image = np.clip(smooth + generator.normal(0, 0.006, recipe.shape), 0, 1)
    step = 37 / 2**recipe.bits_stored
    return np.floor(image / step) * step if recipe.content == "stretched" else image


def _cells(recipe: Recipe, frames: Samples) -> NDArray[np.uint8]:
    """Allocated cells: the values moved up to the high bit, and what else is in the cells."""
    high_bit = recipe.bits_stored - 1 if recipe.high_bit is None else recipe.high_bit
    shift = high_bit + 1 - recipe.bits_stored
    values = frames.astype(np.int64) << shift
    if recipe.dirty_bits:
        used = ((1 << recipe.bits_stored) - 1) << shift
        generator = np.random.default_rng([recipe.seed, 1])
        values = (values & used) | (generator.integers(0, 2**recipe.bits_allocated, values.shape) & ~used)
    return (values & ((1 << recipe.bits_allocated) - 1)).astype(f"<u{recipe.bits_allocated // 8}")


def _subsampled(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Y1 Y2 Cb Cr for each two pixels of a row (PS3.3 C.7.6.3.1.2)."""
    luminance = cells[..., 0].reshape(*cells.shape[:2], -1, 2)
    return np.concatenate([luminance, cells[:, :, ::2, 1:]], axis=-1)


def _header(recipe: Recipe) -> Dataset:
    ds = Dataset()
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = recipe.sop_class
    ds.SOPInstanceUID = recipe.sop_uid
    ds.StudyDate, ds.StudyTime = "20240229", "101112"
    ds.AccessionNumber = f"A{recipe.study}"
    ds.Modality = recipe.modality
    ds.Manufacturer = "Synthetic"
    ds.StudyDescription = f"Study {recipe.study}"
    ds.PatientName = f"Synthetic^Patient{recipe.study}"
    ds.PatientID = f"P{recipe.study}"
    ds.StudyInstanceUID = recipe.study_uid
    ds.SeriesInstanceUID = recipe.series_uid
    ds.StudyID = str(recipe.study)
    ds.SeriesNumber = recipe.series
    ds.InstanceNumber = recipe.instance
    ds.RequestAttributesSequence = Sequence([_request(recipe)])
    ds["RequestAttributesSequence"].is_undefined_length = recipe.undefined_lengths
    return ds


def _request(recipe: Recipe) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepDescription = "Synthetic step"
    item.ScheduledProcedureStepID = str(recipe.series)
    item.is_undefined_length_sequence_item = recipe.undefined_lengths
    return item


def _add_pixels(ds: Dataset, recipe: Recipe) -> None:
    ds.SamplesPerPixel = recipe.samples
    colour = _COLOUR.get(recipe.transfer_syntax, "RGB")
    ds.PhotometricInterpretation = recipe.photometric or ("MONOCHROME2" if recipe.samples == 1 else colour)
    if recipe.samples > 1:
        ds.PlanarConfiguration = recipe.planar
    if recipe.frames > 1:
        ds.NumberOfFrames = recipe.frames
    ds.Rows, ds.Columns = recipe.rows, recipe.columns
    ds.BitsAllocated = recipe.bits_allocated
    if recipe.kind == "integer":
        ds.BitsStored = recipe.bits_stored
        ds.HighBit = recipe.bits_stored - 1 if recipe.high_bit is None else recipe.high_bit
        ds.PixelRepresentation = int(recipe.signed)
    if recipe.encapsulated:
        _add_encapsulated(ds, recipe)
    else:
        _add_native(ds, recipe)


def _add_native(ds: Dataset, recipe: Recipe) -> None:
    value = native_pixels(recipe)
    is_big = recipe.transfer_syntax == EXPLICIT_BE
    if recipe.kind == "float":
        keyword = "FloatPixelData" if recipe.bits_allocated == 32 else "DoubleFloatPixelData"
        setattr(ds, keyword, _swapped(value, recipe.bits_allocated // 8) if is_big else value)
        return
    is_words = recipe.bits_allocated > 8 or recipe.transfer_syntax == IMPLICIT_LE
    swaps = is_big and recipe.bits_allocated > 8
    value = _swapped(value, recipe.bits_allocated // 8) if swaps else value
    ds.add_new(0x7FE00010, "OW" if is_words else "OB", value)


def _add_encapsulated(ds: Dataset, recipe: Recipe) -> None:
    frames = [_code_stream(ds, recipe, frame) for frame in make_samples(recipe)]
    if recipe.offset_table == "extended":
        value, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    else:
        has_table = recipe.offset_table == "basic"
        value = encapsulate(frames, fragments_per_frame=recipe.fragments, has_bot=has_table)
    ds.add_new(0x7FE00010, "OB", value)
    ds["PixelData"].is_undefined_length = True


def _code_stream(ds: Dataset, recipe: Recipe, frame: Samples) -> bytes:
    signed = "i" if recipe.signed else "u"
    cells = np.ascontiguousarray(frame.astype(f"{signed}{recipe.bits_allocated // 8}"))
    if recipe.transfer_syntax == RLE:
        return get_encoder(RLE).encode(
            cells,
            rows=ds.Rows,
            columns=ds.Columns,
            samples_per_pixel=ds.SamplesPerPixel,
            bits_allocated=ds.BitsAllocated,
            bits_stored=ds.BitsStored,
            pixel_representation=ds.PixelRepresentation,
            photometric_interpretation=ds.PhotometricInterpretation,
            number_of_frames=1,
            planar_configuration=ds.get("PlanarConfiguration", 0),
        )
    return _ENCODERS[recipe.transfer_syntax](cells)


_ENCODERS: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {
    JPEG_BASELINE: lambda cells: imagecodecs.jpeg8_encode(cells, level=90),
    JPEG_LOSSLESS: lambda cells: imagecodecs.jpeg8_encode(cells, lossless=True, predictor=1),
    JPEG_LS: imagecodecs.jpegls_encode,
    JPEG_2000: lambda cells: imagecodecs.jpeg2k_encode(cells, codecformat="j2k", reversible=True),
    HTJ2K: lambda cells: imagecodecs.htj2k_encode(cells, reversible=True),
    JPEG_XL: lambda cells: imagecodecs.jpegxl_encode(cells, lossless=True, effort=3),
}


def _icon(recipe: Recipe) -> Dataset:
    icon = Dataset()
    small = Recipe(rows=8, columns=8, bits_allocated=8, bits_stored=8, transfer_syntax=recipe.transfer_syntax)
    _add_pixels(icon, small)
    return icon


def _swapped(value: bytes, size: int) -> bytes:
    return np.frombuffer(value, f"<u{size}").byteswap().tobytes()


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def _has_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
