"""A real server for tests: the installed command, in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from processes import await_end_of_group

READY = re.compile(r"ready: http=(\S+) dimse=(\S+):(\d+) ae=(\S+)")


class Server:
    """``leanpacs serve`` on free ports of 127.0.0.1, in a process group of its own.

    Attributes
    ----------
    http, host, port, ae_title : str, str, int, str
        Where its doors are.
    folder : Path
        Where its archive is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        processes: int = 0,
        workers: int = 0,
        environment: dict[str, str] | None = None,
        http_port: int = 0,
    ) -> None:
        self._environment = os.environ | {
            "LEANPACS_DIMSE__PROCESSES": str(processes),
            "LEANPACS_SETTLE__WORKERS": str(workers),
            "LEANPACS_STORAGE__MINIMUM_FREE_BYTES": "0",
            **(environment or {}),
        }
        self._command = [
            *(sys.executable, "-m", "leanpacs", "serve", "--data", str(folder)),
            *("--http", f"127.0.0.1:{http_port}", "--dimse", "127.0.0.1:0"),
        ]
        self.folder = folder
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
        """Kill all processes of the server, as a power failure would; they have ended when this returns."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        await_end_of_group(self.process.pid)

    def stop(self) -> int:
        """Ask the server to stop, as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(180)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()
