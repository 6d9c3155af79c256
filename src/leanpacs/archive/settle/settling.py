"""Settle one instance: encode it, write the pack into the store's spool, read it back, rebuild, compare.

This is what runs in a worker process. It touches no catalog and makes nothing durable, so that killing it at any
point leaves nothing but a file in the spool. Whoever commits the pack lets the store take it over before.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import BinaryIO

from leanpacs import __version__
from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.manifest import Form, Manifest
from leanpacs.archive.recent import Native, Recent
from leanpacs.archive.settle.encode import Encoded, Preferences, encode, encode_whole
from leanpacs.codecs import registry
from leanpacs.codecs.presets import HASTY, QUICK
from leanpacs.dicom.frames import FRAME_TAGS, FrameSpec
from leanpacs.errors import LeanPACSError, StoreFull, StoreUnavailable, VerificationError
from leanpacs.refs import Digest
from leanpacs.storage.dictionary import Compressor, Dictionary, load_all
from leanpacs.storage.store import BlobStore
from leanpacs.transcode.content import Content, open_content

log = logging.getLogger(__name__)

IN_MEMORY = 64 << 20
"""Landed files and packs up to this many bytes are read in one piece."""

AT_ONCE = 1 << 20
"""Bytes of a pack that are written, or read, together."""

LEVEL_IN_HASTE = 1
"""Zstandard level for heads while much is waiting."""


@dataclass(frozen=True, slots=True)
class SettleTask:
    """One landed instance to be settled; small and picklable.

    Parameters
    ----------
    store : BlobStore
        Where the landed file is, and where the pack goes.
    landed : Digest
        The landed file.
    facts : Manifest
        Keys, digests and origin of the instance; form and coding still open.
    preferences : Preferences
        Codec choice of the series, budget, dictionary scopes.
    dictionary_names : tuple of str
        Dictionaries in the store when the task was made; a worker that knows others loads them anew.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are packed as they are.
    whole_because : str
        Why the instance is to be packed whole without trying a codec; '' when it is not.
    recent : Recent, optional
        Where a copy of what was received is kept for a while.
    """

    store: BlobStore
    landed: Digest
    facts: Manifest
    preferences: Preferences
    dictionary_names: tuple[str, ...]
    limit_inflated_bytes: int
    whole_because: str = ""
    recent: Recent | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A pack that was proven: closed, opened again, decoded, rebuilt, equal.

    ``path`` is the pack in the store's spool, to be taken over by the store; ``seconds`` is what encoding and proving
    took. ``fault`` says why it holds the whole where no codec could be trusted with it; '' when nothing went wrong.
    """

    path: Path
    digest: Digest
    encoded: Encoded
    verified_at: datetime
    decoder: str
    seconds: float
    fault: str = ""


def warm_up(store: BlobStore, dictionary_names: tuple[str, ...]) -> None:
    """Load what encoding needs, so that the first instances do not wait for it."""
    frame, spec = bytes(512), FrameSpec(16, 16, 1, 16, 16, 15, 0, 0, "MONOCHROME2", 1)
    for one in (QUICK, HASTY):
        for candidate in one.candidates:
            registry.by_name(candidate.codec).library()
        one.choose(frame, spec)
    with suppress(LeanPACSError, OSError):  # a store that fails now is told of by the first instance
        for level in (None, LEVEL_IN_HASTE):
            compressor_of(store, dictionary_names, level).compress(frame)


def settle_some(tasks: Sequence[SettleTask], step: Callable[[str], None] = lambda _: None) -> list[Settled]:
    """Settle instances of one series, as far as it goes: those before the first that fails.

    What is measured on one of them is used for the next. Handing them over one by one costs as much as settling a small
    one of them.

    Raises
    ------
    Exception
        What :func:`settle` raises for the first of them.
    """
    settled: list[Settled] = []
    choices = tasks[0].preferences.choices
    for task in tasks:
        if choices is not task.preferences.choices:
            task = replace(task, preferences=replace(task.preferences, choices=choices))
        try:
            one = settle(task, step)
        except Exception:
            if not settled:
                raise
            break
        if one.encoded.choice is not None:
            choices = choices.having(one.encoded.choice)
        settled.append(one)
    return settled


