"""nginx before servers of tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
NEEDED = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed (scripts/bootstrap.sh installs it)")
_SECONDS = 60.0

_CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location / {{
            {location}
        }}
    }}
}}
"""


@contextmanager
def running(folder: Path, port: int, location: str, upstream: str = "") -> Iterator[None]:
    """Run nginx with these directives for all paths, and for who is behind it, until the block ends."""
    assert PROGRAM is not None
    folder.mkdir()
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        _CONFIGURATION.format(user=user, folder=folder, port=port, location=location, upstream=upstream)
    )
    process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(configuration), "-e", "stderr"])
    try:
        deadline = time.monotonic() + _SECONDS
        while not _listens(port):
            assert process.poll() is None, "nginx ended"
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0
