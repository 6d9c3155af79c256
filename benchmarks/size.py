"""Size: losslessly stored images, brought to native form, as stored by LeanPACS beside ``gzip -6``.

Every image is first decompressed to native Explicit VR Little Endian, so that what the files came compressed with
does not matter; both sides get these same files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pydicom
from pydicom.dataset import validate_file_meta
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from rich.progress import track

from benchmarks.load import lossless_files
from benchmarks.meter import disk_of, machine
from benchmarks.report import Sheet, of_machine
from benchmarks.senders import gzip_bytes
from benchmarks.servers import CannotRun, LeanPACS, leanpacs_command

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from rich.console import Console

TARGET: Final = 0.71


@dataclass(frozen=True, slots=True)
class Native:
    """One native file: bytes as it is, and as gzip -6."""

    modality: str
    size_bytes: int
    gzip_bytes: int


@dataclass(frozen=True, slots=True)
class Line:
    """One modality; all sizes in bytes."""

    modality: str
    instances: int
    native: int
    gzip: int
    stored: int
    stored_heads: int
    stored_frames: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was found.

    ``store_bytes`` are all files of the store together: packs, dictionaries, and the records beside them.
    """

    lines: tuple[Line, ...]
    by_codec: tuple[tuple[str, int, int, int], ...]
    left_out: tuple[str, ...]
    store_bytes: int
    dictionary_bytes: int

    @property
    def ratio(self) -> float:
        """Everything stored over gzip -6."""
        return self.store_bytes / max(sum(line.gzip for line in self.lines), 1)


def measure(folders: Sequence[Path], work: Path, *, console: Console) -> Sizes:
    """Bring the images to native form, import them into a new archive, and compare.

    Raises
    ------
    CannotRun
        If an image was not taken in, or nothing was found.
    """
    shutil.rmtree(work, ignore_errors=True)
    native, archive = work / "native", work / "archive"
    native.mkdir(parents=True)
    files, left_out = natives([path for folder in folders for path in lossless_files(folder)], native, console)
    if not files:
        raise CannotRun("no losslessly stored images found")
    _leanpacs("import", str(native), "--data", str(archive), "--quiet")
    status = json.loads(_leanpacs("status", "--data", str(archive), "--json"))
    if status["total"]["instances"] != len(files) or status["backlog"]["instances"]:
        raise CannotRun(f"{status['total']['instances']} of {len(files)} images are stored; {status['backlog']} wait")
    store = disk_of(archive / "hot").length
    shutil.rmtree(work)
    return Sizes(
        tuple(_lines(files, status["by_modality"])),
        tuple(
            (share["name"], share["instances"], share["raw_frame_bytes"], share["stored_frame_bytes"])
            for share in status["by_codec"]
        ),
        tuple(left_out),
        store,
        status["dictionary_bytes"],
    )


def natives(paths: Sequence[Path], folder: Path, console: Console) -> tuple[list[Native], list[str]]:
    """Write the native form of all that decodes; also names what does not."""
    found: list[Native] = []
    left_out: list[str] = []
    taken: set[str] = set()
    for number, path in enumerate(track(paths, "native", console=console, transient=True)):
        try:
            ds = read_image(path)
            if "PixelData" not in ds:
                continue
            make_native(ds)
            _make_unique(ds, taken, number)
            target = folder / f"{number:05d}.dcm"
            write_native(ds, target)
        except Exception as error:
            left_out.append(f"{path.name}: {error!r}"[:200])
            continue
        data = target.read_bytes()
        found.append(Native(str(ds.get("Modality") or ""), len(data), len(gzip_bytes(data))))
    return found, left_out


def read_image(path: Path) -> Dataset:
    """Read a file, one without file meta too: those come uncompressed (PS3.10 leaves no other way)."""
    ds = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        is_implicit, is_little = ds.original_encoding
        syntaxes = {(True, True): ImplicitVRLittleEndian, (False, True): ExplicitVRLittleEndian}
        ds.file_meta.TransferSyntaxUID = syntaxes.get((bool(is_implicit), bool(is_little)), ExplicitVRBigEndian)
    return ds


