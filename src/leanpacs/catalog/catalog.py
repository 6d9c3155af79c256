"""The catalog: what is held, in which forms and where. Reading is here, changing is in `transaction`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import func, select

from leanpacs.catalog import restores, search
from leanpacs.catalog.ageing import AgeingView
from leanpacs.catalog.arrivals import arrivals
from leanpacs.catalog.changes import changes_since
from leanpacs.catalog.engine import Database, Pool, database_url
from leanpacs.catalog.forms import RepresentationRow, RestoreRow
from leanpacs.catalog.found import AVAILABILITY, FoundInstance, PatientRow, SeriesRow, StudyRow
from leanpacs.catalog.keys import KeyRow, all_keys, find_key
from leanpacs.catalog.lookup import (
    REPRESENTATIONS_OF_INSTANCE,
    SELECT_INSTANCES,
    SELECT_REPRESENTATIONS,
    UidsOf,
    blob_ref,
    ends,
    instance_row,
    instances_by,
    representation_row,
    select_instances,
    select_representations,
)
from leanpacs.catalog.migrations import bring_up_to_date
from leanpacs.catalog.outgoing import Outgoing
from leanpacs.catalog.query import Query
from leanpacs.catalog.rows import (
    Backlog,
    Change,
    DayOfArrivals,
    DictionaryRow,
    InstanceRow,
    QuarantineRow,
    Summary,
    TombstoneRow,
)
from leanpacs.catalog.schema import (
    blobs,
    changes,
    dictionaries,
    instances,
    names_of,
    quarantine,
    representations,
    series_choices,
    tombstones,
)
from leanpacs.catalog.statements import Statements
from leanpacs.catalog.summary import backlog, summary
from leanpacs.catalog.traffic import Volume, sum_traffic
from leanpacs.catalog.transaction import Transaction
from leanpacs.catalog.views import ConnectionView, View
from leanpacs.errors import CatalogConflict
from leanpacs.refs import HOT, BlobRef, Digest, Tier

_BLOB: Final = (blobs.c.tier, blobs.c.digest, blobs.c.size_bytes)
_PAGE: Final = 500
_TRIES: Final = 6
_PAUSE_SECONDS: Final = 0.01

Result = TypeVar("Result")


def open_catalog(place: str | os.PathLike[str], pool: Pool = Pool()) -> Catalog:  # noqa: B008 -- it is frozen
    """Open a catalog, and create it or bring its schema up to date where needed.

    Parameters
    ----------
    place : str or path
        Path of a SQLite file, ``:memory:``, or a URL (``sqlite:///PATH``, ``postgresql+psycopg://...``).
        Beside a SQLite file stand its write-ahead log and ``<path>.lock``; it must be on a local file system.
    pool : Pool
        Connections to PostgreSQL.

    Raises
    ------
    CatalogUnavailable
        The database does not answer.
    CatalogError
        It is not a catalog, or one that a later release made.
    ConfigError
        There is no driver for the database.
    """
    database = Database(database_url(place), pool)
    try:
        bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return Catalog(database)


class Catalog:
    """Reads from, and opens write transactions on, one catalog.

    Thread-safe; any number of processes may have the same catalog open. Do not carry one over a fork.
    Each reading method sees one committed state. All times are aware UTC.

    Attributes
    ----------
    outgoing : Outgoing
        Known destinations, and what waits to be sent to them.
    ageing : AgeingView
        What the lifecycle reads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ranks: Mapping[Tier, int] = {}
        self._statements = Statements.of(database.dialect)
        self.outgoing = Outgoing(database)
        self.ageing = AgeingView(database)

    def tell_availability(self, tiers: Mapping[Tier, str]) -> None:
        """Say how available what stands on each tier is, so that searches can tell (`AVAILABILITY`, best first).

        Until then, and while all of it is available at once, searches do not look. What stands only on tiers that are
        not named here is then told to be unavailable.
        """
        ranks = {tier: AVAILABILITY.index(value) for tier, value in tiers.items()}
        self._ranks = ranks if any(ranks.values()) else {}

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One write transaction: committed and durable when the block ends, undone when it raises.

        On SQLite one writer is let in at a time, in the order of their coming.

        Raises
        ------
        CatalogUnavailable
            The database does not answer or is full; all of it was undone.
        CatalogConflict
            Another writer was faster; all of it was undone, and `write` would have tried again.
        """
        with self._database.writing() as connection:
            yield Transaction(connection, self._statements)

    def write(self, work: Callable[[Transaction], Result]) -> Result:
        """Do ``work`` in one write transaction, and all of it again when another writer was faster.

        ``work`` may be called several times; only what the last call did is kept. Raises as `writing` does.
        """
        for attempt in range(1, _TRIES):
            try:
                with self.writing() as transaction:
                    return work(transaction)
            except CatalogConflict:
                # Those who met do not come back at the same moment.
                time.sleep(_PAUSE_SECONDS * 2**attempt * random.random())
        with self.writing() as transaction:
            return work(transaction)

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may have the catalog open: it is not a file of this one."""
        return self._database.dialect != "sqlite"

    # -- searching

    def find_patients(self, query: Query) -> list[PatientRow]:
        """Patients with an ID, of whom a study matches; raises as `find_studies` does."""
        with self._database.reading() as connection:
            return search.find_patients(connection, query)

    def find_studies(self, query: Query) -> list[StudyRow]:
        """Studies that match. Raises `InvalidQuery` for keys and values that cannot be matched."""
        with self._searching() as view:
            return search.find_studies(view, query, self._ranks)

    def find_series(self, query: Query) -> list[SeriesRow]:
        """Series that match; raises as `find_studies` does."""
        with self._searching() as view:
            return search.find_series(view, query, self._ranks)

    def find_instances(self, query: Query) -> list[FoundInstance]:
        """Instances that match; raises as `find_studies` does."""
        with self._searching() as view:
            return search.find_instances(view, query, self._ranks)

    def newest_studies(self, number: int) -> list[StudyRow]:
        """The studies that began to arrive last, newest first."""
        with self._searching() as view:
            return search.find_studies(view, Query("study", limit=number), newest_first=True)

    @contextmanager
    def _searching(self) -> Iterator[View]:
        """One state; where it has to be looked how available instances are, seen by a connection of the toolkit."""
        if not self._ranks:
            with self._database.viewing() as view:
                yield view
            return
        with self._database.reading() as connection:
            yield ConnectionView(connection)

    # -- instances and their forms

    def instances(
        self, *, study_uid: str | None = None, series_uid: str | None = None, sop_uid: str | None = None
    ) -> list[InstanceRow]:
        """The instances that have all the UIDs given, by series, instance number and arrival."""
        if (study_uid, series_uid, sop_uid) == (None, None, None):
            raise ValueError("name a study, a series or an instance, or use all_instances")
        query = instances_by(
            study_uid=study_uid is not None, series_uid=series_uid is not None, sop_uid=sop_uid is not None
        )
        given = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
        found = self._database.rows(query, {name: uid for name, uid in given.items() if uid is not None})
        return [instance_row(row) for row in found]

    def ends(self, found: Sequence[StudyRow | SeriesRow]) -> dict[UidsOf, list[InstanceRow]]:
        """The instances of studies, or of series, that came first and last, by their UIDs; see `lookup.ends`."""
        held: dict[UidsOf, list[InstanceRow]] = {}
        with self._database.reading() as connection:
            for start in range(0, len(found), _PAGE):
                held |= ends(connection, found[start : start + _PAGE])
        return held

    def all_instances(self, after_id: int = 0) -> Iterator[InstanceRow]:
        """Every instance in the order of arrival, read by pages; no transaction stays open meanwhile."""
        query = SELECT_INSTANCES.order_by(instances.c.id).limit(_PAGE)
        while True:
            with self._database.reading() as connection:
                page = select_instances(connection, query.where(instances.c.id > after_id))
            if not page:
                return
            yield from page
            after_id = page[-1].id

    def newest_of(self, sop_class: str, limit: int) -> list[InstanceRow]:
        """The instances of a SOP class that came last, the newest first."""
        query = SELECT_INSTANCES.where(instances.c.sop_class == sop_class).order_by(instances.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return select_instances(connection, query)

    def representations(self, instance_id: int) -> list[RepresentationRow]:
        """The stored forms of an instance, oldest first; none when it has been deleted."""
        found = self._database.rows(REPRESENTATIONS_OF_INSTANCE, {"instance_key": instance_id})
        return [representation_row(row) for row in found]

    def representations_of(self, instance_ids: Sequence[int]) -> dict[int, list[RepresentationRow]]:
        """As :meth:`representations`, for many instances at once, by their keys; absent where there are none."""
        found: dict[int, list[RepresentationRow]] = {}
        with self._database.reading() as connection:
            for start in range(0, len(instance_ids), _PAGE):
                some = instance_ids[start : start + _PAGE]
                query = SELECT_REPRESENTATIONS.where(representations.c.instance_key.in_(some))
                for row in select_representations(connection, query.order_by(representations.c.id)):
                    found.setdefault(row.instance_id, []).append(row)
        return found

    def asleep(self, study_uid: str, awake: Collection[Tier]) -> list[RepresentationRow]:
        """One pack of each instance of a study that stands on none of these tiers and that nobody has asked for."""
        with self._database.reading() as connection:
            return restores.asleep(connection, study_uid, awake)

    def tier_figures(self) -> dict[Tier, tuple[int, int]]:
        """Number of blobs on each tier, and their bytes; what may be collected is counted, for it is still there."""
        query = select(blobs.c.tier, func.count(), func.sum(blobs.c.size_bytes)).group_by(blobs.c.tier)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(blobs.c.tier))
            return {Tier(row[0]): (int(row[1]), int(row[2])) for row in rows}

    def restores(self) -> list[RestoreRow]:
        """What is to be brought back from archive classes, and what was and is there for a while, oldest first."""
        with self._database.reading() as connection:
            return restores.asked(connection)

    def blobs_of(self, instance_id: int) -> list[BlobRef]:
        """The blobs that an instance is held in."""
        return [representation.blob for representation in self.representations(instance_id)]

    def instances_in(self, digest: Digest) -> list[InstanceRow]:
        """The instances that are held in blobs of this digest: who is hit when one is damaged."""
        holders = select(representations.c.instance_key).join_from(representations, blobs)
        query = SELECT_INSTANCES.where(instances.c.id.in_(holders.where(blobs.c.digest == digest)))
        with self._database.reading() as connection:
            return select_instances(connection, query.order_by(instances.c.id))

    def all_blob_refs(self) -> Iterator[BlobRef]:
        """Every blob that is known, what may be collected included, read a page at a time."""
        query = select(blobs.c.id, *_BLOB).order_by(blobs.c.id).limit(_PAGE)
        after = 0
        while True:
            with self._database.reading() as connection:
                page = connection.execute(query.where(blobs.c.id > after)).all()
            if not page:
                return
            yield from (blob_ref(row[1:]) for row in page)
            after = page[-1][0]

    def unknown_blobs(self, digests: Sequence[Digest], tier: Tier = HOT) -> list[Digest]:
        """Those of ``digests`` that no blob of this tier has; at most some thousands at a time."""
        query = select(blobs.c.digest).where(blobs.c.digest.in_(list(digests)), blobs.c.tier == tier)
        with self._database.reading() as connection:
            known = set(connection.scalars(query))
        return [digest for digest in digests if digest not in known]

    def choice(self, series_id: int) -> str | None:
        """What codec was chosen for a series (JSON), if one was."""
        query = select(series_choices.c.choice).where(series_choices.c.series_key == series_id)
        with self._database.reading() as connection:
            return connection.scalar(query)

    # -- figures and records

    def backlog(self) -> Backlog:
        """What has landed and is not settled yet."""
        with self._database.reading() as connection:
            return backlog(connection)

    def summary(self) -> Summary:
        """What is held, raw and stored, by modality and by codec; reads every instance once."""
        with self._database.reading() as connection:
            return summary(connection)

    def arrivals(self) -> tuple[DayOfArrivals, ...]:
        """What came in, by day and modality, oldest first; reads every instance once."""
        with self._database.reading() as connection:
            return arrivals(connection)

    def changes(self, since: int = 0, limit: int = 1000) -> list[Change]:
        """Entries of the change feed after sequence number ``since``, oldest first."""
        with self._database.reading() as connection:
            return changes_since(connection, since, limit)

    def last_change(self) -> int:
        """Sequence number of the newest entry of the change feed; 0 when there is none."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.max(changes.c.sequence))) or 0

    def quarantined(self) -> list[QuarantineRow]:
        """What is in quarantine, oldest first."""
        facts = [quarantine.c[name] for name in names_of(QuarantineRow) if name not in ("id", "blob")]
        query = select(quarantine.c.id, *_BLOB, *facts).join_from(quarantine, blobs).order_by(quarantine.c.id)
        with self._database.reading() as connection:
            return [QuarantineRow(row[0], blob_ref(row[1:4]), *row[4:]) for row in connection.execute(query)]

    def dictionaries(self) -> list[DictionaryRow]:
        """All dictionaries, oldest version of each scope first."""
        columns = [dictionaries.c[name] for name in names_of(DictionaryRow)]
        query = select(*columns).order_by(dictionaries.c.scope, dictionaries.c.version, dictionaries.c.id)
        with self._database.reading() as connection:
            return [DictionaryRow(*row) for row in connection.execute(query)]

    # -- who may come in

    def api_keys(self) -> list[KeyRow]:
        """All API keys, those that are not taken any more included, oldest first."""
        with self._database.reading() as connection:
            return all_keys(connection)

    def api_key(self, key_id: str) -> KeyRow | None:
        """The API key of this ID."""
        with self._database.reading() as connection:
            return find_key(connection, key_id)

    # -- traffic

    def traffic(
        self, by: Sequence[str], *, since: datetime | None = None, until: datetime | None = None
    ) -> list[tuple[tuple[Any, ...], Volume]]:
        """Sums of the traffic ledger by some fields of `TrafficKey`, from ``since`` to before ``until``."""
        with self._database.reading() as connection:
            return sum_traffic(connection, by, since, until)

    def tombstone(self, sop_uid: str) -> TombstoneRow | None:
        """The latest deletion of an instance, also when it has come back since."""
        columns = [tombstones.c[name] for name in names_of(TombstoneRow)]
        query = select(*columns).where(tombstones.c.sop_uid == sop_uid)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(tombstones.c.instance_key.desc()).limit(1)).first()
        return TombstoneRow(*row) if row is not None else None
