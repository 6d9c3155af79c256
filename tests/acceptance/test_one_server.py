"""One server for a data folder: a second one is refused, and one that follows a killed one takes over from it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import data
from commands import run, run_installed
from leanpacs.archive import inuse
from leanpacs.archive.archive import RECENT_FOLDER, open_archive
from leanpacs.archive.inuse import SERVER_FILE, clear_memory_of_dead_server, only_server
from leanpacs.errors import AlreadyServed, ConfigError
from leanpacs.storage.memoryfolder import memory_folder, memory_folder_made
from ports import free_port
from processes import await_end_of_group
from serving import Server

ON_FREE_PORTS = ("--http", "127.0.0.1:0", "--dimse", "127.0.0.1:0")
UNFINISHED = (
    b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: application/dicom\r\nContent-Length: 99\r\n\r\nDICM"
)
NOBODY = 2**22 + 1
"""No process has this ID (proc(5), pid_max)."""


def instance(folder: Path) -> Path:
    """A file to import."""
    path = folder / "one.dcm"
    path.write_bytes(data.make_instance(data.Recipe()))
    return path


def copies(archive: Path) -> list[str]:
    """What is in memory of an archive."""
    memory = memory_folder(archive)
    return [] if memory is None else sorted(path.name for path in (memory / RECENT_FOLDER).iterdir())


def test_second_server_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Server(archive, processes=1, workers=1) as server:
        run("import", instance(tmp_path), "--data", archive, "--quiet")
        before = memory_folder(archive), copies(archive)
        refusal = run_installed("serve", "--data", archive, *ON_FREE_PORTS, expect=3)
        assert f"(process {server.process.pid})" in refusal
        assert "stop that one first" in " ".join(refusal.split())
        assert (memory_folder(archive), copies(archive)) == before
        assert httpx.get(server.http + "health").status_code == 200
        assert run("status", "--data", archive, "--json")["total"]["instances"] == 1
        assert server.stop() == 0
    with Server(archive, processes=1, workers=1) as server:
        assert server.stop() == 0


def test_server_follows_one_whose_supervisor_was_killed(tmp_path: Path) -> None:
    """Its doors go on for a while, on the port that is wanted again: one of them is being sent something."""
    archive, port = tmp_path / "archive", free_port()
    with Server(archive, processes=1, workers=1, http_port=port) as killed:
        parts = urlsplit(killed.http)
        with socket.create_connection((parts.hostname, port)) as client:
            client.sendall(UNFINISHED)
            assert httpx.get(killed.http + "health").status_code == 200
            os.kill(killed.process.pid, signal.SIGKILL)
            killed.process.wait()
            with Server(archive, processes=1, workers=1, http_port=port) as server:
                assert httpx.get(server.http + "health").status_code == 200
                assert server.stop() == 0
        await_end_of_group(killed.process.pid)


def test_any_command_removes_what_a_killed_server_left_in_memory(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with Server(archive, processes=1, workers=1) as server:
        if memory_folder(archive) is None:
            pytest.skip("there is no /dev/shm to keep files in memory")
        run("import", instance(tmp_path), "--data", archive, "--quiet")
        assert copies(archive)
        run("status", "--data", archive)
        assert copies(archive), "a server is running"
        server.kill()
    assert copies(archive)
    with open_archive(archive) as beside:
        assert beside.recent is None
    assert memory_folder(archive) is None


def test_lock_is_that_of_one_process(tmp_path: Path) -> None:
    with only_server(tmp_path):
        with pytest.raises(AlreadyServed) as refused, only_server(tmp_path):
            pass
        assert refused.value.process == str(os.getpid())
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with only_server(tmp_path):  # what has been started does not hold it
        child.communicate(b"\n")
    assert not (tmp_path / SERVER_FILE).read_bytes(), "it ended as it should"


def test_archive_that_others_keep_open_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inuse, "_LINGER_SECONDS", 0.1)
    with open_archive(tmp_path):
        with only_server(tmp_path):
            assert not caplog.records
        (tmp_path / SERVER_FILE).write_text(str(NOBODY))
        with only_server(tmp_path):
            assert "was killed" in caplog.text


def test_memory_is_left_alone_while_a_server_runs(tmp_path: Path) -> None:
    with only_server(tmp_path), memory_folder_made(tmp_path) as folder:
        if folder is None:
            pytest.skip("there is no /dev/shm to keep files in memory")
        clear_memory_of_dead_server(tmp_path)
        assert folder.exists()
        link = tmp_path.with_name("link")
        link.symlink_to(tmp_path)
        assert memory_folder(link) == folder


def test_file_system_without_locks_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(ConfigError, match=r"storage\.data.*cannot be locked \(Operation not supported\)"):
        open_archive(tmp_path)
    with pytest.raises(ConfigError, match="cannot be locked"), only_server(tmp_path):
        pass
