"""The archive: one store, one catalog, and the use cases wired to them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from leanpacs.archive.care.delete import NAMES, WHOLE, Deleter
from leanpacs.archive.care.placing import Placer
from leanpacs.archive.care.verify import Verifier
from leanpacs.archive.giveback.cache import DiskCache
from leanpacs.archive.giveback.holding import SHELF_BYTES
from leanpacs.archive.giveback.kept import Kept
from leanpacs.archive.giveback.passing import SYNTAX_OF
from leanpacs.archive.giveback.reads import Reads
from leanpacs.archive.giveback.restoring import Restorer
from leanpacs.archive.giveback.retrieve import Retriever
from leanpacs.archive.giveback.searching import Searcher
from leanpacs.archive.host import host_name
from leanpacs.archive.intake.forwarding import Forwarding
from leanpacs.archive.intake.incoming import Incoming, Receipt
from leanpacs.archive.intake.ingest import Ingest
from leanpacs.archive.inuse import InUse, clear_memory_of_dead_server
from leanpacs.archive.recent import Recent
from leanpacs.archive.settle.representing import dictionary_row
from leanpacs.archive.settle.settler import Settler
from leanpacs.archive.status import ArchiveStatus, status
from leanpacs.archive.tiers import guarded, open_stores
from leanpacs.archive.worklist import WorklistFolder
from leanpacs.audit import AuditTrail
from leanpacs.catalog import AnyOf, Catalog, Pool, Query, Transaction, open_catalog
from leanpacs.codecs.isolated import FrameWorkers
from leanpacs.config import Settings
from leanpacs.errors import StorageError
from leanpacs.refs import Tier
from leanpacs.storage.dictionary import load_all, save, shipped
from leanpacs.storage.memoryfolder import memory_folder
from leanpacs.storage.store import BlobStore
from leanpacs.telemetry import Metrics
from leanpacs.workers import WorkerPool

log = logging.getLogger(__name__)

CATALOG_FILE = "catalog.sqlite"
AUDIT_FOLDER = "audit"
WORKLIST_FOLDER = "worklist"
CACHE_FOLDER = "cache"
RECENT_FOLDER = "recent"
_MEMORY_SHARE = 8
"""At most so large a part of what files in memory may take is for what has just arrived."""
_LEAST_SHELF_BYTES = 4 << 20
UNUSED_SECONDS = 300.0
"""After how long what nobody asks for leaves the memory: who reads a study has asked for the next image by then."""
AHEAD_SHARE = 4
"""So large a part of what is kept in memory may be made for one reader before it is asked for."""


class Archive:
    """An open archive; use :func:`open_archive` to get one. Thread-safe; a context manager.

    Attributes
    ----------
    stores : Stores
        Blobs, by tier.
    catalog : Catalog
        What is held; queries go there.
    retriever : Retriever
        Gives instances back.
    cache : Kept
        What was made for receivers lately.
    cache_folder : Path
        Where that is on disk, for all processes of this host.
    host : str
        Name of this host's part of the archive; those who claim work have names that begin with it.
    recent : Recent or None
        Copies in memory of what has just arrived.
    reads : Reads
        Which series were read, and when.
    audit : AuditTrail
        What was deleted, replaced, refused or put in quarantine, and by whom.
    searcher : Searcher
        Finds by any attribute.
    worklist : WorklistFolder
        Scheduled procedure steps, for modalities.
    step : callable
        Called with a name between every two steps of what changes the archive; tests stop the process there.
    was_alone : bool
        Whether no other process had the archive open when it was opened here.
    """

    def __init__(self, data: Path, settings: Settings, step: Callable[[str], None] = lambda _: None) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.step = step
        self._in_use = InUse(data)
        self.stores = open_stores(data, settings)
        self.catalog = catalog_of(data, settings)
        self.host = host_name(data)
        self.catalog.tell_availability({store.tier: store.availability for store in self.stores})
        self.was_alone = self._in_use.alone
        if self.was_alone:
            self._clean_up()
        self._in_use.share()
        self.audit = AuditTrail(data / AUDIT_FOLDER, segment_bytes=settings.audit.segment_bytes)
        # Only taking in is refused when the disk is nearly full: settling is what makes room.
        hot = guarded(self.store, settings.storage.minimum_free_bytes)
        self._ingest = Ingest(
            hot,
            self.catalog,
            settings.ingest,
            self.audit,
            grace=self.grace,
            forwarding=Forwarding(settings.forward),
            step=step,
        )
        self.worklist = WorklistFolder(settings.worklist.folder or data / WORKLIST_FOLDER)
        self._decoders = WorkerPool(
            settings.workers.decoders or os.cpu_count() or 1,
            memory_limit_bytes=settings.workers.memory_bytes,
            time_limit_seconds=settings.workers.frame_seconds,
        )
        self.cache_folder = data / CACHE_FOLDER
        disk = DiskCache(
            self.cache_folder,
            limit_bytes=settings.delivery.cache_bytes,
            minimum_free_bytes=settings.storage.minimum_free_bytes,
        )
        self.cache = Kept(disk, memory_bytes=settings.delivery.memory_bytes)
        self.reads = Reads(self.catalog)
        clear_memory_of_dead_server(data)
        self.recent = recent_of(data, settings)
        self.retriever = Retriever(
            self.stores,
            self.catalog,
            limit_inflated_bytes=settings.ingest.largest_inflated_bytes,
            workers=FrameWorkers(
                self._decoders,
                memory_limit_bytes=settings.workers.memory_bytes,
                time_limit_seconds=settings.workers.frame_seconds,
            ),
            cache=self.cache,
            any_syntax=[SYNTAX_OF[codec] for codec in settings.delivery.any_syntax],
            verify_one_in=settings.delivery.verify_one_in,
            ahead_bytes=settings.delivery.memory_bytes // AHEAD_SHARE,
            shelf_bytes=min(max(settings.delivery.memory_bytes, _LEAST_SHELF_BYTES), SHELF_BYTES),
            recent=self.recent,
            on_read=lambda instance: self.reads.note(instance.series_id),
        )
        self.searcher = Searcher(self.catalog, self.retriever, self.cache)

    @property
    def store(self) -> BlobStore:
        """Blobs of the hot tier."""
        return self.stores.hot

    @property
    def grace(self) -> timedelta:
        """How long blobs of what was deleted or replaced stay."""
        return timedelta(seconds=self.settings.delete.grace_seconds)

    @property
    def spool_folder(self) -> Path:
        """Where doors write incoming files, on the store's file system."""
        return self.store.spool_folder()

    def forget_unused(self) -> None:
        """Let go of what is kept in memory for receivers and was not asked for lately."""
        self.cache.forget_unused(UNUSED_SECONDS)
        self.retriever.forget_unused(UNUSED_SECONDS)

    def warm_up(self, *, pictures: bool = False) -> None:
        """Do now what is done once, and whoever asks first would wait for; see :meth:`Retriever.warm_up`."""
        nobody = AnyOf(("0",))
        self.catalog.find_instances(Query("instance", {"StudyInstanceUID": nobody}))
        self.retriever.warm_up(pictures=pictures)

    def land(self, incoming: Incoming) -> Receipt:
        """Take one received file; it is durable and committed when this returns (:meth:`Ingest.land_many`)."""
        return self._ingest.land(incoming)

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        """Take several received files in one transaction (:meth:`Ingest.land_many`)."""
        return self._ingest.land_many(batch)

    def settler(self, metrics: Metrics | None = None) -> Settler:
        """A settler for this archive; the caller runs it."""
        return Settler(
            self.store,
            self.catalog,
            self.settings.settle,
            self.settings.workers,
            limit_inflated_bytes=self.settings.ingest.largest_inflated_bytes,
            host=self.host,
            metrics=metrics,
            recent=self.recent,
            step=self.step,
        )

    def verifier(self) -> Verifier:
        """Checks what is held against its digests."""
        return Verifier(self.stores, self.catalog, self.settings.workers)

    def placer(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Placer:
        """Copies and moves stored forms between tiers."""
        copies = {Tier(name): tuple(map(Tier, tier.copies)) for name, tier in self.settings.tiers.items()}
        return Placer(self.stores, self.catalog, copies=copies, grace=self.grace, now=now, step=self.step)

    def restorer(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Restorer:
        """Brings back what somebody wants from archive classes."""
        keep = {Tier(name): timedelta(days=tier.restore_days) for name, tier in self.settings.tiers.items()}
        return Restorer(self.stores, self.catalog, self.placer(now), keep=keep, grace=self.grace, now=now)

    def deleter(self) -> Deleter:
        """Deletes instances, series and studies."""
        return Deleter(self.stores, self.catalog, self.audit, grace=self.grace, recent=self.recent, step=self.step)

    def status(self) -> ArchiveStatus:
        """What is held, raw against stored."""
        return status(self.stores, self.catalog)

    def close(self) -> None:
        """Close the catalog and stop the workers; safe to call twice."""
        self.retriever.close()
        self.reads.close()
        self._decoders.shutdown()
        self.cache.close()
        self.catalog.close()
        self._in_use.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clean_up(self) -> None:
        """Remove what a crash left behind, and name the dictionaries; nobody else here has the archive open."""
        now = datetime.now(UTC)
        for store in self.stores:
            try:
                store.sweep_temporary(now + timedelta(seconds=1))
            except StorageError as error:  # a tier that is away, or can only be read, keeps nobody waiting
                if store is self.store:
                    raise
                log.error("tier %s: %s", store.tier, error, extra={"action": "start"})
        save(self.store, shipped())
        held = load_all(self.store)
        names = self.catalog.ageing.state(NAMES) or self._names_of_new_catalog()

        def begin_anew(transaction: Transaction) -> None:
            if self.catalog.is_shared:
                transaction.release_claims_of(self.host)
            else:
                transaction.release_all_claims()
            transaction.ageing.release_claims_of(self.host if self.catalog.is_shared else "")
            transaction.ageing.switch(NAMES, names)
            for dictionary in held:
                transaction.add_dictionary(dictionary_row(dictionary))

        self.catalog.write(begin_anew)

    def _names_of_new_catalog(self) -> str:
        """A catalog that begins when there are blobs takes the place of one that was lost."""
        is_new = not self.catalog.last_change() and next(iter(self.store.list()), None) is not None
        return "was empty when there were blobs" if is_new else WHOLE


def catalog_of(data: Path, settings: Settings) -> Catalog:
    """Open the catalog of the archive in folder ``data``: a file there, unless the settings name a database.

    Raises
    ------
    CatalogUnavailable, CatalogError, ConfigError
        As `open_catalog` does.
    """
    given = settings.catalog
    pool = Pool(given.connections, given.connect_seconds, given.wait_seconds)
    return open_catalog(given.url.get_secret_value() or data / CATALOG_FILE, pool)


def recent_of(data: Path, settings: Settings) -> Recent | None:
    """Where what has just arrived is kept in memory; None when it is not, or no server is running."""
    folder = memory_folder(data)
    if folder is None or not settings.delivery.recent_bytes:
        return None
    with suppress(OSError):
        (folder / RECENT_FOLDER).mkdir(mode=0o700, exist_ok=True)
        memory = os.statvfs(folder)
        room = min(settings.delivery.recent_bytes, memory.f_blocks * memory.f_frsize // _MEMORY_SHARE)
        return Recent(folder / RECENT_FOLDER, room, settings.delivery.recent_seconds)
    return None


def open_archive(
    data: Path, settings: Settings | None = None, *, step: Callable[[str], None] = lambda _: None
) -> Archive:
    """Open the archive in folder ``data``; it is made if there is none.

    Parameters
    ----------
    data : Path
        Folder of the archive.
    settings : Settings, optional
        Defaults when not given.
    step : callable, optional
        Called with a name between every two steps of landing and settling; tests stop the process there.

    Raises
    ------
    CatalogUnavailable, StoreUnavailable
        If the folder cannot be used.
    """
    return Archive(data, settings or Settings(), step)
