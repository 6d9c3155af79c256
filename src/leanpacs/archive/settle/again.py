"""Make another pack of an instance that has settled: smaller, faster to decode, or with another dictionary.

This is what lifecycle work runs, in a process here or on another host. It reads from one store and makes its result
durable in one, so that only references travel; it touches no catalog. A pack that nobody commits is an orphan, which a
sweep finds.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from time import perf_counter, process_time
from typing import BinaryIO, cast

from leanpacs import __version__
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.giveback.seriespack import packed_instance
from leanpacs.archive.manifest import HEAD, MANIFEST, SKELETON, TAIL, Form, Manifest, Recipes
from leanpacs.archive.settle.encode import Preferences, SeriesChoice, SeriesChoices, encode
from leanpacs.archive.settle.packer import Packed
from leanpacs.archive.settle.representing import represent
from leanpacs.archive.settle.settling import compressor_of, dictionaries_of, prove
from leanpacs.catalog import NewRepresentation
from leanpacs.dicom.frames import FRAME_TAGS
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.dictionary import Dictionary, dictionary_id
from leanpacs.storage.pack import PackWriter
from leanpacs.storage.store import BlobStore
from leanpacs.transcode.content import open_content

SMALLEST_LEVEL = 15
"""Zstandard level for heads where size counts. Above it a head of 100 kB takes twice as long, to save 0.5 % of it."""

IN_MEMORY = 64 << 20
"""Larger instances are rebuilt into a file."""


@dataclass(frozen=True, slots=True)
class Source:
    """A settled instance to be read: where its pack is, and what must come out of it."""

    store: BlobStore
    blob: BlobRef
    sop_uid: str
    data_set_digest: Digest


@dataclass(frozen=True, slots=True)
class Again:
    """How another pack is made, and where it goes; small and picklable.

    Parameters
    ----------
    source : Source
        What it is made of.
    target : BlobStore
        Where it is made durable.
    preferences : Preferences
        Preset, choice of the series, dictionary scopes; None where frames stay as they are.
    dictionary_names : tuple of str
        Dictionaries in the target store when the task was made.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are packed as they are.
    below_bytes : int or None
        The pack is only wanted if it is smaller than this.
    smallest : bool
        Whether heads are compressed as small as they can be.
    scopes : tuple of str
        Whose dictionaries fit, best first.
    """

    source: Source
    target: BlobStore
    preferences: Preferences | None
    dictionary_names: tuple[str, ...]
    limit_inflated_bytes: int
    below_bytes: int | None = None
    smallest: bool = False
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remade:
    """A pack that was proven and is durable; ``new`` is None when it would not have been smaller.

    ``cpu_seconds`` is what making and proving it took of this process, ``choice`` what was learnt of the series.
    """

    new: NewRepresentation | None
    size_bytes: int
    cpu_seconds: float
    choice: SeriesChoice | None = None


def remake(task: Again, step: Callable[[str], None] = lambda _: None) -> Remade:
    """Make another pack, read it back, rebuild the data set, compare it with what was received, make it durable.

    ``step`` is called with a name between every two steps; tests stop the process there.

    Raises
    ------
    VerificationError
        The pack, or the one that it was made of, does not give back what was received. Nothing was changed.
    StorageError, CodecError, PackError
        Nothing was changed.
    """
    began, cpu = perf_counter(), process_time()
    folder = task.target.spool_folder()
    known = dictionaries_of(task.target, task.dictionary_names)
    descriptor, name = tempfile.mkstemp(prefix="pack-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file, _opened(task.source, known) as packed:
            made, choice = _encoded(task, packed, file, folder)
            file.seek(0)
            digest = Digest(hashlib.file_digest(file, "sha256").digest())
        step("encoded")
        if task.below_bytes is not None and made.size_bytes >= task.below_bytes:
            path.unlink()
            return Remade(None, made.size_bytes, process_time() - cpu, choice)
        with path.open("rb") as file:
            prove(file, known, task.source.data_set_digest)
        step("compared")
        blob = task.target.adopt(path, digest)
        step("durable")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    new = represent(
        blob,
        made.manifest,
        made.entries,
        dictionary_id=made.dictionary_id,
        raw_head_bytes=made.raw_head_bytes,
        pixel_bytes=made.pixel_bytes,
        verified_at=datetime.now(UTC),
        decoder=decoder_of(made.manifest),
        seconds=perf_counter() - began,
    )
    return Remade(new, blob.size_bytes, process_time() - cpu, choice)


def decoder_of(manifest: Manifest) -> str:
    """What proved a pack, for its evidence."""
    return f"leanpacs {__version__}" + (f"; {manifest.made.decoder}" if manifest.made else "")


def facts_of(manifest: Manifest) -> Manifest:
    """What a manifest says of an instance whatever form it is held in."""
    return replace(
        manifest,
        form=Form.WHOLE,
        reason="",
        pixel=None,
        stream_frames=0,
        extension="",
        fragments=(),
        samples_digest=None,
        recipes=Recipes(),
        made=None,
    )


@contextmanager
def _opened(source: Source, known: Sequence[Dictionary]) -> Iterator[PackedInstance]:
    with source.store.open(source.blob.digest) as file:
        yield packed_instance(file, known, source.sop_uid)


def _encoded(task: Again, packed: PackedInstance, file: BinaryIO, folder: Path) -> tuple[Packed, SeriesChoice | None]:
    if task.preferences is None and packed.manifest.form is not Form.WHOLE:
        return _with_new_head(task, packed, file), None
    preferences = task.preferences or Preferences(SeriesChoices(), 0.0, task.scopes, recode=True)
    compressor = compressor_of(task.target, task.dictionary_names, SMALLEST_LEVEL if task.smallest else None)
    size = packed.manifest.preface + packed.manifest.length
    with ExitStack() as stack:
        whole = stack.enter_context(_scratch(size, folder))
        packed.write_to(whole)
        whole.seek(0)
        content = stack.enter_context(
            open_content(
                whole,
                packed.manifest.transfer_syntax,
                spool=folder,
                limit_bytes=task.limit_inflated_bytes,
                wanted=FRAME_TAGS,
            )
        )
        encoded = encode(content, facts_of(packed.manifest), file, compressor, preferences, packed)
    return encoded.packed, encoded.choice


def _with_new_head(task: Again, packed: PackedInstance, file: BinaryIO) -> Packed:
    """The same frames, with head, layout and tail compressed again."""
    compressor = compressor_of(task.target, task.dictionary_names, SMALLEST_LEVEL if task.smallest else None)
    manifest = packed.manifest
    pack = PackWriter(file)
    pack.add(HEAD, compressor.compress(packed.unpacked(HEAD), task.scopes))
    for number in range(1, manifest.frames + 1):
        pack.add(manifest.frame_name(number), packed.stream(number))
    for name, scopes in ((SKELETON, ()), (TAIL, task.scopes)):
        content = packed.unpacked(name)
        if content or (name == SKELETON and manifest.form is not Form.FRAMES):
            pack.add(name, compressor.compress(content, scopes))
    pack.add(MANIFEST, manifest.to_json())
    size = pack.close()
    head = pack.entries[HEAD]
    file.seek(head.offset)
    pixel_bytes = packed.pixel_bytes()
    return Packed(
        manifest=manifest,
        entries=dict(pack.entries),
        size_bytes=size,
        raw_head_bytes=manifest.preface + manifest.length - pixel_bytes,
        pixel_bytes=pixel_bytes,
        dictionary_id=dictionary_id(file.read(min(head.length, 32))),
    )


def _scratch(size_bytes: int, folder: Path) -> BinaryIO:
    if size_bytes <= IN_MEMORY:
        return BytesIO()
    return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
