"""``leanpacs lifecycle``: plan, run, pause, resume, status; and ``leanpacs worker``."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from leanpacs.archive.archive import Archive, open_archive
from leanpacs.catalog.ageing import Done
from leanpacs.cli.options import Config, Data, Json, Quiet, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table, progress_bar, ratio
from leanpacs.cli.policy import File, InDays, policy_of
from leanpacs.config import Settings
from leanpacs.errors import ConfigError
from leanpacs.lifecycle.pacing import MUCH_HAS_LANDED
from leanpacs.lifecycle.plan import Plan
from leanpacs.lifecycle.runner import Lifecycle, Report

app = typer.Typer(
    no_args_is_help=True,
    help="""
What happens to instances after they have settled, as the policy wants it.

`leanpacs serve` does it in the background (lifecycle.enabled). `lifecycle plan` shows what is to be done and what it
is expected to save and to cost; `lifecycle run` does it now; `lifecycle status` shows what was done, by rule.
""",
)


@app.command("plan")
def plan(
    policy: File = None,
    in_days: InDays = 0.0,
    limit: Annotated[int, typer.Option(min=0, help="Show so many of the tasks, the best first.")] = 0,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show what would be done now: tasks, bytes saved and CPU hours, expected from what was measured so far."""
    settings = settings_of(data, config)
    now = datetime.now(UTC) + timedelta(days=in_days)
    with open_archive(settings.storage.data, settings) as archive:
        made = _lifecycle(archive, settings, policy, now=now).plan(max(limit, 1))
    if json:
        print_json(_plan_record(made, limit))
        return
    if not made.totals:
        typer.echo(f"All {made.instances} instances are as the policy wants them now; --in-days 60 looks ahead.")
        return
    columns = [
        Column("task"),
        Column("rule"),
        Column("tasks", True),
        Column("instances", True),
        Column("as received", True),
        Column("expected to save", True),
        Column("CPU hours", True),
    ]
    rows = [
        (
            total.name,
            total.rule or "-",
            str(total.tasks),
            str(total.instances),
            human_bytes(total.raw_bytes),
            human_bytes(total.saved_bytes),
            f"{total.seconds / 3600:.3g}",
        )
        for total in made.totals
    ]
    print_table(f"To be done of {made.instances} instances", columns, rows)
    if limit:
        print_table(
            "The best first",
            [
                Column("task"),
                Column("instance", True),
                Column("instances", True),
                Column("saves", True),
                Column("CPU s", True),
            ],
            [
                (
                    one.name,
                    str(one.first.instance_id),
                    str(len(one.members)),
                    human_bytes(one.saved_bytes),
                    f"{one.seconds:.2g}",
                )
                for one in made.tasks
            ],
        )


