"""The servers that are compared: how each is set up, started, watched and stopped.

All listen on free ports of 127.0.0.1 and keep their files in a folder of their own. They are run with
``TCP_NODELAY=1``, as are the senders: without, dcmtk waits 40 ms for each small answer, whoever the server is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks import orthanc
from benchmarks.meter import Tree

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 120.0
_ENDING_SECONDS: Final = 5.0
"""From when a connection breaks until the process whose it was has ended."""
ENVIRONMENT: Final = {"TCP_NODELAY": "1"}

# Without it, each start compiles every module anew.
_NOT_AS_INSTALLED: Final = "PYTHONDONTWRITEBYTECODE"

_JPEG_LS: Final = "1.2.840.10008.1.2.4.80"


class CannotRun(Exception):
    """A server does not start, or stopped by itself; the text says what its log ends with."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens."""

    http: int
    dimse: int


class Peer(Protocol):
    """A server that can be compared."""

    @property
    def name(self) -> str:
        """As the tables call it."""
        ...

    @property
    def ae_title(self) -> str:
        """As which senders call it."""
        ...

    def missing(self) -> str:
        """What keeps it from running here; empty when nothing does."""
        ...

    def version(self) -> str:
        """Name and version of the program."""
        ...

    def command(self, folder: Path, ports: Ports) -> list[str]:
        """The command that runs it with all its files in ``folder``."""
        ...

    def waiting(self, folder: Path) -> Callable[[], int]:
        """A function that returns how many acknowledged instances it has yet to bring into their final form."""
        ...


@dataclass(frozen=True, slots=True)
class LeanPACS:
    """This archive, with its default settings."""

    name: str = "LeanPACS"
    ae_title: str = "LEANPACS"

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        import imagecodecs

        import leanpacs

        return f"LeanPACS {leanpacs.__version__}, imagecodecs {imagecodecs.__version__}"

    def command(self, folder: Path, ports: Ports) -> list[str]:
        addresses = ["--http", f"{HOST}:{ports.http}", "--dimse", f"{HOST}:{ports.dimse}"]
        return [*leanpacs_command(), "serve", "--data", str(folder), *addresses]

    def waiting(self, folder: Path) -> Callable[[], int]:
        # Asked of the catalog itself: /metrics remembers its figures for some seconds, and a `leanpacs status`
        # takes as long to start as some of the runs measured here.
        from leanpacs.archive.archive import CATALOG_FILE
        from leanpacs.catalog import open_catalog

        catalog = open_catalog(folder / CATALOG_FILE)
        return lambda: catalog.backlog().count


def environment() -> dict[str, str]:
    """What servers and senders are started with."""
    return {name: value for name, value in os.environ.items() if name != _NOT_AS_INSTALLED} | ENVIRONMENT


def leanpacs_command() -> list[str]:
    """The words that run LeanPACS from the environment that runs this."""
    return [sys.executable, "-m", "leanpacs"]


@dataclass(frozen=True, slots=True)
class Orthanc:
    """Debian's Orthanc, with its DICOMweb and GDCM plug-ins.

    Parameters
    ----------
    name : str
        As the tables call it.
    options : dict
        What its configuration has beside what all have.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    ae_title: str = "ORTHANC"

    def missing(self) -> str:
        if orthanc.program() is None:
            return orthanc.NOT_INSTALLED
        if len(self._plugins()) < 2:
            return "Orthanc has no DICOMweb or GDCM plug-in (Debian packages orthanc-dicomweb, orthanc-gdcm)"
        return ""

    def version(self) -> str:
        run = subprocess.run([orthanc.program() or "Orthanc", "--version"], capture_output=True, text=True, check=False)
        plugins = (path.name.removeprefix("libOrthanc").replace(".so.", " ") for path in self._plugins())
        number = (run.stdout.split() or ["Orthanc", "?"])[1]
        return f"Orthanc {number} with {', '.join(plugins)}"

    def command(self, folder: Path, ports: Ports) -> list[str]:
        configuration = folder.with_name(folder.name + ".json")
        settings = orthanc.configuration(
            folder,
            name=self.name,
            ae_title=self.ae_title,
            http_port=ports.http,
            dimse_port=ports.dimse,
            used=self._plugins(),
            threads=4,
        )
        settings |= {"StorageCompression": False, **self.options}
        configuration.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        return [orthanc.program() or "Orthanc", str(configuration)]

    def _plugins(self) -> list[Path]:
        return orthanc.plugins(orthanc.DICOMWEB, orthanc.GDCM)

    def waiting(self, folder: Path) -> Callable[[], int]:
        return lambda: 0


ORTHANC_RAW: Final = Orthanc("Orthanc, raw")
ORTHANC_ZLIB: Final = Orthanc("Orthanc, zlib", {"StorageCompression": True})
ORTHANC_JPEGLS: Final = Orthanc("Orthanc, JPEG-LS", {"IngestTranscoding": _JPEG_LS})
PEERS: Final[tuple[Peer, ...]] = (LeanPACS(), ORTHANC_JPEGLS, ORTHANC_ZLIB, ORTHANC_RAW)


@dataclass(slots=True)
class Running:
    """A server that is up; ``ends`` says with which status it has ended unasked, each time."""

    peer: Peer
    folder: Path
    ports: Ports
    tree: Tree
    process: subprocess.Popen[bytes]
    ends: list[int] = field(default_factory=list)

    @property
    def web(self) -> str:
        """Base URL of its DICOMweb services."""
        return f"http://{HOST}:{self.ports.http}/dicom-web"


@contextmanager
def running(peer: Peer, folder: Path) -> Iterator[Running]:
    """Start a server on the new folder ``folder``; in the end stop it as Ctrl-C would, and wait for it.

    Raises
    ------
    CannotRun
        It does not start, or does not stop in order.
    """
    folder.mkdir(parents=True)
    ports = Ports(*free_ports(2))
    log = folder.with_name(folder.name + ".log")
    process = _started(peer, folder, ports, log)
    server = Running(peer, folder, ports, Tree(process.pid), process)
    try:
        _wait_until_ready(server, log)
        yield server
    finally:
        _stop(server.process)
    if server.process.returncode not in (0, -signal.SIGINT):
        raise CannotRun(f"{peer.name} ended with {server.process.returncode}: {_end_of(log)}")


def revive(server: Running) -> bool:
    """Start a server again, with what it holds and at the same ports, if it has ended; whether it had.

    Raises
    ------
    CannotRun
        It does not start.
    """
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(_ENDING_SECONDS)
    if server.process.returncode is None:
        return False
    server.ends.append(server.process.returncode)
    log = server.folder.with_name(server.folder.name + ".log")
    server.process = _started(server.peer, server.folder, server.ports, log)
    server.tree = Tree(server.process.pid)
    _wait_until_ready(server, log)
    return True


def _started(peer: Peer, folder: Path, ports: Ports, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            peer.command(folder, ports),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )


def _wait_until_ready(server: Running, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            socket.create_connection((HOST, server.ports.dimse), 5).close()
            with urllib.request.urlopen(f"{server.web}/studies?limit=1", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise CannotRun(f"{server.peer.name} did not start: {_end_of(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-1000:]


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
