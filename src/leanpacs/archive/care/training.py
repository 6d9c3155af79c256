"""Train Zstandard dictionaries from the heads that an archive holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from leanpacs.archive.archive import Archive
from leanpacs.archive.settle.representing import dictionary_row
from leanpacs.errors import StorageError
from leanpacs.storage.dictionary import Compressor, Dictionary, load_all, save, train
from leanpacs.transcode.source import OpenInstance

SAMPLES = 2000
LARGEST_SAMPLE = 256 << 10


@dataclass(frozen=True, slots=True)
class Trained:
    """What training for one SOP class led to.

    ``before_bytes`` and ``after_bytes`` are what heads that were not trained on take without and with the new
    dictionary; ``kept`` is False when it did not save enough, and ``reason`` says why.
    """

    scope: str
    samples: int
    before_bytes: int
    after_bytes: int
    dictionary_id: int
    kept: bool
    reason: str = ""


def train_dictionaries(archive: Archive, *, scope: str | None = None) -> Iterator[Trained]:
    """Train one dictionary for each SOP class with enough instances; keep those that are worth it.

    Every fourth head is held out and used to judge. A dictionary is stored before it is used and never changed.
    """
    for sop_class, heads in _heads(archive, scope).items():
        yield _train(archive, sop_class, heads)


def retrain(archive: Archive, scope: str) -> Trained:
    """Train a dictionary for a SOP class again, from what came last of it; keep it if it is worth it.

    What is in an archive class, or does not read, is passed over.
    """
    heads = []
    for instance in archive.catalog.newest_of(scope, SAMPLES):
        with suppress(StorageError), archive.retriever.opened(instance) as opened:
            heads.append(_head(opened))
    return _train(archive, scope, heads)


def _train(archive: Archive, scope: str, heads: list[bytes]) -> Trained:
    known = load_all(archive.store)
    version = 1 + max((entry.version for entry in known if entry.scope == scope), default=0)
    judged, learnt = heads[::4], [head for number, head in enumerate(heads) if number % 4]
    try:
        dictionary = train(learnt, scope=scope, version=version)
    except (StorageError, ValueError) as error:
        return Trained(scope, len(heads), 0, 0, 0, kept=False, reason=str(error))
    before = _size(Compressor(known), scope, judged)
    after = _size(Compressor([*known, dictionary]), scope, judged)
    worth_it = before - after > 0.02 * before
    if worth_it:
        _keep(archive, dictionary)
    reason = "" if worth_it else "saves less than 2 % of what the dictionaries at hand leave"
    return Trained(scope, len(heads), before, after, dictionary.id, worth_it, reason)


def _keep(archive: Archive, dictionary: Dictionary) -> None:
    """Make a dictionary durable in every store before anything is compressed with it."""
    for store in (*archive.stores.others, archive.store):
        save(store, dictionary)
    archive.catalog.write(lambda transaction: transaction.add_dictionary(dictionary_row(dictionary)))


def _size(compressor: Compressor, scope: str, heads: list[bytes]) -> int:
    return sum(len(compressor.compress(head, (scope,))) for head in heads)


def _heads(archive: Archive, scope: str | None) -> dict[str, list[bytes]]:
    """Heads by SOP class, as they are compressed: behind preamble and file meta."""
    heads: dict[str, list[bytes]] = defaultdict(list)
    for instance in archive.catalog.all_instances():
        wanted = scope in (None, instance.sop_class) and len(heads[instance.sop_class]) < SAMPLES
        if wanted:
            with archive.retriever.opened(instance) as opened:
                heads[instance.sop_class].append(_head(opened))
    return {sop_class: found for sop_class, found in heads.items() if found}


def _head(opened: OpenInstance) -> bytes:
    return (opened.preface() + opened.head())[:LARGEST_SAMPLE]
