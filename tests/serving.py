"""A real server for tests, the installed command in its own processes; a sender that keeps acknowledgements."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE

import data

READY = re.compile(r"ready: http=(\S+) dimse=(\S+):(\d+) ae=(\S+)")


class Server:
    """``leanpacs serve`` on free ports of 127.0.0.1, in a process group of its own.

    Attributes
    ----------
    http, host, port, ae_title : str, str, int, str
        Where its doors are.
    """

    def __init__(
        self, folder: Path, *, processes: int = 0, workers: int = 0, environment: dict[str, str] | None = None
    ) -> None:
        self._environment = os.environ | {
            "LEANPACS_DIMSE__PROCESSES": str(processes),
            "LEANPACS_SETTLE__WORKERS": str(workers),
            "LEANPACS_STORAGE__MINIMUM_FREE_BYTES": "0",
            **(environment or {}),
        }
        self._command = [
            *(sys.executable, "-m", "leanpacs", "serve", "--data", str(folder)),
            *("--http", "127.0.0.1:0", "--dimse", "127.0.0.1:0"),
        ]
        self._log = folder.with_suffix(".log")

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.log = self._log.open("ab")
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = READY.match(line)
        assert found, f"the server did not start: {line!r} {self._log.read_text()[-2000:]}"
        self.http, self.host, self.port, self.ae_title = found[1], found[2], int(found[3]), found[4]
        return self

    def kill(self) -> None:
        """Kill all processes of the server, as a power failure would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask the server to stop, as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


class Sender:
    """Sends instances from an endless source on a thread, until the server goes away."""

    def __init__(self, server: Server, source: Iterator[bytes]) -> None:
        self._acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._run, args=(server, source))
        self._thread.start()

    def acknowledged(self) -> list[str]:
        """SOP Instance UIDs that the server has answered with success, once it is gone."""
        self._thread.join()
        with warnings.catch_warnings():
            # pynetdicom leaves its sockets to the garbage collector when the peer is killed
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return self._acknowledged

    def _run(self, server: Server, source: Iterator[bytes]) -> None:
        ae = AE("SENDER")
        for syntax in (data.EXPLICIT_LE, data.IMPLICIT_LE):
            ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", syntax)
        association = ae.associate(server.host, server.port, ae_title=server.ae_title)
        while association.is_established:
            ds = dcmread(DicomBytesIO(next(source)))
            try:
                status = association.send_c_store(ds)
            except (RuntimeError, ValueError):
                break
            if "Status" in status and status.Status == 0:
                self._acknowledged.append(str(ds.SOPInstanceUID))
        association.abort()


def send(server: Server, source: Iterator[bytes]) -> Sender:
    """Begin to send."""
    return Sender(server, source)


def small_instances() -> Iterator[bytes]:
    """Small distinct CT instances without end."""
    number = 0
    while True:
        number += 1
        yield data.make_instance(data.Recipe(rows=96, columns=96, instance=number, series=number // 20, seed=number))
