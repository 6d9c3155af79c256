"""Which SOP classes of the query/retrieve service mean what (PS3.4 C.5 and C.6)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

QueryLevel = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
Operation = Literal["find", "move", "get"]

LEVELS: Final[tuple[QueryLevel, ...]] = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UNIQUE_KEYS: Final = MappingProxyType(
    {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
        "IMAGE": "SOPInstanceUID",
    }
)
"""Keyword of the unique key of each level (PS3.4 C.6.1.1 and C.6.2.1)."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a SOP class of the service is: an operation on an information model that has some levels."""

    operation: Operation
    levels: tuple[QueryLevel, ...]

    def above(self, level: QueryLevel) -> tuple[QueryLevel, ...]:
        """Levels over ``level``, the highest first."""
        return self.levels[: self.levels.index(level)]


_ROOT: Final = "1.2.840.10008.5.1.4.1.2"
MODELS: Final = MappingProxyType(
    {
        f"{_ROOT}.1.1": Model("find", LEVELS),
        f"{_ROOT}.1.2": Model("move", LEVELS),
        f"{_ROOT}.1.3": Model("get", LEVELS),
        f"{_ROOT}.2.1": Model("find", LEVELS[1:]),
        f"{_ROOT}.2.2": Model("move", LEVELS[1:]),
        f"{_ROOT}.2.3": Model("get", LEVELS[1:]),
    }
)
"""Patient Root and Study Root, by SOP Class UID."""


@dataclass(frozen=True, slots=True)
class Extended:
    """What SOP class extended negotiation agrees on for queries (PS3.4 C.5.1.1)."""

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False

    @classmethod
    def agreed(cls, asked: bytes, *, relational: bool) -> Extended:
        """What is agreed of what a peer asks for; no byte, no wish."""
        flags = [byte == 1 for byte in asked.ljust(3, b"\0")[:3]]
        return cls(flags[0] and relational, flags[1], flags[2])

    def encoded(self, length: int) -> bytes:
        """The answer to a request of ``length`` bytes; what comes after the first three is not supported."""
        return bytes((self.relational, self.combined_datetime, self.fuzzy)).ljust(length, b"\0")[:length]


NOTHING_EXTENDED: Final = Extended()
"""Without extended negotiation."""
