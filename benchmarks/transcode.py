"""Transcoding: a multi-frame instance through the engine, beside the bare codec on the same samples.

The bare codec is imagecodecs on an array in memory, on one thread. Verification is left out on our side, for the bare
codec does none; worker processes are warm on both counts.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import gettempdir
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset

from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from leanpacs.codecs.writing import WriteOptions
from leanpacs.dicom import uids
from leanpacs.transcode import OpenFile, Target, Transcoder, Verify
from leanpacs.transcode.content import open_content
from leanpacs.transcode.files import FRAME_MEMORY_BYTES, FRAME_SECONDS
from leanpacs.transcode.frames import warm_up
from leanpacs.workers import WorkerPool

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

MOST_OVER_BARE: Final = 1.25
LEAST_OF_TWO: Final = 1.7
ROUNDS: Final = 3
FRAMES, ROWS, COLUMNS, BITS = 96, 512, 512, 12

Bare = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One way: from a transfer syntax to another, and what the bare codec does for a frame of it."""

    name: str
    source: str
    target: str
    effort: int | None
    bare: Bare


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds for all frames: the bare codec, the engine here, in one worker process, in two."""

    name: str
    bare: float
    here: float
    one: float
    two: float

    @property
    def over_bare(self) -> float:
        """The engine's time to that of the bare codec, on one core."""
        return self.here / self.bare

    @property
    def of_two(self) -> float:
        """How much faster two worker processes are than one."""
        return self.one / self.two


CASES: Final = (
    Case("to JPEG XL, effort 1", uids.EXPLICIT_LE, uids.JPEG_XL_LOSSLESS, 1, lambda frame: _jpegxl(frame, 1)),
    Case("to JPEG XL, effort 3", uids.EXPLICIT_LE, uids.JPEG_XL_LOSSLESS, 3, lambda frame: _jpegxl(frame, 3)),
    Case("to HTJ2K", uids.EXPLICIT_LE, uids.HTJ2K_LOSSLESS, None, lambda frame: _htj2k(frame)),
    Case("to JPEG-LS", uids.EXPLICIT_LE, uids.JPEG_LS_LOSSLESS, None, imagecodecs.jpegls_encode),
    Case("to JPEG 2000", uids.EXPLICIT_LE, uids.JPEG_2000_LOSSLESS, None, lambda frame: _jpeg2000(frame)),
    Case("from JPEG-LS", uids.JPEG_LS_LOSSLESS, uids.EXPLICIT_LE, None, imagecodecs.jpegls_decode),
    Case("from HTJ2K", uids.HTJ2K_LOSSLESS, uids.EXPLICIT_LE, None, imagecodecs.htj2k_decode),
    Case(
        "HTJ2K to JPEG XL, effort 1",
        uids.HTJ2K_LOSSLESS,
        uids.JPEG_XL_LOSSLESS,
        1,
        lambda stream: _jpegxl(imagecodecs.htj2k_decode(stream), 1),
    ),
)


def _jpegxl(frame: NDArray[np.uint16], effort: int) -> bytes:
    return imagecodecs.jpegxl_encode(frame, effort=effort, lossless=True, bitspersample=BITS, numthreads=1)


def _htj2k(frame: NDArray[np.uint16]) -> bytes:
    return imagecodecs.htj2k_encode(frame, reversible=True)


def _jpeg2000(frame: NDArray[np.uint16]) -> bytes:
    return imagecodecs.jpeg2k_encode(
        frame, level=0, codecformat="j2k", reversible=True, bitspersample=BITS, numthreads=1
    )