@app.command("run")
def run(
    policy: File = None,
    most: Annotated[
        int | None, typer.Option("--max-tasks", min=1, help="Stop after so many tasks.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes. [default: lifecycle.workers]", show_default=False)
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do now what the policy wants, until nothing is left to do; Ctrl-C finishes what is under way and stops.

    Each instance is committed by itself, after its new form was read back and compared: stop it anywhere, kill it, run
    it again. Exit code 1 if something failed; what was there is untouched then, and it is tried again later.
    """
    settings = settings_of(data, config, {"lifecycle": {"workers": jobs}})
    stop = threading.Event()
    with open_archive(settings.storage.data, settings) as archive, progress_bar(quiet=quiet or json) as progress:
        lifecycle = _lifecycle(archive, settings, policy)
        bar = progress.add_task("lifecycle", total=sum(total.tasks for total in lifecycle.plan(1).totals))

        def told(done: Done) -> None:
            progress.advance(bar)

        _stop_on_signals(stop)
        report = lifecycle.run(stop.is_set, most_tasks=most, told=told)
        while report.added_bytes and archive.catalog.backlog().count and not stop.is_set():
            archive.settler().drain(stop.is_set)  # lossy copies, which have landed; others may have done it
            if report.ended != MUCH_HAS_LANDED:
                break
            left = most - sum(report.outcomes.values()) if most else None
            report.join(lifecycle.run(stop.is_set, most_tasks=left, told=told))
        archive.deleter().sweep(datetime.now(UTC))
    if json:
        print_json(_report_record(report))
    else:
        print_table(
            "Done",
            [Column("task"), Column("outcome"), Column("number", True)],
            [(task, outcome, str(count)) for (task, outcome), count in sorted(report.outcomes.items())],
        )
        print(
            f"{human_bytes(report.bytes_before)} became {human_bytes(report.bytes_after)} "
            f"({ratio(report.bytes_after, report.bytes_before)}) in {report.seconds:.1f} CPU seconds; "
            f"ended because {report.ended}"
        )
        if report.added_bytes:
            print(f"{human_bytes(report.added_bytes)} of lossy copies were made beside their originals")
    if report.failed:
        raise typer.Exit(1)


@app.command("scrub")
def scrub(
    everything: Annotated[bool, typer.Option("--all", help="Also what was read back lately.")] = False,
    decode: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="Decode this part. [default: lifecycle.scrub_decode_percent]",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Read blobs back that are due (lifecycle.scrub_days), compare them with their digests, repair what is damaged.

    A part is decoded as well, and compared with what was received and with what a second decoder makes of it. Damage is
    repaired from another tier, or from another form of the instance; exit code 1 if some could not be.
    """
    settings = settings_of(data, config)
    stop = threading.Event()
    told: list[tuple[str, str, str]] = []
    with open_archive(settings.storage.data, settings) as archive:
        _stop_on_signals(stop)
        lifecycle = _lifecycle(archive, settings, None)
        older = timedelta() if everything else timedelta(days=settings.lifecycle.scrub_days)
        found = lifecycle.scrub(
            stop.is_set,
            older_than=older,
            decode_percent=decode,
            told=lambda blob, problem: told.append((blob.digest.hex, blob.tier, problem)),
        )
    if json:
        print_json(
            {**asdict(found), "found": [dict(zip(("blob", "tier", "problem"), row, strict=True)) for row in told]}
        )
    else:
        if told:
            print_table("Found", [Column("blob"), Column("tier"), Column("problem")], told)
        print(
            f"{found.blobs} blobs read back ({human_bytes(found.size_bytes)}), {found.decoded} instances decoded, "
            f"{found.second} of them by a second decoder; {found.repaired} repaired, {found.damaged} damaged, "
            f"{found.waiting} to be repaired when a copy has been brought back"
        )
        for codec, count in sorted(found.without.items()):
            print(f"{count} instances are held as {codec}, which no second decoder here reads")
    if found.damaged:
        raise typer.Exit(1)


@app.command("pause")
def pause(data: Data = None, config: Config = None) -> None:
    """Begin nothing more, anywhere, until `lifecycle resume`; what is under way is finished."""
    _switch(data, config, "yes")
    print("paused")


@app.command("resume")
def resume(data: Data = None, config: Config = None) -> None:
    """End a pause."""
    _switch(data, config, "")
    print("resumed")


@app.command("status")
def status(policy: File = None, data: Data = None, config: Config = None, json: Json = False) -> None:
    """Show forms and tiers, what was done and saved so far by rule, what is left, and what failed."""
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        ageing = archive.catalog.ageing
        left = _lifecycle(archive, settings, policy).plan(1)
        paused = bool(ageing.state("paused"))
        presets, tiers, sums = ageing.presets(), ageing.tiers(), ageing.sums()
        problems, damaged = ageing.problems(), ageing.damaged()
    if json:
        print_json(
            {
                "paused": paused,
                "forms": [
                    dict(zip(("preset", "tier", "forms", "raw_bytes", "bytes"), row, strict=True)) for row in presets
                ],
                "tiers": [dict(zip(("tier", "blobs", "bytes"), row, strict=True)) for row in tiers],
                "done": [asdict(one) for one in sums],
                "left": _plan_record(left, 0),
                "saved_bytes": sum(one.bytes_before - one.bytes_after for one in sums if one.outcome == "done"),
                "projected_saved_bytes": sum(total.saved_bytes for total in left.totals),
                "failed": [
                    {
                        "instance": uid,
                        "goal": goal,
                        "attempts": tried.attempts,
                        "why": tried.detail,
                        "again": tried.until,
                    }
                    for uid, goal, tried in problems
                ],
                "damaged": [
                    {"blob": row.blob.digest.hex, "tier": row.blob.tier, "problem": row.problem} for row in damaged
                ],
            }
        )
        return
    if paused:
        print("paused; see 'leanpacs lifecycle resume'")
    print_table(
        "Forms",
        [
            Column("preset"),
            Column("tier"),
            Column("forms", True),
            Column("raw", True),
            Column("stored", True),
            Column("ratio", True),
        ],
        [
            (name, tier, str(count), human_bytes(raw), human_bytes(size), ratio(size, raw))
            for name, tier, count, raw, size in presets
        ],
    )
    print_table(
        "Tiers",
        [Column("tier"), Column("blobs", True), Column("bytes", True)],
        [(tier, str(count), human_bytes(size)) for tier, count, size in tiers],
    )
    print_table(
        "Done so far",
        [
            Column("task"),
            Column("rule"),
            Column("outcome"),
            Column("tasks", True),
            Column("saved", True),
            Column("CPU hours", True),
        ],
        [
            (
                one.task,
                one.rule or "-",
                one.outcome,
                str(one.tasks),
                human_bytes(one.bytes_before - one.bytes_after),
                f"{one.seconds / 3600:.3g}",
            )
            for one in sums
        ],
    )
    print_table(
        "Left to do",
        [
            Column("task"),
            Column("rule"),
            Column("tasks", True),
            Column("expected to save", True),
            Column("CPU hours", True),
        ],
        [
            (one.name, one.rule or "-", str(one.tasks), human_bytes(one.saved_bytes), f"{one.seconds / 3600:.3g}")
            for one in left.totals
        ],
    )
    for rule, count in left.short.items():
        print(f"{count} instances have fewer copies than rule {rule!r} wants: its rules name too few tiers")
    if problems:
        print_table(
            "Failed",
            [Column("instance"), Column("goal"), Column("attempts", True), Column("why")],
            [(uid, goal, str(tried.attempts), tried.detail) for uid, goal, tried in problems],
        )
    if damaged:
        print_table(
            "Damaged, and not repaired",
            [Column("blob"), Column("tier"), Column("problem")],
            [(row.blob.digest.hex, row.blob.tier, row.problem) for row in damaged],
        )


def worker(
    scheduler: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="The Dask scheduler, such as tcp://10.0.0.5:8786.")
    ],
    threads: Annotated[int, typer.Option(min=1, help="Tasks at once; each runs in a process of its own.")] = 1,
    host: Annotated[str, typer.Option(help="Address that the worker listens on.")] = "127.0.0.1",
    config: Config = None,
) -> None:
    """Start a Dask worker for lifecycle work ([executor] kind = "dask"); Ctrl-C ends it.

    It needs no archive and no catalog, only the stores that the tasks name: folders at the same path, or S3. What it
    was doing when it is lost is done by another one.
    """
    from leanpacs.lifecycle.worker import serve_tasks

    settings_of(None, config)
    serve_tasks(
        scheduler, threads=threads, host=host, ready=lambda address: print(f"ready: worker={address}", flush=True)
    )


