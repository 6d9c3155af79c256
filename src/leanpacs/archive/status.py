"""What the archive holds, raw against stored."""

from __future__ import annotations

from dataclasses import dataclass

from leanpacs.catalog import Backlog, Catalog, Summary
from leanpacs.catalog.ageing import Sums
from leanpacs.refs import Tier
from leanpacs.storage.stores import Stores


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """Figures of one archive.

    ``dictionary_bytes`` are those of the dictionaries in the store, ``catalog_bytes`` those of the database file;
    both come on top of ``summary.total.stored_bytes``. ``outbox`` counts what waits to be sent, and what has failed
    (True), by destination. ``tiers`` gives blobs and bytes by tier, ``lifecycle`` what was done so far, ``damaged`` the
    blobs that a scrub could not repair.
    """

    summary: Summary
    backlog: Backlog
    quarantined: int
    dictionary_bytes: int
    free_bytes: int | None
    outbox: tuple[tuple[str, bool, int], ...] = ()
    tiers: tuple[tuple[Tier, int, int], ...] = ()
    lifecycle: tuple[Sums, ...] = ()
    damaged: int = 0


def status(stores: Stores, catalog: Catalog) -> ArchiveStatus:
    """Collect the figures."""
    store = stores.hot
    dictionaries = [name for name in store.kept_names() if name.startswith("dictionaries/")]
    return ArchiveStatus(
        summary=catalog.summary(),
        backlog=catalog.backlog(),
        quarantined=len(catalog.quarantined()),
        dictionary_bytes=sum(len(store.kept(name)) for name in dictionaries),
        free_bytes=store.free_bytes(),
        outbox=tuple(catalog.outgoing.totals()),
        tiers=tuple(catalog.ageing.tiers()),
        lifecycle=tuple(catalog.ageing.sums()),
        damaged=len(catalog.ageing.damaged()),
    )
