"""Dense: native frames of real images under preset ``dense``, beside what else holds them without loss.

Every image is brought to native form first. All sides get the same frames, one at a time, and are decoded back and
compared; heads and containers do not count. A codec that cannot hold a kind of frame leaves it as it is.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zstandard
from rich.progress import track

from benchmarks.load import be_quiet, lossless_files
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.senders import gzip_bytes
from benchmarks.servers import CannotRun, LeanPACS
from benchmarks.size import make_native, read_image, write_native
from leanpacs.archive.settle.encode import SeriesChoice, attempts, measured_choice
from leanpacs.codecs import presets, registry
from leanpacs.codecs.choice import Candidate, sample_of
from leanpacs.codecs.codec import Codec, EncodeOptions
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError
from leanpacs.transcode.content import Content, Native, open_content, parts

if TYPE_CHECKING:
    from rich.console import Console

IMAGE_CODECS: Final = {
    "JPEG-LS": ("jpegls", 1),
    "JPEG 2000": ("jpeg2000", 1),
    "HTJ2K": ("htj2k", 1),
    "JPEG XL e7": ("jpegxl", 7),
}
FIELD: Final = ("gzip -6", "zstd -19", *IMAGE_CODECS)
OURS: Final = tuple(presets.PRESETS)
MAMMOGRAPHY_TARGET: Final = 0.13
COST_SAMPLE_BYTES: Final = 1 << 18
LIMIT_INFLATED_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Image:
    """A native file, and what it belongs to."""

    path: str
    name: str
    modality: str
    series: str
    bits_stored: int


@dataclass(slots=True)
class Cost:
    """CPU seconds for some bytes."""

    size_bytes: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    stored_bytes: int = 0

    def add(self, other: Cost) -> None:
        self.size_bytes += other.size_bytes
        self.encode_seconds += other.encode_seconds
        self.decode_seconds += other.decode_seconds
        self.stored_bytes += other.stored_bytes


@dataclass(slots=True)
class Result:
    """Of one series, or of all together: bytes by row of the table and codec, what was chosen, costs of candidates."""

    frames: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, Counter[str]] = field(default_factory=dict)
    chosen: dict[str, Counter[str]] = field(default_factory=dict)
    costs: dict[tuple[str, int, int], Cost] = field(default_factory=dict)

    def count(self, rows: Iterable[str], sizes: Mapping[str, int]) -> None:
        for row in rows:
            self.frames[row] += 1
            self.sizes.setdefault(row, Counter()).update(sizes)

    def add(self, other: Result) -> None:
        self.frames.update(other.frames)
        for row, sizes in other.sizes.items():
            self.sizes.setdefault(row, Counter()).update(sizes)
        for preset, chosen in other.chosen.items():
            self.chosen.setdefault(preset, Counter()).update(chosen)
        for key, cost in other.costs.items():
            self.costs.setdefault(key, Cost()).add(cost)


def measure_all(folders: Sequence[Path], work: Path, frames: int, jobs: int, *, console: Console) -> Result:
    """Encode up to ``frames`` frames of each image in every way.

    Raises
    ------
    CannotRun
        If nothing was found.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    paths = [path for folder in folders for path in lossless_files(folder)]
    series: dict[str, list[Image]] = {}
    for image in _natives(paths, work, console):
        series.setdefault(image.series, []).append(image)
    if not series:
        raise CannotRun("no losslessly stored images found")
    total = Result()
    # The largest first: they take longest.
    tasks = sorted(series.values(), key=lambda images: -sum(Path(image.path).stat().st_size for image in images))
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=be_quiet) as executor:
        results = executor.map(_series, tasks, [frames] * len(tasks))
        for result in track(results, "encode", total=len(tasks), console=console, transient=True):
            total.add(result)
    shutil.rmtree(work)
    return total


def _natives(paths: Sequence[Path], folder: Path, console: Console) -> Iterator[Image]:
    taken: set[str] = set()
    for number, path in enumerate(track(paths, "native", console=console, transient=True)):
        try:
            ds = read_image(path)
            if "PixelData" not in ds:
                continue
            make_native(ds)
            digest = hashlib.sha256(ds.PixelData).hexdigest()
            if digest in taken:
                continue
            target = folder / f"{number:05d}.dcm"
            write_native(ds, target)
        except Exception:
            continue
        taken.add(digest)
        series = str(ds.get("SeriesInstanceUID") or number)
        yield Image(str(target), path.name, str(ds.get("Modality") or "none given"), series, int(ds.BitsStored))


