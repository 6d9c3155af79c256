"""The stores that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from leanpacs.config import Settings, TierSettings
from leanpacs.config.tiers import ARCHIVE_CLASSES
from leanpacs.refs import HOT, Tier
from leanpacs.storage.archiveclass import ArchiveStore, DelayedRestoring, Restoring
from leanpacs.storage.local import LocalStore
from leanpacs.storage.store import Availability, BlobStore
from leanpacs.storage.stores import Stores

if TYPE_CHECKING:
    from leanpacs.storage.s3 import S3Place

HOT_FOLDER = "hot"
SPOOL_FOLDER = "spool"
KNOWN_FOLDER = "tiers"
RESTORES_FOLDER = "restores"
SECONDS_A_DAY = 86_400.0


def open_stores(data: Path, settings: Settings) -> Stores:
    """Open the stores of all tiers; the hot one is a folder of ``data`` unless the settings say otherwise.

    Raises
    ------
    StoreUnavailable
        If one cannot be used.
    """
    stores = {Tier(name): open_store(Tier(name), tier, data) for name, tier in settings.tiers.items()}
    hot = stores.pop(HOT, None) or LocalStore(data / HOT_FOLDER)
    return Stores(hot, tuple(stores.values()))


def open_store(tier: Tier, settings: TierSettings, data: Path) -> BlobStore:
    """Open the store of one tier; what it needs on this machine stands in ``data``."""
    if settings.kind == "local" or not settings.is_s3:
        below: BlobStore = _local(tier, Path(settings.url), data / KNOWN_FOLDER / tier)
    else:
        from leanpacs.storage.s3 import S3Store  # its library takes room and time: only where it is used

        below = S3Store(_place(settings), tier, data / SPOOL_FOLDER / tier)
    if settings.kind != "archive":
        return below
    availability = Availability.OFFLINE if settings.offline else Availability.NEARLINE
    return ArchiveStore(below, _restoring(tier, settings, data), availability)


def _local(tier: Tier, root: Path, known: Path) -> LocalStore:
    """A folder is made once; when it has vanished later, perhaps with its disk, no new one takes its place."""
    if known.exists() and known.read_text() == str(root.absolute()):
        return LocalStore(root, tier, make=False)
    store = LocalStore(root, tier)
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(str(root.absolute()))
    return store


def _restoring(tier: Tier, settings: TierSettings, data: Path) -> Restoring:
    if settings.is_s3 and settings.storage_class in ARCHIVE_CLASSES:
        from leanpacs.storage.glacier import S3Restoring

        return S3Restoring(_place(settings), settings.restore_days, settings.restore_speed)
    return DelayedRestoring(
        data / RESTORES_FOLDER / tier, settings.restore_seconds, settings.restore_days * SECONDS_A_DAY
    )


def _place(settings: TierSettings) -> S3Place:
    from leanpacs.storage.s3 import S3Place

    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    return S3Place(
        bucket,
        prefix.strip("/"),
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key.get_secret_value(),
        encryption=settings.encryption,
        kms_key=settings.kms_key,
        storage_class=settings.storage_class,
        virtual_hosts=settings.virtual_hosts,
        ca_file=str(settings.ca or ""),
        retries=settings.retries,
        retry_seconds=settings.retry_seconds,
        idle_seconds=settings.idle_seconds,
    )


def guarded(store: BlobStore, minimum_free_bytes: int) -> BlobStore:
    """The same store, which refuses to be written when less room would stay free."""
    if isinstance(store, LocalStore):
        return LocalStore(store.root, store.tier, fsync=store.fsync, minimum_free_bytes=minimum_free_bytes)
    return store
