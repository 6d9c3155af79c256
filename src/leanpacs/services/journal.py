"""Gathers what is done to studies, and writes it to the audit trail now and then.

A study of a thousand images that is sent or read is one thing that happened, not a thousand: what one party does to one
study within a few seconds becomes one event, which says how many instances it was about. Each event costs the disk a
sync, and so do many that are written together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome
from leanpacs.errors import LeanPACSError

_log = logging.getLogger(__name__)

_MOST_KEYS: Final = 10_000
TRANSFERS: Final = frozenset(
    {AuditAction.STORE, AuditAction.QUERY, AuditAction.SEND, AuditAction.RETRIEVE, AuditAction.EXPORT}
)
"""What happens with every image, and may be left out."""


@dataclass(frozen=True, slots=True)
class _Deed:
    """What is gathered into one event."""

    action: AuditAction
    outcome: AuditOutcome
    actor: str
    study_uid: str


@dataclass(slots=True)
class _Extent:
    first: datetime
    times: int = 0
    instances: int = 0


class Journal:
    """Gathers deeds. Thread-safe.

    Parameters
    ----------
    record : callable
        Writes events to the trail.
    clock : callable
        Aware time now.
    transfers : bool
        Whether `TRANSFERS` are noted; anything else always is.
    """

    def __init__(
        self,
        record: Callable[..., None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        transfers: bool = True,
    ) -> None:
        self._record = record
        self._clock = clock
        self._left_out = frozenset[AuditAction]() if transfers else TRANSFERS
        self._lock = threading.Lock()
        self._deeds: dict[_Deed, _Extent] = {}

    def note(
        self,
        action: AuditAction,
        actor: str,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        *,
        study_uid: str = "",
        instances: int = 0,
    ) -> None:
        """Note what somebody did, once."""
        if action in self._left_out:
            return
        deed = _Deed(action, outcome, actor, study_uid)
        with self._lock:
            if deed not in self._deeds and len(self._deeds) >= _MOST_KEYS:
                deed = _Deed(action, outcome, "(others)", "")
            extent = self._deeds.get(deed)
            if extent is None:
                extent = self._deeds[deed] = _Extent(self._clock())
            extent.times += 1
            extent.instances += instances

    def flush(self) -> None:
        """Write what was gathered; what the trail does not take now is kept."""
        with self._lock:
            deeds, self._deeds = self._deeds, {}
        if not deeds:
            return
        try:
            self._record(*(_event(deed, extent) for deed, extent in deeds.items()))
        except LeanPACSError as error:
            _log.error("the audit trail is written later: %s", error, extra={"action": "audit"})
            with self._lock:
                for deed, extent in deeds.items():
                    kept = self._deeds.setdefault(deed, _Extent(extent.first))
                    kept.first = min(kept.first, extent.first)
                    kept.times += extent.times
                    kept.instances += extent.instances


def _event(deed: _Deed, extent: _Extent) -> AuditEvent:
    detail = f"{extent.times} requests" if extent.times > 1 else ""
    return AuditEvent(
        extent.first,
        deed.actor,
        deed.action,
        deed.outcome,
        study_uid=deed.study_uid,
        detail=detail,
        instances=extent.instances,
    )
