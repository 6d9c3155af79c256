"""Bring back what somebody wants from tiers in which reading takes asking.

Who asks for one instance of a study is likely to want the others: the whole study is asked for. What can be read then
is copied to the hot tier, and dropped from there again after some days; until then it counts as available at once.
What was asked for is in the catalog, so that no restart forgets it; any number of hosts may do this work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from leanpacs.archive.care.placing import Placer
from leanpacs.catalog import Catalog, RepresentationRow, RestoreRow, Transaction
from leanpacs.errors import BlobCorrupt, BlobNotFound, LeanPACSError
from leanpacs.refs import Tier
from leanpacs.storage.store import Availability
from leanpacs.storage.stores import Stores

log = logging.getLogger(__name__)

KEEP = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Restored:
    """What one round did: forms that were brought back, that are still waited for, and that were let go again."""

    brought: int = 0
    waiting: int = 0
    let_go: int = 0


class Restorer:
    """Asks for what is wanted, and copies it to the hot tier when it can be read.

    Parameters
    ----------
    stores : Stores
        All tiers.
    catalog : Catalog
        What was asked for.
    placer : Placer
        Copies it.
    keep : mapping of Tier to timedelta
        For how long what was brought back from a tier stays on the hot one.
    grace : timedelta
        How long a blob stays that was let go.
    now : callable, optional
        The time (aware, UTC).
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        placer: Placer,
        *,
        keep: Mapping[Tier, timedelta],
        grace: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stores = stores
        self._catalog = catalog
        self._placer = placer
        self._keep = keep
        self._grace = grace
        self._now = now

    def run(self, stop: threading.Event, seconds: float) -> None:
        """Go round every so many seconds until ``stop`` is set."""
        while not stop.wait(seconds):
            try:
                self.round()
            except (LeanPACSError, OSError) as error:
                log.error("restoring waits: %s", error, extra={"action": "restore"})

    def round(self) -> Restored:
        """Ask for, bring back and let go whatever is due; what fails is tried again in the next round."""
        brought = waiting = let_go = 0
        for row in self._catalog.restores():
            try:
                if row.ready_at is not None:
                    let_go += self._let_go(row, row.ready_at)
                elif self._brought(row):
                    brought += 1
                else:
                    waiting += 1
            except (BlobNotFound, BlobCorrupt) as error:
                log.error("cannot be restored: %s", error, extra={"action": "restore"})
                self._forget(row)
            except (LeanPACSError, OSError) as error:
                waiting += 1
                log.warning("restoring waits: %s", error, extra={"action": "restore"})
        return Restored(brought, waiting, let_go)

    def _brought(self, row: RestoreRow) -> bool:
        form, store = row.form, self._stores.at(row.form.blob.tier)
        if store.restore(form.blob.digest) > 0.0:
            return False
        self._placer.copy([form], self._stores.hot.tier)
        self._catalog.write(lambda transaction: transaction.note_restored(form.id, now=self._now()))
        return True

    def _let_go(self, row: RestoreRow, ready_at: datetime) -> bool:
        now = self._now()
        if now - ready_at < self._keep.get(row.form.blob.tier, KEEP):
            return False
        hot = [form for form in self._same(row.form) if form.blob.tier == self._stores.hot.tier]

        def let_go(transaction: Transaction) -> None:
            for form in hot:
                transaction.drop_copy(form.id, now=now, due_at=now + self._grace)
            transaction.end_restore(row.form.id)

        self._catalog.write(let_go)
        return True

    def _same(self, form: RepresentationRow) -> list[RepresentationRow]:
        held = self._catalog.representations(form.instance_id)
        return [one for one in held if one.blob.digest == form.blob.digest]

    def _forget(self, row: RestoreRow) -> None:
        self._catalog.write(lambda transaction: transaction.end_restore(row.form.id))


def ask_for_study(stores: Stores, catalog: Catalog, study_uid: str, now: datetime) -> int:
    """Remember that all of a study is to be brought back; the number of instances that nobody had asked for."""
    awake = [store.tier for store in stores if store.availability is Availability.ONLINE]
    asleep = catalog.asleep(study_uid, awake)
    if not asleep:
        return 0
    return catalog.write(lambda transaction: transaction.ask_restores([form.id for form in asleep], now=now))
