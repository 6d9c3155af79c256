"""Frames as stored, metadata of a series, and a transcoded frame from the cache: what a viewer waits for.

Run with ``python -m benchmarks.delivery [OUTPUT.md]``; everything goes over a real socket on this machine.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tests.serving import Server

from leanpacs import __version__

INSTANCES = 100
SIDE = 512
ROUNDS = 300
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def series() -> list[Dataset]:
    """Synthetic CT slices: a smooth object with noise, 12 bits stored."""
    random = np.random.default_rng(1)
    study, one = generate_uid(), generate_uid()
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    body = 1000 * (np.hypot(x, y) < 0.4) * (1 + 0.2 * np.sin(9 * x) * np.cos(7 * y))
    found = []
    for number in range(INSTANCES):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, one
        ds.PatientName, ds.PatientID, ds.Modality, ds.InstanceNumber = "Bench^Mark", "B1", "CT", number + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], 1, -1024
        ds.Rows = ds.Columns = SIDE
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        noisy = body + random.normal(100, 8, (SIDE, SIDE))
        ds.PixelData = np.clip(noisy, 0, 4095).astype("<u2").tobytes()
        found.append(ds)
    return found


def main() -> None:
    """Store a series, settle it, ask for it, and write a table."""
    held = series()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "archive", workers=1) as server:
        root = f"{server.http.rstrip('/')}/dicom-web"
        http = httpx.Client(base_url=root, timeout=60)
        for ds in held:
            body = io.BytesIO()
            ds.save_as(body, enforce_file_format=True)
            fields = {"content-type": "application/dicom"}
            httpx.post(f"{root}/studies", content=body.getvalue(), headers=fields, timeout=60).raise_for_status()
        while httpx.get(f"{server.http.rstrip('/')}/health").json()["backlog_instances"]:
            time.sleep(0.2)
        with http:
            rows = _rows(http, held)
    report = "\n".join(
        [f"leanpacs {__version__}, imagecodecs {imagecodecs.__version__}, Python {sys.version.split()[0]}", "", *rows]
    )
    sys.stdout.write(report + "\n")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(report + "\n", encoding="utf-8")


def _rows(http: httpx.Client, held: list[Dataset]) -> list[str]:
    base = f"/studies/{held[0].StudyInstanceUID}/series/{held[0].SeriesInstanceUID}"
    frames = [f"{base}/instances/{ds.SOPInstanceUID}/frames/1" for ds in held]
    jxl = {"accept": "image/jxl"}
    native = {"accept": "application/octet-stream", "accept-encoding": "identity"}
    j2k = {"accept": f"image/jp2; transfer-syntax={JPEG_2000}"}
    zstd = {"accept-encoding": "zstd"}
    return [
        "| what | first request, ms | later requests p50, ms |",
        "|---|---|---|",
        _row(f"frame {SIDE}x{SIDE}x16 as stored (JPEG XL, passed on)", http, frames, jxl, ROUNDS),
        _row("the same frame native", http, frames, native, ROUNDS),
        _row("the same frame as JPEG 2000, from the cache", http, frames[:1], j2k, ROUNDS),
        _row(f"metadata of {INSTANCES} images, zstd", http, [f"{base}/metadata"], zstd, 50),
    ]


def _row(what: str, http: httpx.Client, paths: list[str], headers: dict[str, str], rounds: int) -> str:
    taken = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        http.get(paths[number % len(paths)], headers=headers).raise_for_status()
        taken.append((time.perf_counter() - started) * 1000)
    return f"| {what} | {taken[0]:.2f} | {statistics.median(taken[1:]):.2f} |"


if __name__ == "__main__":
    main()
