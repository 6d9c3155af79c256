"""Which of the stored forms of an instance is read, and opening it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Final

from leanpacs.archive.giveback.cost import seconds_to_read
from leanpacs.archive.giveback.opened import open_landed, open_pack
from leanpacs.archive.giveback.shelf import Opened, Shelf
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.catalog import Catalog, InstanceRow, Kind, RepresentationRow
from leanpacs.errors import BlobNotFound, InstanceNotFound
from leanpacs.refs import Digest
from leanpacs.storage.stores import Stores
from leanpacs.transcode.source import OpenInstance

OPEN_ATTEMPTS: Final = 3
"""An instance may be settled between looking up where it is and opening it; then it is looked up again."""
SHELF_BYTES: Final = 64 << 20
PLACES_SECONDS: Final = 30.0
"""How long a better form that was made meanwhile may stay unnoticed."""
MOST_PLACES: Final = 20_000


class Holdings:
    """Opens what is held. Thread-safe.

    Parameters
    ----------
    stores : Stores
        Where blobs are.
    catalog : Catalog
        Which blobs hold an instance.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are only given as received.
    """

    def __init__(self, stores: Stores, catalog: Catalog, *, limit_inflated_bytes: int) -> None:
        self._stores = stores
        self._catalog = catalog
        self._limit_inflated_bytes = limit_inflated_bytes
        self._shelf = Shelf(SHELF_BYTES)
        self._places = _Places()
        self._dictionary_names: tuple[str, ...] = ()

    def expect(self, instances: Sequence[InstanceRow]) -> None:
        """Look up at once where these instances are, which are about to be opened."""
        unknown = {row.id: row for row in instances if self._places.get(row) is None}
        if len(unknown) > 1:
            for key, held in self._catalog.representations_of(list(unknown)).items():
                self._places.put(unknown[key], held)

    def known(self, instance: InstanceRow, wanted: str | None = None) -> Opened | None:
        """What is known of the form that :meth:`opened` opens, if it is at hand."""
        held = [row for row in self._places.get(instance) or () if row.kind is Kind.PACK]
        return self._shelf.get(self._best(held, wanted).blob.digest) if held else None

    @contextmanager
    def opened(self, instance: InstanceRow, wanted: str | None = None) -> Iterator[OpenInstance]:
        """Open an instance in the form from which it is soonest had in the transfer syntax ``wanted``."""
        with ExitStack() as stack:
            yield self._enter(stack, instance, wanted)

    def _enter(self, stack: ExitStack, instance: InstanceRow, wanted: str | None) -> OpenInstance:
        for attempt in range(OPEN_ATTEMPTS - 1):
            with suppress(BlobNotFound):
                return stack.enter_context(self._context(instance, wanted, anew=attempt > 0))
        return stack.enter_context(self._context(instance, wanted, anew=True))

    def _context(
        self, instance: InstanceRow, wanted: str | None, *, anew: bool
    ) -> AbstractContextManager[OpenInstance]:
        held = None if anew else self._places.get(instance)
        if held is None:
            held = self._catalog.representations(instance.id)
            self._places.put(instance, held)
        if not held:
            raise InstanceNotFound(instance.sop_uid)
        best = self._best(held, wanted)
        store = self._stores.at(best.blob.tier)
        if best.kind is Kind.PACK:
            if self._shelf.get(best.blob.digest) is None:  # else its dictionary was there when it was opened before
                self._dictionary_names = tuple(self._stores.hot.kept_names())
            dictionaries = dictionaries_of(self._stores.hot, self._dictionary_names)
            limit = self._limit_inflated_bytes
            return open_pack(
                store,
                best.blob.digest,
                dictionaries,
                instance.sop_uid,
                limit_inflated_bytes=limit,
                shelf=self._shelf,
            )
        return open_landed(
            store, best.blob.digest, instance.transfer_syntax, limit_inflated_bytes=self._limit_inflated_bytes
        )

    def _best(self, held: Sequence[RepresentationRow], wanted: str | None) -> RepresentationRow:
        return held[0] if len(held) == 1 else min(held, key=lambda row: self._seconds(row, wanted))

    def _seconds(self, row: RepresentationRow, wanted: str | None) -> float:
        return seconds_to_read(row, wanted, is_hot=row.blob.tier == self._stores.hot.tier)


class _Places:
    """Where instances were found, for a short while. What has gone since is looked up again by who does not find it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, Digest], tuple[float, list[RepresentationRow]]] = OrderedDict()

    def get(self, instance: InstanceRow) -> list[RepresentationRow] | None:
        with self._lock:
            until, held = self._known.get((instance.id, instance.data_set_digest), (0.0, None))
        return held if time.monotonic() < until else None

    def put(self, instance: InstanceRow, held: list[RepresentationRow]) -> None:
        with self._lock:
            self._known[instance.id, instance.data_set_digest] = time.monotonic() + PLACES_SECONDS, held
            self._known.move_to_end((instance.id, instance.data_set_digest))
            if len(self._known) > MOST_PLACES:
                self._known.popitem(last=False)
