"""The stores that the settings name."""

from __future__ import annotations

from pathlib import Path

from leanpacs.config import Settings, TierSettings
from leanpacs.refs import HOT, Tier
from leanpacs.storage.local import LocalStore
from leanpacs.storage.store import BlobStore
from leanpacs.storage.stores import Stores

HOT_FOLDER = "hot"


def open_stores(data: Path, settings: Settings) -> Stores:
    """Open the stores of all tiers; the hot one is a folder of ``data`` unless the settings say otherwise.

    Raises
    ------
    StoreUnavailable
        If one cannot be used.
    """
    stores = {Tier(name): open_store(Tier(name), tier) for name, tier in settings.tiers.items()}
    hot = stores.pop(HOT, None) or LocalStore(data / HOT_FOLDER)
    return Stores(hot, tuple(stores.values()))


def open_store(tier: Tier, settings: TierSettings) -> BlobStore:
    """Open the store of one tier."""
    return LocalStore(Path(settings.url), tier)


def guarded(store: BlobStore, minimum_free_bytes: int) -> BlobStore:
    """The same store, which refuses to be written when less room would stay free."""
    if isinstance(store, LocalStore):
        return LocalStore(store.root, store.tier, fsync=store.fsync, minimum_free_bytes=minimum_free_bytes)
    return store
