"""What delivery is to keep to: beside the bare codecs, the second request beside the first, bytes on the wire.

The archive is opened in this process, as the doors open it, on the folder that the delivery benchmark has filled. The
bare codecs are imagecodecs on arrays in memory; encoders run in a warm worker process on our side.
"""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np

from benchmarks.load import Load
from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.dicom import uids
from leanpacs.errors import LeanPACSError

if TYPE_CHECKING:
    from rich.console import Console

    from leanpacs.catalog import InstanceRow

MOST_OVER_BARE: Final = 1.25
LEAST_FASTER: Final = 10.0
MOST_OF_GZIP: Final = 0.45
_MOST_IMAGES: Final = 40
_GZIP_LEVEL: Final = 6

Codec = Callable[[Any], Any]
_DECODERS: Final[Mapping[str, Codec]] = {
    "htj2k": imagecodecs.htj2k_decode,
    "jpegxl": imagecodecs.jpegxl_decode,
    "jpegls": imagecodecs.jpegls_decode,
}
_ENCODERS: Final[Mapping[str, tuple[str, Codec]]] = {
    "JPEG-LS": (uids.JPEG_LS_LOSSLESS, lambda image: imagecodecs.jpegls_encode(image.view(f"u{image.itemsize}"))),
    "JPEG 2000": (uids.JPEG_2000_LOSSLESS, lambda image: imagecodecs.jpeg2k_encode(image, level=0, reversible=True)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, and what it is to keep to."""

    name: str
    value: float
    bound: float
    detail: str


def measure(folder: Path, load: Load, console: Console) -> list[Line]:
    """All figures of the archive in a folder."""
    study = max(load.studies().values(), key=len)
    with open_archive(folder) as archive:
        rows = archive.catalog.instances(study_uid=study[0].study_uid)[-_MOST_IMAGES:]
        lines = [line for name in _ENCODERS for line in _transcoding(archive, rows, name)]
        lines.append(_wire(archive, load))
    for line in lines:
        console.print(f"  {line.name:60} {line.value:8.2f}  {line.detail}", highlight=False)
    return lines


def sheet(lines: Sequence[Line]) -> Sheet:
    """One row for each figure."""
    rows = tuple((line.name, f"{line.value:,.2f}", _bound(line), line.detail) for line in lines)
    notes = (
        "Medians over images of one study, each asked for the first time, first the bare codecs, then the archive.",
        f"gzip: level {_GZIP_LEVEL}. {of_machine(machine())}",
    )
    return Sheet("Delivery beside its targets", ("figure", "measured", "target", "of"), rows, notes)


def record(lines: Sequence[Line]) -> Mapping[str, Any]:
    """All figures."""
    return {"lines": [asdict(line) for line in lines]}


def _bound(line: Line) -> str:
    return f"{'>=' if line.bound == LEAST_FASTER else '<='} {line.bound:g}"


def _transcoding(archive: Archive, rows: Sequence[InstanceRow], name: str) -> Iterator[Line]:
    syntax, encode = _ENCODERS[name]
    archive.retriever.frame(rows[0], 1, syntax)  # the worker process is there
    bare, first, second = [], [], []
    for row in rows[1:]:
        with archive.retriever.opened(row) as opened:
            if not isinstance(opened, SettledInstance) or opened.codec not in _DECODERS:
                continue
            codec, stream = opened.codec, opened.stream(1)
        bare.append(_seconds(lambda codec=codec, stream=stream: encode(np.ascontiguousarray(_DECODERS[codec](stream)))))
        for taken in (first, second):
            taken.append(_seconds(lambda row=row: archive.retriever.frame(row, 1, syntax)))
    if not bare:
        return
    medians = [statistics.median(taken) for taken in (bare, first, second)]
    told = "{:.1f} ms beside {:.1f} ms".format
    over, faster = medians[1] / medians[0], medians[1] / medians[2]
    yield Line(
        f"transcoded to {name}, times bare decode + encode",
        over,
        MOST_OVER_BARE,
        told(medians[1] * 1e3, medians[0] * 1e3),
    )
    yield Line(
        f"transcoded to {name}, times the second request",
        faster,
        LEAST_FASTER,
        told(medians[1] * 1e3, medians[2] * 1e3),
    )


def _wire(archive: Archive, load: Load) -> Line:
    """Bytes for one who reads JPEG XL and HTJ2K, beside gzip of the native pixels."""
    sent = zipped = 0
    for one in load.instances[:: max(1, len(load.instances) // _MOST_IMAGES)]:
        rows = archive.catalog.instances(sop_uid=one.sop_uid)
        try:
            native = archive.retriever.frame(rows[0], 1, uids.EXPLICIT_LE).data
            syntaxes = (uids.JPEG_XL_LOSSLESS, uids.HTJ2K_LOSSLESS)
            sent += min(len(archive.retriever.frame(rows[0], 1, syntax).data) for syntax in syntaxes)
        except LeanPACSError:
            continue  # what has no frames
        zipped += len(gzip.compress(native, _GZIP_LEVEL))
    detail = f"{sent / 1e6:.1f} MB of {zipped / 1e6:.1f} MB"
    return Line("bytes for who reads JPEG XL or HTJ2K, of gzip", sent / zipped, MOST_OF_GZIP, detail)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
