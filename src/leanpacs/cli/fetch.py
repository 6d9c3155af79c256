"""``leanpacs fetch``: studies from another archive, over DIMSE."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from leanpacs.cli.intake import PATIENT, THOROUGH, settling
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, print_json, print_table, progress_bar
from leanpacs.cli.send import peer_named
from leanpacs.cli.serving import address_of
from leanpacs.config import Settings
from leanpacs.errors import ConfigError, UnsupportedTransferSyntax

if TYPE_CHECKING:
    from leanpacs.archive.archive import Archive
    from leanpacs.services.dimse.fetching import Remote, Source
    from leanpacs.services.ledger import Ledger

PROBLEMS_SHOWN = 200
NOT_COME = "it says that all was sent, but it did not come here: to which address does it send?"
Bring = Callable[[str, "list[Remote]", set[str]], Iterator[str]]
"""Has what is missing of a study brought; yields a reason, or '', for each that came."""


@dataclass(slots=True)
class _Tally:
    """What became of the studies and their instances; ``failed`` are studies of which something is not here."""

    studies: int = 0
    instances: int = 0
    here_already: int = 0
    missing: int = 0
    fetched: int = 0
    failed: list[dict[str, object]] = field(default_factory=list)


def fetch(
    source: Annotated[
        str,
        typer.Option("--from", metavar="AET@HOST:PORT", help="Where from; or the AE title of a known destination."),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            "-k",
            metavar="KEYWORD=VALUE",
            help="Only studies that match, for example StudyDate=20200101-20201231; repeat it.",
        ),
    ] = None,
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="Only this study; repeat it.")] = None,
    via: Annotated[
        Literal["get", "move"],
        typer.Option(
            help="Whether images come on the line that asks for them (C-GET), or on one of their own (C-MOVE)."
        ),
    ] = "get",
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="With --via move: open a door here meanwhile. Without it the running server takes in what comes.",
        ),
    ] = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYNTAX",
            help="Lossless transfer syntax to ask for first; repeat it. [default: JPEGXLLossless, JPEGLSLossless, "
            "JPEG2000Lossless, HTJ2KLossless, ... RLELossless, then uncompressed]",
            show_default=False,
        ),
    ] = None,
    aet: Annotated[
        str | None, typer.Option("--aet", help="AE title of this side. [default: dimse.ae_title]", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be fetched.")] = False,
    data: Data = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch studies from another archive into this one.

    Asks it what it has (C-FIND, Study Root), and for what is not here yet: whole studies, else whole series, else
    single instances. Run it again after an interruption, or every night: what is here is not fetched a second time.
    A running server may have the archive open at the same time.

    With C-GET an instance may come in any transfer syntax, each offered by itself: what the other archive keeps
    compressed comes as it is. What is lossless and compact is offered first. An archive that goes by the order, as
    another LeanPACS does, then compresses on the way what it keeps uncompressed. --prefer ExplicitVRLittleEndian leaves
    it uncompressed: for a fast line, or to have it as it was.

    With --via move the other archive must know this one's AE title, and its address: that of the running server, or of
    --listen.

    Exit code 1 if something could not be fetched; the rest is.
    """
    if listen is not None and via != "move":
        raise ConfigError("--listen", listen, "only goes with --via move")
    if prefer and via == "move":
        raise ConfigError("--prefer", prefer[0], "does not go with --via move: there the other archive makes the offer")
    keys = dict(_pair(text) for text in key or ())
    settings = settings_of(data, config, {"dimse": {"ae_title": aet}, "ingest": {**PATIENT}, "settle": {**THOROUGH}})
    tally = _Tally()
    _fetch(
        source,
        keys,
        study or [],
        settings,
        tally,
        prefer=prefer,
        via=via,
        listen=listen,
        dry_run=dry_run,
        quiet=quiet or json,
    )
    _report(tally, source, json=json, dry_run=dry_run)
    if tally.failed:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    keyword, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("--key", text, "give it as KEYWORD=VALUE, for example PatientID=1234")
    return keyword.strip(), value.strip()


def _preferred(names: list[str] | None) -> tuple[str, ...]:
    """UIDs of transfer syntaxes; raises `ConfigError` for what is none, or may lose something."""
    from leanpacs.services.dimse.asking import preferred_syntax

    try:
        return tuple(preferred_syntax(name) for name in names or ())
    except UnsupportedTransferSyntax as error:
        raise ConfigError("--prefer", error.uid, str(error)) from error