def make_native(ds: Dataset) -> None:
    """Decompress it; samples become little endian."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        ds.decompress(as_rgb=False, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        raw = ds.pixel_array.astype(ds.pixel_array.dtype.newbyteorder("<")).tobytes()
        ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for element in list(ds):
        # Icons compressed as the image was; a native data set cannot hold those.
        if element.VR == "SQ" and syntax.is_compressed and any("PixelData" in item for item in element.value):
            del ds[element.tag]


def write_native(ds: Dataset, path: Path) -> None:
    """Write a Part 10 file in Explicit VR Little Endian."""
    ds.preamble = bytes(128)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    validate_file_meta(ds.file_meta, enforce_standard=True)
    # Forced, for the library else refuses to turn big endian into little endian.
    pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=True, force_encoding=True)


def _make_unique(ds: Dataset, taken: set[str], number: int) -> None:
    """Give another SOP Instance UID to what comes again, such as the same image from another transfer syntax."""
    uid = str(ds.get("SOPInstanceUID") or "")
    if uid in taken or not uid:
        digest = hashlib.sha256(f"leanpacs benchmark size {uid} {number}".encode()).digest()
        uid = f"2.25.{int.from_bytes(digest[:16])}"
        ds.SOPInstanceUID = uid
    ds.file_meta.MediaStorageSOPInstanceUID = uid
    taken.add(uid)


def _leanpacs(*words: str) -> bytes:
    run = subprocess.run([*leanpacs_command(), *words], capture_output=True, check=False)
    if run.returncode:
        raise CannotRun(f"leanpacs {words[0]}: {run.stderr.decode(errors='replace')[-1000:]}")
    return run.stdout


def _lines(files: Iterable[Native], shares: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    by_modality: dict[str, list[Native]] = {}
    for file in files:
        by_modality.setdefault(file.modality, []).append(file)
    stored = {share["name"]: share for share in shares}
    for modality, of_it in sorted(by_modality.items(), key=lambda item: -sum(f.size_bytes for f in item[1])):
        share = stored[modality]
        yield Line(
            modality,
            len(of_it),
            sum(file.size_bytes for file in of_it),
            sum(file.gzip_bytes for file in of_it),
            share["stored_bytes"],
            share["stored_head_bytes"],
            share["stored_frame_bytes"],
        )


def sheet(sizes: Sizes) -> Sheet:
    """The table."""
    headings = ("modality", "images", "native, kB", "gzip -6, kB", "stored, kB", "heads, kB", "stored / gzip")
    rows = [_row(line, line.stored) for line in sizes.lines]
    total = Line(
        "all",
        sum(line.instances for line in sizes.lines),
        sum(line.native for line in sizes.lines),
        sum(line.gzip for line in sizes.lines),
        sum(line.stored for line in sizes.lines),
        sum(line.stored_heads for line in sizes.lines),
        sum(line.stored_frames for line in sizes.lines),
    )
    rows.append(_row(total, total.stored))
    rows.append(("all files of the store", "", "", "", f"{sizes.store_bytes / 1e3:,.0f}", "", f"{sizes.ratio:.3f}"))
    codecs = ", ".join(f"{name} {instances}" for name, instances, *_ in sizes.by_codec)
    left_out = f"{len(sizes.left_out)} more files do not decode with pydicom here." if sizes.left_out else ""
    notes = (
        of_machine(machine()),
        f"Images in native Explicit VR Little Endian on both sides. All files of the store: packs, and "
        f"{sizes.dictionary_bytes / 1e3:,.0f} kB of dictionaries. Target: at most {TARGET} of gzip -6.",
        f"Codecs chosen (instances): {codecs}. {left_out}".strip(),
    )
    return Sheet("Stored bytes of losslessly stored images", headings, tuple(rows), notes)


def _row(line: Line, stored: int) -> tuple[str, ...]:
    sizes = (f"{value / 1e3:,.0f}" for value in (line.native, line.gzip, stored, line.stored_heads))
    return (line.modality or "none given", str(line.instances), *sizes, f"{stored / max(line.gzip, 1):.3f}")


def record(sizes: Sizes) -> Mapping[str, Any]:
    """Everything that was measured."""
    return {"machine": machine(), "version": LeanPACS().version(), "ratio": sizes.ratio, **asdict(sizes)}
