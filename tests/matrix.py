"""The table of transcodings over real files: source transfer syntax, target, and what became of each."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import pixel_array

from leanpacs.codecs.native import unpack
from leanpacs.codecs.second import second_decoders
from leanpacs.codecs.writing import Lossy, WriteOptions
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DicomError, LeanPACSError, UnsupportedFrame, UnsupportedTransferSyntax
from leanpacs.transcode import OpenFile, Target, Transcoder, Verify, targets
from leanpacs.transcode.frames import FrameResult, convert
from leanpacs.transcode.pixels import SourcePixels, require_writable
from leanpacs.transcode.recompression import is_rewrapped
from transcoding import NATIVE, opened

MOST_PIXELS = 1 << 21
"""Of all frames of an instance that is transcoded to all targets; of larger ones, frames are taken that fit."""
LARGE_BYTES = 1 << 19
MOST_NATIVE_BYTES = 100 << 20
LOSSY = {
    uids.JPEG_BASELINE: Lossy(quality=90),
    uids.JPEG_EXTENDED: Lossy(quality=90),
}
BYTEWISE = (uids.DEFLATED_FRAME, uids.ENCAPSULATED_UNCOMPRESSED)


@dataclass
class Matrix:
    """Counts by source and target, reasons, and what is wrong."""

    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    frames: int = 0

    def markdown(self) -> str:
        """The table and the reasons, as a page."""
        sources = sorted({source for source, _ in self.counts})
        lines = ["| from \\ to | " + " | ".join(map(_short, targets())) + " |"]
        lines.append("|---|" + "---|" * len(targets()))
        for source in sources:
            cells = [_cell(self.counts[source, target]) for target in targets()]
            lines.append(f"| {_short(source)} | " + " | ".join(cells) + " |")
        lines += ["", "| refused because | targets | times |", "|---|---|---|"]
        by_reason: dict[str, Counter[str]] = defaultdict(Counter)
        for (reason, target), count in self.reasons.items():
            by_reason[reason][_short(target)] += count
        lines += [f"| {reason} | {', '.join(sorted(to))} | {to.total()} |" for reason, to in sorted(by_reason.items())]
        lines += ["", "| samples compared by | frames |", "|---|---|"]
        lines += [f"| {name} | {count} |" for name, count in sorted(self.checked.items())]
        lines += ["", "| sources read by | frames |", "|---|---|"]
        lines += [f"| {name} | {count} |" for name, count in sorted(self.sources.items())]
        return "\n".join(lines) + "\n"


def fill(matrix: Matrix, files: Iterable[Path]) -> Matrix:
    """Transcode frames of every file to every target, and have other libraries read what comes out."""
    for path in files:
        try:
            with opened(path.read_bytes()) as source:
                _fill_from(matrix, source, path)
        except DicomError:
            continue
    return matrix


def _fill_from(matrix: Matrix, source: OpenFile, path: Path) -> None:
    syntax = source.layout.transfer_syntax
    if source.layout.pixel is None:
        return
    try:
        pixels = SourcePixels(source, uids.EXPLICIT_LE)
        numbers = _sampled(pixels)
        originals = {number: Transcoder().frame(source, Target(uids.EXPLICIT_LE), number) for number in numbers}
    except (LeanPACSError, UnsupportedTransferSyntax) as error:
        matrix.unreadable[str(error).split(":")[-1].strip()] += 1
        return
    matrix.frames += len(numbers)
    for number in numbers:
        _check_source(matrix, source, pixels, number, _samples(originals[number], None), path)
    for target in targets():
        if target in NATIVE:
            _fill_native(matrix, source, pixels, target, originals, path)
            continue
        options = WriteOptions(lossy=LOSSY.get(target)) if syntax != uids.JPEG_XL_RECOMPRESSION else WriteOptions()
        for number in numbers:
            outcome = _one(matrix, source, Target(target, options, Verify.NONE), number, originals[number], path)
            matrix.counts[syntax, target][outcome] += 1


def _one(matrix: Matrix, source: OpenFile, target: Target, number: int, decoded: FrameResult, path: Path) -> str:
    original = _samples(decoded, None)
    try:
        result = _converted(source, target, number, decoded)
    except (UnsupportedTransferSyntax, UnsupportedFrame) as error:
        reason = str(error).removeprefix(f"frame {number} cannot be written: ")
        matrix.reasons[reason, target.transfer_syntax] += 1
        return "refused"
    if target.is_lossy:
        return "lossy"
    same, reader = _read_by_another(result, target.transfer_syntax, original)
    matrix.checked[reader] += 1
    if not same:
        matrix.wrong.append(f"{path.name} frame {number} to {_short(target.transfer_syntax)}, by {reader}")
    return "exact" if same else "WRONG"


def _check_source(
    matrix: Matrix, source: OpenFile, pixels: SourcePixels, number: int, original: NDArray[np.generic], path: Path
) -> None:
    """Have another library read the frame as it came: what is compared with later must not be our own mistake."""
    syntax = source.layout.transfer_syntax
    if not pixels.span.encapsulated or syntax in BYTEWISE:
        matrix.sources["native bytes: numpy only"] += 1
        return
    for decoder in second_decoders(syntax):
        try:
            found = decoder.decode(source.frame(number), syntax, pixels.spec).samples
        except UnsupportedFrame:
            continue
        except LeanPACSError as error:
            matrix.sources[f"{decoder.name} cannot: {error}"] += 1
            continue
        difference = np.abs(found.astype(np.int64) - original.astype(np.int64))
        # Decoders of what was lossy differ by rounding and by how chroma is spread.
        limit = 0 if uids.transfer_syntax(syntax).lossless else 2
        matrix.sources[decoder.name] += 1
        if difference.mean() > limit:
            matrix.wrong.append(f"{path.name} frame {number} as it came, by {decoder.name}: {difference.mean():.3g}")
        return
    matrix.sources["the first decoder only"] += 1


def _fill_native(
    matrix: Matrix,
    source: OpenFile,
    pixels: SourcePixels,
    target: str,
    originals: dict[int, FrameResult],
    path: Path,
) -> None:
    """Write whole native files, and have pydicom read the frames in them."""
    counts = matrix.counts[source.layout.transfer_syntax, target]
    if pixels.count * len(originals[1].data) > MOST_NATIVE_BYTES:
        counts["too large to read here"] += len(originals)
        return
    content = b"".join(Transcoder().file(source, Target(target, anew=True)).pieces)
    ds = pydicom.dcmread(io.BytesIO(content))
    for number, decoded in originals.items():
        found = pixel_array(ds, raw=True, index=number - 1)
        original = _samples(decoded, None)
        same = np.array_equal(*(_stored_bits(one, decoded.spec) for one in (found, original)))
        matrix.checked["pydicom, whole files"] += 1
        counts["exact" if same else "WRONG"] += 1
        if not same:
            matrix.wrong.append(f"{path.name} frame {number} to {_short(target)}, by pydicom")


def _stored_bits(samples: NDArray[np.generic], spec: FrameSpec) -> NDArray[np.generic]:
    """Without the bits above Bits Stored, which pydicom takes away."""
    unused = spec.bits_allocated - spec.bits_stored
    return samples << unused if unused and spec.kind == "integer" else samples


def _converted(source: OpenFile, target: Target, number: int, decoded: FrameResult) -> FrameResult:
    """A frame as the engine gives it; large code streams are decoded once for all targets, not for each."""
    pixels = SourcePixels(source, target.transfer_syntax)
    is_large = len(decoded.data) > LARGE_BYTES and pixels.span.encapsulated and not target.is_native
    if not is_large or is_rewrapped(pixels.transfer_syntax, target.transfer_syntax):
        return Transcoder().frame(source, target, number)
    require_writable(pixels, target)
    spec = decoded.spec
    return convert(replace(pixels.task(number, target), data=decoded.data, source=None, spec=spec))


def _read_by_another(result: FrameResult, syntax: str, original: NDArray[np.generic]) -> tuple[bool, str]:
    if syntax in BYTEWISE:
        return np.array_equal(_samples(result, syntax), original), "zlib and numpy"
    for decoder in second_decoders(syntax):
        try:
            found = decoder.decode(result.data, syntax, result.spec).samples
        except UnsupportedFrame:
            continue
        if syntax == uids.JPEG_XL_RECOMPRESSION:  # the JPEG in it is exact; its decoders differ by rounding
            return bool(np.abs(found.astype(int) - original.astype(int)).mean() <= 2), decoder.name
        return np.array_equal(found, original), decoder.name
    return True, "the first decoder only"


def _samples(result: FrameResult, syntax: str | None) -> NDArray[np.generic]:
    import zlib

    from leanpacs.codecs.native import expand_422

    native = result.data
    if syntax == uids.DEFLATED_FRAME:
        native = zlib.decompressobj(-15).decompress(native)
    if result.spec.is_subsampled:
        return expand_422(native, result.spec)
    return unpack(native[: -(-result.spec.frame_bits // 8)], result.spec)


def _sampled(pixels: SourcePixels) -> list[int]:
    """The first, the middle and the last frame, fewer where they are large."""
    size = pixels.spec.rows * pixels.spec.columns * pixels.spec.samples_per_pixel
    wanted = sorted({1, pixels.count // 2 + 1, pixels.count})
    return wanted[: max(1, MOST_PIXELS // size)]


def _cell(counts: Counter[str]) -> str:
    return (
        ", ".join(
            f"{counts[name]} {name}"
            for name in ("exact", "lossy", "refused", "too large to read here", "WRONG")
            if counts[name]
        )
        or "n.a."
    )


def _short(uid: str) -> str:
    return uids.transfer_syntax(uid).keyword or uid
