"""What the archive holds, raw against stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from leanpacs.catalog import Backlog, Catalog, Summary
from leanpacs.catalog.ageing import Sums
from leanpacs.refs import Tier
from leanpacs.storage.stores import Stores


@dataclass(frozen=True, slots=True)
class Left:
    """What the last plan of the lifecycle has left to do of one kind by one rule, and what that is to save."""

    NAME: ClassVar[str] = "plan"
    """Of the switch that it is kept under."""

    task: str
    rule: str
    tasks: int
    saved_bytes: int
    seconds: float

    @staticmethod
    def to_json(left: Sequence[Left]) -> str:
        """As it is kept in the catalog."""
        return json.dumps([asdict(one) for one in left])

    @classmethod
    def from_json(cls, text: str) -> tuple[Left, ...]:
        """What :meth:`to_json` has written; nothing when nobody has made a plan."""
        return tuple(cls(**one) for one in json.loads(text or "[]"))


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """Figures of one archive.

    ``dictionary_bytes`` are those of the dictionaries in the store, ``catalog_bytes`` those of the database file;
    both come on top of ``summary.total.stored_bytes``. ``outbox`` counts what waits to be sent, and what has failed
    (True), by destination. ``tiers`` gives blobs and bytes by tier, ``forms`` stored forms with raw and stored bytes
    by preset and tier, ``lifecycle`` what was done so far, ``left`` what the last plan left to do, ``damaged`` the
    blobs that a scrub could not repair.
    """

    summary: Summary
    backlog: Backlog
    quarantined: int
    dictionary_bytes: int
    free_bytes: int | None
    outbox: tuple[tuple[str, bool, int], ...] = ()
    tiers: tuple[tuple[Tier, int, int], ...] = ()
    forms: tuple[tuple[str, str, int, int, int], ...] = ()
    lifecycle: tuple[Sums, ...] = ()
    left: tuple[Left, ...] = ()
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
        forms=tuple(catalog.ageing.presets()),
        lifecycle=tuple(catalog.ageing.sums()),
        left=Left.from_json(catalog.ageing.state(Left.NAME)),
        damaged=len(catalog.ageing.damaged()),
    )
