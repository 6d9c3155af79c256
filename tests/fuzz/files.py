"""Spoilt files through an archive: landed, settled, converted; what was received comes out again, always."""

from __future__ import annotations

import hashlib
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fuzz.mutations import Change, Changes, changed, spoilt, to_text
from fuzz.seeds import FileSeed
from fuzz.streams import Tally
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.archive.settle.settler import Settler
from leanpacs.catalog import InstanceRow, Kind
from leanpacs.config import Settings
from leanpacs.dicom.uids import EXPLICIT_LE
from leanpacs.errors import LeanPACSError, WorkerError

_AT_ONCE = 60
_MOST_BYTES = 300_000_000
"""Of a conversion that are looked at: what a file declares may be as large as it likes."""

# Rows, Columns, Bits Allocated, Bits Stored, High Bit, Pixel Representation, Samples per Pixel, Planar Configuration
_SHORTS = tuple(b"\x28\x00" + bytes([low, high]) for low, high in ((16, 0), (17, 0), (0, 1), (1, 1), (2, 1), (3, 1)))
_SHORTS += (b"\x28\x00\x02\x00", b"\x28\x00\x06\x00")
_FRAMES = b"\x28\x00\x08\x00"
_ITEM = b"\xfe\xff\x00\xe0"
_UID = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.[0-9]+){5,}")


@dataclass(frozen=True, slots=True)
class FileCase:
    """A spoilt file; its SOP Instance UID is its own."""

    seed: FileSeed
    changes: Changes
    content: bytes

    def describe(self) -> str:
        return f"{self.seed.name} {to_text(self.changes)}"


def cases(seeds: Sequence[FileSeed], count: int, number: int) -> Iterator[FileCase]:
    """Draw cases; the same arguments give the same."""
    for index in range(count):
        draw = random.Random(f"files/{number}/{index}")
        seed, donor = draw.choice(seeds), draw.choice(seeds)
        content = _of_its_own(seed.content, index)
        changes = _lies(content, draw) if draw.random() < 0.4 else spoilt(content, draw, donor.content)
        yield FileCase(seed, changes, changed(content, changes))


def _of_its_own(content: bytes, index: int) -> bytes:
    """The last digits of the SOP Instance UID made others, as long as they were."""
    at = content.find(b"\x08\x00\x18\x00")
    found = _UID.search(content, at, at + 80) if at >= 0 else None
    if found is None or len(found[0]) < 20:
        return content
    uid = found[0]
    return content.replace(uid, uid[: len(uid) - 8] + b"1%07d" % (index % 10_000_000))


def _lies(content: bytes, draw: random.Random) -> Changes:
    """What the data set says of its pixels changed, or its items; as a sender could write it."""
    made: list[Change] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        what = draw.choice((*_SHORTS, _FRAMES, _ITEM))
        places = [match.start() for match in re.finditer(re.escape(what), content)]
        if not places:
            continue
        at = draw.choice(places)
        if what == _ITEM:
            length = draw.choice((0, 1, 2, 7, 0x10000, 0x7FFF_FFFE, 0xFFFF_FFFF, draw.randrange(1 << 16)))
            put = draw.choice((length.to_bytes(4, "little"), b""))
            made.append(Change(at + 4, at + 8, put))
        elif what == _FRAMES:
            made.append(Change(at + 8, at + 10, draw.choice((b"0 ", b"-1", b"99", b"2 ", b"\0\0", b"1e"))))
        else:
            value = draw.choice((0, 1, 2, 3, 7, 9, 12, 15, 16, 17, 24, 32, 64, 255, 256, 4096, 0x7FFF, 0xFFFF))
            made.append(Change(at + 8, at + 10, value.to_bytes(2, "little")))
    return tuple(made)


