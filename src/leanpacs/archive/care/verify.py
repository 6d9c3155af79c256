"""Verify: read every blob of an instance, compare it with its digest, decode it, compare with what was received."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from leanpacs.archive.giveback.seriespack import digest_of
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.catalog import Catalog, InstanceRow, Kind, RepresentationRow
from leanpacs.config import WorkerSettings
from leanpacs.errors import BeingRestored, BlobCorrupt, LeanPACSError, VerificationError, WorkerError
from leanpacs.refs import Digest, Tier
from leanpacs.storage.store import BlobStore
from leanpacs.storage.stores import Stores
from leanpacs.workers import WorkerPool

AHEAD = 4
"""Checks handed out for each worker ahead of the answers, so that memory does not grow with the archive."""


@dataclass(frozen=True, slots=True)
class Check:
    """One blob to be checked; small and picklable.

    ``holder`` is the SOP Instance UID, or what people know a quarantined file by; ``kind`` is None for that, and
    only the blob is checked.
    """

    holder: str
    blob: Digest
    tier: Tier
    kind: Kind | None
    preface_length: int = 0
    data_set_digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of one check; ``problem`` is '' when the bytes received can be given back."""

    check: Check
    size_bytes: int
    problem: str = ""


class Verifier:
    """Checks what an archive holds.

    Parameters
    ----------
    stores : Stores
        Where blobs are.
    catalog : Catalog
        What they should be.
    limits : WorkerSettings
        What checking one of them may take.
    """

    def __init__(self, stores: Stores, catalog: Catalog, limits: WorkerSettings) -> None:
        self._stores = stores
        self._catalog = catalog
        self._limits = limits

    def checks(self, percent: float, *, seed: int | None = None) -> list[Check]:
        """One check for each stored form of ``percent`` of the instances, chosen at random, and for the quarantine."""
        chance = random.Random(seed)
        quarantined = [
            Check(f"quarantine {row.id} ({row.name})", row.blob.digest, row.blob.tier, None)
            for row in self._catalog.quarantined()
        ]
        return quarantined + [
            _check(instance, held)
            for instance in self._catalog.all_instances()
            if percent >= 100 or chance.random() * 100 < percent
            for held in self._catalog.representations(instance.id)
        ]

    def run(self, checks: Sequence[Check], workers: int) -> Iterator[Verified]:
        """Check on several processes; outcomes come in the order of the checks."""
        names = tuple(self._stores.hot.kept_names())
        with WorkerPool(
            workers,
            memory_limit_bytes=self._limits.memory_bytes,
            time_limit_seconds=self._limits.instance_seconds,
        ) as pool:
            yield from _in_order(pool, self._stores, names, checks, workers)


def _in_order(
    executor: Executor,
    stores: Stores,
    names: tuple[str, ...],
    checks: Iterable[Check],
    workers: int,
) -> Iterator[Verified]:
    waiting: deque[tuple[Check, Future[Verified]]] = deque()
    for check in checks:
        waiting.append((check, executor.submit(verify, stores, names, check)))
        if len(waiting) >= workers * AHEAD:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(check: Check, future: Future[Verified]) -> Verified:
    try:
        return future.result()
    except WorkerError as error:
        return Verified(check, 0, str(error))


def verify(stores: Stores, dictionary_names: tuple[str, ...], check: Check) -> Verified:
    """Check one stored form: the blob against its digest, then the data set rebuilt from it."""
    size = 0
    try:
        store = stores.at(check.tier)
        try:
            size = _check_blob(store, check.blob)
        except BeingRestored:  # nobody is made to wait, or to pay, for a check: what the store itself can say must do
            store.check(check.blob)
            return Verified(check, store.size(check.blob))
        _check_data_set(stores, dictionary_names, check)
    except (LeanPACSError, OSError) as error:
        return Verified(check, size, str(error))
    return Verified(check, size)


def _check_blob(store: BlobStore, blob: Digest) -> int:
    sha = hashlib.sha256()
    size = 0
    for piece in store.chunks(blob):
        sha.update(piece)
        size += len(piece)
    if sha.digest() != blob.raw:
        raise BlobCorrupt(blob.hex, f"its bytes have the digest {sha.hexdigest()}")
    return size


def _check_data_set(stores: Stores, dictionary_names: tuple[str, ...], check: Check) -> None:
    if check.data_set_digest is None:
        return
    store = stores.at(check.tier)
    if check.kind is Kind.PACK:
        with store.open(check.blob) as file:
            actual = digest_of(file, dictionaries_of(stores.hot, dictionary_names), check.holder)
    else:
        sha = hashlib.sha256()
        for piece in store.chunks(check.blob, check.preface_length):
            sha.update(piece)
        actual = Digest(sha.digest())
    if actual != check.data_set_digest:
        raise VerificationError("the data set is not the one received", check.data_set_digest.hex, actual.hex)


def _check(instance: InstanceRow, held: RepresentationRow) -> Check:
    return Check(
        instance.sop_uid, held.blob.digest, held.blob.tier, held.kind, held.preface_length, instance.data_set_digest
    )
