"""Delete: the catalog first, with a tombstone; the blobs later, after a grace period, if nothing refers to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from leanpacs.archive.recent import Recent
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.catalog import Catalog, Deleted, Transaction
from leanpacs.errors import StoreUnavailable
from leanpacs.refs import BlobRef, Digest
from leanpacs.storage.store import BlobStore
from leanpacs.storage.stores import Stores

log = logging.getLogger(__name__)

BATCH = 1000

NAMES: Final = "names"
"""Switch of the catalog: whether it names all that is held. '' when that was not looked at yet."""

WHOLE: Final = "whole"
"""It does; any other value says why it may not, and then no orphan is swept."""


class Deleter:
    """Deletes what is held, and sweeps what nothing refers to.

    Parameters
    ----------
    stores : Stores
        Where blobs are.
    catalog : Catalog
        What refers to them.
    audit : AuditTrail
        Told of what is deleted.
    grace : timedelta
        How long blobs of deleted instances stay.
    recent : Recent, optional
        Copies of what has just arrived; none of them stays when something is deleted.
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        audit: AuditTrail,
        *,
        grace: timedelta,
        recent: Recent | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stores = stores
        self._catalog = catalog
        self._audit = audit
        self._grace = grace
        self._recent = recent
        self._step = step

    def delete(
        self,
        *,
        study_uid: str | None = None,
        series_uid: str | None = None,
        sop_uid: str | None = None,
        actor: str,
        reason: str,
    ) -> Deleted:
        """Delete a study, a series or an instance.

        Raises
        ------
        InstanceNotFound
            If there is none.
        """
        deleted = self._catalog.write(
            lambda transaction: transaction.delete(
                study_uid=study_uid,
                series_uid=series_uid,
                sop_uid=sop_uid,
                actor=actor,
                reason=reason,
                now=datetime.now(UTC),
                grace_seconds=self._grace.total_seconds(),
            )
        )
        self._step("deleted")
        if self._recent is not None:
            self._recent.clear()
        event = AuditEvent(
            at=datetime.now(UTC),
            actor=actor,
            action=AuditAction.DELETE,
            outcome=AuditOutcome.SUCCESS,
            study_uid=study_uid or "",
            series_uid=series_uid or "",
            sop_uid=sop_uid or "",
            detail=f"{deleted.instances} instances: {reason}",
        )
        self._audit.record(event)
        return deleted

    def sweep(self, now: datetime) -> int:
        """Delete blobs whose grace period is over and that nothing refers to; returns how many.

        A tier that does not answer is left for the next time.
        """
        return sum(self._each(lambda store: self._sweep_tier(store, now)))

    def _sweep_tier(self, store: BlobStore, now: datetime) -> int:
        removed = 0
        while True:
            with self._catalog.writing() as transaction:
                swept = sweep(store, transaction, now)
                self._step("set aside")
            self._step("forgotten")
            unlink_all(swept.files)
            removed += swept.count
            if not swept.count:
                return removed

    def _each(self, work: Callable[[BlobStore], int]) -> Iterator[int]:
        for store in self._stores:
            try:
                yield work(store)
            except StoreUnavailable as error:
                log.error("tier %s is not swept: %s", store.tier, error, extra={"action": "sweep"})

    def sweep_orphans(self, before: datetime) -> int:
        """Delete blobs that the catalog does not know and that were put before ``before``; returns how many.

        A crash between making bytes durable and committing leaves such blobs. ``before`` must lie before the start
        of every process that may be taking something in. None is deleted while the catalog may lack names.
        """
        return sum(self._each(lambda store: self._sweep_orphans(store, before)))

    def _sweep_orphans(self, store: BlobStore, before: datetime) -> int:
        removed = 0
        batch: dict[Digest, BlobRef] = {}
        for stat in store.list():
            if stat.modified < before:
                batch[stat.digest] = BlobRef(store.tier, stat.digest, stat.size_bytes)
            if len(batch) == BATCH:
                removed += self._remove_unknown(store, batch)
                batch = {}
        return removed + self._remove_unknown(store, batch)

    def _remove_unknown(self, store: BlobStore, old: Mapping[Digest, BlobRef]) -> int:
        """Make what is not known garbage, and sweep it as such: somebody may be about to refer to it."""
        unknown = self._catalog.unknown_blobs(list(old), store.tier)
        if unknown and (reason := self._catalog.ageing.state(NAMES)) not in ("", WHOLE):
            told = "blobs without a name stay: the catalog %s; run leanpacs rebuild-catalog --continue"
            log.error(told, reason, extra={"action": "sweep", "count": len(unknown)})
            return 0
        if unknown:
            now = datetime.now(UTC)

            def make_garbage(transaction: Transaction) -> None:
                for digest in sorted(unknown):
                    transaction.discard(old[digest], now=now, due_at=now)

            self._catalog.write(make_garbage)
            self._sweep_tier(store, now)
        return len(unknown)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many blobs a sweep took out of a store, and the local files that are left of them."""

    count: int
    files: Sequence[Path]


def sweep(store: BlobStore, transaction: Transaction, now: datetime) -> Swept:
    """Take a batch of blobs that are due and that nothing refers to out of the store.

    Looking and taking out stand inside one write transaction, as does every new reference to a blob, so that no blob
    is deleted that somebody has begun to refer to: one of the two waits for the other. Deleting the bytes takes longer
    and keeps nobody waiting: the caller does it after the transaction.
    """
    due = transaction.collect_garbage(now, BATCH, store.tier)
    files = store.set_aside([blob.digest for blob in due])
    transaction.forget_garbage(due)
    return Swept(len(due), files)


def unlink_all(files: Iterable[Path]) -> None:
    """Delete what `sweep` has taken out."""
    for path in files:
        path.unlink(missing_ok=True)