def _lifecycle(archive: Archive, settings: Settings, policy: str | None, now: datetime | None = None) -> Lifecycle:
    chosen = policy_of(policy or settings.lifecycle.policy, frozenset(archive.stores.tiers))
    return Lifecycle(archive, chosen, settings, now=(lambda: now) if now else lambda: datetime.now(UTC))


def _switch(data: Data, config: Config, value: str) -> None:
    settings = settings_of(data, config)
    if not settings.storage.data.exists():
        raise ConfigError("storage.data", str(settings.storage.data), "there is no archive")
    with (
        open_archive(settings.storage.data, settings) as archive,
        archive.catalog.writing() as transaction,
    ):
        transaction.ageing.switch("paused", value)


def _stop_on_signals(stop: threading.Event) -> None:
    def asked(_signal: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGINT, asked)
    signal.signal(signal.SIGTERM, asked)


def _plan_record(made: Plan, limit: int) -> dict[str, object]:
    return {
        "instances": made.instances,
        "too_few_copies": dict(made.short),
        "totals": [asdict(total) for total in made.totals],
        "tasks": [
            {
                "task": one.name,
                "rule": one.rule,
                "instances": [held.instance_id for held, _ in one.members],
                "saves_bytes": one.saved_bytes,
                "seconds": one.seconds,
            }
            for one in made.tasks[:limit]
        ],
    }


def _report_record(report: Report) -> dict[str, object]:
    return {
        "tasks": [
            {"task": task, "outcome": outcome, "number": count}
            for (task, outcome), count in sorted(report.outcomes.items())
        ],
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "added_bytes": report.added_bytes,
        "cpu_seconds": report.seconds,
        "ended": report.ended,
    }
