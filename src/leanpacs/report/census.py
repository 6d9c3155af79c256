"""Who is there: every file looked at once, strata counted, a sample drawn.

The names of the files are kept in a temporary file; in memory there are 12 bytes for each, and the counts.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from leanpacs.archive.intake.importing import Found
from leanpacs.report.opening import Looked, Stratum

LEAST_OF_A_STRATUM: Final = 2
"""Instances that are measured of each stratum at least: one alone says nothing of the spread."""


@dataclass(slots=True)
class Count:
    """Instances and bytes of one stratum."""

    instances: int = 0
    found_bytes: int = 0
    raw_bytes: int = 0
    raw_pixel_bytes: int = 0

    def add(self, looked: Looked) -> None:
        """Count one instance."""
        self.instances += 1
        self.found_bytes += looked.found_bytes
        self.raw_bytes += looked.raw_bytes
        self.raw_pixel_bytes += looked.raw_pixel_bytes


class Distinct:
    """Counts different texts in bounded memory: exactly up to ``size``, within about 2 % (one sigma) above.

    Keeps the smallest hashes (bottom-k sketch): when the k-th smallest of uniform hashes is h, there are about
    (k - 1) / h of them.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._smallest: list[int] = []

    def add(self, text: str) -> None:
        """Take note of a text."""
        value = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        if len(self._smallest) == self._size and value >= self._smallest[-1]:
            return
        place = bisect.bisect_left(self._smallest, value)
        if place == len(self._smallest) or self._smallest[place] != value:
            self._smallest.insert(place, value)
            del self._smallest[self._size :]

    def count(self) -> int:
        """How many different ones there were."""
        if len(self._smallest) < self._size:
            return len(self._smallest)
        return round((self._size - 1) * 2**64 / self._smallest[-1])


@dataclass(frozen=True, slots=True)
class Drawn:
    """A file to be measured, and its stratum."""

    found: Found
    stratum: Stratum
    raw_bytes: int


@dataclass(slots=True)
class Census:
    """Counts by stratum; the names of the instances are spooled. Use it as a context manager."""

    strata: dict[Stratum, Count] = field(default_factory=dict)
    studies: dict[tuple[str, str], Distinct] = field(default_factory=dict)
    files: int = 0
    skipped: int = 0
    _spool: tempfile._TemporaryFileWrapper[bytes] = field(
        default_factory=lambda: tempfile.NamedTemporaryFile(prefix="leanpacs-census-")  # noqa: SIM115 - __exit__
    )
    _offsets: array[int] = field(default_factory=lambda: array("Q"))
    _members: array[int] = field(default_factory=lambda: array("I"))
    _numbers: dict[Stratum, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add(self, looked: Looked) -> None:
        """Count what was looked at."""
        self.files += 1
        stratum = looked.stratum
        if stratum is None:
            self.skipped += bool(looked.skipped)
            return
        self.strata.setdefault(stratum, Count()).add(looked)
        for dimension in ("", "modality", "sop_class", "manufacturer", "transfer_syntax"):
            value = getattr(stratum, dimension) if dimension else ""
            self.studies.setdefault((dimension, value), Distinct()).add(looked.study)
        self._offsets.append(self._spool.tell())
        self._members.append(self._numbers.setdefault(stratum, len(self._numbers)))
        name = [str(looked.found.path), looked.found.member, looked.found.size_bytes, looked.raw_bytes]
        self._spool.write(json.dumps(name).encode("utf-8", "surrogateescape") + b"\n")

    @property
    def instances(self) -> int:
        """How many instances there are."""
        return len(self._offsets)

    def draw(self, wanted: int, seed: int = 0) -> Iterator[Drawn]:
        """Draw a stratified sample, in an order of which every beginning is one, too.

        Parameters
        ----------
        wanted : int
            How many; more when the strata are many, see :func:`allocate`.
        seed : int
            Equal seeds draw equal samples.
        """
        strata = list(self._numbers)
        counts = [self.strata[stratum] for stratum in strata]
        quotas = allocate([count.instances for count in counts], [count.raw_bytes for count in counts], wanted)
        chosen = _interleaved(np.asarray(self._members), quotas, np.random.default_rng(seed))
        self._spool.flush()
        for one in chosen:
            self._spool.seek(self._offsets[int(one)])
            path, member, size, raw = json.loads(self._spool.readline().decode("utf-8", "surrogateescape"))
            yield Drawn(Found(Path(path), member, size), strata[self._members[int(one)]], raw)

    def quota(self, wanted: int) -> int:
        """How many :meth:`draw` gives."""
        counts = list(self.strata.values())
        return sum(allocate([count.instances for count in counts], [count.raw_bytes for count in counts], wanted))


def allocate(instances: list[int], raw_bytes: list[int], wanted: int) -> list[int]:
    """Share a sample between strata: two of each at least, the rest in proportion to their bytes.

    Bytes and not instances, for what is to be known is bytes: large instances differ by more of them.
    """
    least = [min(count, LEAST_OF_A_STRATUM) for count in instances]
    quotas = least[:]
    rest = min(wanted, sum(instances)) - sum(quotas)
    while rest > 0:
        open_bytes = sum(size for size, count, quota in zip(raw_bytes, instances, quotas, strict=True) if quota < count)
        shares = [
            min(count - quota, int(rest * size / open_bytes)) if open_bytes else 0
            for size, count, quota in zip(raw_bytes, instances, quotas, strict=True)
        ]
        if not sum(shares):
            # Less than one each: the largest strata that are not exhausted take one.
            order = sorted(range(len(quotas)), key=lambda one: -raw_bytes[one])
            for one in [one for one in order if quotas[one] < instances[one]][:rest]:
                shares[one] = 1
        quotas = [quota + share for quota, share in zip(quotas, shares, strict=True)]
        rest -= sum(shares)
    return quotas


def _interleaved(members: np.ndarray, quotas: list[int], random: np.random.Generator) -> np.ndarray:
    """Indexes of the drawn instances; those of each stratum at random, spread evenly over the whole order."""
    drawn, places = [], []
    for stratum, quota in enumerate(quotas):
        ours = random.permutation(np.flatnonzero(members == stratum))[:quota]
        drawn.append(ours)
        places.append((np.arange(quota) + random.random()) / max(quota, 1))
    if not drawn:
        return np.zeros(0, np.int64)
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(drawn)[order]