def _series(images: Sequence[Image], frames: int) -> Result:
    """Runs in a worker."""
    result = Result()
    choices: dict[tuple[str, str], SeriesChoice] = {}
    for image in images:
        with (
            Path(image.path).open("rb") as file,
            open_content(file, None, spool=Path(image.path).parent, limit_bytes=LIMIT_INFLATED_BYTES) as content,
        ):
            form = parts(content)
            if isinstance(form, Native) and not form.indivisible:
                _image(image, content, form, frames, choices, result)
    return result


def _image(
    image: Image,
    content: Content,
    form: Native,
    frames: int,
    choices: dict[tuple[str, str], SeriesChoice],
    result: Result,
) -> None:
    rows = [image.modality]
    if image.modality == "MG" and image.bits_stored == 12:
        rows.append("MG, 12 bits")
    kind = f"{form.spec.samples_per_pixel}x{form.spec.bits_allocated}{form.spec.pixel_representation}"
    ways = {}
    for name in OURS:
        if (name, kind) not in choices:
            preset = presets.preset(name)
            choices[name, kind], _ = measured_choice(form, content, preset, preset.seconds_per_gb)
            if name == "dense":
                _measure_costs(form, content, result)
        choice = choices[name, kind]
        ways[name] = list(attempts(choice, form, content))
        label = choice.codec if choice.effort == 1 and choice.codec != "jpegxl" else f"{choice.codec}:{choice.effort}"
        result.chosen.setdefault(name, Counter())[label] += 1
    count = form.frames.count
    wanted = min(frames, count)
    for index in sorted({(2 * number + 1) * count // (2 * wanted) for number in range(wanted)}):
        frame = form.frames.read(content.reader, index)
        sizes = {"native": len(frame), **_field(frame, form.spec)}
        for name in OURS:
            sizes[name] = _first_exact(frame, form.spec, ways[name])
        result.count(rows, sizes)


def _field(frame: bytes, spec: FrameSpec) -> dict[str, int]:
    sizes = {
        "gzip -6": len(gzip_bytes(frame)),
        "zstd -19": len(zstandard.ZstdCompressor(level=19).compress(frame)),
    }
    for name, (codec, effort) in IMAGE_CODECS.items():
        options = [EncodeOptions(effort, bits) for bits in sorted({spec.bits_stored, spec.bits_allocated})]
        sizes[name] = _first_exact(frame, spec, [(registry.by_name(codec), option) for option in options])
    return sizes


def _first_exact(frame: bytes, spec: FrameSpec, ways: Sequence[tuple[Codec, EncodeOptions]]) -> int:
    """Bytes of the first way that gives the frame back; of the frame itself when there is none."""
    for codec, options in ways:
        try:
            stream = registry.encode_frame(codec, frame, spec, options)
            if registry.decode_frame(codec, stream, spec, options) == frame:
                return len(stream)
        except CodecError:
            continue
    return len(frame)


def _measure_costs(form: Native, content: Content, result: Result) -> None:
    """Encode and decode a piece of the middle frame with every candidate of every preset."""
    frame = form.frames.read(content.reader, form.frames.count // 2)
    sample, spec = sample_of(frame, form.spec, COST_SAMPLE_BYTES)
    for candidate in _candidates():
        codec = registry.by_name(candidate.codec)
        for bits in sorted({spec.bits_stored, spec.bits_allocated}):
            try:
                cost = _cost(codec, sample, spec, EncodeOptions(candidate.effort, bits))
            except CodecError:
                continue
            key = (candidate.codec, candidate.effort, spec.samples_per_pixel)
            result.costs.setdefault(key, Cost()).add(cost)
            break


def _cost(codec: Codec, sample: bytes, spec: FrameSpec, options: EncodeOptions) -> Cost:
    begin = time.thread_time()
    stream = registry.encode_frame(codec, sample, spec, options)
    middle = time.thread_time()
    registry.decode_frame(codec, stream, spec, options)
    return Cost(len(sample), middle - begin, time.thread_time() - middle, len(stream))


def _candidates() -> list[Candidate]:
    found: dict[tuple[str, int], Candidate] = {}
    for preset in presets.PRESETS.values():
        for candidate in preset.candidates:
            found.setdefault((candidate.codec, candidate.effort), candidate)
    return sorted(found.values(), key=lambda one: one.seconds_per_gb)


def sheets(result: Result, frames: int) -> list[Sheet]:
    """The tables: sizes by modality, and the costs of the candidates."""
    return [_size_sheet(result, frames), _cost_sheet(result)]


def _size_sheet(result: Result, frames: int) -> Sheet:
    headings = ("modality", "frames", "native, kB", *FIELD, *OURS, "dense / best other")
    order = sorted(result.sizes, key=lambda row: (-result.sizes[row.split(",")[0]]["native"], row))
    rows = [_row(row, result.frames[row], result.sizes[row]) for row in order]
    total: Counter[str] = Counter()
    for row in order:
        if "," not in row:
            total.update(result.sizes[row])
    rows.append(_row("all", sum(n for row, n in result.frames.items() if "," not in row), total))
    larger = [row for row in order if result.sizes[row]["dense"] > min(result.sizes[row][name] for name in FIELD)]
    chosen = "; ".join(
        f"{name}: {', '.join(f'{codec} {n}' for codec, n in counts.most_common())}"
        for name, counts in result.chosen.items()
    )
    notes = (
        of_machine(machine()),
        f"Sizes over native bytes of frames alone; at most {frames} frames of each image, each frame decoded back and "
        "compared. What a codec cannot hold (1-bit and 32-bit samples) counts as native.",
        "`dense` is the smallest in every modality."
        if not larger
        else f"`dense` is NOT the smallest in: {', '.join(larger)}.",
        f"Target for 12-bit full-field mammograms (MG, 12 bits): at most {MAMMOGRAPHY_TARGET}.",
        f"Chosen (images): {chosen}.",
    )
    return Sheet("Native frames, presets beside other codecs", headings, tuple(rows), notes)


def _row(name: str, frames: int, sizes: Mapping[str, int]) -> tuple[str, ...]:
    native, best = sizes["native"], min(sizes[other] for other in FIELD)
    shares = (f"{sizes[codec] / native:.4f}" for codec in (*FIELD, *OURS))
    return (name, str(frames), f"{native / 1e3:,.0f}", *shares, f"{sizes['dense'] / best:.3f}")


def _cost_sheet(result: Result) -> Sheet:
    headings = (
        "codec:effort",
        "grey: encode",
        "decode",
        "size / native",
        "colour: encode",
        "decode",
        "size / native",
        "counts as, grey",
        "colour",
    )
    rows = []
    for one in _candidates():
        measured = [result.costs.get((one.codec, one.effort, samples)) for samples in (1, 3)]
        if any(measured):
            counts = (f"{one.seconds_per_gb:.0f}", f"{one.colour_seconds_per_gb:.0f}")
            rows.append(
                (f"{one.codec}:{one.effort}", *(cell for cost in measured for cell in _cost_cells(cost)), *counts)
            )
    notes = (
        f"CPU seconds for 10^9 bytes, one thread, on at most {COST_SAMPLE_BYTES // 1024} kB of a frame of each series; "
        "small frames are among them, which cost more. *Counts as* is what presets reckon with: encoding and decoding.",
    )
    return Sheet("Cost of the candidates", headings, tuple(rows), notes)


def _cost_cells(cost: Cost | None) -> tuple[str, str, str]:
    if cost is None or not cost.size_bytes:
        return ("", "", "")
    gigabytes = cost.size_bytes / 1e9
    seconds = (cost.encode_seconds / gigabytes, cost.decode_seconds / gigabytes)
    return (f"{seconds[0]:.1f}", f"{seconds[1]:.1f}", f"{cost.stored_bytes / cost.size_bytes:.3f}")


def record(result: Result) -> Mapping[str, Any]:
    """Everything that was measured."""
    costs = {
        f"{codec}:{effort}, {samples} samples": asdict(cost) for (codec, effort, samples), cost in result.costs.items()
    }
    return {
        "machine": machine(),
        "version": LeanPACS().version(),
        "frames": dict(result.frames),
        "sizes": {row: dict(sizes) for row, sizes in result.sizes.items()},
        "chosen": {name: dict(counts) for name, counts in result.chosen.items()},
        "costs": costs,
    }
