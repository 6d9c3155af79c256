"""``leanpacs audit``: the audit trail, shown and passed on."""

from __future__ import annotations

import getpass
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.audit import AuditAction, AuditEvent, AuditOutcome, AuditTrail
from leanpacs.audit.message import Source, message
from leanpacs.audit.relay import MessageFile, MessageSender, Relay
from leanpacs.audit.syslog import Collector, SyslogSender
from leanpacs.cli.options import Config, Data, settings_of
from leanpacs.cli.output import Column, print_table
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, LeanPACSError

log = logging.getLogger(__name__)


class Form(StrEnum):
    """How events are printed."""

    TABLE = "table"
    JSON = "json"
    XML = "xml"


def audit(
    form: Annotated[
        Form,
        typer.Option(help="A table; or, on a line for each event, JSON or a message of PS3.15 A.5."),
    ] = Form.TABLE,
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Until before this time (UTC).")] = None,
    action: Annotated[list[AuditAction] | None, typer.Option(help="Only these; may be given several times.")] = None,
    study: Annotated[str | None, typer.Option(metavar="UID", help="Only what was done to this study.")] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Show the audit trail: who did what to which study, when, and with what outcome.

    Events carry UIDs, never names of patients. Running servers pass them on to a file or a collector where the
    settings name one (`audit.messages`, `audit.syslog`).
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        found = (
            event
            for event in archive.audit.events()
            if (since is None or event.at >= since.replace(tzinfo=UTC))
            and (until is None or event.at < until.replace(tzinfo=UTC))
            and (not action or event.action in action)
            and (study is None or event.study_uid == study)
        )
        _print(found, form, _source(settings))


@contextmanager
def passed_on(settings: Settings, trail: AuditTrail) -> Iterator[None]:
    """Pass the trail on meanwhile, from the start to the stop of a server, both of which are on it."""
    stop = threading.Event()
    threads = [threading.Thread(target=relay.run, args=(stop,), name="audit") for relay in relays(settings, trail)]
    for thread in threads:
        thread.start()
    try:
        _record(trail, AuditAction.START)
        yield
    finally:
        _record(trail, AuditAction.STOP)
        stop.set()
        for thread in threads:
            thread.join()


def relays(settings: Settings, trail: AuditTrail) -> Iterator[Relay]:
    """What passes the trail on, as the settings say.

    Raises
    ------
    ConfigError
        Files of TLS cannot be used, or the collector is none.
    """
    wanted, source = settings.audit, _source(settings)
    if wanted.messages is not None:
        yield Relay(trail, MessageFile(wanted.messages, source), "file")
    if wanted.syslog:
        try:
            collector = Collector.of(wanted.syslog)
            sender = SyslogSender(collector, wanted.syslog_ca, wanted.syslog_certificate, wanted.syslog_key)
        except (OSError, ValueError) as error:
            raise ConfigError("audit.syslog", wanted.syslog, f"cannot be used: {error}") from error
        yield Relay(trail, MessageSender(sender, source), "syslog")


def changed(archive: Archive, detail: str) -> None:
    """Put on the trail what whoever runs this command has changed of who may do what, and what goes where."""
    event = AuditEvent(_now(), _actor(), AuditAction.CONFIGURE, AuditOutcome.SUCCESS, detail=detail)
    archive.audit.record(event)


def _now() -> datetime:
    return datetime.now(UTC)


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


def _record(trail: AuditTrail, action: AuditAction) -> None:
    """Record what whoever runs this command does; a full disk does not keep the server from starting."""
    try:
        trail.record(AuditEvent(_now(), _actor(), action, AuditOutcome.SUCCESS))
    except LeanPACSError as error:
        log.error("not on the audit trail: %s", error, extra={"action": action})


def _source(settings: Settings) -> Source:
    return Source(settings.audit.source, settings.audit.site)


def _print(events: Iterator[AuditEvent], form: Form, source: Source) -> None:
    if form is Form.TABLE:
        columns = [Column(name) for name in ("at", "actor", "action", "outcome", "what", "detail")]
        print_table("Audit trail", columns, [_row(event) for event in events])
        return
    for event in events:
        print(event.to_json() if form is Form.JSON else message(event, source).decode("ascii"))


def _row(event: AuditEvent) -> tuple[str, ...]:
    what = event.sop_uid or event.series_uid or event.study_uid or "-"
    return f"{event.at:%Y-%m-%d %H:%M:%S}", event.actor, event.action, event.outcome, what, event.detail or "-"
