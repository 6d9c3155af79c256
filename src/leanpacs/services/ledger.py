"""Counts what goes over the lines, in memory, and writes the sums to the catalog now and then.

Counting is an addition under a lock. What could not be written is kept and written later; what was counted is written
when the ledger stops in good order.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from leanpacs.audit import AuditAction, AuditOutcome
from leanpacs.catalog import TrafficKey, Volume
from leanpacs.config import SiteSettings
from leanpacs.errors import LeanPACSError

if TYPE_CHECKING:
    from leanpacs.services.journal import Journal
    from leanpacs.telemetry import Metrics

_log = logging.getLogger(__name__)

_MOST_KEYS: Final = 10_000
_OTHERS: Final = "(others)"
"""Stands for clients beyond so many: who may invent names must not fill the memory."""


class Direction(StrEnum):
    """Which way, seen from the archive."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Party:
    """Who is at the other end.

    Parameters
    ----------
    protocol : str
        ``dimse`` or ``http``.
    client : str
        AE title, or name of the caller; an address when there is no name.
    address : str
        IP address, for the site; '' where it is not known.
    """

    protocol: str
    client: str
    address: str = ""

    @property
    def actor(self) -> str:
        """As the audit trail names it."""
        named = self.client if self.client == self.address or not self.address else f"{self.client}@{self.address}"
        return f"{self.protocol}:{named}"


class Sites:
    """Finds the site of a party.

    Parameters
    ----------
    sites : mapping of str to SiteSettings
        By name.
    """

    def __init__(self, sites: Mapping[str, SiteSettings]) -> None:
        self._sites = dict(sites)
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, party: Party) -> str:
        """Name of the site; '' when none fits."""
        for name, site in self._sites.items():
            if party.protocol == "dimse" and party.client in site.ae_titles:
                return name
        try:
            address = ipaddress.ip_address(party.address.split("%")[0])
        except ValueError:
            return ""
        found = (name for name, site in self._sites.items() if any(address in network for network in site.addresses))
        return next(found, "")


class Ledger:
    """Sums by hour. Thread-safe.

    Parameters
    ----------
    write : callable
        Adds sums to those in the catalog.
    sites : Sites
        Where parties are.
    metrics : Metrics, optional
        Where bytes are counted as well, whenever sums are written.
    clock : callable
        Aware time now.
    journal : Journal, optional
        Told of what was done to which study, for the audit trail.
    """

    def __init__(
        self,
        write: Callable[[dict[TrafficKey, Volume]], None],
        *,
        sites: Sites | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        journal: Journal | None = None,
    ) -> None:
        self._write = write
        self._sites = sites or Sites({})
        self._metrics = metrics
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()
        self._volumes: dict[TrafficKey, Volume] = {}

    def count(
        self, direction: Direction, party: Party, volume: Volume, modality: str = "", transfer_syntax: str = ""
    ) -> None:
        """Add to the sums of this hour."""
        hour = self._clock().replace(minute=0, second=0, microsecond=0)
        site = self._sites.of(party)
        key = TrafficKey(hour, direction.value, party.protocol, party.client, site, modality, transfer_syntax)
        with self._lock:
            if key not in self._volumes and len(self._volumes) >= _MOST_KEYS:
                key = replace(key, client=_OTHERS, modality="")
            self._volumes[key] = self._volumes.get(key, Volume()) + volume

    def tell(
        self,
        action: AuditAction,
        party: Party,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        *,
        study_uid: str = "",
        instances: int = 0,
    ) -> None:
        """Note for the audit trail what a party did."""
        if self._journal is not None:
            self._journal.note(action, party.actor, outcome, study_uid=study_uid, instances=instances)

    def flush(self) -> None:
        """Write what was counted; what the catalog does not take now is kept."""
        if self._journal is not None:
            self._journal.flush()
        with self._lock:
            volumes, self._volumes = self._volumes, {}
        if not volumes:
            return
        try:
            self._write(volumes)
            self._measure(volumes)
        except LeanPACSError as error:
            _log.warning("traffic is written later: %s", error, extra={"action": "traffic"})
            with self._lock:
                for key, volume in volumes.items():
                    self._volumes[key] = self._volumes.get(key, Volume()) + volume

    def _measure(self, volumes: Mapping[TrafficKey, Volume]) -> None:
        """Count in the metrics, too: here and not for each request, as that would take longer than all the rest."""
        if self._metrics is not None:
            for key, volume in volumes.items():
                labels = (key.direction, key.protocol, key.modality, key.transfer_syntax)
                self._metrics.traffic_bytes.labels(*labels).inc(volume.sent_bytes)
                self._metrics.traffic_raw_bytes.labels(*labels).inc(volume.raw_bytes)

    @contextmanager
    def running(self, seconds: float) -> Iterator[None]:
        """Write every so many seconds in a thread, and a last time at the end."""
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(seconds):
                self.flush()

        thread = threading.Thread(target=go_on, name="ledger")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.flush()
