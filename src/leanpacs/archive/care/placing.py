"""Copy and move stored forms between tiers: written, read back and compared, named in the catalog, then let go."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from leanpacs.catalog import Catalog, Kind, RepresentationRow, Transaction
from leanpacs.errors import BlobCorrupt, StoreUnavailable
from leanpacs.refs import BlobRef, Tier
from leanpacs.storage.dictionary import load_all
from leanpacs.storage.store import BlobStore
from leanpacs.storage.stores import Stores


@dataclass(frozen=True, slots=True)
class Placed:
    """What was done: forms that stand where they should now, blobs that were written for it, and their bytes."""

    forms: int = 0
    blobs: int = 0
    size_bytes: int = 0


class Placer:
    """Puts stored forms on tiers.

    Nothing is decoded: a blob of the same digest has the same bytes, and what was proven of the one holds for the
    other. Every step may be repeated; what a crash leaves is an unnamed blob, which a sweep finds.

    Parameters
    ----------
    stores : Stores
        All tiers.
    catalog : Catalog
        What stands where.
    copies : mapping of Tier to sequence of Tier
        Tiers that hold a copy of what is moved to a tier.
    grace : timedelta
        How long a blob stays where it was.
    now : callable, optional
        The time (aware, UTC).
    step : callable, optional
        Called with a name between every two steps; tests stop the process there.
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        *,
        copies: Mapping[Tier, Sequence[Tier]],
        grace: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stores = stores
        self._catalog = catalog
        self._copies = copies
        self._grace = grace
        self._now = now
        self._step = step
        self._dictionaries_at: dict[Tier, set[int]] = {}

    def copy(self, forms: Iterable[RepresentationRow], tier: Tier) -> Placed:
        """Let stored forms stand on a tier, too; see `move`."""
        return self._place(forms, [tier], leave=False)

    def place(self, forms: Iterable[RepresentationRow], tiers: Sequence[Tier]) -> Placed:
        """Let stored forms stand on these tiers and on no others; all copies of a form are given. See `move`."""
        return self._place(forms, tiers, leave=True)

    def move(self, forms: Iterable[RepresentationRow], tier: Tier) -> Placed:
        """Let stored forms stand on a tier and on those of its copies, and no longer where they are.

            Parameters
            ----------
            forms : iterable of RepresentationRow
                Packs; several that share a blob are moved together.
            tier : Tier
                Where to.

            Raises
            ------
            BlobCorrupt
                The bytes are damaged where they are, or came back otherwise: nothing is changed.
        StoreFull, StoreUnavailable
                Nothing is changed; it may be tried again.
        """
        return self._place(forms, [tier, *self._copies.get(tier, ())], leave=True)

    def _place(self, forms: Iterable[RepresentationRow], tiers: Sequence[Tier], *, leave: bool) -> Placed:
        by_blob: dict[BlobRef, list[RepresentationRow]] = defaultdict(list)
        for form in forms:
            if form.kind is not Kind.PACK:
                raise ValueError("only what has settled is moved")
            by_blob[form.blob].append(form)
        done = [self._place_blob(blob, sharing, tiers, leave=leave) for blob, sharing in by_blob.items()]
        return Placed(
            sum(one.forms for one in done), sum(one.blobs for one in done), sum(one.size_bytes for one in done)
        )

    def _place_blob(
        self, blob: BlobRef, forms: Sequence[RepresentationRow], tiers: Sequence[Tier], *, leave: bool
    ) -> Placed:
        targets = [self._stores.at(tier) for tier in tiers if tier != blob.tier]
        written = 0
        for target in targets:
            self._bring_dictionaries(target, forms)
            written += self._bring(blob, target)
            self._step("copied")
        now = self._now()

        def record(transaction: Transaction) -> int:
            transaction.hold_blobs([BlobRef(target.tier, blob.digest, blob.size_bytes) for target in targets], now)
            placed = 0
            for form in forms:
                there = [
                    transaction.add_copy(form.id, BlobRef(target.tier, blob.digest, blob.size_bytes), now=now)
                    for target in targets
                ]
                placed += None not in there
                if leave and blob.tier not in tiers and None not in there:
                    transaction.drop_copy(form.id, now=now, due_at=now + self._grace)
            if targets:
                transaction.ageing.carry_erasures(blob.digest)
            # Looked at only now that the catalog names it, for from now on nobody sweeps it.
            for target in targets:
                if not target.exists(blob.digest):
                    raise StoreUnavailable(f"blob {blob.digest} was swept while it was being placed; try again")
            self._step("recorded")
            return placed

        placed = self._catalog.write(record)
        self._step("committed")
        return Placed(placed, written, written * blob.size_bytes)

    def _bring(self, blob: BlobRef, target: BlobStore) -> int:
        """Make a blob stand in a store, proven by what the store has; the number of blobs written."""
        source = self._stores.at(blob.tier)
        if target.exists(blob.digest) and _is_whole(target, blob):
            return 0
        sha = hashlib.sha256()
        with target.writer() as writer:
            for piece in source.chunks(blob.digest):
                sha.update(piece)
                writer.file.write(piece)
            if sha.digest() != blob.digest.raw:
                raise BlobCorrupt(blob.digest.hex, f"its bytes on tier {blob.tier} have the digest {sha.hexdigest()}")
            self._step("read")
            writer.commit()
        target.check(blob.digest)
        return 1

    def _bring_dictionaries(self, target: BlobStore, forms: Sequence[RepresentationRow]) -> None:
        needed = {form.dictionary_id for form in forms if form.dictionary_id}
        if needed <= self._dictionaries_at.get(target.tier, set()):
            return
        self._stores.share_dictionaries([target.tier])
        self._dictionaries_at[target.tier] = {dictionary.id for dictionary in load_all(target)}


def _is_whole(store: BlobStore, blob: BlobRef) -> bool:
    try:
        store.check(blob.digest)
    except BlobCorrupt:
        return False
    return True