def settle(task: SettleTask, step: Callable[[str], None] = lambda _: None) -> Settled:
    """Encode, read back and compare one instance.

    Falls back to the whole data set under Zstandard when a smaller form cannot be proven, and says so in the
    manifest.

    Raises
    ------
    VerificationError
        If not even the whole gives the received bytes back: the landed file itself has changed.
    StorageError
        If the store does not take or give bytes.
    """
    started = perf_counter()
    dictionaries = dictionaries_of(task.store, task.dictionary_names)
    with (
        task.store.open(task.landed) as landed,
        open_content(
            _at_hand(landed),
            task.facts.transfer_syntax,
            spool=task.store.spool_folder(),
            limit_bytes=task.limit_inflated_bytes,
            wanted=FRAME_TAGS,
        ) as content,
    ):
        try:
            return _attempt(task, content, dictionaries, task.whole_because, started, step)
        except (StoreFull, StoreUnavailable, OSError):
            raise
        except Exception as error:
            log.exception(
                "a pack did not prove to be exact; keeping the whole",
                extra={"action": "settle", "sop_uid": task.facts.sop_uid},
            )
            reason = f"not exact when decoded back: {error!r}"
            return _attempt(task, content, dictionaries, reason, started, step)


def _attempt(
    task: SettleTask,
    content: Content,
    dictionaries: Sequence[Dictionary],
    whole_because: str,
    started: float,
    step: Callable[[str], None],
) -> Settled:
    level = LEVEL_IN_HASTE if task.preferences.in_haste else None
    compressor = compressor_of(task.store, task.dictionary_names, level)
    descriptor, name = tempfile.mkstemp(prefix="pack-", dir=task.store.spool_folder())
    try:
        with os.fdopen(descriptor, "w+b", AT_ONCE) as file:
            if not whole_because:
                encoded = encode(content, task.facts, file, compressor, task.preferences)
            else:
                encoded = encode_whole(content, task.facts, file, compressor, whole_because)
            step("encoded")
        with Path(name).open("rb") as file:
            pack = _at_hand(file)
            digest = _digest(pack)
            prove(pack, dictionaries, task.facts.digest)
        _keep_at_hand(task, content, encoded.packed.manifest)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    step("proven")
    made = encoded.packed.manifest.made
    decoder = f"leanpacs {__version__}" + (f"; {made.decoder}" if made else "")
    return Settled(Path(name), digest, encoded, datetime.now(UTC), decoder, perf_counter() - started, whole_because)


def _keep_at_hand(task: SettleTask, content: Content, manifest: Manifest) -> None:
    """Keep a copy of what was received, which the pack has been proven to give back, for those who ask for it soon."""
    if task.recent is None or not isinstance(content.received, io.BytesIO):
        return
    coding, native = manifest.pixel, Native()
    if manifest.form is Form.FRAMES and coding is not None and not coding.big_endian and not content.layout.deflated:
        native = Native(content.layout.head_end, coding.spec.frame_bytes or 0, manifest.frames)
    task.recent.put(manifest.digest, content.received.getbuffer(), native)


def _at_hand(file: BinaryIO) -> BinaryIO:
    """The file; if it is not large, what is in it: that saves many calls into the system."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return file if size > IN_MEMORY or isinstance(file, io.BytesIO) else io.BytesIO(file.read(size))


def _digest(file: BinaryIO) -> Digest:
    if isinstance(file, io.BytesIO):
        return Digest.of(file.getbuffer())
    sha = hashlib.sha256()
    while chunk := file.read(AT_ONCE):
        sha.update(chunk)
    return Digest(sha.digest())


def prove(pack: BinaryIO, dictionaries: Sequence[Dictionary], expected: Digest) -> PackedInstance:
    """Rebuild the data set from a pack that was closed and opened again, and compare it with what was received.

    Raises
    ------
    VerificationError
        If it is not the same.
    """
    packed = PackedInstance(pack, dictionaries)
    actual = packed.digest()
    if actual != expected:
        raise VerificationError("the rebuilt data set differs from what was received", expected.hex, actual.hex)
    return packed


@lru_cache(maxsize=2)
def dictionaries_of(store: BlobStore, names: tuple[str, ...]) -> tuple[Dictionary, ...]:
    """The dictionaries in a store; loaded once for each set of names."""
    return tuple(load_all(store))


@lru_cache(maxsize=4)
def compressor_of(store: BlobStore, names: tuple[str, ...], level: int | None = None) -> Compressor:
    """A compressor with every dictionary of a store; made once for each set of names and level."""
    return Compressor(dictionaries_of(store, names), level)
