"""Bytes on the wire for a viewer that takes JPEG XL and HTJ2K, beside gzip of the native pixels.

The losslessly stored images of a folder, in native form, are imported under each preset; then each frame is asked for
as the HTTP door asks: of both forms the one that is soonest there over the viewer's line. What comes is decoded and
compared. Last is the smallest JPEG XL of the samples themselves at the efforts 3, 5, 7 and 9 (9 only of small
frames): what no answer in a standard transfer syntax can be much below.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.load import lossless_files
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import CannotRun, environment, leanpacs_command
from benchmarks.size import natives
from leanpacs.archive.archive import open_archive
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.codecs import libjxl
from leanpacs.codecs.native import unpack
from leanpacs.codecs.registry import decode_received
from leanpacs.codecs.samples import to_offset_binary
from leanpacs.codecs.writing.writer import needed_bits
from leanpacs.dicom import uids
from leanpacs.errors import LeanPACSError

if TYPE_CHECKING:
    from rich.console import Console

    from leanpacs.archive.archive import Archive
    from leanpacs.catalog import InstanceRow
    from leanpacs.codecs.codec import Samples
    from leanpacs.dicom.frames import FrameSpec

MOST_OF_GZIP: Final = 0.45
PRESETS: Final = ("fast", "balanced", "dense")
LINES: Final[Mapping[str, float | None]] = {"": None, ", 5 Mbit/s": 5e6 / 8}
"""Bytes a second; None where nothing is known of a line."""
_ACCEPTED: Final = (uids.JPEG_XL_LOSSLESS, uids.HTJ2K_LOSSLESS)
_MOST_FRAMES: Final = 4
_GZIP_LEVEL: Final = 6
_EFFORTS: Final = (3, 5, 7)
_SMALL_BYTES: Final = 2 << 20
"""Frames up to this are tried at effort 9, too."""


@dataclass(frozen=True, slots=True)
class Line:
    """Frames of a modality: bytes native, as gzip, as the smallest JPEG XL, and as sent, by preset and line."""

    modality: str
    frames: int
    native: int
    gzip: int
    smallest: int
    sent: Mapping[str, int]


def measure(folders: Sequence[Path], work: Path, jobs: int, *, console: Console) -> list[Line]:
    """Measure all images that can be held and given in a transfer syntax that the viewer takes.

    Raises
    ------
    CannotRun
        If nothing was found, or an import failed.
    """
    shutil.rmtree(work, ignore_errors=True)
    native = work / "native"
    native.mkdir(parents=True)
    files, _ = natives([path for folder in folders for path in lossless_files(folder)], native, console)
    if not files:
        raise CannotRun("no losslessly stored images found")
    sent = {}
    for preset in PRESETS:
        _import(native, work / preset, preset)
        with open_archive(work / preset) as archive:
            for line, bytes_a_second in LINES.items():
                sent[preset + line] = dict(_sent(archive, bytes_a_second))
        console.print(f"  {preset}: {sum(map(sum, sent[preset].values())) / 1e6:.1f} MB", highlight=False)
    with open_archive(work / PRESETS[0]) as archive, ProcessPoolExecutor(jobs) as pool:
        lines = list(_lines(archive, sent, pool))
    shutil.rmtree(work)
    return lines


def sheet(lines: Sequence[Line]) -> Sheet:
    """One row for each modality, the largest first, and one for all."""
    ways = [preset + line for preset in PRESETS for line in LINES]
    rows = [_row(line, ways) for line in [*lines, _total(lines)]]
    headings = ("modality", "frames", "native, kB", "gzip -6 / native", *ways, "smallest JPEG XL")
    notes = (
        f"Sent, over gzip -{_GZIP_LEVEL} of the native pixels, to one who accepts image/jxl and image/jphc alike: "
        "held as each preset does, over a line of which nothing is known, and over one of 5 Mbit/s. At most "
        f"{_MOST_FRAMES} frames of each image; grey ones were decoded and compared.",
        "Smallest JPEG XL: of the samples, whatever it takes (efforts 3, 5, 7; 9 for frames up to 2 MB). "
        f"Target: at most {MOST_OF_GZIP}.",
        of_machine(machine()),
    )
    return Sheet("Bytes for a viewer that takes JPEG XL and HTJ2K", headings, tuple(rows), notes)


def record(lines: Sequence[Line]) -> Mapping[str, Any]:
    """All figures."""
    return {"machine": machine(), "lines": [asdict(line) for line in lines]}


def _row(line: Line, ways: Sequence[str]) -> tuple[str, ...]:
    def of_gzip(size: int) -> str:
        return f"{size / line.gzip:.3f}"

    kilobytes = f"{line.native / 1e3:,.0f}"
    sent = (of_gzip(line.sent[way]) for way in ways)
    return (
        line.modality or "none given",
        str(line.frames),
        kilobytes,
        f"{line.gzip / line.native:.3f}",
        *sent,
        of_gzip(line.smallest),
    )


def _total(lines: Sequence[Line]) -> Line:
    sent = {way: sum(line.sent[way] for line in lines) for way in lines[0].sent}
    sums = [sum(getattr(line, name) for line in lines) for name in ("frames", "native", "gzip", "smallest")]
    return Line("all", *sums, sent)


def _import(native: Path, archive: Path, preset: str) -> None:
    command = [*leanpacs_command(), "import", "--data", str(archive), "--preset", preset, "--quiet", str(native)]
    run = subprocess.run(command, capture_output=True, check=False, env=environment())
    if run.returncode:
        raise CannotRun(f"leanpacs import: {run.stderr.decode(errors='replace')[-1000:]}")


def _sent(archive: Archive, bytes_a_second: float | None) -> Iterator[tuple[str, list[int]]]:
    """Bytes of the frames of each image, by SOP Instance UID."""
    retriever = archive.retriever
    for row in archive.catalog.all_instances():
        spec = _spec(archive, row)
        if spec is None:
            continue
        try:
            told = retriever.estimates(row, _ACCEPTED, takes_zstd=False, bytes_a_second=bytes_a_second)[0]
            made = [one.data for one in retriever.frames(row, _numbers(row), told.transfer_syntax, told.effort)]
        except LeanPACSError:
            continue  # what these codecs do not hold
        if spec.samples_per_pixel == 1:
            for stream, frame in zip(made, retriever.frames(row, _numbers(row), uids.EXPLICIT_LE), strict=True):
                if decode_received(stream, told.transfer_syntax, spec).samples.tobytes() != frame.data:
                    raise RuntimeError(f"{row.sop_uid} came otherwise than it is")
        yield row.sop_uid, [len(stream) for stream in made]


def _spec(archive: Archive, row: InstanceRow) -> FrameSpec | None:
    """What frames are; None where they are not held frame by frame, or not one byte or word for each sample."""
    with archive.retriever.opened(row) as opened:
        coding = opened.known.contents.manifest.pixel if isinstance(opened, SettledInstance) else None
    if coding is None or coding.spec.bits_allocated not in (8, 16) or coding.spec.is_subsampled:
        return None
    return coding.spec


def _numbers(row: InstanceRow) -> range:
    return range(1, min(row.number_of_frames or 1, _MOST_FRAMES) + 1)


def _lines(archive: Archive, sent: Mapping[str, Mapping[str, list[int]]], pool: ProcessPoolExecutor) -> Iterator[Line]:
    by_modality: dict[str, list[InstanceRow]] = {}
    for row in archive.catalog.all_instances():
        if all(row.sop_uid in of_way for of_way in sent.values()):
            by_modality.setdefault(row.modality or "", []).append(row)
    for modality, rows in sorted(by_modality.items(), key=lambda item: -sum(row.raw_bytes for row in item[1])):
        frames, arrays = [], []
        for row in rows:
            spec = _spec(archive, row)
            assert spec is not None
            for one in archive.retriever.frames(row, _numbers(row), uids.EXPLICIT_LE):
                frames.append(one.data)
                arrays.append((unpack(one.data, spec), spec))
        yield Line(
            modality,
            len(frames),
            sum(map(len, frames)),
            sum(len(gzip.compress(frame, _GZIP_LEVEL)) for frame in frames),
            sum(pool.map(_smallest, arrays)),
            {way: sum(sum(of_way[row.sop_uid]) for row in rows) for way, of_way in sent.items()},
        )


def _smallest(frame: tuple[Samples, FrameSpec]) -> int:
    """Bytes of the smallest JPEG XL of samples; signed ones as numbers from zero, which is smaller."""
    samples, spec = frame
    bits = needed_bits(samples, spec)
    samples = to_offset_binary(samples, bits)
    efforts = (*_EFFORTS, 9) if samples.nbytes <= _SMALL_BYTES else _EFFORTS
    samples = np.ascontiguousarray(samples)
    return min(len(libjxl.encode(samples, effort, bits)) for effort in efforts)
