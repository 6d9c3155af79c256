"""Put packs of one series together into a series pack: for tiers where little is read and every byte counts.

Like all lifecycle work it runs in a worker, reads from one store, and makes its result durable in one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, BinaryIO, Final

from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import PIECES, SERIES, SeriesPack, block_name, packed_instance, prefix_of
from leanpacs.archive.manifest import HEAD, SKELETON, TAIL
from leanpacs.archive.settle.again import Source, decoder_of
from leanpacs.archive.settle.representing import represent
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.catalog import NewRepresentation
from leanpacs.errors import PackError, VerificationError
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.dictionary import Compressor
from leanpacs.storage.pack import PackWriter
from leanpacs.storage.store import BlobStore

BLOCK_BYTES: Final = 4 << 20
"""Pieces are compressed together up to this size: half of the window, so that any of them can refer to any other."""

LEVEL: Final = 19
"""Zstandard level of the pieces; its window is what every decoder here allows."""

LARGEST_PIECE: Final = 32 << 20
"""An instance with a larger head stays by itself: heads of this size are no headers."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Instances to be put into one pack; small and picklable.

    Parameters
    ----------
    sources : tuple of Source
        Of one series, in the order of the pack.
    target : BlobStore
        Where the pack is made durable.
    dictionary_names : tuple of str
        Dictionaries in the target store when the task was made.
    below_bytes : int
        The pack is only wanted if it is smaller than this.
    """

    sources: tuple[Source, ...]
    target: BlobStore
    dictionary_names: tuple[str, ...]
    below_bytes: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """A proven series pack, one stored form for each source; none when it would not have been smaller."""

    forms: tuple[NewRepresentation, ...]
    size_bytes: int
    cpu_seconds: float


def gather(task: Gather, step: Callable[[str], None] = lambda _: None) -> Gathered:
    """Write a series pack, read it back, rebuild every data set, compare, make it durable.

    ``step`` is called with a name between every two steps; tests stop the process there.

    Raises
    ------
    VerificationError
        An instance does not come out as it was received. Nothing was changed.
    StorageError, PackError
        Nothing was changed.
    """
    began, cpu = perf_counter(), process_time()
    descriptor, name = tempfile.mkstemp(prefix="series-", dir=task.target.spool_folder())
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            size = _write(task, file)
            file.seek(0)
            digest = Digest(hashlib.file_digest(file, "sha256").digest())
            step("encoded")
            if size >= task.below_bytes:
                path.unlink()
                return Gathered((), size, process_time() - cpu)
            _prove(task, file)
            step("compared")
            blob = BlobRef(task.target.tier, digest, size)
            made = forms_of(SeriesPack(file), blob, seconds=(perf_counter() - began) / len(task.sources))
        task.target.adopt(path, digest)
        step("durable")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Gathered(tuple(made), blob.size_bytes, process_time() - cpu)


def forms_of(pack: SeriesPack, blob: BlobRef, *, seconds: float = 0.0) -> list[NewRepresentation]:
    """Describe the instances of a series pack that was proven, in its order, for the catalog."""
    made = [
        represent(
            blob,
            member.manifest,
            member.entries,
            dictionary_id=None,
            raw_head_bytes=member.manifest.preface + member.manifest.length - member.pixel_bytes(),
            pixel_bytes=member.pixel_bytes(),
            verified_at=datetime.now(UTC),
            decoder=decoder_of(member.manifest),
            seconds=seconds,
        )
        for member in pack
    ]
    return _shares(made, blob.size_bytes)


def _write(task: Gather, file: BinaryIO) -> int:
    """Write the pack: the index comes first, so it is written last into its own file; its length."""
    known = dictionaries_of(task.target, task.dictionary_names)
    compressor = Compressor((), LEVEL)
    records: list[dict[str, Any]] = []
    blocks = _Blocks()
    for source in task.sources:
        with source.store.open(source.blob.digest) as pack:
            packed = packed_instance(pack, known, source.sop_uid)
            record = json.loads(packed.manifest.to_json())
            record[PIECES] = {
                name: blocks.add(content)
                for name in (HEAD, SKELETON, TAIL)
                if (content := packed.unpacked(name)) or name == HEAD
            }
            records.append(record)
    index = json.dumps(records, separators=(",", ":"), ensure_ascii=False).encode()
    writer = PackWriter(file)
    writer.add(SERIES, compressor.compress(index))
    for number, block in enumerate(blocks.all(), 1):
        writer.add(block_name(number), compressor.compress(block))
    for place, source in enumerate(task.sources, 1):
        with source.store.open(source.blob.digest) as pack:
            packed = packed_instance(pack, known, source.sop_uid)
            for number in range(1, packed.manifest.frames + 1):
                writer.add(prefix_of(place) + packed.manifest.frame_name(number), packed.stream(number))
    return writer.close()


class _Blocks:
    """Pieces one after the other, divided into blocks."""

    def __init__(self) -> None:
        self._blocks: list[bytearray] = [bytearray()]

    def add(self, piece: bytes) -> list[int]:
        """Append a piece; its block (from 1), offset and length."""
        if len(piece) > LARGEST_PIECE:
            raise PackError(f"a head of {len(piece)} bytes is too large for a series pack")
        last = self._blocks[-1]
        if last and len(last) + len(piece) > BLOCK_BYTES:
            last = bytearray()
            self._blocks.append(last)
        offset = len(last)
        last += piece
        return [len(self._blocks), offset, len(piece)]

    def all(self) -> list[bytes]:
        """The blocks."""
        return [bytes(block) for block in self._blocks]


def _prove(task: Gather, file: BinaryIO) -> None:
    """Rebuild every instance from the pack as it was written, and compare it with what was received."""
    pack = SeriesPack(file)
    for source in task.sources:
        member: PackedInstance = pack.member(source.sop_uid)
        actual = member.digest()
        if actual != source.data_set_digest:
            raise VerificationError(
                "the rebuilt data set differs from what was received", source.data_set_digest.hex, actual.hex
            )


def _shares(made: Sequence[NewRepresentation], size_bytes: int) -> list[NewRepresentation]:
    """Divide what is common to all by the size of heads; the shares add up to the pack."""
    common = size_bytes - sum(one.stored_frame_bytes for one in made)
    weights = [one.raw_head_bytes + 1 for one in made]
    total, given, shared = sum(weights), 0, []
    for one, weight in zip(made, weights, strict=True):
        head = common - given if one is made[-1] else common * weight // total
        given += head
        shared.append(replace(one, size_bytes=head + one.stored_frame_bytes, stored_head_bytes=head))
    return shared
