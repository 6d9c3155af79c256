"""Which of the stored forms of an instance is read, and opening it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from leanpacs.archive.giveback.arrived import ArrivedInstance, open_arrived
from leanpacs.archive.giveback.cost import seconds_to_read
from leanpacs.archive.giveback.opened import open_landed, open_pack
from leanpacs.archive.giveback.passing import CODEC_OF
from leanpacs.archive.giveback.places import Places
from leanpacs.archive.giveback.restoring import ask_for_study
from leanpacs.archive.giveback.shelf import KnownPack, Shelf
from leanpacs.archive.recent import Recent
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.catalog import Catalog, InstanceRow, Kind, RepresentationRow
from leanpacs.errors import (
    BeingRestored,
    BlobNotFound,
    DecodeError,
    InstanceNotFound,
    LeanPACSError,
    StorageError,
    StoreUnavailable,
)
from leanpacs.refs import Digest, Tier
from leanpacs.storage.dictionary import Dictionary
from leanpacs.storage.store import Availability
from leanpacs.storage.stores import Stores
from leanpacs.transcode.source import OpenInstance

T = TypeVar("T")

log = logging.getLogger(__name__)

OPEN_ATTEMPTS: Final = 3
"""An instance may be settled between looking up where it is and opening it; then it is looked up again."""
_ORDER: Final = tuple(Availability)
"""What can be read at once comes first."""
SHELF_BYTES: Final = 64 << 20
"""Memory for what is known of packs that were opened lately, unless it is said otherwise."""
DAMAGE: Final = (StorageError, DecodeError)
"""What shows that a stored form is damaged; what was received damaged is told of as unsupported."""


@dataclass(slots=True)
class Damaged:
    """What turned out to be damaged while one request was answered; each request begins with a new one.

    Attributes
    ----------
    forms : list of int
        Keys of the stored forms.
    last : RepresentationRow, optional
        The stored form that was opened last; None as long as it was the copy in memory.
    others : int
        How many stored forms are left beside that one.
    was_in_memory : bool
        Whether the copy in memory was opened. It is not tried again.
    """

    forms: list[int] = field(default_factory=list)
    last: RepresentationRow | None = None
    others: int = 0
    was_in_memory: bool = False


class Holdings:
    """Opens what is held. Thread-safe.

    Headers are read from the store: :meth:`opened`. Pixels, and whole instances, of what has just arrived are taken
    from memory, where they need not be decoded: :meth:`opened_for_pixels`, :meth:`pieces`, :meth:`work_on`.

    Parameters
    ----------
    stores : Stores
        Where blobs are.
    catalog : Catalog
        Which blobs hold an instance.
    limit_inflated_bytes : int
        Deflated data sets that inflate to more are only given as received.
    shelf_bytes : int
        Memory for what is known of packs that were opened lately.
    recent : Recent, optional
        What has just arrived.
    """

    def __init__(
        self,
        stores: Stores,
        catalog: Catalog,
        *,
        limit_inflated_bytes: int,
        shelf_bytes: int = SHELF_BYTES,
        recent: Recent | None = None,
    ) -> None:
        self._stores = stores
        self._recent = recent
        self._catalog = catalog
        self._limit_inflated_bytes = limit_inflated_bytes
        self._shelf = Shelf(shelf_bytes)
        self._places = Places()
        self._dictionaries: tuple[Dictionary, ...] = ()
        self._ranks = {store.tier: _ORDER.index(store.availability) for store in stores}

    def warm_up(self) -> None:
        """Have the dictionaries at hand, and the statement of :meth:`expect` compiled."""
        self._catalog.representations_of([0])
        self._dictionaries = dictionaries_of(self._stores.hot, tuple(self._stores.hot.kept_names()))

    def expect(self, instances: Sequence[InstanceRow]) -> None:
        """Look up at once where these instances are, which are about to be opened."""
        unknown = {row.id: row for row in instances if self._places.get(row) is None}
        if len(unknown) > 1:
            for key, held in self._catalog.representations_of(list(unknown)).items():
                self._places.put(unknown[key], held)

    def forget_unused(self, seconds: float) -> None:
        """Forget packs that nobody has opened for so long, and places that are to be looked up again anyway."""
        self._shelf.forget_unused(seconds)
        self._places.forget_old()

    def known(self, instance: InstanceRow, wanted: str | None = None) -> KnownPack | None:
        """What is known of the form that :meth:`opened` opens, if it is at hand."""
        held = [row for row in self._places.get(instance) or () if row.kind is Kind.PACK]
        return self._shelf.get(self._best_first(held, wanted)[0].blob.digest) if held else None

    def best(self, instance: InstanceRow, wanted: str) -> tuple[RepresentationRow, float]:
        """The form that :meth:`opened` opens first, and about how many seconds reading and decoding it takes."""
        row = self._best_first(self._held(instance, anew=False), wanted)[0]
        return row, seconds_to_read(row, wanted, is_hot=self.is_hot(row))

    def is_hot(self, row: RepresentationRow) -> bool:
        """Whether a form is where things come in, from where reading takes next to no time."""
        return row.blob.tier == self._stores.hot.tier

    def first(self, instance: InstanceRow) -> RepresentationRow:
        """The form that :meth:`opened` opens first for one who wants it as received."""
        return self._best_first(self._held(instance, anew=False), None)[0]

    def has_just_arrived(self, instance: InstanceRow) -> bool:
        """Whether an instance is in memory as it was received."""
        return self._recent is not None and self._recent.has(instance.data_set_digest)

    def received(self, instance: InstanceRow) -> tuple[bytes, tuple[memoryview]] | None:
        """What came before the data set, and the data set, of what has just arrived; None of what has not."""
        everything = self._recent.read(instance.data_set_digest) if self._recent is not None else None
        if everything is None:
            return None
        preface_length = len(everything) - instance.data_set_length
        return bytes(everything[:preface_length]), (everything[preface_length:],)

    @contextmanager
    def opened(self, instance: InstanceRow, wanted: str | None = None) -> Iterator[OpenInstance]:
        """Open an instance in the stored form from which it is soonest had in the transfer syntax ``wanted``."""
        with ExitStack() as stack:
            yield self._enter_stored(stack, instance, wanted, Damaged())

    @contextmanager
    def opened_for_pixels(self, instance: InstanceRow, wanted: str | None, damaged: Damaged) -> Iterator[OpenInstance]:
        """As :meth:`opened`, or in memory, without the forms that turned out to be damaged; see :meth:`goes_on`."""
        with ExitStack() as stack:
            yield self._enter_for_pixels(stack, instance, wanted, damaged)

    def pieces(
        self,
        instance: InstanceRow,
        give: Callable[[OpenInstance], Iterator[bytes]],
        wanted: str | None = None,
        faults: tuple[type[Exception], ...] = (LeanPACSError, OSError),
    ) -> Iterator[bytes]:
        """What ``give`` takes from an instance, and what is the same whichever form that is held in.

        Where one of these ``faults`` shows that a form is damaged, another one goes on from there; see
        :meth:`goes_on`. Without another one the fault is raised: nobody takes what was given until then for all of it.
        """
        sent, has_begun, damaged = 0, False, Damaged()
        while True:
            with ExitStack() as stack:
                opened = self._enter_for_pixels(stack, instance, wanted, damaged)
                skipped = 0
                try:
                    for piece in give(opened):
                        rest = piece[max(sent - skipped, 0) :] if skipped < sent else piece
                        skipped += len(piece)
                        if skipped > sent or not has_begun:
                            has_begun = True
                            yield rest
                            sent += len(rest)
                    return
                except faults as error:
                    if not self.goes_on(damaged, error):
                        raise

    def work_on(self, instance: InstanceRow, wanted: str | None, work: Callable[[OpenInstance], T]) -> T:
        """What ``work`` makes of an instance; of another form where one turns out to be damaged."""
        with self.worked_on(instance, wanted, work) as made:
            return made

    @contextmanager
    def worked_on(self, instance: InstanceRow, wanted: str | None, work: Callable[[OpenInstance], T]) -> Iterator[T]:
        """As :meth:`work_on`; the instance stays open."""
        damaged = Damaged()
        while True:
            with ExitStack() as stack:
                opened = self._enter_for_pixels(stack, instance, wanted, damaged)
                try:
                    made = work(opened)
                except DAMAGE as error:
                    if not self.goes_on(damaged, error):
                        raise
                    continue
                yield made
                return

    def goes_on(self, damaged: Damaged, error: Exception) -> bool:
        """Note that the form that was opened last is damaged: the scrub looks at it; whether there is another one."""
        row = damaged.last
        if row is None:
            return damaged.was_in_memory
        damaged.forms.append(row.id)
        if isinstance(error, StoreUnavailable | BeingRestored | BlobNotFound):
            return damaged.others > 0
        log.error(
            "blob %s on tier %s is damaged: %s",
            row.blob.digest,
            row.blob.tier,
            error,
            extra={"action": "retrieve", "blob": row.blob.digest.hex},
        )
        problem, now = f"found when it was read: {error}", datetime.now(UTC)
        with suppress(LeanPACSError):
            self._catalog.write(lambda transaction: transaction.ageing.note_scrub(row.blob, problem, now=now))
        return damaged.others > 0

    def _enter_for_pixels(
        self, stack: ExitStack, instance: InstanceRow, wanted: str | None, damaged: Damaged
    ) -> OpenInstance:
        """Open what has just arrived in memory, where its pixels are wanted decoded; else the best stored form."""
        if not damaged.forms and not damaged.was_in_memory and self._is_decoded(instance, wanted):
            arrived = self._arrived(stack, instance)
            if arrived is not None:
                damaged.was_in_memory = True
                return arrived
        return self._enter_stored(stack, instance, wanted, damaged)

    def _enter_stored(
        self, stack: ExitStack, instance: InstanceRow, wanted: str | None, damaged: Damaged
    ) -> OpenInstance:
        """Open the best of the stored forms that can be opened; what was asked for may be there at once."""
        problems: list[StorageError] = []
        for attempt in range(OPEN_ATTEMPTS):
            problems = []
            held = [row for row in self._held(instance, anew=attempt > 0) if row.id not in damaged.forms]
            for row in self._best_first(held, wanted):
                try:
                    opened = stack.enter_context(self._context(instance, row))
                    damaged.last, damaged.others = row, len(held) - 1
                    return opened
                except StorageError as error:
                    problems.append(error)
            if not any(isinstance(error, BlobNotFound | BeingRestored) for error in problems):
                break  # looking again would find the same
            asleep = next((error for error in problems if isinstance(error, BeingRestored)), None)
            if asleep is not None and attempt:
                self._ask_for(instance, asleep)
        raise problems[0] if problems else InstanceNotFound(instance.sop_uid)

    def _is_decoded(self, instance: InstanceRow, wanted: str | None) -> bool:
        """Whether no stored form holds the code streams that are wanted."""
        codec = CODEC_OF.get(wanted or "")
        return codec is None or all(row.codec != codec for row in self._held(instance, anew=False))

    def _arrived(self, stack: ExitStack, instance: InstanceRow) -> ArrivedInstance | None:
        """Open what is in memory."""
        if self._recent is None:
            return None
        opening = open_arrived(
            self._recent,
            instance,
            spool=self._stores.hot.spool_folder(),
            limit_inflated_bytes=self._limit_inflated_bytes,
        )
        return stack.enter_context(opening)

    def _held(self, instance: InstanceRow, *, anew: bool) -> list[RepresentationRow]:
        held = None if anew else self._places.get(instance)
        if held is None:
            held = self._catalog.representations(instance.id)
            self._places.put(instance, held)
        if not held:
            raise InstanceNotFound(instance.sop_uid)
        return held

    def _best_first(self, held: list[RepresentationRow], wanted: str | None) -> list[RepresentationRow]:
        """What can be read at once before what must be asked for, then what is soonest had as wanted."""
        if len(held) < 2:
            return held

        def cost(row: RepresentationRow) -> tuple[int, float]:
            rank = self._ranks.get(row.blob.tier, len(self._ranks))
            return rank, seconds_to_read(row, wanted, is_hot=self.is_hot(row))

        return sorted(held, key=cost)

    def _ask_for(self, instance: InstanceRow, asleep: BeingRestored) -> None:
        """Ask for what is in an archive class, and for the rest of its study; say how long that takes if it does."""
        seconds = self._stores.at(Tier(asleep.tier)).restore(Digest.from_hex(asleep.digest))
        ask_for_study(self._stores, self._catalog, instance.study_uid, datetime.now(UTC))
        if seconds > 0.0:
            raise BeingRestored(asleep.digest, asleep.tier, seconds)

    def _context(self, instance: InstanceRow, row: RepresentationRow) -> AbstractContextManager[OpenInstance]:
        store, limit = self._stores.at(row.blob.tier), self._limit_inflated_bytes
        if row.kind is Kind.PACK:
            dictionaries = self._dictionaries_with(row.dictionary_id)
            return open_pack(
                store, row.blob.digest, dictionaries, instance.sop_uid, limit_inflated_bytes=limit, shelf=self._shelf
            )
        return open_landed(store, row.blob.digest, instance.transfer_syntax, limit_inflated_bytes=limit)

    def _dictionaries_with(self, needed: int | None) -> tuple[Dictionary, ...]:
        """All dictionaries; the store is asked which there are only when one is needed that is not known yet."""
        if needed is not None and all(known.id != needed for known in self._dictionaries):
            self._dictionaries = dictionaries_of(self._stores.hot, tuple(self._stores.hot.kept_names()))
        return self._dictionaries
