"""What answers the requests of administrators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from starlette.responses import Response

from leanpacs import __version__
from leanpacs.archive.intake import quarantine
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome
from leanpacs.catalog import DestinationRow, KeyRow, QuarantineRow
from leanpacs.config import Role
from leanpacs.services.access.caller import actor_of
from leanpacs.services.access.keys import make_key
from leanpacs.services.admin import models, reading, resources
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.traffic import traffic_sums

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.archive.archive import Archive
    from leanpacs.services.figures import Figures
    from leanpacs.services.operations import Operation
    from leanpacs.services.threads import Threads

MOST_ENTRIES: Final = 1000


class Admin:
    """Answers administrators.

    Parameters
    ----------
    archive : Archive
        Open; not closed here.
    threads : Threads
        Where it is called.
    figures : Figures
        What is held.
    destinations : sequence of DestinationRow
        Those in the settings, which are not changed here.
    """

    def __init__(
        self, archive: Archive, threads: Threads, figures: Figures, destinations: Sequence[DestinationRow] = ()
    ) -> None:
        self._archive = archive
        self._threads = threads
        self._figures = figures
        self._fixed = {row.ae_title: row for row in destinations}

    def operations(self) -> list[Operation]:
        """Return all operations with their full paths."""
        return resources.operations(self)

    # -- what there is

    async def status(self, _request: Request) -> Response:
        """Answer what is held and what waits."""
        return await self._given(self._status)

    async def traffic(self, request: Request) -> Response:
        """Answer with sums of the traffic ledger."""
        groups = reading.groups_of(request)
        since, until = (reading.moment_of(request, name) for name in ("since", "until"))

        def sums() -> list[models.Traffic]:
            found = traffic_sums(self._archive.catalog, groups, since=since, until=until)
            return [models.Traffic.model_validate(one.record()) for one in found]

        return await self._given(sums)

    # -- API keys

    async def keys(self, _request: Request) -> Response:
        """Answer with all API keys."""
        return await self._given(lambda: [models.Key(**_key(row)) for row in self._archive.catalog.api_keys()])

    async def make_key(self, request: Request) -> Response:
        """Make an API key, and show it this once."""
        wanted = await reading.body_of(request, models.NewKey)
        now = datetime.now(UTC)
        expires_at = now + timedelta(days=wanted.days) if wanted.days else None
        roles = [Role(name) for name in wanted.roles]
        text, row = make_key(wanted.name, roles, actor_of(request.scope), now=now, expires_at=expires_at)

        def make() -> models.MadeKey:
            with self._archive.catalog.writing() as transaction:
                transaction.add_key(row)
            self._told(request, f"made key {row.key_id} ({row.name}): {' '.join(row.roles)}")
            return models.MadeKey(**_key(row), key=text)

        return await self._given(make, status=201)

    async def revoke_key(self, request: Request) -> Response:
        """Take an API key back."""
        key_id = request.path_params["key_id"]

        def revoke() -> bool:
            with self._archive.catalog.writing() as transaction:
                return transaction.revoke_key(key_id, datetime.now(UTC))

        return await self._done(request, revoke, f"revoked key {key_id}")

    # -- destinations

    async def destinations(self, _request: Request) -> Response:
        """Answer with the destinations of settings and catalog."""

        def rows() -> list[models.Destination]:
            kept = [row for row in self._archive.catalog.outgoing.destinations() if row.ae_title not in self._fixed]
            fixed = [_destination(row, "settings") for row in self._fixed.values()]
            return [*fixed, *(_destination(row, "catalog") for row in kept)]

        return await self._given(rows)

    async def keep_destination(self, request: Request) -> Response:
        """Add a destination, or change it."""
        title = self._changeable(request)
        wanted = await reading.body_of(request, models.NewDestination)
        row = DestinationRow(
            title, wanted.host, wanted.port, tuple(wanted.prefer), wanted.tls, "", wanted.reports_apart
        )

        def keep() -> models.Destination:
            self._archive.catalog.outgoing.keep_destination(row, datetime.now(UTC))
            self._told(request, f"destination {title} is {row.host}:{row.port}")
            return _destination(row, "catalog")

        return await self._given(keep)

    async def forget_destination(self, request: Request) -> Response:
        """Remove a destination; what waits for it stays."""
        title = self._changeable(request)
        forget = partial(self._archive.catalog.outgoing.forget_destination, title)
        return await self._done(request, forget, f"removed destination {title}")

    # -- what waits to be sent

    async def outbox(self, request: Request) -> Response:
        """Answer with what waits to be sent, oldest first."""
        limit, failed = reading.limit_of(request, MOST_ENTRIES), reading.switch_of(request, "failed")
        destination = request.query_params.get("destination")

        def entries() -> list[models.Waiting]:
            rows = self._archive.catalog.outgoing.entries(destination=destination, failed=failed, limit=limit)
            return [models.Waiting.model_validate(row, from_attributes=True) for row in rows]

        return await self._given(entries)

    async def retry_outbox(self, request: Request) -> Response:
        """Try entries again at once."""
        wanted = await reading.body_of(request, models.Numbers)

        def retry() -> models.Count:
            count = self._archive.catalog.outgoing.retry(wanted.ids, datetime.now(UTC))
            self._told(request, f"outbox: {count} entries are tried again")
            return models.Count(count=count)

        return await self._given(retry)

    async def drop_outbox(self, request: Request) -> Response:
        """Give up an entry."""
        number = reading.number_of(request)
        drop = partial(self._archive.catalog.outgoing.drop, [number])
        return await self._done(request, lambda: bool(drop()), f"outbox: dropped entry {number}")

    # -- quarantine

    async def quarantine(self, _request: Request) -> Response:
        """Answer with what is in quarantine, oldest first."""
        return await self._given(lambda: [_quarantined(row) for row in self._archive.catalog.quarantined()])

    async def retry_quarantine(self, request: Request) -> Response:
        """Try to take files in again."""
        wanted = await reading.body_of(request, models.Numbers)

        def retry() -> list[models.Tried]:
            rows = self._in_quarantine(wanted.ids)
            receipts = [(row.id, quarantine.retry(self._archive, row)) for row in rows]
            self._told(request, f"quarantine: {len(receipts)} files were tried again")
            return [models.Tried(id=key, outcome=str(one.outcome), reason=one.reason) for key, one in receipts]

        return await self._given(retry)

    async def drop_quarantine(self, request: Request) -> Response:
        """Drop a file for good."""
        number = reading.number_of(request)

        def drop() -> bool:
            rows = self._in_quarantine([number])
            for row in rows:
                quarantine.drop(self._archive, row)
            return bool(rows)

        return await self._done(request, drop, f"quarantine: dropped file {number}")

    # -- how

    def _in_quarantine(self, wanted: Iterable[int]) -> list[QuarantineRow]:
        chosen = set(wanted)
        return [row for row in self._archive.catalog.quarantined() if row.id in chosen]

    def _changeable(self, request: Request) -> str:
        title: str = request.path_params["ae_title"]
        if not re.fullmatch(models.AE_TITLE, title):
            raise Problem(404, "An AE title has 1 to 16 printable ASCII characters, none of them a backslash.")
        if title in self._fixed:
            raise Problem(409, f"{title} is a destination in the settings; change it there.")
        return title

    def _status(self) -> models.Status:
        held, totals = self._figures.status(), self._archive.catalog.outgoing.totals()
        return models.Status(
            version=__version__,
            patients=held.summary.patients,
            studies=held.summary.studies,
            series=held.summary.series,
            instances=held.summary.total.instances,
            raw_bytes=held.summary.total.raw_bytes,
            stored_bytes=held.summary.total.stored_bytes,
            backlog_instances=held.backlog.count,
            backlog_bytes=held.backlog.size_bytes,
            quarantined=held.quarantined,
            outbox_waiting=sum(count for _, failed, count in totals if not failed),
            outbox_failed=sum(count for _, failed, count in totals if failed),
            free_bytes=held.free_bytes,
        )

    def _told(self, request: Request, detail: str) -> None:
        """Put a change on the audit trail."""
        now = datetime.now(UTC)
        event = AuditEvent(now, actor_of(request.scope), AuditAction.CONFIGURE, AuditOutcome.SUCCESS, detail=detail)
        self._archive.audit.record(event)

    async def _given(self, make: Callable[[], BaseModel | Sequence[BaseModel]], status: int = 200) -> Response:
        made = await self._threads.run(make)
        if isinstance(made, BaseModel):
            body = made.model_dump_json(exclude_unset=True)
        else:
            body = f"[{','.join(one.model_dump_json(exclude_unset=True) for one in made)}]"
        return Response(body, status, {"cache-control": "no-store"}, reading.JSON)

    async def _done(self, request: Request, change: Callable[[], bool], detail: str) -> Response:
        """204 when the change was made, 404 when there was nothing to change."""

        def changed() -> bool:
            is_done = change()
            if is_done:
                self._told(request, detail)
            return is_done

        if not await self._threads.run(changed):
            raise Problem(404, "There is no such entry.")
        return Response(status_code=204)


def _key(row: KeyRow) -> dict[str, Any]:
    state = "revoked" if row.revoked_at else "good" if row.is_good(datetime.now(UTC)) else "expired"
    return {
        "id": row.key_id,
        "name": row.name,
        "roles": list(row.roles),
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "state": state,
    }


def _destination(row: DestinationRow, origin: str) -> models.Destination:
    return models.Destination.model_validate(
        {
            "ae_title": row.ae_title,
            "host": row.host,
            "port": row.port,
            "prefer": list(row.prefer),
            "tls": row.tls,
            "reports_apart": row.reports_apart,
            "origin": origin,
        }
    )


def _quarantined(row: QuarantineRow) -> models.Quarantined:
    return models.Quarantined(
        id=row.id,
        name=row.name,
        sender=row.sender,
        door=row.door,
        reason=row.reason,
        size_bytes=row.blob.size_bytes,
        received_at=row.received_at,
        attempts=row.attempts,
    )