def measure(*, console: Console) -> list[Line]:
    """Take the median of some rounds, in which all ways take turns."""
    frames = make_frames()
    native = make_file(frames)
    lines = []
    with _pool(1) as one, _pool(2) as two:
        for case in CASES:
            content = native
            if case.source != uids.EXPLICIT_LE:
                content = b"".join(_pieces(native, Target(case.source), None))
            target = Target(case.target, WriteOptions(effort=case.effort), Verify.NONE)
            inputs = list(frames) if case.source == uids.EXPLICIT_LE else _streams(content)
            ways: dict[str, Callable[[], object]] = {
                "bare": lambda case=case, inputs=inputs: [case.bare(frame) for frame in inputs],
                "here": lambda content=content, target=target: _drained(content, target, None),
                "one": lambda content=content, target=target: _drained(content, target, one),
                "two": lambda content=content, target=target: _drained(content, target, two),
            }
            lines.append(Line(case.name, **_timed(ways)))
            console.print(f"  {case.name}: {lines[-1].over_bare:.2f} of bare, two {lines[-1].of_two:.2f} times one")
    return lines


def _timed(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = perf_counter()
            way()
            seconds[name].append(perf_counter() - began)
    return {name: median(times) for name, times in seconds.items()}


def make_frames() -> NDArray[np.uint16]:
    """Frames with structure and noise, as of a tomograph; shape (frames, rows, columns), 12 bits."""
    generator = np.random.default_rng(1)
    z, y, x = np.ogrid[:FRAMES, :ROWS, :COLUMNS]
    radius = np.hypot((y - ROWS / 2) / (180 + z / 4), (x - COLUMNS / 2) / 220)
    body = np.where(radius < 1, 1000 + 120 * np.sin(x / 23 + z / 9) * np.cos(y / 31), 40)
    noise = generator.normal(0, 12, (FRAMES, ROWS, COLUMNS))
    return np.clip(body + noise, 0, 2**BITS - 1).astype(np.uint16)


def make_file(frames: NDArray[np.uint16]) -> bytes:
    """A native multi-frame file."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.3", "2.25.1"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.NumberOfFrames = 1, "MONOCHROME2", len(frames)
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, BITS, BITS - 1, 0
    ds.add_new(0x7FE00010, "OW", frames.tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uids.EXPLICIT_LE
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@contextmanager
def _pool(workers: int) -> Iterator[WorkerPool]:
    with WorkerPool(
        workers, memory_limit_bytes=FRAME_MEMORY_BYTES, time_limit_seconds=FRAME_SECONDS, initializer=warm_up
    ) as pool:
        yield pool


def _pieces(content: bytes, target: Target, executor: Executor | None) -> Iterator[bytes]:
    with open_content(io.BytesIO(content), None, spool=Path(gettempdir()), limit_bytes=1 << 32) as parts:
        yield from Transcoder(executor).file(OpenFile(parts), target).pieces


def _drained(content: bytes, target: Target, executor: Executor | None) -> int:
    return sum(map(len, _pieces(content, target, executor)))


def _streams(content: bytes) -> list[bytes]:
    with open_content(io.BytesIO(content), None, spool=Path(gettempdir()), limit_bytes=1 << 32) as parts:
        source = OpenFile(parts)
        return [source.frame(number) for number in range(1, source.frame_count() + 1)]


def record(lines: list[Line]) -> dict[str, Any]:
    """What was measured, for programs."""
    return {"machine": machine(), "frames": FRAMES, "lines": [asdict(line) for line in lines]}


def sheet(lines: list[Line]) -> Sheet:
    """What was measured, for people."""
    rows = tuple(
        (
            line.name,
            *(f"{seconds * 1e3 / FRAMES:.2f}" for seconds in (line.bare, line.here, line.one, line.two)),
            f"{line.over_bare:.2f}",
            f"{line.of_two:.2f}",
        )
        for line in lines
    )
    return Sheet(
        f"Transcoding {FRAMES} frames of {ROWS}x{COLUMNS}, {BITS} bits: milliseconds a frame",
        ("way", "bare codec", "engine", "1 worker", "2 workers", "engine / bare", "1 / 2 workers"),
        rows,
        (
            of_machine(machine()),
            f"Wanted: engine / bare at most {MOST_OVER_BARE}, 1 / 2 workers at least {LEAST_OF_TWO}; no verification.",
        ),
    )