def _fetch(
    named: str,
    keys: dict[str, str],
    studies: list[str],
    settings: Settings,
    tally: _Tally,
    *,
    prefer: list[str] | None,
    via: str,
    listen: str | None,
    dry_run: bool,
    quiet: bool,
) -> None:
    from leanpacs.archive.archive import open_archive
    from leanpacs.cli.doors import ledger
    from leanpacs.services.dimse.asking import COMPACT
    from leanpacs.services.dimse.fetching import Refused, Source
    from leanpacs.services.dimse.requester import Unreachable

    peer = peer_named("--from", named, (), settings)
    source = Source(
        peer,
        settings.dimse.ae_title,
        timeout_seconds=settings.dimse.network_timeout_seconds,
        prefer=_preferred(prefer) or COMPACT,
    )
    with ExitStack() as stack:
        archive = stack.enter_context(open_archive(settings.storage.data, settings))
        counting = ledger(settings, archive)
        stack.enter_context(counting.running(settings.traffic.flush_seconds))
        progress = stack.enter_context(progress_bar(quiet=quiet))
        try:
            found = studies or source.studies(keys)
        except (Unreachable, Refused) as error:
            raise ConfigError("--from", named, f"cannot be asked: {error}") from error
        bring: Bring = _nothing
        if not dry_run:
            stack.enter_context(settling(archive, progress))
            bring = _moved(source, settings) if via == "move" else _got(source, archive, settings, counting)
        if listen is not None:
            stack.enter_context(_listening(listen, archive, settings, counting))
        looking = progress.add_task("studies", total=len(found))
        coming = progress.add_task("instances", total=0)
        for study_uid in found:
            _study(study_uid, source, archive, bring, tally, dry_run=dry_run)
            progress.advance(looking)
            progress.update(coming, total=tally.instances, completed=tally.here_already + tally.fetched)


def _study(study_uid: str, source: Source, archive: Archive, bring: Bring, tally: _Tally, *, dry_run: bool) -> None:
    """Fetch what is missing of one study; what fails is told, and the next one goes on."""
    from leanpacs.services.dimse.fetching import Refused
    from leanpacs.services.dimse.requester import Unreachable

    held: list[Remote] = []
    missing: set[str] = set()
    problems: list[str] = []
    try:
        held = source.instances(study_uid)
        missing = _missing(archive, study_uid, held)
        if not held:
            problems.append("it has no such study")
        if missing:
            problems += filter(None, bring(study_uid, held, missing))
    except (Unreachable, Refused) as error:
        problems.append(str(error))
    left = missing if dry_run else _missing(archive, study_uid, held)
    tally.studies += 1
    tally.instances += len(held)
    tally.here_already += len(held) - len(missing)
    tally.missing += len(missing)
    tally.fetched += len(missing) - len(left)
    if problems or (left and not dry_run):
        reason = problems[0] if problems else NOT_COME
        tally.failed.append({"study": study_uid, "instances": len(left), "reason": reason})


def _missing(archive: Archive, study_uid: str, held: list[Remote]) -> set[str]:
    """SOP Instance UIDs of what is not here yet."""
    here = {row.sop_uid for row in archive.catalog.instances(study_uid=study_uid)} if held else set()
    return {one.sop_uid for one in held} - here


def _nothing(_study_uid: str, _held: list[Remote], _missing: set[str]) -> Iterator[str]:
    return iter(())


def _got(source: Source, archive: Archive, settings: Settings, counting: Ledger) -> Bring:
    """Instances come on the association that asks for them."""
    from leanpacs.services.dimse.status import Status
    from leanpacs.services.dimse.store import StoreService

    store = StoreService(archive, largest_instance_bytes=settings.ingest.largest_instance_bytes, ledger=counting)

    def bring(study_uid: str, held: list[Remote], missing: set[str]) -> Iterator[str]:
        for sop_uid, reply in source.get(study_uid, held, missing, store):
            yield "" if reply.status is Status.SUCCESS else f"{sop_uid}: {reply.comment or reply.status.name}"

    return bring


def _moved(source: Source, settings: Settings) -> Bring:
    """Instances come to the door of this archive."""

    def bring(study_uid: str, held: list[Remote], missing: set[str]) -> Iterator[str]:
        for _ in source.move(study_uid, held, missing, settings.dimse.ae_title):
            yield ""

    return bring


@contextmanager
def _listening(address: str, archive: Archive, settings: Settings, counting: Ledger) -> Iterator[None]:
    """A door that takes instances in."""
    from leanpacs.services.dimse import DimseOptions, bind, serve

    host, port = address_of("--listen", address)
    stop = threading.Event()
    options = DimseOptions(
        ae_title=settings.dimse.ae_title, largest_instance_bytes=settings.ingest.largest_instance_bytes
    )
    try:
        listener = bind(host, port)
    except OSError as error:
        raise ConfigError("--listen", address, f"cannot be listened on: {error.strerror}") from error
    with listener:
        door = partial(serve, listener, archive, options, stop, ledger=counting)
        thread = threading.Thread(target=door, name="door")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _report(tally: _Tally, source: str, *, json: bool, dry_run: bool) -> None:
    if json:
        print_json(asdict(tally))
        return
    print(
        f"{tally.instances} instances of {tally.studies} studies are at {source}, "
        f"{tally.here_already} of them were here already"
    )
    print(f"{tally.missing} would be fetched" if dry_run else f"{tally.fetched} fetched")
    if tally.failed:
        rows = [(str(one["study"]), str(one["instances"]), str(one["reason"])) for one in tally.failed]
        columns = [Column("study"), Column("instances", True), Column("reason")]
        print_table("Not fetched", columns, rows[:PROBLEMS_SHOWN])
    if len(tally.failed) > PROBLEMS_SHOWN:
        print(f"... and {len(tally.failed) - PROBLEMS_SHOWN} more; --json lists all")
