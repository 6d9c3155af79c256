"""Spoilt code streams, decoded in worker processes as the archive does it."""

from __future__ import annotations

import random
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from fuzz.mutations import Change, Changes, changed, spoilt, to_text
from fuzz.seeds import StreamSeed
from leanpacs.codecs import registry
from leanpacs.codecs.samples import shape_of
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import (
    DecodeError,
    LeanPACSError,
    UnsupportedFrame,
    UnsupportedTransferSyntax,
    WorkerError,
    WorkerOutOfMemory,
)
from leanpacs.workers import WorkerPool

_IN_FLIGHT = 32
_COPIES = 12
_SIZES = (1, 333, 4096, 20_000, 40_000, 65_535)
_LIES = (0, 1, 2, 15, 16, 17, 255, 256, 4096, 20_000, 65_535)


@dataclass(frozen=True, slots=True)
class StreamCase:
    """A spoilt code stream, or a good one with a data set that lies."""

    seed: StreamSeed
    changes: Changes
    spec: FrameSpec

    @property
    def stream(self) -> bytes:
        return changed(self.seed.stream, self.changes)

    def describe(self) -> str:
        """A line that makes it again."""
        lies = {
            name: getattr(self.spec, name)
            for name in self.spec.__dataclass_fields__
            if getattr(self.spec, name) != getattr(self.seed.spec, name)
        }
        return f"{self.seed.name} {self.seed.transfer_syntax} {lies} {to_text(self.changes)}"


@dataclass(slots=True)
class Tally:
    """What became of the cases."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    findings: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest: str = ""
    largest_growth_bytes: int = 0

    def count(self, kind: str, outcome: str) -> None:
        self.outcomes[kind][outcome] += 1

    def found(self, what: str, case: str) -> None:
        self.findings.append(f"{what}\n    {case}")

    def lines(self) -> Iterator[str]:
        """A table, and what is wrong."""
        names = sorted({name for counts in self.outcomes.values() for name in counts})
        yield "  ".join(["kind".ljust(26), *(name.rjust(12) for name in names)])
        for kind in sorted(self.outcomes):
            yield "  ".join([kind.ljust(26), *(str(self.outcomes[kind][name]).rjust(12) for name in names)])
        yield f"slowest: {self.slowest_seconds:.2f} s  {self.slowest[:160]}"
        yield f"largest growth of a worker: {self.largest_growth_bytes / 1e6:.0f} MB"
        yield f"{len(self.findings)} findings"
        yield from self.findings


def cases(seeds: Sequence[StreamSeed], count: int, number: int) -> Iterator[StreamCase]:
    """Draw cases; the same arguments give the same."""
    kinds = sorted({seed.transfer_syntax for seed in seeds})
    by_kind = {kind: [seed for seed in seeds if seed.transfer_syntax == kind] for kind in kinds}
    for index in range(count):
        draw = random.Random(f"{number}/{index}")
        kind = kinds[index % len(kinds)]
        seed, donor = draw.choice(by_kind[kind]), draw.choice(by_kind[kind])
        yield _case(seed, donor, draw)


def _case(seed: StreamSeed, donor: StreamSeed, draw: random.Random) -> StreamCase:
    chance = draw.random()
    if chance < 0.05:
        return StreamCase(seed, (), _lying(seed.spec, draw))
    if chance < 0.07:
        return _huge(seed, draw)
    changes = spoilt(seed.stream, draw, donor.stream)
    if chance < 0.2:
        return StreamCase(seed, changes, _lying(seed.spec, draw))
    return StreamCase(seed, changes, seed.spec)


def _lying(spec: FrameSpec, draw: random.Random) -> FrameSpec:
    match draw.randrange(6):
        case 0:
            return replace(spec, rows=max(1, draw.choice(_LIES)))
        case 1:
            return replace(spec, columns=max(1, draw.choice(_LIES)))
        case 2:
            return replace(spec, samples_per_pixel=draw.choice((1, 2, 3, 4)))
        case 3:
            bits = draw.choice((1, 8, 16, 32, 64))
            return replace(spec, bits_allocated=bits, bits_stored=bits, high_bit=bits - 1)
        case 4:
            return replace(spec, pixel_representation=1 - spec.pixel_representation, bits_stored=1, high_bit=0)
        case _:
            return replace(spec, photometric_interpretation=draw.choice(("RGB", "YBR_FULL_422", "PALETTE COLOR", "")))


def _huge(seed: StreamSeed, draw: random.Random) -> StreamCase:
    """Data set and code stream agree on a size that is not there."""
    rows, columns = draw.choice(_SIZES), draw.choice(_SIZES)
    spec = replace(seed.spec, rows=rows, columns=columns)
    if seed.stream[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: the size, and that of the only tile
        size = columns.to_bytes(4) + rows.to_bytes(4)
        return StreamCase(seed, (Change(8, 16, size), Change(24, 32, size)), spec)
    header = re.search(rb"\xff[\xc0-\xc3\xf7]..[\x02-\x10]", seed.stream[:2000], re.DOTALL)
    if seed.stream[:2] == b"\xff\xd8" and header:
        at = header.start() + 5
        return StreamCase(seed, (Change(at, at + 4, rows.to_bytes(2) + columns.to_bytes(2)),), spec)
    return StreamCase(seed, (), spec)


def run(drawn: Iterator[StreamCase], *, workers: int, seconds: float, memory_bytes: int) -> Tally:
    """Decode all cases; each may take so many seconds and so much memory."""
    tally = Tally()
    waiting: deque[tuple[StreamCase, Future[Decoded]]] = deque()
    with WorkerPool(workers, memory_limit_bytes=memory_bytes, time_limit_seconds=seconds) as pool:
        for case in drawn:
            future = pool.submit(decode, case.stream, case.seed.transfer_syntax, case.spec)
            waiting.append((case, future))
            if len(waiting) >= _IN_FLIGHT:
                _take(tally, *waiting.popleft())
        while waiting:
            _take(tally, *waiting.popleft())
    return tally


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a worker says of a case; ``refused`` names the error, ``wrong`` says what must not be."""

    refused: str
    wrong: str
    seconds: float
    growth_bytes: int


