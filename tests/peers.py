"""What interoperability tests share: a study of every kind, peers that are programs, and samples compared."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

import data
from dimse_archive import made
from dimse_peer import dcmtk
from ports import free_port
from transcoding import read_elsewhere

STUDY = data.uid("study", 0)
HOST = "127.0.0.1"

RECIPES = (
    data.Recipe(modality="CT", signed=True, bits_stored=16),
    data.Recipe(modality="MR", series=1, instance=1),
    data.Recipe(modality="US", series=2, instance=2, samples=3, bits_allocated=8, bits_stored=8),
    data.Recipe(modality="CR", series=3, instance=3, bits_stored=10, transfer_syntax=data.JPEG_LS),
    data.Recipe(modality="XA", series=4, instance=4, frames=3, transfer_syntax=data.RLE),
    data.Recipe(modality="MG", series=5, instance=5, transfer_syntax=data.JPEG_LOSSLESS),
    data.Recipe(modality="DX", series=6, instance=6, transfer_syntax=data.JPEG_2000),
    data.Recipe(modality="NM", series=7, instance=7, bits_allocated=8, bits_stored=8, transfer_syntax=data.HTJ2K),
    data.Recipe(modality="SR", series=8, instance=8, kind="none"),
)
"""One study: native and compressed, grey and colour, 8 to 16 bits, several frames, no image at all."""


def contents(recipes: Sequence[data.Recipe] = RECIPES) -> list[bytes]:
    """The files of the study."""
    return [made(recipe, PatientID="P1", PatientName="Doe^Jane", InstanceNumber=recipe.instance) for recipe in recipes]


def read(content: bytes) -> pydicom.Dataset:
    """A file as pydicom reads it."""
    return pydicom.dcmread(io.BytesIO(content))


def samples(files: Sequence[bytes]) -> dict[str, NDArray[np.generic] | None]:
    """Stored values by SOP Instance UID; None where there is no image."""
    return {
        str(ds.SOPInstanceUID): read_elsewhere(content) if "PixelData" in ds else None
        for content in files
        for ds in (read(content),)
    }


def files_in(folder: Path) -> list[bytes]:
    """All DICOM files in and below a folder."""
    found = (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return [content for content in found if content[128:132] == b"DICM"]


def assert_same(received: Sequence[bytes], sent: Mapping[str, NDArray[np.generic] | None]) -> None:
    """All of them were received, each sample equal."""
    found = samples(received)
    assert set(found) == set(sent)
    for sop_uid, expected in sent.items():
        assert np.array_equal(found[sop_uid], expected), sop_uid  # type: ignore[arg-type]


def syntaxes(received: Sequence[bytes]) -> dict[str, str]:
    """Transfer syntax by SOP Instance UID."""
    return {str(ds.SOPInstanceUID): str(ds.file_meta.TransferSyntaxUID) for ds in map(read, received)}


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a program to its end; what it says. Fails when it does."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def app_of_pynetdicom(name: str) -> list[str]:
    """The words that run one of pynetdicom's applications."""
    return [sys.executable, "-m", "pynetdicom", name]


@contextmanager
def listening(command: Sequence[object], port: int, log: Path, cwd: Path | None = None) -> Iterator[None]:
    """A server program, up until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen([*map(str, command)], cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection((HOST, port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text(errors="replace")
                    assert time.monotonic() < deadline, log.read_text(errors="replace")
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def dcmqrscp(folder: Path, ours: int, options: Sequence[str] = ()) -> Iterator[int]:
    """dcmtk's archive, with us as a peer that it may move to; its port."""
    (folder / "db").mkdir(parents=True)
    port = free_port()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(f"""
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
us = (LEANPACS, {HOST}, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
DCMQRSCP {folder / "db"} RW (100, 1024mb) ANY
AETable END
""")
    with listening([dcmtk("dcmqrscp"), *options, "-c", configuration], port, folder / "log"):
        yield port
