"""What delivery is to keep to: transcoding beside the bare codecs, the second request beside the first.

An archive is filled with some of the load while nothing else happens, and opened in this process as the doors open it.
The bare codecs are imagecodecs on arrays in memory, in the same process and on one thread too; on the side of the
archive everything counts from the row of the catalog to the code stream: finding and reading the pack, its checksums,
decoding, encoding, keeping the result. Requests over HTTP are in the other table.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np

from benchmarks.load import Instance, Load
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import CannotRun, environment, leanpacs_command
from leanpacs.archive.archive import CACHE_FOLDER, Archive, open_archive
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.config import Settings
from leanpacs.dicom import uids
from leanpacs.workers.memory import keep_freed_memory

if TYPE_CHECKING:
    from rich.console import Console

    from leanpacs.catalog import InstanceRow

MOST_OVER_BARE: Final = 1.25
LEAST_FASTER: Final = 10.0
_MOST_IMAGES: Final = {("CT",): 40, ("MR",): 40, ("CR", "DX"): 6}
"""How many of some modalities, at most."""
_KEPT_BYTES: Final = 32 << 20
_TURN_SECONDS: Final = 0.0002
"""As the doors have it (leanpacs.cli.doors)."""
Codec = Callable[[Any], Any]
_DECODERS: Final[Mapping[str, Codec]] = {
    "htj2k": imagecodecs.htj2k_decode,
    "jpegxl": imagecodecs.jpegxl_decode,
    "jpegls": imagecodecs.jpegls_decode,
}
_ENCODERS: Final[Mapping[str, tuple[str, Codec]]] = {
    "JPEG-LS": (uids.JPEG_LS_LOSSLESS, lambda image: imagecodecs.jpegls_encode(image.view(f"u{image.itemsize}"))),
    "HTJ2K": (uids.HTJ2K_LOSSLESS, lambda image: imagecodecs.htj2k_encode(image, reversible=True)),
    "JPEG 2000": (uids.JPEG_2000_LOSSLESS, lambda image: imagecodecs.jpeg2k_encode(image, level=0, reversible=True)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One modality in one transfer syntax: median milliseconds of the bare codec, the first and the second request."""

    modality: str
    wanted: str
    images: int
    megabytes: float
    bare_ms: float
    first_ms: float
    second_ms: float

    @property
    def over_bare(self) -> float:
        """The first request over decoding and encoding alone."""
        return self.first_ms / self.bare_ms

    @property
    def faster(self) -> float:
        """How much sooner the second request is answered than the first."""
        return self.first_ms / self.second_ms


def measure(folder: Path, load: Load, console: Console) -> list[Line]:
    """Fill an archive in a folder, and measure it."""
    keep_freed_memory(_KEPT_BYTES, arenas=2)
    sys.setswitchinterval(_TURN_SECONDS)
    chosen = list(_chosen(load))
    _fill(folder, load, [one for images in chosen for one in images])
    return measure_filled(folder, chosen, console)


def measure_filled(folder: Path, chosen: Sequence[Sequence[Instance]], console: Console) -> list[Line]:
    """Measure an archive that holds these instances."""
    shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)
    lines: list[Line] = []
    # By default one image in 32 is read back when it is written; no median shows that, but the first few would.
    with open_archive(folder, Settings(delivery={"verify_one_in": 0})) as archive:
        for images in chosen:
            rows = [row for one in images for row in archive.catalog.instances(sop_uid=one.sop_uid)]
            for name in _ENCODERS:
                lines += _transcoding(archive, ", ".join(sorted({one.modality for one in images})), rows, name)
    for line in lines:
        console.print(
            f"  {line.modality} to {line.wanted}: bare {line.bare_ms:.1f} ms, first {line.first_ms:.1f} ms "
            f"({line.over_bare:.2f}), second {line.second_ms:.2f} ms ({line.faster:.0f} times)",
            highlight=False,
        )
    return lines


def _chosen(load: Load) -> Iterator[list[Instance]]:
    for modalities, most in _MOST_IMAGES.items():
        images = [one for one in load.instances if one.modality in modalities][: most + 1]
        if len(images) > 1:
            yield images


def _fill(folder: Path, load: Load, instances: Sequence[Instance]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    files = [str(load.folder / one.path) for one in instances]
    command = [*leanpacs_command(), "import", "--data", str(folder), *files]
    run = subprocess.run(command, capture_output=True, check=False, env=environment())
    if run.returncode:
        raise CannotRun(f"leanpacs import: {run.stderr.decode(errors='replace')[-1000:]}")


def sheet(lines: Sequence[Line]) -> Sheet:
    """One row for each modality and transfer syntax."""
    rows = tuple(
        (
            f"{line.modality}, {line.megabytes:.1f} MB, to {line.wanted}",
            str(line.images),
            f"{line.bare_ms:.1f}",
            f"{line.first_ms:.1f}",
            f"{line.over_bare:.2f}",
            f"{line.second_ms:.2f}",
            f"{line.faster:.0f}",
        )
        for line in lines
    )
    headings = (
        *("frame", "images", "bare decode + encode, ms", "first request, ms", "/ bare", "second, ms"),
        "times faster",
    )
    notes = (
        f"Targets: / bare at most {MOST_OVER_BARE}, the second at least {LEAST_FASTER:.0f} times faster. Medians; each "
        "image is asked for once and then again, in this process, without HTTP. Held as imported under `fast`.",
        "The first row of a modality has what is done once for an image, too: its pack is opened and its head is read. "
        "A row that is missing is passed on as it is held.",
        of_machine(machine()),
    )
    return Sheet("Transcoding for receivers, beside the bare codecs", headings, rows, notes)


def record(lines: Sequence[Line]) -> Mapping[str, Any]:
    """All figures."""
    return {"lines": [asdict(line) for line in lines]}


def _transcoding(archive: Archive, modality: str, rows: Sequence[InstanceRow], name: str) -> Iterator[Line]:
    syntax, encode = _ENCODERS[name]
    archive.retriever.frame(rows[0], 1, syntax)  # the worker process is there
    bare, first, second, sizes = [], [], [], []
    for row in rows[1:]:
        with archive.retriever.opened(row) as opened:
            # What is held as wanted is passed on, and indexes are not what the bare codec would decode.
            if not isinstance(opened, SettledInstance) or opened.passes(syntax) or not (codec := _plain_codec(opened)):
                continue
            stream = opened.stream(1)
        bare.append(_seconds(lambda codec=codec, stream=stream: encode(np.ascontiguousarray(_DECODERS[codec](stream)))))
        for taken in (first, second):
            taken.append(_seconds(lambda row=row: archive.retriever.frame(row, 1, syntax)))
        sizes.append(row.raw_bytes / max(row.number_of_frames or 1, 1))
    if bare:
        medians = [statistics.median(taken) * 1e3 for taken in (bare, first, second)]
        yield Line(modality, name, len(bare), statistics.median(sizes) / 1e6, *medians)


def _plain_codec(opened: SettledInstance) -> str:
    """The codec that the samples themselves are held by, if it is one that is bare here; '' if not."""
    coding = opened.known.contents.manifest.pixel
    return coding.codec if coding is not None and coding.codec in _DECODERS and not coding.levels else ""


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
