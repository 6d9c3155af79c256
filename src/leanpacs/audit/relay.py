"""Passes the events of the trail on: as messages of the standard, to a file or to a collector.

The trail on the disk is the queue: a position in it is kept beside it, and moves on when a batch was taken. So a
collector may be away for any time, and nothing is lost; after a crash a batch may come twice.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from leanpacs.audit.message import Source, message
from leanpacs.audit.syslog import SyslogSender, framed
from leanpacs.audit.trail import AuditEvent, AuditOutcome, AuditTrail

_log = logging.getLogger(__name__)

_BATCH: Final = 100
_LOOK_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Taker(Protocol):
    """Takes events."""

    def take(self, events: Sequence[AuditEvent]) -> None:
        """Take all of them, or raise OSError."""

    def close(self) -> None:
        """Nothing more comes for now."""


class MessageFile:
    """Appends messages to a file, one on each line; they are on the disk when `take` returns."""

    def __init__(self, path: Path, source: Source) -> None:
        self._path = path
        self._source = source

    def take(self, events: Sequence[AuditEvent]) -> None:
        """Append messages."""
        lines = b"".join(message(event, self._source) + b"\n" for event in events)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:  # opened anew: it may be rotated
            file.write(lines)
            file.flush()
            os.fdatasync(file.fileno())

    def close(self) -> None:
        """Nothing is open."""


class MessageSender:
    """Sends messages to a collector."""

    def __init__(self, sender: SyslogSender, source: Source) -> None:
        self._sender = sender
        self._source = source

    def take(self, events: Sequence[AuditEvent]) -> None:
        """Send messages."""
        self._sender.send(
            [
                framed(message(event, self._source), event.at, is_success=event.outcome is AuditOutcome.SUCCESS)
                for event in events
            ]
        )

    def close(self) -> None:
        """Close the connection."""
        self._sender.close()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the trail: number of the file, and bytes of it."""

    number: int = 1
    offset: int = 0


class Relay:
    """Passes on what comes to the trail.

    Parameters
    ----------
    trail : AuditTrail
        From where.
    taker : Taker
        Where to.
    name : str
        Under which the position is kept.
    """

    def __init__(self, trail: AuditTrail, taker: Taker, name: str) -> None:
        self._trail = trail
        self._taker = taker
        self._name = name
        self._file = trail.folder / f"relay-{name}.json"

    def run(self, stop: threading.Event) -> None:
        """Pass events on until ``stop`` is set; the last ones, too, if they can be passed on at once."""
        pause = _LOOK_SECONDS
        while not stop.is_set():
            pause = self._try(pause)
            stop.wait(pause)
        self._try(pause)
        self._taker.close()

    def pass_on(self) -> int:
        """Pass on all that is there now; the number of events.

        Raises
        ------
        OSError
            They are not taken now.
        """
        count = 0
        position = self._position()
        while batch := list(islice(self._from(position), _BATCH)):
            events = [event for event, _ in batch if event is not None]
            if events:
                self._taker.take(events)
            position = batch[-1][1]
            self._keep(position)
            count += len(events)
        return count

    def _try(self, pause: float) -> float:
        """Pass on; how long to wait then."""
        try:
            self.pass_on()
        except OSError as error:
            longer = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            _log.warning("audit messages wait: %s", error, extra={"action": "audit", "relay": self._name})
            return longer
        return _LOOK_SECONDS

    def _from(self, position: Position) -> Iterator[tuple[AuditEvent | None, Position]]:
        """Events after a position, each with the position after it; None for lines that are no events."""
        number, offset = position.number, position.offset
        while True:
            is_full = self._trail.is_full(number)  # asked first: what is full does not grow any more
            with self._trail.opened(number) as file:
                if file is None:
                    return
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n") and not is_full:
                        return  # still being written
                    offset += len(line)
                    yield _event(line), Position(number, offset)
            if not is_full:
                return
            number, offset = number + 1, 0

    def _position(self) -> Position:
        try:
            return Position(**json.loads(self._file.read_text(encoding="ascii")))
        except FileNotFoundError:
            return Position()
        except (ValueError, TypeError) as error:
            _log.warning("%s cannot be read: all is passed on again: %s", self._file, error)
            return Position()

    def _keep(self, position: Position) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(asdict(position)), encoding="ascii")
        new.replace(self._file)


def _event(line: bytes) -> AuditEvent | None:
    try:
        return AuditEvent.from_json(line.decode("utf-8", "replace"))
    except ValueError:
        return None