def decode(stream: bytes, transfer_syntax: str, spec: FrameSpec) -> Decoded:
    """Decode in a worker; what is accepted has the shape that the data set says."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before, started = _status("VmRSS"), time.perf_counter()
    refused = wrong = ""
    try:
        frame = registry.decode_received(stream, transfer_syntax, spec)
        if frame.samples.shape != shape_of(spec):
            wrong = f"samples of shape {frame.samples.shape}"
    except (DecodeError, UnsupportedFrame, UnsupportedTransferSyntax) as error:
        refused = type(error).__name__
    return Decoded(refused, wrong, time.perf_counter() - started, _status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def _take(tally: Tally, case: StreamCase, future: Future[Decoded]) -> None:
    kind = case.seed.transfer_syntax
    try:
        decoded = future.result()
    except WorkerError as error:
        tally.count(kind, type(error).__name__)
        # A frame that is larger than what a worker may need cannot be decoded: that is what the limit is for.
        if not (isinstance(error, WorkerOutOfMemory) and _COPIES * case.spec.frame_bits // 8 > error.limit_bytes):
            tally.found(str(error), case.describe())
        return
    except LeanPACSError as error:
        tally.count(kind, "unexpected")
        tally.found(repr(error), case.describe())
        return
    except Exception as error:
        tally.count(kind, "unexpected")
        tally.found("\n".join([repr(error), *getattr(error, "__notes__", ())]), case.describe())
        return
    if decoded.wrong:
        tally.found(decoded.wrong, case.describe())
    tally.count(kind, decoded.refused or "accepted")
    tally.largest_growth_bytes = max(tally.largest_growth_bytes, decoded.growth_bytes)
    if decoded.seconds > tally.slowest_seconds:
        tally.slowest_seconds, tally.slowest = decoded.seconds, case.describe()
