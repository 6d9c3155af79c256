"""What sends: dcmtk's storescu, and STOW-RS over plain HTTP connections; and the floor without any server."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.load import Instance, Load
from benchmarks.servers import HOST, Running, environment

STOW_BATCH: Final = 10
_ANSWER_SECONDS: Final = 1800
_CHUNK: Final = 1 << 20


def have_storescu() -> bool:
    """Whether dcmtk is installed."""
    return shutil.which("storescu") is not None


def storescu_version() -> str:
    """Name and version of dcmtk's sender."""
    run = subprocess.run(["storescu", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"storescu (v[\d.]+)", run.stdout)
    return f"dcmtk storescu {found[1] if found else '?'}"


def c_store(server: Running, shares: Sequence[Sequence[Instance]]) -> list[str]:
    """Send each share over an association of its own, all at once; return what went wrong."""
    command = ["storescu", "-aet", "BENCH", "-aec", server.peer.ae_title, "-R", "-nh", HOST, str(server.ports.dimse)]
    senders = [
        subprocess.Popen(
            [*command, *(str(instance.path) for instance in share)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        for share in shares
    ]
    outputs = [sender.communicate()[0].decode(errors="replace") for sender in senders]
    return [output[-500:] for sender, output in zip(senders, outputs, strict=True) if sender.returncode or output]


def stow(server: Running, shares: Sequence[Sequence[Instance]]) -> list[str]:
    """Send each share over an HTTP connection of its own, ten instances a request; return what went wrong."""
    with ThreadPoolExecutor(len(shares)) as pool:
        return [problem for problems in pool.map(lambda share: _stow(server, share), shares) for problem in problems]


def _stow(server: Running, share: Sequence[Instance]) -> list[str]:
    url = urllib.parse.urlsplit(server.web)
    connection = http.client.HTTPConnection(url.hostname or HOST, url.port, timeout=_ANSWER_SECONDS)
    problems = []
    for first in range(0, len(share), STOW_BATCH):
        paths = [instance.path for instance in share[first : first + STOW_BATCH]]
        try:
            problem = stow_files(connection, f"{url.path}/studies", paths)
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
            connection.close()
        if problem:
            problems.append(problem)
    connection.close()
    return problems


def stow_files(connection: http.client.HTTPConnection, target: str, paths: Sequence[Path]) -> str:
    """Send some files in one request, read as they are sent; return what went wrong, or nothing."""
    boundary = uuid.uuid4().hex
    opening = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    closing = f"--{boundary}--\r\n".encode()
    length = len(closing) + sum(len(opening) + path.stat().st_size + 2 for path in paths)

    def body() -> Iterator[bytes]:
        for path in paths:
            yield opening
            with path.open("rb") as file:
                yield from iter(lambda: file.read(_CHUNK), b"")
            yield b"\r\n"
        yield closing

    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(length),
        "Accept": "application/dicom+json",
    }
    connection.request("POST", target, body=body(), headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    return "" if answer.status == http.client.OK else f"STOW-RS answered {answer.status}: {text[:300]!r}"


def count_stored(server: Running, load: Load) -> int:
    """Return how many instances of the load the server says it has."""
    total = 0
    for study_uid in load.studies():
        request = urllib.request.Request(
            f"{server.web}/studies/{study_uid}/instances", headers={"Accept": "application/dicom+json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        total += len(json.loads(text)) if text else 0
    return total


def gzip_to_disk(folder: Path, shares: Sequence[Sequence[Instance]]) -> None:
    """Write each file as gzip -6 and sync it, the shares side by side: an archive that deflates and does no more."""
    folder.mkdir(parents=True)

    def write(share: Sequence[Instance]) -> None:
        for instance in share:
            packed = gzip_bytes(instance.path.read_bytes())
            with (folder / f"{instance.sop_uid}.gz").open("wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())

    with ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(write, shares))


def gzip_bytes(data: bytes) -> bytes:
    """Return ``data`` as ``gzip -6`` writes it, without name and time."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()
