"""What is to go out: known destinations, instances that wait to be sent, reports of storage commitment.

All of it outlives a restart. An entry is there as long as it waits or has failed, and gone once it is sent; whoever
sends claims some for a while, so that several hosts can share the work and none is lost with one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)

from leanpacs.catalog import engine
from leanpacs.catalog.engine import Database
from leanpacs.catalog.schema import KEY, METADATA, WORDS, UtcTime

_CHUNK: Final = 500
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _words(name: str) -> Column[str]:
    return Column(name, WORDS, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _time(name: str) -> Column[datetime]:
    return Column(name, UtcTime, nullable=False)


destinations: Final = Table(
    "destinations",
    METADATA,
    Column("ae_title", WORDS, primary_key=True),
    _words("host"),
    _count("port"),
    _words("prefer"),
    _count("tls"),
    _words("tls_ca"),
    _count("reports_apart"),
    _time("changed_at"),
)

outbox: Final = Table(
    "outbox",
    METADATA,
    Column("id", KEY, primary_key=True, autoincrement=True),
    _words("destination"),
    _words("study_uid"),
    _words("series_uid"),
    _words("sop_uid"),
    _words("cause"),
    _time("queued_at"),
    _time("due_at"),
    _count("attempts"),
    _count("failed"),
    _words("reason"),
    _words("claimed_by"),
    _time("claimed_until"),
    UniqueConstraint("destination", "sop_uid"),
    Index("ix_outbox_due", "failed", "destination", "due_at"),
    sqlite_autoincrement=True,
)

commitments: Final = Table(
    "commitments",
    METADATA,
    Column("id", KEY, primary_key=True, autoincrement=True),
    _words("destination"),
    _words("transaction_uid"),
    _words("instances"),
    _time("asked_at"),
    _time("due_at"),
    _count("attempts"),
    _words("reason"),
    sqlite_autoincrement=True,
)
"""``instances`` is a JSON list of pairs: SOP class and SOP instance."""


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """Another application entity that instances may be sent to; ``prefer`` are UIDs of transfer syntaxes."""

    ae_title: str
    host: str
    port: int
    prefer: tuple[str, ...] = ()
    tls: bool = False
    tls_ca: str = ""
    reports_apart: bool = False


@dataclass(frozen=True, slots=True)
class Outbound:
    """An instance that is to go to a destination, and why: a rule or a person."""

    destination: str
    study_uid: str
    series_uid: str
    sop_uid: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class OutboxRow(Outbound):
    """An entry of the outbox; ``failed`` ones wait for a decision, ``reason`` says what happened last."""

    id: int = 0
    queued_at: datetime = _NEVER
    due_at: datetime = _NEVER
    attempts: int = 0
    failed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CommitmentRow:
    """A request for storage commitment whose report is not delivered yet; ``instances`` are SOP class and instance."""

    id: int
    destination: str
    transaction_uid: str
    instances: tuple[tuple[str, str], ...]
    asked_at: datetime
    attempts: int = 0
    reason: str = ""


_ENTRY: Final = (
    *(outbox.c[name] for name in ("destination", "study_uid", "series_uid", "sop_uid", "cause", "id", "queued_at")),
    *(outbox.c[name] for name in ("due_at", "attempts", "failed", "reason")),
)
_WAITING: Final = outbox.c.failed == 0


class Outgoing:
    """What is to go out, in a catalog's database. Thread-safe; each call is one transaction.

    Raises `CatalogUnavailable` when the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- destinations

    def destinations(self) -> list[DestinationRow]:
        """All that were added, by AE title; those in the settings are not among them."""
        with self._database.reading() as connection:
            rows = connection.execute(select(destinations).order_by(destinations.c.ae_title)).mappings()
            return [_destination(row) for row in rows]

    def destination(self, ae_title: str) -> DestinationRow | None:
        """The destination of that AE title."""
        query = select(destinations).where(destinations.c.ae_title == ae_title)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _destination(row)

    def keep_destination(self, row: DestinationRow, now: datetime) -> None:
        """Add a destination, or change the one of that AE title."""
        values: dict[str, Any] = {
            "host": row.host,
            "port": row.port,
            "prefer": "\\".join(row.prefer),
            "tls": int(row.tls),
            "tls_ca": row.tls_ca,
            "reports_apart": int(row.reports_apart),
            "changed_at": now,
        }
        statement = engine.insert(self._database.dialect, destinations).values(ae_title=row.ae_title, **values)
        with self._database.writing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["ae_title"], set_=values))

    def forget_destination(self, ae_title: str) -> bool:
        """Remove a destination; False when there was none. What waits for it stays."""
        with self._database.writing() as connection:
            gone = connection.execute(delete(destinations).where(destinations.c.ae_title == ae_title))
            return gone.rowcount > 0

    # -- the outbox

    def enqueue(self, entries: Iterable[Outbound], now: datetime) -> int:
        """Let instances wait to be sent; how many were not waiting already."""
        with self._database.writing() as connection:
            return enqueue(connection, self._database.dialect, entries, now)

    def due(self, now: datetime) -> list[str]:
        """Destinations for which something is due that nobody works on."""
        query = select(outbox.c.destination).where(*_free(now)).distinct().order_by(outbox.c.destination)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def claim(self, destination: str, owner: str, *, limit: int, now: datetime, until: datetime) -> list[OutboxRow]:
        """Claim the oldest entries for a destination that are due and that nobody works on."""
        free = (
            select(outbox.c.id)
            .where(outbox.c.destination == destination, *_free(now))
            .order_by(outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("free")  # read once, whatever the planner does
        )
        claiming = update(outbox).where(outbox.c.id.in_(select(free.c.id)))
        values = {"claimed_by": owner, "claimed_until": until, "attempts": outbox.c.attempts + 1}
        with self._database.writing() as connection:
            rows = connection.execute(claiming.values(values).returning(*_ENTRY)).all()
        return sorted((_entry(row) for row in rows), key=lambda one: one.id)

    def let_go(self, owner: str) -> int:
        """End the claims of an owner, and of those that are named ``OWNER/...``; the number of entries."""
        values = {"claimed_by": "", "claimed_until": _NEVER}
        below = outbox.c.claimed_by.startswith(f"{owner}/", autoescape=True)
        claimed = update(outbox).where((outbox.c.claimed_by == owner) | below)
        with self._database.writing() as connection:
            return connection.execute(claimed.values(values)).rowcount

    def settle(
        self,
        owner: str,
        *,
        sent: Sequence[int] = (),
        later: Sequence[tuple[int, datetime, str]] = (),
        failed: Sequence[tuple[int, str]] = (),
        held_until: datetime | None = None,
    ) -> None:
        """Say what became of claimed entries.

        Parameters
        ----------
        owner : str
            Whose claims; entries of others are left alone.
        sent : sequence of int
            IDs of entries that are done.
        later, failed : sequence of (int, datetime, str), sequence of (int, str)
            IDs of entries to be tried again from then on, and of those that wait for a decision; and why.
        held_until : datetime, optional
            Until when the other claims of this owner hold.
        """
        one = update(outbox).where(outbox.c.id == bindparam("of"), outbox.c.claimed_by == owner)
        free = {"claimed_by": "", "claimed_until": _NEVER}
        with self._database.writing() as connection:
            for chunk in _chunks(sent):
                connection.execute(delete(outbox).where(outbox.c.id.in_(chunk), outbox.c.claimed_by == owner))
            if later:
                again = one.values(due_at=bindparam("then"), reason=bindparam("why"), **free)
                connection.execute(again, [{"of": of, "then": then, "why": why} for of, then, why in later])
            if failed:
                ended = one.values(failed=1, reason=bindparam("why"), **free)
                connection.execute(ended, [{"of": of, "why": why} for of, why in failed])
            if held_until is not None:
                connection.execute(update(outbox).where(outbox.c.claimed_by == owner).values(claimed_until=held_until))

    def put_off(self, destination: str, due_at: datetime, reason: str) -> None:
        """Let all that waits for a destination, and that nobody works on, wait until then: it does not answer."""
        waiting = update(outbox).where(
            _WAITING, outbox.c.destination == destination, outbox.c.claimed_by == "", outbox.c.due_at < due_at
        )
        with self._database.writing() as connection:
            connection.execute(waiting.values(due_at=due_at, reason=reason))

    def entries(
        self, *, destination: str | None = None, failed: bool | None = None, limit: int | None = None
    ) -> list[OutboxRow]:
        """What is in the outbox, oldest first."""
        query = select(*_ENTRY).order_by(outbox.c.id).limit(limit)
        if destination is not None:
            query = query.where(outbox.c.destination == destination)
        if failed is not None:
            query = query.where(outbox.c.failed == int(failed))
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def totals(self) -> list[tuple[str, bool, int]]:
        """How many entries wait (False) or have failed (True), by destination."""
        query = select(outbox.c.destination, outbox.c.failed, func.count()).group_by(
            outbox.c.destination, outbox.c.failed
        )
        with self._database.reading() as connection:
            return sorted((title, bool(failed), count) for title, failed, count in connection.execute(query))

    def retry(self, ids: Sequence[int] | None, now: datetime) -> int:
        """Try entries again at once, all that have failed when none is named; the number of entries."""
        values = {"failed": 0, "due_at": now, "queued_at": now, "attempts": 0}
        with self._database.writing() as connection:
            if ids is None:
                return connection.execute(update(outbox).where(outbox.c.failed == 1).values(values)).rowcount
            chosen = (update(outbox).where(outbox.c.id.in_(chunk)) for chunk in _chunks(ids))
            return sum(connection.execute(one.values(values)).rowcount for one in chosen)

    def drop(self, ids: Sequence[int]) -> int:
        """Give up entries; the number of those that were there."""
        with self._database.writing() as connection:
            return sum(
                connection.execute(delete(outbox).where(outbox.c.id.in_(chunk))).rowcount for chunk in _chunks(ids)
            )

    # -- storage commitment

    def ask_commitment(
        self,
        destination: str,
        transaction_uid: str,
        instances: Sequence[tuple[str, str]],
        *,
        now: datetime,
        due_at: datetime,
    ) -> int:
        """Note that a report is owed; its key."""
        values = {
            "destination": destination,
            "transaction_uid": transaction_uid,
            "instances": json.dumps(instances),
            "asked_at": now,
            "due_at": due_at,
        }
        statement = commitments.insert().values(values).returning(commitments.c.id)
        with self._database.writing() as connection:
            key: int = connection.execute(statement).scalar_one()
            return key

    def claim_commitments(self, now: datetime, until: datetime) -> list[CommitmentRow]:
        """Reports that are owed and due; nobody else gets them before ``until``."""
        due = select(commitments.c.id).where(commitments.c.due_at <= now).with_for_update(skip_locked=True)
        claiming = update(commitments).where(commitments.c.id.in_(due.scalar_subquery()))
        values = {"due_at": until, "attempts": commitments.c.attempts + 1}
        with self._database.reading() as connection:
            if connection.scalar(select(commitments.c.id).where(commitments.c.due_at <= now).limit(1)) is None:
                return []
        with self._database.writing() as connection:
            rows = connection.execute(claiming.values(values).returning(commitments)).mappings().all()
        return sorted((_commitment(row) for row in rows), key=lambda one: one.id)

    def commitments(self) -> list[CommitmentRow]:
        """All reports that are owed, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(commitments).order_by(commitments.c.id)).mappings()
            return [_commitment(row) for row in rows]

    def end_commitment(self, key: int) -> None:
        """A report is delivered, or given up."""
        with self._database.writing() as connection:
            connection.execute(delete(commitments).where(commitments.c.id == key))

    def put_off_commitment(self, key: int, due_at: datetime, reason: str) -> None:
        """A report could not be delivered: try again from then on."""
        with self._database.writing() as connection:
            chosen = update(commitments).where(commitments.c.id == key)
            connection.execute(chosen.values(due_at=due_at, reason=reason))


def enqueue(connection: Connection, dialect: str, entries: Iterable[Outbound], now: datetime) -> int:
    """Let instances wait to be sent, within a transaction; how many were not waiting already.

    What has failed is tried again.
    """
    statement = engine.insert(dialect, outbox)
    again = statement.on_conflict_do_update(
        index_elements=["destination", "sop_uid"],
        set_={"failed": 0, "due_at": now, "queued_at": now, "attempts": 0},
        where=outbox.c.failed == 1,
    ).returning(outbox.c.id)
    added = 0
    for entry in entries:
        values = {
            "destination": entry.destination,
            "study_uid": entry.study_uid,
            "series_uid": entry.series_uid,
            "sop_uid": entry.sop_uid,
            "cause": entry.cause,
            "queued_at": now,
            "due_at": now,
            "claimed_until": _NEVER,
        }
        added += connection.scalar(again, values) is not None
    return added


def _free(now: datetime) -> tuple[Any, ...]:
    return _WAITING, outbox.c.due_at <= now, outbox.c.claimed_until <= now


def _destination(row: Any) -> DestinationRow:
    prefer = tuple(row["prefer"].split("\\")) if row["prefer"] else ()
    flags = bool(row["tls"]), row["tls_ca"], bool(row["reports_apart"])
    return DestinationRow(row["ae_title"], row["host"], row["port"], prefer, *flags)


def _entry(row: Any) -> OutboxRow:
    values = row._asdict()
    return OutboxRow(**values | {"failed": bool(values["failed"])})


def _commitment(row: Any) -> CommitmentRow:
    pairs = tuple((sop_class, sop_uid) for sop_class, sop_uid in json.loads(row["instances"]))
    return CommitmentRow(
        row["id"],
        row["destination"],
        row["transaction_uid"],
        pairs,
        row["asked_at"],
        row["attempts"],
        row["reason"],
    )


def _chunks(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
