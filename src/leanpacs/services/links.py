"""How fast the lines to clients are: measured as answers go out, or said by the settings.

What is written to a socket goes into buffers first, so that only those answers tell that are longer than these. Once a
write has to wait, the buffers are full: from then on bytes leave this machine as fast as they go in.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from leanpacs.services.ledger import Party, Sites

_SCOPE: Final = "leanpacs.link"
_MOST: Final = 4096
_WAITED_SECONDS: Final = 0.002
"""A write that takes longer waited for the line, not for this machine."""
_LEAST_BYTES: Final = 1 << 20
"""Fewer bytes after the buffers were full tell nothing."""
_BUFFER_BYTES: Final = 8 << 20
"""An answer that is longer and never waits went over a line that is as fast as it was made."""
_WEIGHT: Final = 0.4
"""Of what was measured last."""
_MBIT: Final = 125_000.0


def link_of(scope: Mapping[str, Any]) -> float | None:
    """Bytes a second of the line to the client of an ASGI scope; None where nobody knows."""
    speed: float | None = scope.get(_SCOPE)
    return speed


class Links:
    """Speeds of lines by the address of the client.

    Used from one event loop only.

    Parameters
    ----------
    sites : Sites
        Where clients are.
    megabits : mapping of str to float
        Mbit/s of the lines of sites, by name, where they are known beforehand.
    """

    def __init__(self, sites: Sites | None = None, megabits: Mapping[str, float] | None = None) -> None:
        self._sites = sites or Sites({})
        self._said = {name: speed * _MBIT for name, speed in (megabits or {}).items() if speed > 0}
        self._measured: OrderedDict[str, float] = OrderedDict()

    def tell(self, scope: MutableMapping[str, Any]) -> None:
        """Write into an ASGI scope how fast the line to its client is."""
        address = (scope.get("client") or ("",))[0]
        said = self._said.get(self._sites.of(Party("http", address, address))) if self._said else None
        scope[_SCOPE] = said if said is not None else self._measured.get(address)

    def note(self, scope: Mapping[str, Any], measured: Flow) -> None:
        """Take in what the sending of an answer has shown."""
        speed, address = measured.speed(), (scope.get("client") or ("",))[0]
        if speed is None or not address:
            return
        known = self._measured.pop(address, None)
        if known is None:
            mixed = speed
        elif measured.never_waited:
            mixed = max(known, speed)
        else:
            mixed = known ** (1 - _WEIGHT) * speed**_WEIGHT
        self._measured[address] = mixed
        if len(self._measured) > _MOST:
            self._measured.popitem(last=False)


class Flow:
    """Writes of one answer: how many bytes, and how long each had to wait."""

    __slots__ = ("_began", "_first", "_last", "_sent")

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._sent = 0
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def wrote(self, size_bytes: int, started: float, ended: float) -> None:
        """Note a write from ``started`` to ``ended`` (of `time.perf_counter`)."""
        self._sent += size_bytes
        if ended - started > _WAITED_SECONDS:
            self._last = ended, self._sent
            if self._first is None:
                self._first = self._last

    @property
    def never_waited(self) -> bool:
        """Whether the line took everything at once."""
        return self._first is None

    def speed(self) -> float | None:
        """Bytes a second, None where this answer does not tell; of a line that never waited, the least it can be."""
        if self._first is None or self._last is None:
            elapsed = time.perf_counter() - self._began
            return self._sent / elapsed if self._sent > _BUFFER_BYTES and elapsed > 0 else None
        size, elapsed = self._last[1] - self._first[1], self._last[0] - self._first[0]
        return size / elapsed if size >= _LEAST_BYTES and elapsed > 0 else None
