"""A whole deployment for tests: service, planner, Dask, PostgreSQL, S3, clients; and a hand that kills parts of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from leanpacs.config import Settings
from ports import free_port
from postgres_server import PostgresServer
from s3_server import S3Server
from serving import Server

SECOND = 1 / 86_400
"""In days."""

POLICY = f"""
name = "a life in a minute"
[[rules]]
name = "arrival"
then = {{ preset = "fast" }}
[[rules]]
name = "dense"
when = {{ unread_days = {2 * SECOND} }}
then = {{ preset = "dense", newest_dictionary = true }}
[[rules]]
name = "lossy copies"
when = {{ unread_days = {3 * SECOND}, modality = "CT" }}
then = {{ lossy_copy = {{ to = "JPEGXL", distance = 3 }} }}
[[rules]]
name = "series"
when = {{ unread_days = {5 * SECOND} }}
then = {{ pack = "series" }}
[[rules]]
name = "warm"
when = {{ unread_days = {8 * SECOND} }}
then = {{ tier = "warm" }}
[[rules]]
name = "cold"
when = {{ unread_days = {14 * SECOND} }}
then = {{ tier = "cold" }}
[[rules]]
name = "cold with a copy"
when = {{ unread_days = {14 * SECOND}, modality = "CT" }}
then = {{ copies = "warm" }}
[[rules]]
name = "read again"
when = {{ read_within_days = {6 * SECOND} }}
then = {{ keep_fast = true }}
[[rules]]
name = "end"
when = {{ modality = "US" }}
then = {{ delete_after_days = {20 * SECOND} }}
"""

SCHEDULER = """
import asyncio, json, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=int(sys.argv[1]), dashboard=False) as scheduler:
        print(json.dumps(scheduler.address), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""

STORE = {"content-type": "application/dicom"}
AS_STORED = {"accept": "application/dicom; transfer-syntax=*"}


@dataclass(frozen=True)
class Instance:
    """A file that is sent, and the path under which it is asked for again.

    DICOMweb gives some transfer syntaxes in another one: what comes is not ``as_sent`` then (PS3.18 8.7.3.5.2).
    """

    uid: str
    path: str
    content: bytes
    is_mortal: bool = False
    as_sent: bool = True


@dataclass
class Clients:
    """One sends without a pause, another one reads what was acknowledged; both count what they are told."""

    instances: Iterator[Instance]
    chance: random.Random
    url: Callable[[], str]
    acknowledged: dict[str, Instance] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._read)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with httpx.Client(timeout=30) as client:
            for instance in self.instances:
                while not self._stop.is_set():
                    status = self._stored(client, instance)
                    if status == 200:
                        self.acknowledged[instance.uid] = instance
                    if status in (200, 409):  # another file of this name is there
                        break
                    self._stop.wait(0.2)
                if self._stop.wait(0.15):
                    return

    def _stored(self, client: httpx.Client, instance: Instance) -> int:
        try:
            answer = client.post(self.url() + "dicom-web/studies", content=instance.content, headers=STORE)
        except httpx.HTTPError:
            self.answers["store: none"] += 1
            return 0
        self._noted("store", answer)
        return answer.status_code

    def _read(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.wait(0.3):
                if held := list(self.acknowledged.values()):
                    self._asked_back(client, self.chance.choice(held))

    def _asked_back(self, client: httpx.Client, instance: Instance) -> None:
        try:
            answer = client.get(self.url() + "dicom-web" + instance.path, headers=AS_STORED)
        except httpx.HTTPError:
            self.answers["read: none"] += 1
            return
        self._noted("read", answer)
        is_other = data_set(answer.content) != data_set(instance.content)
        if answer.status_code == 200 and instance.as_sent and is_other:
            self.wrong.append(f"{instance.uid}: other bytes came back")
        if answer.status_code in (404, 410) and not instance.is_mortal:
            self.wrong.append(f"{instance.uid}: {answer.status_code} {answer.text}")

    def _noted(self, what: str, answer: httpx.Response) -> None:
        self.answers[f"{what}: {answer.status_code}"] += 1
        if answer.status_code == 500:  # what is away for a while is told of as such
            self.wrong.append(f"{what}: {answer.text}")


def data_set(file: bytes) -> bytes:
    """What follows preamble and file meta information (PS3.10 7.1)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


class Cluster:
    """A Dask scheduler and workers, each a process."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._log = (folder / "dask.log").open("ab")
        self._port = free_port()
        self._schedule()
        self.workers = [self._started() for _ in range(workers)]

    def _schedule(self) -> None:
        """Start a scheduler, each at the same address."""
        command = [sys.executable, "-c", SCHEDULER, str(self._port)]
        self._scheduler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        assert self._scheduler.stdout is not None
        self.address: str = json.loads(self._scheduler.stdout.readline())

    @contextmanager
    def without_scheduler(self) -> Iterator[None]:
        """It is killed, and comes back with no memory of what was going on; workers end with it and are new ones."""
        self._end(self._scheduler)
        try:
            yield
        finally:
            self._schedule()
            for number in range(len(self.workers)):
                self.kill(number)

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "leanpacs", "worker", self.address]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def kill(self, number: int) -> None:
        """Kill a worker, and start another one."""
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self._started()

    def close(self) -> None:
        """End all of them."""
        for process in (*self.workers, self._scheduler):
            self._end(process)
        self._log.close()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class Planner:
    """``leanpacs lifecycle run``, again and again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-m", "leanpacs", "lifecycle", "run", "--quiet", "--data", str(folder)]
        self._environment = os.environ | environment
        self._log = folder.with_suffix(".planner.log").open("ab")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.process = self._started()
        self.codes: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._go_on)
        self._thread.start()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment, stdout=subprocess.DEVNULL, stderr=self._log)

    def _go_on(self) -> None:
        while True:
            self.codes[self.process.wait()] += 1
            self._stop.wait(0.5)
            with self._lock:
                if self._stop.is_set():
                    return
                self.process = self._started()

    def kill(self) -> None:
        """Kill the one that runs."""
        with self._lock:
            self.process.kill()

    def close(self) -> None:
        """Kill it for good."""
        with self._lock:
            self._stop.set()
            self.process.kill()
        self._thread.join()
        self._log.close()


IMPATIENT = {"retries": 1, "retry_seconds": 2, "idle_seconds": 3}
"""How long those wait for S3 who have it taken away from them."""


@dataclass(frozen=True)
class Shape:
    """What a deployment is made of.

    ``tiers`` are its settings; what runs waits no longer for S3 than `IMPATIENT` says. The service works on processes
    here, the planner on Dask, or the other way round.
    """

    name: str
    tiers: dict[str, dict[str, Any]]
    database: str = ""
    service_on_dask: bool = False


class Deployment:
    """A running archive of which any part may be killed; a context manager.

    Parameters
    ----------
    folder : Path
        Where it lives.
    shape : Shape
        What it is made of.
    cluster, s3, postgres : Cluster, S3Server, PostgresServer or None
        What it uses and others may go on using.
    """

    def __init__(
        self, folder: Path, shape: Shape, cluster: Cluster, s3: S3Server, postgres: PostgresServer | None
    ) -> None:
        self.data = folder / "archive"
        self._shape, self._cluster, self._s3, self._postgres = shape, cluster, s3, postgres
        policy = folder / "policy.toml"
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text(POLICY)
        self._values: dict[str, dict[str, Any]] = {
            "storage": {"minimum_free_bytes": 0},
            "catalog": {"url": shape.database, "connect_seconds": 2, "wait_seconds": 10},
            "delete": {"grace_seconds": 3},
            "delivery": {"restore_poll_seconds": 1},
            "settle": {"workers": 1},
            "lifecycle": {
                "policy": str(policy),
                "workers": 1,
                "interval_seconds": 1,
                "retry_seconds": 1,
                "replaced_grace_seconds": 3,
                "retrain_after_instances": 4,
                "busy_load": 1000,
            },
            "tiers": shape.tiers,
        }

    @property
    def settings(self) -> Settings:
        """Its settings, for one who looks into it, has time, and keeps nothing back."""
        return Settings(**self._values | {"delete": {"grace_seconds": 0}})

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._serve()
        self.planner = Planner(self.data, self._environment(on_dask=not self._shape.service_on_dask))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.planner.close()
        self.server.kill()
        self._open.close()

    def _environment(self, *, on_dask: bool) -> dict[str, str]:
        executor = {"kind": "dask", "address": self._cluster.address} if on_dask else {"kind": "local"}
        tiers = {
            name: tier | (IMPATIENT if str(tier["url"]).startswith("s3:") else {})
            for name, tier in self._shape.tiers.items()
        }
        return {
            f"LEANPACS_{section}__{name}".upper(): str(value)
            for section, values in {**self._values, "executor": executor}.items()
            if section != "tiers"
            for name, value in values.items()
        } | {"LEANPACS_TIERS": json.dumps(tiers)}

    def _serve(self) -> None:
        """Start the service, once more when it does not come up, as a service manager would."""
        environment = self._environment(on_dask=self._shape.service_on_dask)
        server = Server(self.data, processes=1, workers=1, environment=environment)
        try:
            self.server = self._open.enter_context(server)
        except AssertionError as error:
            print(f"started once more: {error}", flush=True)
            server.__exit__(None, None, None)
            self.server = self._open.enter_context(server)

    @property
    def url(self) -> str:
        """Where its HTTP door is now."""
        return self.server.http

    def harms(self) -> dict[str, Callable[[random.Random], None]]:
        """All that can be done to it, by name."""
        harms: dict[str, Callable[[random.Random], None]] = {
            "planner": lambda _: self.planner.kill(),
            "service": self._kill_service,
            "process of the service": self._kill_child,
            "worker process": self._kill_worker_process,
            "Dask worker": lambda chance: self._cluster.kill(chance.randrange(len(self._cluster.workers))),
            "Dask scheduler": lambda chance: self._without(self._cluster.without_scheduler(), chance),
            "S3 killed": lambda chance: self._without(self._s3.stopped(), chance),
            "S3 standing still": lambda chance: self._without(self._s3.standing_still(), chance),
        }
        if self._postgres is not None:
            harms["PostgreSQL killed"] = lambda chance: self._without(postgres_stopped(self._postgres), chance)
        return harms

    def _kill_service(self, chance: random.Random) -> None:
        self.server.kill()
        self._open.close()
        self._serve()

    def _kill_child(self, chance: random.Random) -> None:
        _kill_one(descendants([self.server.process.pid]), chance)

    def _kill_worker_process(self, chance: random.Random) -> None:
        """A process in which a codec runs: of the planner, or of a Dask worker."""
        _kill_one(descendants([self.planner.process.pid, *(one.pid for one in self._cluster.workers)]), chance)

    @staticmethod
    def _without(absence: Any, chance: random.Random) -> None:
        with absence:
            time.sleep(chance.uniform(0.5, 2.5))


@contextmanager
def postgres_stopped(server: PostgresServer | None) -> Iterator[None]:
    """PostgreSQL is away, and comes back as after a crash."""
    assert server is not None
    server.stop(crash=True)
    try:
        yield
    finally:
        server.start()


def descendants(pids: Sequence[int]) -> list[psutil.Process]:
    """All processes below some."""
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found += psutil.Process(pid).children(recursive=True)
    return found


def users_of(path: Path) -> list[psutil.Process]:
    """Processes that have a file open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(Path(one.path) == path for one in process.open_files()):
                found.append(process)
    return found


def _kill_one(processes: list[psutil.Process], chance: random.Random) -> None:
    if processes:
        with suppress(psutil.NoSuchProcess):
            chance.choice(processes).kill()


def digest(content: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(content).digest()
