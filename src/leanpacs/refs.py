"""The words that storage and catalog share: digests, tiers and references to blobs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NewType, Self

Tier = NewType("Tier", str)
"""Name of a blob store, such as ``hot`` (local disk)."""

HOT = Tier("hot")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """SHA-256 of some bytes (FIPS 180-4).

    Parameters
    ----------
    raw : bytes
        The 32 bytes of the digest.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise ValueError(f"a SHA-256 digest has 32 bytes, not {len(self.raw)}")

    def __hash__(self) -> int:
        return hash(self.raw)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Digest of ``data``."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Digest written as 64 hexadecimal digits."""
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """The digest as 64 lower-case hexadecimal digits."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.hex


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where some bytes are: the tier, their digest and their length."""

    tier: Tier
    digest: Digest
    size_bytes: int
