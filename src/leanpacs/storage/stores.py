"""The stores of an archive, one for each tier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from leanpacs.errors import StoreUnavailable
from leanpacs.refs import Tier
from leanpacs.storage.dictionary import load_all, save
from leanpacs.storage.store import BlobStore


@dataclass(frozen=True, slots=True)
class Stores:
    """Which store holds which tier; a plain value when its stores are, so that it can be sent to a worker process.

    Parameters
    ----------
    hot : BlobStore
        Where what arrives is landed and settled.
    others : tuple of BlobStore
        The other tiers, in the order of the settings; each store knows the name of its tier.
    """

    hot: BlobStore
    others: tuple[BlobStore, ...] = ()

    @classmethod
    def of(cls, *stores: BlobStore) -> Self:
        """The first one is the hot tier."""
        return cls(stores[0], stores[1:])

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The names of all tiers, the hot one first."""
        return tuple(store.tier for store in self)

    def __iter__(self) -> Iterator[BlobStore]:
        yield self.hot
        yield from self.others

    def __contains__(self, tier: object) -> bool:
        return tier in self.tiers

    def at(self, tier: Tier) -> BlobStore:
        """The store of a tier.

        Raises
        ------
        StoreUnavailable
            If the settings name no such tier: what is held there comes back when they do.
        """
        for store in self:
            if store.tier == tier:
                return store
        raise StoreUnavailable(f"no tier is called {tier!r}; add [tiers.{tier}] to the settings again")

    def share_dictionaries(self, targets: Sequence[Tier] | None = None) -> None:
        """Keep every dictionary of the hot tier in other tiers, too: in all of them, or in those named.

        A pack must not stand in a store that lacks the dictionary which its head needs.
        """
        known = load_all(self.hot)
        for store in self.others:
            if targets is None or store.tier in targets:
                held = {dictionary.id for dictionary in load_all(store)}
                for dictionary in known:
                    if dictionary.id not in held:
                        save(store, dictionary)
