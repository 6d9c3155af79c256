"""The processes of a running archive: doors that receive and answer, and the settler, under one supervisor.

Doors are processes of their own because receiving is work for Python itself, of which one process does only one
thing at a time. They are spawned, not forked, and import only what they need, so that all of them stay small. Each
one holds the reading end of a pipe whose writing end only the supervisor has: when the supervisor is gone, however
it went, the pipe closes and the doors stop.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.sweeping import Sweeper
from leanpacs.archive.inuse import only_server
from leanpacs.cli import audit, doors, exposure
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, LeanPACSError
from leanpacs.lifecycle.pacing import load_of_each_core
from leanpacs.lifecycle.policy import Policy, load_policy
from leanpacs.lifecycle.runner import Lifecycle
from leanpacs.services.dimse.transport import defer_accept
from leanpacs.storage.memoryfolder import memory_folder_made
from leanpacs.storage.store import Availability
from leanpacs.telemetry import Metrics, share_metrics
from leanpacs.workers.memory import give_back_freed_memory, share_arenas
from leanpacs.workers.process import exit_code

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
RESTART_SECONDS = 1.0
STOP_SECONDS = 30.0
"""For a door that ends."""
SLOW_START_SECONDS = 60.0
"""After which it is said that a door is still starting."""
PORT_SECONDS = 2.0
"""A port may still be held by a process that is just ending, such as a door of a server that was killed."""
METRICS_FOLDER = "metrics"
MOST_DIMSE_PROCESSES = 4
"""Unless more are asked for: four take in what a fast disk takes."""
_ARENAS = 2
"""Its threads work in turns."""


@dataclass(slots=True)
class _Door:
    """One door process and the supervisor's end of its pipe; ``number`` counts those of a kind from 0."""

    kind: str
    number: int
    process: BaseProcess
    lifeline: Connection