def run(drawn: Iterator[FileCase], *, workers: int) -> Tally:
    """Take all cases in, some at a time, and look at what the archive makes of them."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        settings = Settings(
            storage={"minimum_free_bytes": 0},
            delete={"grace_seconds": 0},
            ingest={"duplicates": "keep", "largest_inflated_bytes": 1 << 28},
            workers={"decoders": workers, "memory_bytes": 2 << 30, "frame_seconds": 30},
        )
        for number, some in enumerate(_batches(drawn, _AT_ONCE)):
            with open_archive(Path(folder) / str(number), settings) as archive:
                _take_in(archive, some, tally, workers)
    return tally


def _batches(drawn: Iterator[FileCase], size: int) -> Iterator[list[FileCase]]:
    """Lists of so many."""
    while some := [case for _, case in zip(range(size), drawn, strict=False)]:
        yield some


def _take_in(archive: Archive, some: list[FileCase], tally: Tally, workers: int) -> None:
    landed: list[tuple[FileCase, Receipt]] = []
    for case in some:
        receipt = _landed(archive, case, tally)
        if receipt is not None:
            tally.count("landing", receipt.outcome)
            if receipt.outcome is Outcome.STORED:
                landed.append((case, receipt))
    for case, receipt in landed:
        _look_at(archive, case, receipt, tally, "landed")
    _settle(archive, workers)
    left = archive.catalog.backlog().count
    if left:
        tally.found(f"{left} instances were not settled", "\n    ".join(case.describe() for case, _ in landed))
    for case, receipt in landed:
        _look_at(archive, case, receipt, tally, "settled")
        _count_form(archive, receipt, tally)
    _look_at_quarantine(archive, some, tally)


def _landed(archive: Archive, case: FileCase, tally: Tally) -> Receipt | None:
    path = archive.spool_folder / hashlib.sha256(case.content).hexdigest()
    path.write_bytes(case.content)
    try:
        return archive.land(Incoming(path, "FUZZ", "import"))
    except Exception as error:
        tally.found(f"landing: {error!r}", case.describe())
        return None


def _settle(archive: Archive, workers: int) -> None:
    settler = Settler(
        archive.store,
        archive.catalog,
        archive.settings.settle.model_copy(update={"workers": workers}),
        archive.settings.workers,
        limit_inflated_bytes=1 << 28,
    )
    settler.drain()


def _look_at(archive: Archive, case: FileCase, receipt: Receipt, tally: Tally, when: str) -> None:
    """What was received must come out; everything else may be refused with an error that is meant for that."""
    (instance,) = archive.catalog.instances(sop_uid=receipt.sop_uid)
    try:
        given = b"".join(archive.retriever.as_received(instance).chunks)
    except Exception as error:
        tally.found(f"{when}: not given back: {error!r}", case.describe())
        return
    if given != case.content:
        tally.found(f"{when}: other bytes are given back", case.describe())
    for name, ask in _QUESTIONS.items():
        try:
            ask(archive, instance)
            tally.count(f"{when}, {name}", "given")
        except LeanPACSError as error:
            lost = error if isinstance(error, WorkerError) else error.__cause__
            tally.count(f"{when}, {name}", type(lost if isinstance(lost, WorkerError) else error).__name__)
            if isinstance(lost, WorkerError):
                tally.found(f"{when}, {name}: {lost}", case.describe())
        except Exception as error:
            tally.count(f"{when}, {name}", "unexpected")
            tally.found(f"{when}, {name}: {error!r}", case.describe())


def _native(archive: Archive, instance: InstanceRow) -> None:
    taken = 0
    for piece in archive.retriever.part10(instance, EXPLICIT_LE).chunks:
        taken += len(piece)
        if taken > _MOST_BYTES:
            return


def _frame(archive: Archive, instance: InstanceRow) -> None:
    archive.retriever.frame(instance, 1, EXPLICIT_LE)


def _metadata(archive: Archive, instance: InstanceRow) -> None:
    archive.retriever.metadata(instance, lambda path: path)


_QUESTIONS = {"native": _native, "frame": _frame, "metadata": _metadata}


def _count_form(archive: Archive, receipt: Receipt, tally: Tally) -> None:
    (instance,) = archive.catalog.instances(sop_uid=receipt.sop_uid)
    with suppress(StopIteration):
        held = next(row for row in archive.catalog.representations(instance.id) if row.kind is Kind.PACK)
        tally.count("packs", held.codec)


def _look_at_quarantine(archive: Archive, some: list[FileCase], tally: Tally) -> None:
    """What is no DICOM is kept as it came."""
    received = {hashlib.sha256(case.content).hexdigest() for case in some}
    for row in archive.catalog.quarantined():
        if hashlib.sha256(archive.store.read(row.blob.digest)).hexdigest() not in received:
            tally.found("quarantine: other bytes are kept", row.reason)