class Supervisor:
    """Runs an archive until it is told to stop.

    Parameters
    ----------
    settings : Settings
        Everything about it.
    tell : callable
        Told one line when all is ready.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._stop = threading.Event()
        self._stop_now = threading.Event()
        self._doors: list[_Door] = []
        self._context = get_context("spawn")

    def run(self) -> None:
        """Open the doors, settle what lands, return after SIGINT or SIGTERM.

        Raises
        ------
        ConfigError
            If an address cannot be listened on, or a door does not start.
        AlreadyServed
            Another server runs on this folder.
        """
        share_arenas(_ARENAS)
        # Workers wait for the thread that feeds them, beside one that commits.
        sys.setswitchinterval(doors.TURN_SECONDS)
        data = self._settings.storage.data
        data.mkdir(parents=True, exist_ok=True)
        with only_server(data):
            self._serve()

    def _serve(self) -> None:
        settings = self._settings
        exposure.check(settings, lambda: _has_keys(settings))
        started = datetime.now(UTC)
        with (
            _listen("dimse", settings.dimse.host, settings.dimse.port) as dimse,
            _listen("http", settings.http.host, settings.http.port) as http,
            memory_folder_made(settings.storage.data) as memory,
            open_archive(settings.storage.data, _gives_nothing_back(settings)) as archive,
            audit.passed_on(settings, archive.audit),
        ):
            defer_accept(dimse)
            share_metrics((memory or settings.storage.data / "run") / METRICS_FOLDER)
            self._handle_signals()
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # doors and workers do no linear algebra
            self._sockets = {"dimse": dimse, "http": http}
            self._settings = _with_ports(settings, dimse, http)
            for kind, count in self._plan():
                self._doors += [self._open(kind, number) for number in range(count)]
            try:
                self._settle(archive, dimse, http, started)
            finally:
                self._close_doors()

    def _scheme(self) -> str:
        return "https" if self._settings.http.tls_certificate else "http"

    def _plan(self) -> list[tuple[str, int]]:
        return [
            ("dimse", self._settings.dimse.processes or min(os.cpu_count() or 1, MOST_DIMSE_PROCESSES)),
            ("http", self._settings.http.processes),
        ]

    def _settle(self, archive: Archive, dimse: socket.socket, http: socket.socket, started: datetime) -> None:
        """Settle in this process (its workers are processes) while watching over the doors."""
        policy = load_policy(self._settings.lifecycle.policy, tiers=frozenset(archive.stores.tiers))
        settler = archive.settler(Metrics())
        settling = threading.Thread(target=settler.run, args=(self._stop,), name="settler")
        settling.start()
        sweeping = threading.Thread(target=self._sweep, args=(archive, started), name="sweeper")
        sweeping.start()
        sending = threading.Thread(target=self._dispatch, args=(archive,), name="outbox")
        sending.start()
        ageing = threading.Thread(target=self._age, args=(archive, policy), name="lifecycle")
        ageing.start()
        threads = [sending, ageing, *self._start_restoring(archive)]
        try:
            if self._wait_until_ready():
                doors.leave_out_of_collections()
                self._tell(
                    f"ready: http={self._scheme()}://{_address(http)}/ "
                    f"dimse={_address(dimse)} ae={self._settings.dimse.ae_title}"
                )
            with self._warming(archive):
                self._watch()
        finally:
            self._stop.set()
            self._close_doors()
            settling.join()
            sweeping.join()
            for thread in threads:
                thread.join()
        self._drain(archive)

    def _age(self, archive: Archive, policy: Policy) -> None:
        """Follow the policy in the background, when nothing else is to be done."""
        if self._settings.lifecycle.enabled:
            Lifecycle(archive, policy, self._settings, load=load_of_each_core).run_for_ever(self._stop)

    def _dispatch(self, archive: Archive) -> None:
        """Send what waits to be sent, and count it."""
        counting = doors.ledger(self._settings, archive, Metrics())
        with counting.running(self._settings.traffic.flush_seconds):
            doors.dispatcher(self._settings, archive, counting).run(self._stop)

    def _warming(self, archive: Archive) -> AbstractContextManager[None]:
        """Make metadata ready here, where nobody waits for the interpreter to answer a request."""
        delivery = self._settings.delivery
        if not (delivery.ready_metadata and delivery.cache_bytes > 0):
            return nullcontext()
        from leanpacs.services.dicomweb.warming import Warmer

        lock, most = archive.cache_folder / "warming.lock", self._settings.settle.pressed_backlog_bytes
        return Warmer(archive, lock=lock, most_waiting_bytes=most).running()

    def _start_restoring(self, archive: Archive) -> list[threading.Thread]:
        """A thread that brings back what is wanted from archive classes, where there is one."""
        if all(store.availability is Availability.ONLINE for store in archive.stores):
            return []
        arguments = (self._stop, self._settings.delivery.restore_poll_seconds)
        thread = threading.Thread(target=archive.restorer().run, args=arguments, name="restorer")
        thread.start()
        return [thread]

    def _drain(self, archive: Archive) -> None:
        """Go on settling for a while; what is left then waits for the next start."""
        deadline = time.monotonic() + self._settings.settle.drain_seconds
        try:
            if archive.catalog.backlog().count:
                archive.settler().drain(lambda: self._stop_now.is_set() or time.monotonic() > deadline)
            archive.deleter().sweep(datetime.now(UTC))
        except LeanPACSError as error:
            log.error("the rest waits for the next start: %s", error, extra={"action": "stop"})

    def _sweep(self, archive: Archive, started: datetime) -> None:
        """Delete what a crash left, and what is due, now and then."""
        sweeper = Sweeper(archive, started)
        while True:
            try:
                sweeper.round(datetime.now(UTC))
            except LeanPACSError as error:
                log.error("sweeping waits: %s", error, extra={"action": "sweep"})
            archive.forget_unused()
            give_back_freed_memory()
            if self._stop.wait(SWEEP_SECONDS):
                return

    def _open(self, kind: str, number: int) -> _Door:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=doors.TARGETS[kind],
            args=(self._settings, self._sockets[kind], theirs, number),
            name=f"leanpacs-{kind}",
        )
        process.start()
        theirs.close()
        return _Door(kind, number, process, ours)

    def _wait_until_ready(self) -> bool:
        """Wait for a word from each door, as long as it lives; False when told to stop meanwhile.

        Raises
        ------
        ConfigError
            A door ended before it was open.
        """
        started = time.monotonic()
        told = 0
        for door in self._doors:
            while not door.lifeline.poll(0.1):
                if self._stop.is_set():
                    return False
                seconds = time.monotonic() - started
                if seconds // SLOW_START_SECONDS > told:
                    told += 1
                    log.warning(
                        "a door is still starting: the machine is busy, or its disk is slow",
                        extra={"action": "start", "door": door.kind, "seconds": round(seconds)},
                    )
            try:
                door.lifeline.recv()
            except EOFError:  # its end is closed: it has ended
                code = f"exit code {exit_code(door.process, STOP_SECONDS)}"
                raise ConfigError(f"{door.kind} door", code, "it did not start; the log says why") from None
        return True

    def _watch(self) -> None:
        """Start a door anew when its process ends; return when told to stop."""
        while not self._stop.is_set():
            sentinels = {door.process.sentinel: door for door in self._doors}
            for ended in wait(list(sentinels), timeout=0.5):
                door = sentinels[int(ended)]  # type: ignore[arg-type]
                log.error(
                    "a door has ended; starting it again",
                    extra={"action": "restart", "door": door.kind, "exit_code": exit_code(door.process, STOP_SECONDS)},
                )
                self._doors.remove(door)
                door.lifeline.close()
                if not self._stop.wait(RESTART_SECONDS):
                    self._doors.append(self._open(door.kind, door.number))

    def _close_doors(self) -> None:
        for door in self._doors:
            door.lifeline.close()
        for door in self._doors:
            door.process.join(STOP_SECONDS)
            if door.process.is_alive():
                door.process.kill()
                door.process.join()
        self._doors = []

    def _handle_signals(self) -> None:
        def asked_to_stop(_signal: int, _frame: object) -> None:
            if self._stop.is_set():
                self._stop_now.set()
            self._stop.set()

        signal.signal(signal.SIGINT, asked_to_stop)
        signal.signal(signal.SIGTERM, asked_to_stop)


def _has_keys(settings: Settings) -> bool:
    now = datetime.now(UTC)
    with open_archive(settings.storage.data, settings) as archive:
        return any(key.is_good(now) for key in archive.catalog.api_keys())


def _gives_nothing_back(settings: Settings) -> Settings:
    """The settings for this process, which keeps nothing in memory for receivers: they ask the doors."""
    delivery = settings.delivery.model_copy(update={"memory_bytes": 0})
    return settings.model_copy(update={"delivery": delivery})


def _with_ports(settings: Settings, dimse: socket.socket, http: socket.socket) -> Settings:
    """The settings with the ports that were really taken, where any free one was asked for."""
    taken = {
        "dimse": settings.dimse.model_copy(update={"port": dimse.getsockname()[1]}),
        "http": settings.http.model_copy(update={"port": http.getsockname()[1]}),
    }
    return settings.model_copy(update=taken)


def _listen(name: str, host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + PORT_SECONDS
    try:
        listener = _bound(host, port)
        while listener is None and time.monotonic() < deadline:
            time.sleep(0.05)
            listener = _bound(host, port)
    except OSError as error:
        raise ConfigError(f"{name}.port", f"{host}:{port}", f"cannot be listened on: {error.strerror}") from error
    if listener is None:
        raise ConfigError(f"{name}.port", f"{host}:{port}", "another program listens on it")
    # Every accepted connection inherits it; else the last piece of an answer may wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _bound(host: str, port: int) -> socket.socket | None:
    """A socket that listens; None when another one does."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
